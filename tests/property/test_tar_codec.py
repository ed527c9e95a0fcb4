"""The tar codec against the standard library's, GNU tar's, and noise."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hooper.api.errors import DataLoss
from hooper.content.tar import CHARACTER, DIRECTORY, FILE, HARDLINK, SYMLINK, Entry, TarReader
from hooper.content.tarwrite import TarWriter

LINES = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

names = st.lists(
    st.binary(min_size=1, max_size=120).filter(lambda part: not {0, 0x2F} & set(part) and part not in (b".", b"..")),
    min_size=1,
    max_size=4,
).map(b"/".join)
ids = st.one_of(st.integers(0, 70000), st.integers(0, 0xFFFFFFFE))
times = st.one_of(st.integers(0, 2**33), st.integers(-(2**31), 2**40))


@st.composite
def entries(draw: Callable[..., object]) -> tuple[Entry, bytes]:
    kind = draw(st.sampled_from([FILE, FILE, DIRECTORY, SYMLINK, HARDLINK, CHARACTER]))
    name, mode = draw(names), draw(st.integers(0, 0o7777))
    entry = Entry(name, kind, mode=mode, uid=draw(ids), gid=draw(ids), mtime=draw(times) * 10**9)  # type: ignore[arg-type]
    data = b""
    if kind == FILE:
        data = draw(st.binary(max_size=2000))  # type: ignore[assignment]
        entry.size = entry.stored = len(data)
    elif kind == DIRECTORY:
        entry.name += b"/"
    elif kind == CHARACTER:
        entry.major, entry.minor = draw(st.integers(0, 4095)), draw(st.integers(0, 2**20 - 1))  # type: ignore[assignment]
    else:
        entry.link = draw(names)  # type: ignore[assignment]
    entry.xattrs = draw(  # type: ignore[assignment]
        st.dictionaries(
            st.text("abcdef.", min_size=1, max_size=9).map(lambda name: b"user." + name.encode()),
            st.binary(max_size=50),
            max_size=2,
        )
    )
    return entry, data


def written(items: list[tuple[Entry, bytes]]) -> bytes:
    archive = bytearray()
    writer = TarWriter(archive.extend)
    for entry, data in items:
        writer.add(entry, [data])
    writer.finish()
    return bytes(archive)


def chunked(data: bytes, size: int) -> Callable[[], bytes]:
    stream = io.BytesIO(data)
    return lambda: stream.read(size)


def read(data: bytes, size: int = 1 << 20) -> list[tuple[Entry, bytes]]:
    reader = TarReader(chunked(data, size))
    return [(entry, b"".join(reader.pieces())) for entry in reader]


def value(entry: Entry) -> tuple[object, ...]:
    return (
        entry.name, entry.kind, entry.mode, entry.uid, entry.gid, entry.size, entry.mtime, entry.link, entry.major,
        entry.minor, dict(entry.xattrs),
    )  # fmt: skip


@LINES
@given(st.lists(entries(), max_size=5), st.integers(1, 3000))
def test_what_is_written_is_read(items: list[tuple[Entry, bytes]], size: int) -> None:
    found = read(written(items), size)
    assert [(value(entry), data) for entry, data in found] == [(value(entry), data) for entry, data in items]


@LINES
@given(st.lists(entries(), max_size=4))
def test_the_standard_library_reads_what_is_written(items: list[tuple[Entry, bytes]]) -> None:
    with tarfile.open(fileobj=io.BytesIO(written(items)), errors="surrogateescape", encoding="utf-8") as archive:
        members = archive.getmembers()
        for (entry, data), member in zip(items, members, strict=True):
            assert os.fsencode(member.name) == entry.name.rstrip(b"/")
            assert (member.mode, member.uid, member.gid, member.size) == (entry.mode, entry.uid, entry.gid, len(data))
            assert member.mtime == entry.mtime // 10**9
            assert os.fsencode(member.linkname) == entry.link
            if member.isreg():
                content = archive.extractfile(member)
                assert content is not None and content.read() == data


@LINES
@given(st.lists(entries(), max_size=4), st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]), st.integers(1, 3000))
def test_what_the_standard_library_writes_is_read(items: list[tuple[Entry, bytes]], form: int, size: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogateescape", encoding="utf-8") as archive:
        for entry, data in items:
            member = tarfile.TarInfo(os.fsdecode(entry.name.rstrip(b"/")))
            member.type, member.mode, member.uid, member.gid = entry.kind, entry.mode, entry.uid, entry.gid
            member.mtime, member.size, member.linkname = entry.mtime // 10**9, len(data), os.fsdecode(entry.link)
            member.devmajor, member.devminor = entry.major, entry.minor
            archive.addfile(member, io.BytesIO(data))
    found = read(buffer.getvalue(), size)
    assert [(value(entry)[:-1], data) for entry, data in found] == [(value(entry)[:-1], data) for entry, data in items]


@LINES
@given(st.one_of(st.binary(max_size=3000), st.lists(entries(), min_size=1, max_size=3).map(written)), st.data())
def test_noise_is_data_loss_or_an_archive(archive: bytes, data: st.DataObject) -> None:
    noise = bytearray(archive)
    for _ in range(data.draw(st.integers(0, 6))):
        if noise:
            noise[data.draw(st.integers(0, len(noise) - 1))] = data.draw(st.integers(0, 255))
    if len(noise) >= 512 and data.draw(st.booleans()):
        noise[148:156] = b"%06o\0 " % (sum(noise[:148]) + 256 + sum(noise[156:512]))
    cut = data.draw(st.integers(0, len(noise)))
    with contextlib.suppress(DataLoss):
        read(bytes(noise[:cut]))


SPARSE = [(0, b"start"), (1 << 20, b"middle" * 1000), (3 << 20, b"end")]


@pytest.mark.skipif(not shutil.which("tar"), reason="needs GNU tar")
@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=posix"],
        ["--format=ustar"],
        ["--format=gnu", "--sparse"],
        ["--format=posix", "--sparse", "--sparse-version=0.0"],
        ["--format=posix", "--sparse", "--sparse-version=0.1"],
        ["--format=posix", "--sparse", "--sparse-version=1.0"],
    ],
    ids=" ".join,
)
def test_what_gnu_tar_writes_is_read(options: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        with (root / "sparse").open("wb") as file:
            for position, data in SPARSE:
                file.seek(position)
                file.write(data)
        (root / ("d" * 60) / ("e" * 80)).mkdir(parents=True)
        (root / ("d" * 60) / ("e" * 80) / ("f" * 60)).write_text("long")
        (root / "link").symlink_to("t" * 90)
        os.link(root / "sparse", root / "z-hard")
        os.utime(root / "link", ns=(0, 10**9), follow_symlinks=False)
        made = subprocess.run(
            ["tar", *options, "--sort=name", "-C", directory, "-c", "."], capture_output=True, check=True
        )
    found = {entry.name: (entry, data) for entry, data in read(made.stdout)}
    entry, stored = found[b"./sparse"]
    assert entry.size == SPARSE[-1][0] + 3
    content = bytearray(entry.size)
    position = 0
    for start, length in entry.sparse if entry.sparse is not None else [(0, entry.size)]:
        content[start : start + length] = stored[position : position + length]
        position += length
    for start, data in SPARSE:
        assert content[start : start + len(data)] == data
    assert ("--sparse" in options) == (len(stored) < 1 << 20)
    assert found[b"./" + b"d" * 60 + b"/" + b"e" * 80 + b"/" + b"f" * 60][1] == b"long"
    assert found[b"./link"][0].link == b"t" * 90
    assert (found[b"./z-hard"][0].kind, found[b"./z-hard"][0].link) == (HARDLINK, b"./sparse")
