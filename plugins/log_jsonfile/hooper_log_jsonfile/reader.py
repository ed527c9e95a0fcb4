"""The reading side of json-file: files of one log, oldest first, that may be rotated meanwhile."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import anyio.to_thread

from hooper.api.logs import LogEntry, LogQuery, Running
from hooper_log_jsonfile.decoding import Clock, decode
from hooper_log_jsonfile.writer import numbered

BLOCK = 1 << 20
POLL_S = 0.1


class _File:
    """An open file of the log and how far it was read."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.position = 0

    @property
    def size(self) -> int:
        return os.fstat(self.fd).st_size

    @property
    def identity(self) -> tuple[int, int]:
        stat = os.fstat(self.fd)
        return stat.st_dev, stat.st_ino

    def next_lines(self) -> bytes:
        """Whole lines from the position on, which moves; b"" if there is none (yet)."""
        if self.size < self.position:
            # Truncated: a log of one file begins anew.
            self.position = 0
        data = os.pread(self.fd, BLOCK, self.position)
        end = data.rfind(b"\n") + 1
        while not end and len(data) >= BLOCK:
            more = os.pread(self.fd, BLOCK, self.position + len(data))
            if not more:
                break
            data += more
            end = data.rfind(b"\n") + 1
        self.position += end
        return data[:end]

    def lines_before(self, end: int) -> tuple[bytes, int]:
        """Whole lines that end at `end`, at least one unless it is 0, and where they begin."""
        size = BLOCK
        while True:
            start = max(0, end - size)
            data = os.pread(self.fd, end - start, start)
            if start == 0:
                return data, 0
            cut = data.find(b"\n") + 1
            if 0 < cut < len(data):
                return data[cut:], start + cut
            size *= 2

    def close(self) -> None:
        os.close(self.fd)


def _wanted(entries: list[LogEntry], query: LogQuery) -> list[LogEntry]:
    if query.since_ns:
        entries = [entry for entry in entries if entry.time_ns >= query.since_ns]
    if query.until_ns:
        entries = [entry for entry in entries if entry.time_ns <= query.until_ns]
    if not (query.stdout and query.stderr):
        entries = [entry for entry in entries if (query.stdout if entry.stream == "stdout" else query.stderr)]
    return entries


class Reader:
    """One reading of one log. Its methods block and run in worker threads, one at a time."""

    def __init__(self, path: str, query: LogQuery) -> None:
        self._path, self._query = path, query
        self._clock = Clock()
        self._file: _File | None = None
        self._over = False

    async def batches(self, running: Running) -> AsyncIterator[list[LogEntry]]:
        """See LogDriver.read."""
        try:
            if self._query.tail is None:
                await anyio.to_thread.run_sync(self._open_first)
            else:
                for batch in await anyio.to_thread.run_sync(self._tail, self._query.tail):
                    yield batch
            while True:
                more = self._query.follow and running()
                async for batch in self._to_end():
                    yield batch
                if self._over or not more:
                    return
                await running.changed(POLL_S)
        finally:
            self._close()

    async def _to_end(self) -> AsyncIterator[list[LogEntry]]:
        while not self._over and self._has_more():
            entries = await anyio.to_thread.run_sync(self._next)
            if entries is None:
                return
            if entries:
                yield entries

    def _has_more(self) -> bool:
        """A cheap look, so that a quiet log that is followed costs no thread."""
        if self._file is None:
            return os.path.exists(self._path)
        return self._file.size != self._file.position or self._successor() is not None

    def _next(self) -> list[LogEntry] | None:
        """The next batch, which may be empty; None at the end of what is there."""
        if self._file is None:
            self._open_first()
            if self._file is None:
                return None
        # Looked for first: what is written to a file before its successor appears is read then.
        successor = self._successor()
        lines = self._file.next_lines()
        if not lines:
            if successor is None:
                return None
            self._file.close()
            self._file = _opened(successor)
            return [] if self._file else None
        entries = decode(lines, self._clock)
        if self._query.until_ns and entries and entries[-1].time_ns > self._query.until_ns:
            self._over = True
        return _wanted(entries, self._query)

    def _files(self) -> list[str]:
        """Those that exist, oldest first."""
        found = [self._path]
        number = 1
        while os.path.exists(path := numbered(self._path, number)):
            found.insert(0, path)
            number += 1
        return found

    def _open_first(self) -> None:
        for path in self._files():
            self._file = _opened(path)
            if self._file is not None:
                return

    def _successor(self) -> str | None:
        """The file that was begun when the present one was rotated away; None while it is the newest."""
        assert self._file is not None
        identity = self._file.identity
        if _identity(self._path) in (identity, None):
            return None
        files = self._files()
        identities = [_identity(path) for path in files]
        if identity not in identities:
            return files[0]
        place = identities.index(identity) + 1
        return files[place] if place < len(files) else None

    def _tail(self, count: int) -> list[list[LogEntry]]:
        """The last entries of what is chosen, in batches; reading goes on after them."""
        batches: list[list[LogEntry]] = []
        for path in reversed(self._files()):
            file = _opened(path)
            if file is None:
                continue
            end = _end_of_lines(file)
            if self._file is None:
                self._file = file
                file.position = end
            try:
                while end > 0 and count > 0:
                    lines, end = file.lines_before(end)
                    batch = _wanted(decode(lines, self._clock), self._query)[-count:]
                    count -= len(batch)
                    batches.append(batch)
            finally:
                if file is not self._file:
                    file.close()
            if count <= 0:
                break
        return [batch for batch in reversed(batches) if batch]

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _opened(path: str) -> _File | None:
    try:
        return _File(path)
    except FileNotFoundError:
        return None


def _identity(path: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino


def _end_of_lines(file: _File) -> int:
    """Where the last whole line ends."""
    end = file.size
    while end > 0:
        start = max(0, end - BLOCK)
        found = os.pread(file.fd, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
