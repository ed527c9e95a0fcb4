"""Reads tar archives as streams: ustar, GNU and PAX (POSIX.1-2017 pax; tar(5); GNU tar's manual, "Tar Internals").

Names and links are bytes, as they are on disk. Whatever is wrong with an archive raises DataLoss with
the offset at which it shows; no length that an archive claims makes the reader allocate more than
`MAX_SPECIAL` bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

from hooper.api.errors import DataLoss

BLOCK = 512
MAX_SPECIAL = 1 << 20
"""Bytes of the largest PAX header or long name that is taken for one."""
MAX_SEGMENTS = 1 << 17
"""Data segments of the most fragmented sparse file that is taken for one."""

FILE, HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = (b"%d" % number for number in range(7))
GNU_SPARSE = b"S"

_ZERO = bytes(BLOCK)
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
_SECONDS_MAX = 1 << 55
_SHOWN = 200
"""Bytes of a name that messages show."""
_WITHOUT_DATA = frozenset((HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO))
_XATTR = b"SCHILY.xattr."
_GLOBAL = frozenset((b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime"))
"""What headers can say of all entries to come; attributes and sparse maps belong to one."""


class Entry:
    """One member of an archive.

    `kind` is the type flag (FILE, DIRECTORY…; an unknown one as it is), `size` the bytes of the
    file when unpacked, `stored` those in the archive, `mtime` in nanoseconds since the epoch,
    `sparse` the (offset, length) of the data segments or None for a dense file.
    """

    __slots__ = (
        "gid", "kind", "link", "major", "minor", "mode", "mtime", "name",
        "offset", "size", "sparse", "stored", "uid", "xattrs",
    )  # fmt: skip

    def __init__(
        self,
        name: bytes,
        kind: bytes,
        *,
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        size: int = 0,
        mtime: int = 0,
        link: bytes = b"",
        major: int = 0,
        minor: int = 0,
        offset: int = 0,
    ) -> None:
        self.name, self.kind, self.mode, self.uid, self.gid = name, kind, mode, uid, gid
        self.size, self.stored, self.mtime, self.link = size, size, mtime, link
        self.major, self.minor, self.offset = major, minor, offset
        self.xattrs: Mapping[bytes, bytes] = {}
        self.sparse: tuple[tuple[int, int], ...] | None = None


def shown(name: bytes) -> str:
    """A name of an archive for messages: short, and without what would move a terminal's cursor."""
    text = os.fsdecode(name if len(name) <= _SHOWN else name[:_SHOWN] + b"...") or "/"
    return text if text.isprintable() else ascii(text)[1:-1]


def damaged(offset: int, reason: str) -> DataLoss:
    """The error for an archive that is wrong at a byte."""
    return DataLoss("the archive is damaged", f"at byte {offset}: {reason}", "Fetch it or make it again.")


class Stream:
    """Bytes that come in chunks, taken by count. `read` returns the next chunk, b"" at the end.

    `seek`, if given, passes over so many bytes that need not be read; that they are not there goes unnoticed then.
    """

    def __init__(self, read: Callable[[], bytes], seek: Callable[[int], object] | None = None) -> None:
        self._read, self._seek = read, seek
        self._chunk = b""
        self._position = 0
        self._before = 0

    @property
    def offset(self) -> int:
        """Bytes taken so far."""
        return self._before + self._position

    def _refill(self) -> bool:
        chunk = self._read()
        self._before += len(self._chunk)
        self._chunk, self._position = chunk, 0
        return bool(chunk)

    def take(self, count: int) -> bytes:
        """The next `count` bytes; fewer only at the end. For small counts: it is all in memory."""
        start = self._position
        end = start + count
        if end <= len(self._chunk):
            self._position = end
            return self._chunk[start:end]
        parts = [self._chunk[start:]]
        missing = count - len(parts[0])
        self._position = len(self._chunk)
        while missing and self._refill():
            parts.append(self._chunk[:missing])
            self._position = len(parts[-1])
            missing -= len(parts[-1])
        return b"".join(parts)

    def pieces(self, count: int) -> Iterator[memoryview]:
        """The next `count` bytes in pieces that are not copied. DataLoss if the stream ends before."""
        while count:
            available = len(self._chunk) - self._position
            if not available:
                if not self._refill():
                    raise damaged(self.offset, f"it ends {count} bytes too early")
                continue
            start, size = self._position, min(available, count)
            self._position += size
            count -= size
            yield memoryview(self._chunk)[start : start + size]

    def skip(self, count: int, padding: int = 0) -> None:
        """Passes over `count` bytes, and over a padding, which may be missing at the end: where Docker's client puts
        a Dockerfile into a context, it is. DataLoss if the stream ends before.
        """
        if count + padding <= len(self._chunk) - self._position:
            self._position += count + padding
            return
        if self._seek is not None:
            beyond = count + padding - (len(self._chunk) - self._position)
            self._before += len(self._chunk) + beyond
            self._chunk, self._position = b"", 0
            self._seek(beyond)
            return
        for _ in self.pieces(count):
            pass
        self.take(padding)

    def drain(self) -> None:
        """Reads to the end: what is behind an archive's end still belongs to its digest."""
        while self._refill():
            pass


