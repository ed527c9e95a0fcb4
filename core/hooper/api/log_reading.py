"""Reading a log that `log_files` wrote: oldest file first, while it may grow and be rotated."""

from __future__ import annotations

import os
import zlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Iterator

import anyio.to_thread

from hooper.api.log_files import numbered, origin
from hooper.api.logs import LogEntry, LogQuery, Running

BLOCK = 1 << 20
POLL_S = 0.1

Identity = tuple[int, int]
"""Device and inode."""


class Format(ABC):
    """How entries lie in a file. One object a reading, used by one thread at a time."""

    @abstractmethod
    def whole(self, data: bytes) -> int:
        """Where the last whole record of `data` ends, which begins with a record; 0 if there is none."""

    @abstractmethod
    def first(self, data: bytes) -> int:
        """Where the first whole record begins in `data`, which ends with one; its length if there is none."""

    @abstractmethod
    def decode(self, records: bytes) -> list[LogEntry]:
        """The entries of whole records; what is none is left out."""


class _Plain:
    """An open file of the log and how far it was read."""

    def __init__(self, fd: int, form: Format) -> None:
        self._fd, self._form = fd, form
        self.position = 0
        stat = os.fstat(fd)
        self.identity = (stat.st_dev, stat.st_ino)
        self.origin = self.identity

    @property
    def has_more(self) -> bool:
        return os.fstat(self._fd).st_size != self.position

    def next_records(self) -> bytes:
        """Whole records from the position on, which moves; b"" if there is none (yet)."""
        if os.fstat(self._fd).st_size < self.position:
            # Truncated: a log of one file begins anew.
            self.position = 0
        data = os.pread(self._fd, BLOCK, self.position)
        end = self._form.whole(data)
        while not end and len(data) >= BLOCK:
            more = os.pread(self._fd, BLOCK, self.position + len(data))
            if not more:
                break
            data += more
            end = self._form.whole(data)
        self.position += end
        return data[:end] if end < len(data) else data

    def last(self, count: int, query: LogQuery) -> list[list[LogEntry]]:
        """The last `count` entries that are wanted, in batches; the position moves behind them."""
        end = self.position = self._end()
        batches: list[list[LogEntry]] = []
        while end > 0 and count > 0:
            records, end = self._before(end)
            batch = _wanted(self._form.decode(records), query)[-count:]
            count -= len(batch)
            batches.append(batch)
        return batches[::-1]

    def _before(self, end: int) -> tuple[bytes, int]:
        """Whole records that end at `end`, at least one unless it is 0, and where they begin."""
        size = BLOCK
        while True:
            start = max(0, end - size)
            data = os.pread(self._fd, end - start, start)
            if start == 0:
                return data, 0
            cut = self._form.first(data)
            if cut < len(data):
                return data[cut:], start + cut
            size *= 2

    def _end(self) -> int:
        """Where the last whole record ends."""
        size = os.fstat(self._fd).st_size
        span = BLOCK
        while True:
            start = max(0, size - span)
            data = os.pread(self._fd, size - start, start)
            begin = self._form.first(data) if start else 0
            found = self._form.whole(data[begin:])
            if found or start == 0:
                return start + begin + found if found else 0
            span *= 2

    def close(self) -> None:
        os.close(self._fd)


