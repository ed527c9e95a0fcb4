"""The log driver local."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping

from hooper.api.log_files import RotatingFile
from hooper.api.log_writing import LineSplitter
from hooper.api.logs import LogDriver, LogEntry, LogQuery, LogTarget, LogWriter, Running
from hooper_log_local import blocks
from hooper_log_local.options import LocalConfig, Options, log_path, parse

_SPAN = blocks.PAYLOAD_MAX * 2
_BLOCK = 64 * 1024


class LocalWriter(LogWriter):
    """Whole lines are in the file when `write` returns."""

    def __init__(self, target: LogTarget, options: Options) -> None:
        path = log_path(target)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        self._lines = LineSplitter()
        self._block = min(options.max_size or _BLOCK, _BLOCK)
        self._file = RotatingFile(path, options.max_size, options.max_file, options.compress, _end_of_record)
        self._mend()

    def write(self, stream: str, data: bytes, time_ns: int) -> None:
        """See LogWriter."""
        for run, began in self._lines.feed(stream, data, time_ns):
            for part in self._blocks(run):
                self._file.append(blocks.encode(stream, part, began))

    def _blocks(self, run: bytes) -> list[bytes]:
        """Whole lines, as many as fit into a block: a file is not to grow far beyond its size with one."""
        parts, start = [], 0
        while len(run) - start > self._block:
            end = run.rfind(b"\n", start, start + self._block) + 1 or run.find(b"\n", start) + 1 or len(run)
            parts.append(run[start:end])
            start = end
        return [*parts, run[start:]] if start < len(run) else parts

    def close(self) -> None:
        """See LogWriter."""
        try:
            for stream, data, time_ns in self._lines.rest():
                self._file.append(blocks.encode(stream, data, time_ns))
        finally:
            self._file.close()

    def _mend(self) -> None:
        """A writer before this one may have been killed within a block, which then ends the file."""
        size = self._file.size
        span = min(size, _SPAN)
        if not size or blocks.ends_whole(self._file.read(span, size - span)):
            return
        at = 0
        while end := blocks.whole(self._file.read(_SPAN, at)):
            at += end
        self._file.truncate(at)


class LocalDriver(LogDriver):
    """Keeps output in local-logs/container.log in the container's directory."""

    def __init__(self, name: str, config: object) -> None:
        super().__init__(name, config)
        self._config = config if isinstance(config, LocalConfig) else LocalConfig()

    def check(self, options: Mapping[str, str]) -> None:
        """See LogDriver."""
        parse(options, self._config)

    def writer(self, target: LogTarget) -> LogWriter:
        """See LogDriver."""
        return LocalWriter(target, parse(target.options, self._config))

    def read(self, target: LogTarget, query: LogQuery, running: Running) -> AsyncIterator[list[LogEntry]]:
        """See LogDriver."""
        # The monitor, which only writes, does not load the reader and what it needs.
        from hooper.api.log_reading import Reader
        from hooper_log_local.reading import Blocks

        return Reader(log_path(target), Blocks(query.details), query).batches(running)


def _end_of_record(records: bytes, _: int) -> int:
    """Blocks are written one by one."""
    return len(records)
