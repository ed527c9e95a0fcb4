"""Archives: read in pieces of any size they are the same, fit their own descriptions, and can be written again."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from types import MappingProxyType

from fuzz.checks import Target, hold, only
from hooper.api.errors import DataLoss, InvalidArgument
from hooper.content.tar import BLOCK, BLOCK_DEVICE, CHARACTER, FILE, Entry, TarReader
from hooper.content.tarwrite import TarWriter

_MAGIC, _CHECKSUM = slice(257, 262), slice(148, 156)
Member = tuple[Entry, bytes]


def feed(data: bytes) -> None:
    """As it is, and with the checksums of its headers put right, since nobody guesses those."""
    for archive in {data, mended(data)}:
        _feed(archive)


def mended(data: bytes) -> bytes:
    """With a right checksum in each block that looks like a header."""
    fixed = bytearray(data)
    for start in range(0, len(data) - BLOCK + 1, BLOCK):
        block = fixed[start : start + BLOCK]
        if block[_MAGIC] == b"ustar":
            block[_CHECKSUM] = b" " * 8
            block[_CHECKSUM] = b"%06o\0 " % sum(block)
            fixed[start : start + BLOCK] = block
    return bytes(fixed)


def _feed(archive: bytes) -> None:
    found, whole = _read(archive, 1 << 20)
    again, same = _read(archive, 700)
    hold(
        whole == same and [_value(one) for one in found] == [_value(one) for one in again],
        "an archive is the same in any pieces",
        archive,
    )
    for member in found[:-1] if not whole else found:
        _check(*member)
    if whole:
        _check_written(found)


def _read(archive: bytes, size: int) -> tuple[list[Member], bool]:
    """What is in it up to its end or to where it is damaged, and whether it is whole."""
    stream = io.BytesIO(archive)
    reader = TarReader(lambda: stream.read(size))
    found: list[Member] = []
    with only(DataLoss):
        for entry in reader:
            found.append((entry, b""))
            found[-1] = (entry, b"".join(reader.pieces()))
        return found, True
    return found, False


def _value(member: Member) -> tuple[object, ...]:
    entry, data = member
    return (
        entry.name, entry.kind, entry.mode, entry.uid, entry.gid, entry.size, entry.stored, entry.mtime, entry.link,
        entry.major, entry.minor, entry.sparse, dict(entry.xattrs), data,
    )  # fmt: skip


def _check(entry: Entry, data: bytes) -> None:
    shown = _value((entry, data[:50]))
    hold(entry.name and 0 not in entry.name and 0 not in entry.link, "names are names", shown)
    hold(0 <= entry.size < 1 << 63 and 0 <= entry.mode <= 0o7777, "numbers are in range", shown)
    hold(len(data) == entry.stored, "the data are as long as is said", shown)
    if entry.sparse is None:
        hold(entry.size == entry.stored, "a dense file is stored whole", shown)
        return
    end = 0
    for offset, length in entry.sparse:
        hold(offset >= end and length >= 0, "segments are in order", shown)
        end = offset + length
    hold(end <= entry.size and sum(length for _, length in entry.sparse) == len(data), "segments fit", shown)


def _check_written(found: list[Member]) -> None:
    """What the writer has a place for comes back; of a sparse file that is what is stored."""
    kept = [(entry, data) for entry, data in found if entry.kind in b"0123456" and _writable(entry)]
    for entry, data in kept:
        entry.sparse, entry.size = None, len(data)
        entry.mtime -= entry.mtime % 1_000_000_000
    archive = bytearray()
    writer = TarWriter(archive.extend)
    written = []
    for entry, data in kept:
        with only(InvalidArgument):
            writer.add(entry, [data])
            written.append((entry, data))
    writer.finish()
    again, whole = _read(bytes(archive), 1 << 20)
    hold(whole, "what is written is an archive", bytes(archive))
    expected = [_value(member) for member in written]
    hold([_value(member) for member in again] == expected, "what is written is read", again, expected)


def _writable(entry: Entry) -> bool:
    """Whether it is like one of a file system: numbers of devices are small, and other files have none."""
    device = entry.kind in (CHARACTER, BLOCK_DEVICE)
    return entry.kind == FILE or not device or (0 <= entry.major < 1 << 21 and 0 <= entry.minor < 1 << 21)


# --- seeds --------------------------------------------------------------------------------------------


def _archive(make: Callable[[tarfile.TarFile], None], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        make(archive)
    return buffer.getvalue().rstrip(b"\0") + bytes(BLOCK)


def _member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", headers: Mapping[str, str] = MappingProxyType({})
) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.mtime, member.pax_headers = kind, link, 1_700_000_000, dict(headers)
    return member


def _with_data(archive: tarfile.TarFile, member: tarfile.TarInfo, data: bytes) -> None:
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _plain(archive: tarfile.TarFile) -> None:
    archive.addfile(_member("d", tarfile.DIRTYPE))
    _with_data(archive, _member("d/file"), b"content")
    archive.addfile(_member("d/link", tarfile.SYMTYPE, "file"))
    archive.addfile(_member("d/hard", tarfile.LNKTYPE, "d/file"))
    archive.addfile(_member("d/.wh.gone"))
    archive.addfile(_member("null", tarfile.CHRTYPE))


def _long(archive: tarfile.TarFile) -> None:
    _with_data(archive, _member("n" * 120), b"x")
    archive.addfile(_member("link", tarfile.SYMTYPE, "t" * 120))


def _described(**headers: str) -> bytes:
    names = {name.replace("__", "."): value for name, value in headers.items()}
    return _archive(lambda archive: _with_data(archive, _member("file", headers=names), b"data"))


def _for_all(*keywords: str) -> bytes:
    """With a global header of many records, which must not be gone through again for each entry."""
    headers = {f"{keyword}{number}": "x" for keyword in keywords for number in range(50)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers=headers) as archive:
        _plain(archive)
    return buffer.getvalue()


def _old_sparse() -> bytes:
    """GNU's own: the segments stand in the header."""
    entry = Entry(b"sparse", b"S", size=3)
    made = bytearray()
    TarWriter(made.extend).add(entry)
    made[345:] = bytes(len(made) - 345)
    made[386:398], made[398:410], made[483:495] = b"%011o\0" % 512, b"%011o\0" % 3, b"%011o\0" % 1024
    return mended(bytes(made) + b"abc".ljust(BLOCK, b"\0") + bytes(BLOCK))


def _listed_sparse(count: bytes) -> bytes:
    """PAX 1.0: the segments stand before the data."""
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1024"}
    data = (count + b"\n512\n3\n").ljust(BLOCK, b"\0") + b"abc"
    return _archive(lambda archive: _with_data(archive, _member("sparse", headers=headers), data))


TARGET = Target(
    feed,
    (
        b"",
        bytes(BLOCK),
        _archive(_plain),
        _archive(_plain, tarfile.GNU_FORMAT),
        _archive(_long),
        _archive(_long, tarfile.GNU_FORMAT),
        _described(mtime="1700000000.5", uid="4000000000", SCHILY__xattr__user__a="b", comment="c"),
        _described(mtime="-1.5", GNU__sparse__size="20", GNU__sparse__map="0,2,10,2"),
        _for_all("comment", "SCHILY.xattr.user."),
        _old_sparse(),
        _listed_sparse(b"1"),
        # A count of segments that is negative.
        _listed_sparse(b"-1"),
    ),
    unit=BLOCK,
)