@lru_cache(maxsize=4096)
def _number(field: bytes) -> int:
    """A numeric field: octal text, or GNU's base 256, marked by its top bit."""
    first = field[0]
    if first >= 0x80:
        value = int.from_bytes(field, "big")
        bits = 8 * len(field)
        return value - (1 << bits) if first & 0x40 else value & ((1 << (bits - 1)) - 1)
    text = field.partition(b"\0")[0].strip(b" ")
    if not text:
        return 0
    if not text.isdigit():
        raise ValueError(field)
    return int(text, 8)


def _until_nul(field: bytes) -> bytes:
    return field[: field.find(0)] if 0 in field else field


def _checksum_fits(block: bytes, field: bytes) -> bool:
    stated = _number(field)
    if sum(block) - sum(field) + 256 == stated:
        return True
    # Some old writers summed signed characters.
    return sum(byte - 256 if byte > 127 else byte for byte in block[:148] + b" " * 8 + block[156:]) == stated


def _parse(block: bytes, offset: int) -> Entry:
    (name, mode, uid, gid, size, mtime, check, kind, link, magic, _, _, _, major, minor, prefix) = _HEADER.unpack(block)
    try:
        if not _checksum_fits(block, check):
            raise damaged(offset, "a header's checksum is wrong")
        length = _number(size)
        entry = Entry(
            _until_nul(name), kind, mode=_number(mode) & 0o7777, uid=_number(uid), gid=_number(gid), size=length,
            mtime=_number(mtime) * 1_000_000_000, link=_until_nul(link), offset=offset,
        )  # fmt: skip
        if kind in (CHARACTER, BLOCK_DEVICE):
            entry.major, entry.minor = _number(major), _number(minor)
    except ValueError:
        raise damaged(offset, "a header has a number that is none") from None
    if length < 0:
        raise damaged(offset, "a header has a negative size")
    if prefix[0] and magic == b"ustar\0":
        entry.name = _until_nul(prefix) + b"/" + entry.name
    return entry


def _pax_records(data: bytes, offset: int) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    while position < len(data) and data[position]:
        space = data.find(b" ", position, position + 12)
        digits = data[position:space] if space > 0 else b""
        end = position + int(digits) if digits.isdigit() else 0
        if not position < space < end <= len(data) or data[end - 1] != 0x0A:
            raise damaged(offset, "a PAX header has a bad record length")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not equals or not key:
            raise damaged(offset, "a PAX record has no keyword")
        yield key, value
        position = end


def _decimal(text: bytes, offset: int) -> int:
    if len(text) > 20 or not text.removeprefix(b"-").isdigit():
        raise damaged(offset, "a PAX header has a number that is none")
    return int(text)


def _nanoseconds(text: bytes, offset: int) -> int:
    whole, _, fraction = text.partition(b".")
    seconds = _decimal(whole, offset)
    nanoseconds = _decimal(fraction[:9].ljust(9, b"0"), offset) if fraction else 0
    sign = -1 if whole.startswith(b"-") else 1
    return seconds * 1_000_000_000 + sign * nanoseconds


