"""The log driver journald."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping

from hooper.api.errors import SkipDriver
from hooper.api.logs import LogDriver, LogEntry, LogQuery, LogTarget, LogWriter, Running, not_readable
from hooper_log_journald.options import JournaldConfig, check
from hooper_log_journald.writer import JournaldWriter


class JournaldDriver(LogDriver):
    """Sends output to the journal, with Docker's fields. It is read by journalctl, where there is one."""

    def __init__(self, name: str, config: object) -> None:
        super().__init__(name, config)
        self._config = config if isinstance(config, JournaldConfig) else JournaldConfig()
        self._journalctl: str | None = ""

    def probe(self) -> None:
        """There is a journald."""
        import shutil

        if not os.path.exists(self._config.socket):
            raise SkipDriver("journald is not enabled on this host", f"there is nothing at {self._config.socket}")
        self._journalctl = shutil.which("journalctl")
        self.readable = self._journalctl is not None

    def check(self, options: Mapping[str, str]) -> None:
        """See LogDriver."""
        check(options)

    def writer(self, target: LogTarget) -> LogWriter:
        """See LogDriver."""
        return JournaldWriter(target, self._config.socket)

    def read(self, target: LogTarget, query: LogQuery, running: Running) -> AsyncIterator[list[LogEntry]]:
        """See LogDriver."""
        if not self._journalctl:
            raise not_readable(self.name)
        from hooper_log_journald.reader import Reader

        return Reader(self._journalctl, self._config.directory, target.container_id, query).batches(running)
