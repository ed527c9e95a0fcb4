"""Compressed streams: what they are, by their first bytes, and their plain bytes.

gzip goes through isal where it is installed (three times zlib's speed), else through zlib.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, cast

from hooper.api.errors import DataLoss, Unsupported

CHUNK = 1 << 20
"""Bytes of a plain chunk at most."""
_INPUT = 1 << 17
_XZ_MEMORY = 1 << 28
"""Bytes that unpacking xz may take: xz -9 needs a quarter of it, what asks for more is no layer."""
_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
)

Read = Callable[[], bytes]
"""Returns the next chunk, b"" at the end."""


def kind_of(start: bytes) -> str:
    """none, gzip, zstd, bzip2 or xz, from the first six bytes (or more) of a stream."""
    if start[1:4] == b"\x2a\x4d\x18" and start[0] >> 4 == 5:
        return "zstd"  # a skippable frame comes first
    return next((name for magic, name in _MAGIC if start.startswith(magic)), "none")


def load_codecs() -> None:
    """Imports what reads streams, if it is installed. A worker that moves its root finds no module any more."""
    _zlib()
    with contextlib.suppress(ImportError):
        import zstandard  # noqa: F401


def _zlib() -> Any:
    try:
        from isal import isal_zlib
    except ImportError:
        import zlib

        return zlib
    return isal_zlib


class _Source:
    """Descriptors that are read in chunks, one after the other, with the first bytes looked at before."""

    def __init__(self, fds: Sequence[int]) -> None:
        self._fds = list(fds)
        self.start = b""
        while len(self.start) < 6 and (chunk := self._next(_INPUT)):
            self.start += chunk
        self._pending = self.start

    def read(self, size: int = _INPUT) -> bytes:
        """The next bytes, `size` at most."""
        if self._pending:
            chunk, self._pending = self._pending[:size], self._pending[size:]
            return chunk
        return self._next(size)

    def _next(self, size: int) -> bytes:
        while self._fds:
            if chunk := os.read(self._fds[0], size):
                return chunk
            del self._fds[0]
        return b""


def _damaged(kind: str, why: object) -> DataLoss:
    return DataLoss(f"the {kind} stream is damaged", str(why), "Fetch it or make it again.")


def _gunzip(source: _Source) -> Iterator[bytes]:
    zlib = _zlib()
    pending = source.read()
    while pending:
        member = zlib.decompressobj(31)
        while not member.eof:
            if not pending and not (pending := source.read()):
                raise _damaged("gzip", "it is cut off")
            if plain := member.decompress(pending, CHUNK):
                yield plain
            pending = member.unconsumed_tail
        # Another member may follow, or padding with zeros.
        pending = (member.unused_data or source.read()).lstrip(b"\0")
        while not pending and (more := source.read()):
            pending = more.lstrip(b"\0")


def _unzstd(source: _Source) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError:
        raise Unsupported(
            "cannot read a zstd stream", "the package zstandard is not installed", "Install it (pip install zstandard)."
        ) from None
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    with decompressor.stream_reader(
        cast("IO[bytes]", source), read_size=_INPUT, read_across_frames=True, closefd=False
    ) as reader:
        while plain := reader.read(CHUNK):
            yield plain


def _decompress(kind: str, source: _Source) -> Iterator[bytes]:
    """bzip2 and xz, whose streams may be several, one after the other."""
    import bz2
    import lzma

    pending = source.read()
    while pending:
        member: Any = bz2.BZ2Decompressor() if kind == "bzip2" else lzma.LZMADecompressor(memlimit=_XZ_MEMORY)
        while not member.eof:
            if member.needs_input and not pending and not (pending := source.read()):
                raise _damaged(kind, "it is cut off")
            if plain := member.decompress(pending, CHUNK):
                yield plain
            pending = b""
        pending = (member.unused_data or source.read()).lstrip(b"\0")


def _checked(kind: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    import zlib

    kinds: tuple[type[BaseException], ...] = (zlib.error, _zlib().error, EOFError, ValueError)
    if kind == "zstd":
        import zstandard

        kinds = (*kinds, zstandard.ZstdError)
    elif kind in ("bzip2", "xz"):
        import lzma

        # bz2 reports damage as a bare OSError, which descriptors would give an errno.
        kinds = (*kinds, lzma.LZMAError, OSError)
    try:
        yield from chunks
    except kinds as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise _damaged(kind, error) from error


def plain_reader(*fds: int) -> tuple[str, Read]:
    """The kind of the stream that `fds` are, one after the other, and a reader of its plain bytes. The caller closes
    them.

    DataLoss, from the reader, if the stream is damaged or cut off.
    """
    source = _Source(fds)
    kind = kind_of(source.start)
    if kind == "none":
        return kind, lambda: source.read(CHUNK)
    chunks = {"gzip": _gunzip, "zstd": _unzstd}.get(kind, lambda found: _decompress(kind, found))(source)
    checked = _checked(kind, chunks)
    return kind, lambda: next(checked, b"")


class GzipWriter:
    """Compresses to `write`. The header has no time and no name: the same bytes give the same stream."""

    def __init__(self, write: Callable[[bytes], object], level: int = 1) -> None:
        """`level` is isal's, 1 to 3; zlib takes the same number."""
        zlib = _zlib()
        self._write = write
        self._compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
        self._crc32 = zlib.crc32
        self._crc = self._size = 0
        write(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")

    def write(self, data: bytes | memoryview) -> None:
        self._crc = self._crc32(data, self._crc)
        self._size += len(data)
        if packed := self._compressor.compress(data):
            self._write(packed)

    def finish(self) -> None:
        """Writes the end of the stream."""
        tail = self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        self._write(self._compressor.flush() + tail)
