"""What log writers share: lines out of chunks, and patience with a destination."""

from __future__ import annotations

import time
from collections.abc import Callable

LINE_MAX = 16 * 1024
"""A longer line is kept in parts of this size, all but the last without a newline."""

_CONTINUATION = range(0x80, 0xC0)

Run = tuple[bytes, int]
"""Whole lines, or one part of a long line or of an unfinished one, and when they came."""


class LineSplitter:
    """The two streams of a container, each cut into lines."""

    def __init__(self) -> None:
        self._pending = {"stdout": b"", "stderr": b""}
        """The end of a stream that has no newline yet."""
        self._began = {"stdout": 0, "stderr": 0}
        """When the first piece of that line came; all its parts carry that time."""
        self._parted = {"stdout": False, "stderr": False}
        """Parts of that line have been given out; never the last one, so that some of it is pending."""

    def feed(self, stream: str, data: bytes, time_ns: int) -> list[Run]:
        """What is complete with this chunk. Each run either ends with a newline or is one part of a line."""
        pending = self._pending[stream]
        if pending:
            data = pending + data
        elif data[-1:] == b"\n" and (len(data) <= LINE_MAX or not _long_line(data)):
            return [(data, time_ns)]
        else:
            self._began[stream] = time_ns
        if self._parted[stream] or (len(data) > LINE_MAX and _long_line(data)):
            return self._feed_long(stream, data, time_ns)
        end = data.rfind(b"\n") + 1
        if not end:
            self._pending[stream] = data
            return []
        self._pending[stream], self._began[stream] = data[end:], time_ns
        return [(data[:end], time_ns)]

    def rest(self) -> list[tuple[str, bytes, int]]:
        """(stream, data, time) of what never got its newline."""
        left = [(stream, data, self._began[stream]) for stream, data in self._pending.items() if data]
        self._pending = dict.fromkeys(self._pending, b"")
        return left

    def _feed_long(self, stream: str, data: bytes, time_ns: int) -> list[Run]:
        runs: list[Run] = []
        began, parted = self._began[stream], self._parted[stream]
        start, size = 0, len(data)
        while start < size:
            end = data.find(b"\n", start, start + LINE_MAX) + 1
            if end:
                runs.append((data[start:end], began))
                began, parted = time_ns, False
            elif size - start > LINE_MAX:
                end = start + _cut(data[start : start + LINE_MAX + 1])
                runs.append((data[start:end], began))
                parted = True
            else:
                break
            start = end
        self._began[stream], self._parted[stream], self._pending[stream] = began, parted, data[start:]
        return runs


def _long_line(data: bytes) -> bool:
    """Some line of `data` (its newline counts) is longer than LINE_MAX."""
    start = 0
    while len(data) - start > LINE_MAX:
        end = data.rfind(b"\n", start, start + LINE_MAX)
        if end < 0:
            return True
        start = end + 1
    return False


def _cut(line: bytes) -> int:
    """Where to part a line that is longer than LINE_MAX: not within a character."""
    end = LINE_MAX
    while end > LINE_MAX - 3 and line[end] in _CONTINUATION:
        end -= 1
    return LINE_MAX if line[end] in _CONTINUATION else end


class Patience:
    """Keeps a destination that fails from being tried again at once: a second, then twice as long each time."""

    LONGEST_S = 30.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pause = 0.0
        self._next = 0.0

    @property
    def may_try(self) -> bool:
        return self._clock() >= self._next

    def failed(self) -> None:
        self._pause = min(self._pause * 2, self.LONGEST_S) or 1.0
        self._next = self._clock() + self._pause

    def worked(self) -> None:
        self._pause = self._next = 0.0
