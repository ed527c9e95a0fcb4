"""Writes tar archives, deterministically: the same entries give the same bytes.

The format is ustar; what does not fit it (long names, large numbers, extended attributes) goes into a PAX
header before the entry (POSIX.1-2017, pax). Times are whole seconds, as layers have them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from hooper.api.errors import InvalidArgument
from hooper.content.tar import BLOCK, BLOCK_DEVICE, CHARACTER, FILE, Entry

_ZERO = bytes(BLOCK)


def _fits(value: int, width: int) -> bool:
    return 0 <= value < 1 << (3 * (width - 1))


def _split(name: bytes) -> tuple[bytes, bytes] | None:
    """Prefix and name of a long path, by ustar's rule, or None if it cannot be cut so."""
    if len(name) > 256:
        return None
    cut = name.find(b"/", max(0, len(name) - 101))
    if 0 < cut <= 155 and cut < len(name) - 1:
        return name[:cut], name[cut + 1 :]
    return None


def _record(key: bytes, value: bytes) -> bytes:
    """One PAX record, whose length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _header(entry: Entry, name: bytes, prefix: bytes = b"") -> bytes:
    """One header block; numbers that do not fit are 0 there."""
    numbers = (
        (entry.mode & 0o7777, 8), (entry.uid, 8), (entry.gid, 8), (entry.stored, 12),
        (entry.mtime // 1_000_000_000, 12),
    )  # fmt: skip
    before = name.ljust(100, b"\0") + b"".join(
        b"%0*o\0" % (width - 1, value if _fits(value, width) else 0) for value, width in numbers
    )
    device = entry.kind in (CHARACTER, BLOCK_DEVICE)
    after = b"%c%s%s%s%07o\0%07o\0%s" % (
        entry.kind, entry.link[:100].ljust(100, b"\0"), b"ustar\x0000", bytes(64),
        entry.major if device else 0, entry.minor if device else 0, prefix.ljust(167, b"\0"),
    )  # fmt: skip
    return before + b"%06o\0 " % (sum(before) + 256 + sum(after)) + after


def _pax(entry: Entry, path: bytes, link: bytes) -> list[bytes]:
    """The records that ustar's fields have no room for; "" for path and link that have."""
    records = []
    if not (_is_utf8(path) and _is_utf8(link)):
        records.append(_record(b"hdrcharset", b"BINARY"))
    if path:
        records.append(_record(b"path", path))
    if link:
        records.append(_record(b"linkpath", link))
    for key, value, width in (
        (b"size", entry.stored, 12), (b"uid", entry.uid, 8), (b"gid", entry.gid, 8),
        (b"mtime", entry.mtime // 1_000_000_000, 12),
    ):  # fmt: skip
        if not _fits(value, width):
            records.append(_record(key, b"%d" % value))
    for name, content in sorted(entry.xattrs.items()):
        if b"=" in name:
            raise InvalidArgument(
                f"cannot archive {os.fsdecode(entry.name)}",
                f'its extended attribute {os.fsdecode(name)} has a "=" in its name',
                "Remove the attribute (setfattr -x).",
            )
        records.append(_record(b"SCHILY.xattr." + name, content))
    return records


def encode_header(entry: Entry) -> bytes:
    """All header blocks of an entry, whose `stored` is 0 for all but files."""
    name, prefix, long_name = entry.name, b"", b""
    if len(name) > 100:
        if cut := _split(name):
            prefix, name = cut
        else:
            long_name, name = name, name[:99] + b"~"
    records = _pax(entry, long_name, entry.link if len(entry.link) > 100 else b"")
    header = _header(entry, name, prefix)
    if not records:
        return header
    data = b"".join(records)
    extra = Entry(b"PaxHeaders/" + name[:80].rstrip(b"/"), b"x", size=len(data))
    return _header(extra, extra.name) + data + bytes(-len(data) % BLOCK) + header


class TarWriter:
    """Writes entries to `write`, which takes all bytes it is given."""

    def __init__(self, write: Callable[[bytes | memoryview], object]) -> None:
        self._write = write

    def add(self, entry: Entry, data: Iterable[bytes | memoryview] = ()) -> None:
        """Writes an entry; `data` must come to exactly `entry.stored` bytes for a file."""
        self._write(encode_header(entry))
        if entry.kind == FILE and entry.stored:
            for piece in data:
                self._write(piece)
            if padding := -entry.stored % BLOCK:
                self._write(_ZERO[:padding])

    def finish(self) -> None:
        """Writes the end of the archive."""
        self._write(_ZERO + _ZERO)
