"""Archives that are wrong, and the limits of the reader."""

from __future__ import annotations

import pytest

from hooper.api.errors import DataLoss, InvalidArgument
from hooper.content.tar import FILE, MAX_SPECIAL, Entry, TarReader, shown
from hooper.content.tarwrite import TarWriter, encode_header


def read(data: bytes) -> list[Entry]:
    chunks = iter([data])
    return list(TarReader(lambda: next(chunks, b"")))


def header(name: bytes = b"file", kind: bytes = FILE, **more: int) -> bytes:
    return encode_header(Entry(name, kind, **more))


def with_checksum(block: bytearray) -> bytes:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(records: bytes) -> bytes:
    return header(b"pax", b"x", size=len(records)) + records + bytes(-len(records) % 512)


def test_an_empty_stream_is_an_empty_archive() -> None:
    assert read(b"") == read(bytes(1024)) == []


def test_an_archive_may_end_without_its_end_mark() -> None:
    assert [entry.name for entry in read(header())] == [b"file"]
    assert [entry.size for entry in read(header(size=5) + b"12345")] == [5]


@pytest.mark.parametrize(
    ("archive", "where"),
    [
        (header()[:300], "byte 0: it ends within a header"),
        (header(size=600) + b"x" * 512, "it ends 88 bytes too early"),
        (header() + header().replace(b"file", b"fire"), "byte 512: a header's checksum"),
        (pax(b"9999 path=x\n") + header(), "byte 0: a PAX header has a bad record length"),
        (pax(b"5 x\n\n"), "byte 0"),
        (pax(b"11 path=x\0\n") + header(), "byte 1024: a PAX header has a value"),
        (pax(b"9 size=x\n") + header(), "byte 1024: a PAX header has a number"),
        (pax(b"11 size=-1\n") + header(), "byte 1024: a PAX header has a value"),
        (pax(b"10 path=x\n"), "it ends after a header that describes"),
        (header(b"x", b"x", size=MAX_SPECIAL + 1), "too long"),
        (header(b"x", b"L", size=1 << 32), "too long"),
        (header(b""), "an entry has no name"),
    ],
)
def test_damage_is_told_with_its_place(archive: bytes, where: str) -> None:
    with pytest.raises(DataLoss) as caught:
        read(archive)
    assert where in caught.value.why


def test_headers_that_describe_do_not_pile_up() -> None:
    long = b"%d comment=%s\n" % (600_016, b"x" * 600_000)
    assert len(long) == 600_016
    with pytest.raises(DataLoss, match="too long"):
        read(pax(long) * 2 + header())


def test_a_sparse_map_that_does_not_fit_is_damage() -> None:
    block = bytearray(header(kind=b"S", size=512))
    block[257:265] = b"ustar  \0"
    block[386:410] = b"%011o\0%011o\0" % (1 << 20, 512)
    block[483:495] = b"%011o\0" % 1000
    with pytest.raises(DataLoss, match="does not fit"):
        read(with_checksum(block) + bytes(512))


def test_a_sparse_map_with_a_negative_number_of_segments_is_damage() -> None:
    described = pax(b"22 GNU.sparse.major=1\n" + b"27 GNU.sparse.realsize=512\n")
    with pytest.raises(DataLoss, match="negative number of segments"):
        read(described + header(size=512) + b"-1\n0\n512\n".ljust(512, b"\0"))


def test_old_archives_mark_directories_by_name() -> None:
    (entry,) = read(with_checksum(bytearray(header(b"dir/", b"\0"))))
    assert entry.kind == b"5"


def test_base_256_numbers() -> None:
    block = bytearray(header())
    block[124:136] = b"\x80" + (0).to_bytes(11, "big")
    block[108:116] = b"\x80" + (3_000_000_000).to_bytes(7, "big")
    block[136:148] = b"\xff" * 12
    (entry,) = read(with_checksum(block))
    assert (entry.uid, entry.size, entry.mtime) == (3_000_000_000, 0, -1_000_000_000)


def test_times_have_fractions() -> None:
    (entry,) = read(pax(b"23 mtime=1700000000.25\n") + header())
    assert entry.mtime == 1_700_000_000_250_000_000


def test_an_attribute_that_no_archive_can_hold_is_refused() -> None:
    entry = Entry(b"file", FILE)
    entry.xattrs = {b"user.a=b": b"1"}
    with pytest.raises(InvalidArgument, match="="):
        TarWriter(bytearray().extend).add(entry)


def test_data_of_limited_size() -> None:
    chunks = iter([header(size=5) + b"12345" + bytes(507)])
    reader = TarReader(lambda: next(chunks, b""))
    next(iter(reader))
    with pytest.raises(DataLoss):
        reader.data(4)
    assert reader.data(5) == b"12345"


def test_long_names_without_end_are_refused() -> None:
    """Small ones too: their headers count."""
    with pytest.raises(DataLoss, match="damaged") as caught:
        read((header(b"x", b"L", size=0)) * (MAX_SPECIAL // 512 + 1) + header())
    assert "too long" in caught.value.why


def test_a_header_for_all_entries_gives_them_no_attributes() -> None:
    (entry,) = read(
        header(b"all", b"g", size=35) + b"35 SCHILY.xattr.user.everything=12\n".ljust(512, b"\0") + header()
    )
    assert entry.xattrs == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [(b"plain", "plain"), (b"", "/"), (b"a\x1b[2J\nb", "a\\x1b[2J\\nb"), (b"x" * 500, "x" * 200 + "...")],
    ids=["plain", "root", "control", "long"],
)
def test_names_in_messages(name: bytes, text: str) -> None:
    assert shown(name) == text


def test_data_may_be_passed_over_unread() -> None:
    archive = header(size=5000) + b"a" * 5120 + header(b"last", size=3) + b"abc"
    position = 0

    def following() -> bytes:
        nonlocal position
        position += 512
        return archive[position - 512 : position]

    def seek(count: int) -> None:
        nonlocal position
        position += count

    reader = TarReader(following, seek)
    assert [(entry.name, reader.offset) for entry in reader] == [(b"file", 512), (b"last", 512 + 5120 + 512)]