class TarReader:
    """The entries of an archive, in order. `read` returns the next chunk of it, b"" at its end; `seek` see `Stream`."""

    def __init__(self, read: Callable[[], bytes], seek: Callable[[int], object] | None = None) -> None:
        self._stream = Stream(read, seek)
        self._drains = seek is None
        self._left = 0
        self._padding = 0
        self._global: dict[bytes, bytes] = {}
        self._described = [0, 0]
        """Bytes of the headers that describe: all entries to come, the next entry."""
        self._map: list[int] = []
        """The sparse map of PAX 0.0, which repeats a keyword: offset, length, offset…"""

    def __iter__(self) -> Iterator[Entry]:
        """Each entry; its data are to be had from `pieces` until the next one is asked for."""
        stream = self._stream
        pax: dict[bytes, bytes] = {}
        while True:
            stream.skip(self._left, self._padding)
            self._left = self._padding = 0
            offset = stream.offset
            block = stream.take(BLOCK)
            if not block or block == _ZERO:
                break
            if len(block) < BLOCK:
                raise damaged(offset, "it ends within a header")
            entry = _parse(block, offset)
            if entry.kind in b"xgXLK":
                self._special(entry, pax)
                continue
            if pax or self._global:
                self._extend(entry, {**self._global, **pax})
                pax, self._map = {}, []
            self._described[1] = 0
            self._settle(entry, block)
            yield entry
        if pax:
            raise damaged(stream.offset, "it ends after a header that describes an entry")
        if self._drains:
            stream.drain()

    @property
    def offset(self) -> int:
        """Where in the archive the data of the current entry begin, of which none were taken yet."""
        return self._stream.offset

    def pieces(self) -> Iterator[memoryview]:
        """The data of the current entry that were not taken yet: the segments of a sparse file, joined."""
        for piece in self._stream.pieces(self._left):
            self._left -= len(piece)
            yield piece

    def data(self, limit: int) -> bytes:
        """The data of the current entry, if they are no more than `limit` bytes; DataLoss otherwise."""
        if self._left > limit:
            raise damaged(self._stream.offset, f"{self._left} bytes are too many here")
        return b"".join(self.pieces())

    def _special(self, entry: Entry, pax: dict[bytes, bytes]) -> None:
        """Reads a header that describes the entry after it, into `pax`."""
        local = entry.kind != b"g"
        self._described[local] += max(entry.size, 1) if not local else entry.size + BLOCK
        if self._described[local] > MAX_SPECIAL:
            raise damaged(entry.offset, f"headers of {self._described[local]} bytes are too long")
        data = self._stream.take(entry.size)
        if len(data) < entry.size:
            raise damaged(self._stream.offset, "it ends within a header")
        self._padding = -entry.size % BLOCK
        if entry.kind in b"LK":
            pax[b"path" if entry.kind == b"L" else b"linkpath"] = _until_nul(data)
            return
        records = _pax_records(data, entry.offset)
        if not local:
            self._global.update((key, value) for key, value in records if key in _GLOBAL)
            return
        for key, value in records:
            if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
                self._map.append(_decimal(value, entry.offset))
            else:
                pax[key] = value

    def _extend(self, entry: Entry, pax: Mapping[bytes, bytes]) -> None:
        offset = entry.offset
        xattrs = {}
        for key, value in pax.items():
            if key == b"path":
                entry.name = value or entry.name
            elif key == b"linkpath":
                entry.link = value or entry.link
            elif not value and not key.startswith(_XATTR):
                continue
            elif key == b"size":
                entry.size = entry.stored = _decimal(value, offset)
            elif key == b"uid":
                entry.uid = _decimal(value, offset)
            elif key == b"gid":
                entry.gid = _decimal(value, offset)
            elif key == b"mtime":
                entry.mtime = _nanoseconds(value, offset)
            elif key.startswith(_XATTR):
                xattrs[key[len(_XATTR) :]] = value
        entry.xattrs = xattrs
        if entry.size < 0 or 0 in entry.name or 0 in entry.link or any(0 in key for key in xattrs):
            raise damaged(offset, "a PAX header has a value that cannot be")
        if entry.kind in (FILE, b"\0") and any(key.startswith(b"GNU.sparse.") for key in pax):
            self._pax_sparse(entry, pax)

    def _settle(self, entry: Entry, block: bytes) -> None:
        """Fixes what depends on all headers of an entry, and where its data end."""
        if entry.kind == b"\0":
            entry.kind = DIRECTORY if entry.name.endswith(b"/") else FILE
        elif entry.kind == b"7":
            entry.kind = FILE
        if not entry.name:
            raise damaged(entry.offset, "an entry has no name")
        if not -_SECONDS_MAX < entry.mtime // 1_000_000_000 < _SECONDS_MAX:
            raise damaged(entry.offset, "a time is out of range")
        if entry.kind in _WITHOUT_DATA:
            entry.size = entry.stored = 0
        self._padding = -entry.stored % BLOCK
        if entry.kind == GNU_SPARSE:
            self._gnu_sparse(entry, block)
        self._left = sum(length for _, length in entry.sparse) if entry.sparse is not None else entry.stored

    def _gnu_sparse(self, entry: Entry, block: bytes) -> None:
        """The old GNU format: four segments in the header, 21 in each block that extends it."""
        numbers: list[int] = []
        fields, count, more = block[386:482], 4, block[482]
        try:
            real = _number(block[483:495])
            while True:
                for index in range(count):
                    pair = fields[24 * index : 24 * index + 24]
                    if pair[12] or pair[0]:
                        numbers += _number(pair[:12]), _number(pair[12:])
                if not more or len(numbers) > 2 * MAX_SEGMENTS:
                    break
                extension = self._stream.take(BLOCK)
                if len(extension) < BLOCK:
                    raise damaged(entry.offset, "it ends within a sparse map")
                fields, count, more = extension, 21, extension[504]
        except ValueError:
            raise damaged(entry.offset, "a sparse map has a number that is none") from None
        entry.kind = FILE
        self._set_sparse(entry, numbers, real, entry.stored)

    def _pax_sparse(self, entry: Entry, pax: Mapping[bytes, bytes]) -> None:
        """The PAX formats 0.0 (repeated keywords), 0.1 (a list) and 1.0 (a list before the data)."""
        real = _decimal(pax.get(b"GNU.sparse.realsize") or pax.get(b"GNU.sparse.size") or b"", entry.offset)
        entry.name = pax.get(b"GNU.sparse.name") or entry.name
        stored = entry.stored
        if pax.get(b"GNU.sparse.major") == b"1":
            numbers, used = self._leading_map(entry)
            stored -= used
        elif b"GNU.sparse.map" in pax:
            numbers = [_decimal(part, entry.offset) for part in pax[b"GNU.sparse.map"].split(b",") if part]
        else:
            numbers = self._map
        self._set_sparse(entry, numbers, real, stored)
        entry.stored = stored

    def _leading_map(self, entry: Entry) -> tuple[list[int], int]:
        """The map of PAX 1.0: decimal lines (count, then offset and length each), padded to a block."""
        text = bytearray()
        lines, wanted = 0, 1
        while lines < wanted:
            block = self._stream.take(BLOCK)
            if len(block) < BLOCK or len(text) + BLOCK > min(entry.stored, MAX_SPECIAL):
                raise damaged(entry.offset, "a sparse map is cut off or too long")
            text += block
            lines += block.count(b"\n")
            if wanted == 1 and lines:
                count = _decimal(bytes(text.partition(b"\n")[0]), entry.offset)
                if count < 0:
                    raise damaged(entry.offset, "a sparse map has a negative number of segments")
                wanted = 1 + 2 * count
        return [_decimal(part, entry.offset) for part in bytes(text).split(b"\n")[1:wanted]], len(text)

    @staticmethod
    def _set_sparse(entry: Entry, numbers: list[int], real: int, stored: int) -> None:
        segments = tuple(zip(numbers[::2], numbers[1::2], strict=False))
        end = total = 0
        for offset, length in segments:
            if offset < end or length < 0:
                raise damaged(entry.offset, "a sparse map is out of order")
            end, total = offset + length, total + length
        if len(numbers) % 2 or len(segments) > MAX_SEGMENTS or end > real or total != stored or real >= 1 << 63:
            raise damaged(entry.offset, "a sparse map does not fit the file")
        entry.size, entry.sparse = real, segments