class _Compressed:
    """A rotated file that was compressed; it does not change."""

    def __init__(self, fd: int, form: Format) -> None:
        self._fd, self._form = fd, form
        self._data = b""
        self._unpacker = zlib.decompressobj(31)
        stat = os.fstat(fd)
        self.identity = (stat.st_dev, stat.st_ino)
        self.origin = origin(os.pread(fd, 64, 0)) or self.identity
        self.has_more = True

    def next_records(self) -> bytes:
        """As `_Plain.next_records`."""
        while self.has_more:
            packed = self._unpacker.unconsumed_tail or os.read(self._fd, BLOCK // 8)
            try:
                self._data += self._unpacker.decompress(packed, BLOCK)
            except zlib.error:
                packed = b""
            self.has_more = bool(packed) and not self._unpacker.eof
            end = self._form.whole(self._data)
            if end:
                records, self._data = self._data[:end], self._data[end:]
                return records
        return b""

    def last(self, count: int, query: LogQuery) -> list[list[LogEntry]]:
        """As `_Plain.last`; only forwards can it be read."""
        kept: deque[LogEntry] = deque(maxlen=count)
        while records := self.next_records():
            kept += _wanted(self._form.decode(records), query)
        return [list(kept)]

    def close(self) -> None:
        os.close(self._fd)


_File = _Plain | _Compressed


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

    def __init__(self, path: str, form: Format, query: LogQuery) -> None:
        self._path, self._form, self._query = path, form, query
        self._file: _File | None = None
        self._over = False

    async def batches(self, running: Running) -> AsyncIterator[list[LogEntry]]:
        """See LogDriver.read."""
        try:
            found: list[list[LogEntry]] = []
            if self._query.tail is None:
                await anyio.to_thread.run_sync(self._open_first)
            else:
                found = await anyio.to_thread.run_sync(self._tail, self._query.tail)
            yield []
            for batch in found:
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
        return self._file.has_more or _identity(self._path) not in (self._file.identity, None)

    def _next(self) -> list[LogEntry] | None:
        """The next batch, which may be empty; None at the end of what is there."""
        if self._file is None:
            self._open_first()
            if self._file is None:
                return None
        # Looked for first: what is written to a file before its successor appears is read then.
        newest = _identity(self._path) in (self._file.identity, None)
        records = self._file.next_records()
        if not records:
            return None if newest else self._go_on()
        entries = self._form.decode(records)
        if self._query.until_ns and entries and entries[-1].time_ns > self._query.until_ns:
            self._over = True
        return _wanted(entries, self._query)

    def _go_on(self) -> list[LogEntry] | None:
        """Opens the file that was begun when the present one was rotated away."""
        assert self._file is not None
        successor: _File | None = None
        for file in self._newest_first():
            if self._file.identity in (file.identity, file.origin):
                file.close()
                break
            if successor is not None:
                successor.close()
            successor = file
        if successor is None:
            return None
        self._file.close()
        self._file = successor
        return []

    def _newest_first(self) -> Iterator[_File]:
        """Opens one after the other; the taker closes them."""
        number = 0
        for number in (0, *_numbers(self._path)):
            path = numbered(self._path, number) if number else self._path
            # While one is being compressed both are there; one that moved meanwhile is the next.
            for ending, kind in (("", _Plain), (".gz", _Compressed)):
                try:
                    fd = os.open(path + ending, os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue
                yield kind(fd, self._form)
                break

    def _open_first(self) -> None:
        for file in self._newest_first():
            if self._file is not None:
                self._file.close()
            self._file = file

    def _tail(self, count: int) -> list[list[LogEntry]]:
        """The last entries of what is chosen, in batches; reading goes on after them."""
        batches: list[list[LogEntry]] = []
        for file in self._newest_first():
            try:
                found = file.last(count, self._query)
            finally:
                if self._file is None:
                    self._file = file
                else:
                    file.close()
            batches[:0] = found
            count -= sum(map(len, found))
            if count <= 0:
                break
        return [batch for batch in batches if batch]

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _numbers(path: str) -> list[int]:
    """Of the rotated files that are there, the newest first."""
    directory, name = os.path.split(path)
    found = set()
    try:
        entries = os.listdir(directory)
    except FileNotFoundError:
        return []
    for entry in entries:
        if entry.startswith(name + "."):
            number = entry[len(name) + 1 :].removesuffix(".gz")
            if number.isascii() and number.isdigit():
                found.add(int(number))
    return sorted(found)


def _identity(path: str) -> Identity | None:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino
