"""The multiplexed stream of attach, exec and logs: frames of [stream, 0, 0, 0, length] and data.

See the Engine API, "Stream format": stream 1 is stdout, 2 is stderr; the length is 32 bits, big-endian.
"""

from __future__ import annotations

from collections.abc import Iterator

_HEADER = 8


class Demultiplexer:
    """Splits a framed stream that comes in arbitrary pieces."""

    def __init__(self) -> None:
        self._header = b""
        self._stream = 0
        self._left = 0

    def feed(self, data: bytes | memoryview) -> Iterator[tuple[int, memoryview]]:
        """(stream, piece of data) for all that `data` holds; pieces are views of it."""
        view = memoryview(data)
        while view:
            if self._left:
                piece, view = view[: self._left], view[self._left :]
                self._left -= len(piece)
                yield self._stream, piece
                continue
            lacking = _HEADER - len(self._header)
            self._header += view[:lacking]
            view = view[lacking:]
            if len(self._header) == _HEADER:
                self._stream = self._header[0]
                self._left = int.from_bytes(self._header[4:], "big")
                self._header = b""
