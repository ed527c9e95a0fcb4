"""The log driver syslog."""

from __future__ import annotations

import os
from collections.abc import Mapping

from hooper.api.log_writing import LineSplitter
from hooper.api.logs import LogDriver, LogTarget, LogWriter
from hooper_log_syslog.connection import Connection
from hooper_log_syslog.messages import counted, header, priority
from hooper_log_syslog.options import TLS, Options, parse


class SyslogWriter(LogWriter):
    """A message a line, or a part of a very long one; empty lines are left out, as Docker does."""

    def __init__(self, target: LogTarget, options: Options) -> None:
        self._lines = LineSplitter()
        self._connection = Connection(options)
        self._header = header(options.format, os.uname().nodename, target.tag_or_id, os.getpid())
        self._priority = {stream: priority(options.facility, stream) for stream in ("stdout", "stderr")}
        self._counted = options.transport == TLS and options.format.startswith("rfc5424")

    def write(self, stream: str, data: bytes, time_ns: int) -> None:
        """See LogWriter."""
        messages: list[bytes] = []
        for run, began in self._lines.feed(stream, data, time_ns):
            messages += self._messages(stream, run, began)
        if messages:
            self._connection.send(messages)

    def close(self) -> None:
        """See LogWriter."""
        try:
            for stream, data, time_ns in self._lines.rest():
                self._connection.send(self._messages(stream, data, time_ns))
        finally:
            self._connection.close()

    def _messages(self, stream: str, run: bytes, time_ns: int) -> list[bytes]:
        head = self._header(self._priority[stream], time_ns)
        messages = [head + line + b"\n" for line in run.split(b"\n") if line]
        return [counted(message) for message in messages] if self._counted else messages


class SyslogDriver(LogDriver):
    """Sends output to a syslog server, which keeps it: it is not read back from there."""

    readable = False

    def check(self, options: Mapping[str, str]) -> None:
        """See LogDriver."""
        parse(options)

    def writer(self, target: LogTarget) -> LogWriter:
        """See LogDriver."""
        return SyslogWriter(target, parse(target.options))
