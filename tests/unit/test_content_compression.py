"""Compressed streams."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import zstandard

from hooper.api.errors import DataLoss
from hooper.content.compression import CHUNK, GzipWriter, plain_reader

PLAIN = os.urandom(100_000) + b"text " * 700_000
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
}


@cache
def packed(kind: str) -> bytes:
    """Made when a test asks for it: each worker imports this file, and one runs it."""
    return COMPRESS[kind](PLAIN)


@contextmanager
def opened(tmp_path: Path, data: bytes) -> Iterator[int]:
    path = tmp_path / "stream"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def read(tmp_path: Path, data: bytes) -> tuple[str, bytes]:
    with opened(tmp_path, data) as fd:
        kind, chunk = plain_reader(fd)
        chunks = list(iter(chunk, b""))
    assert max(map(len, chunks), default=0) <= CHUNK
    return kind, b"".join(chunks)


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_stream_is_known_by_its_first_bytes(tmp_path: Path, kind: str) -> None:
    assert read(tmp_path, packed(kind)) == (kind, PLAIN)


@pytest.mark.parametrize("kind", ["gzip", "zstd", "bzip2", "xz"])
def test_streams_in_a_row_are_one(tmp_path: Path, kind: str) -> None:
    assert read(tmp_path, packed(kind) * 2) == (kind, PLAIN * 2)


def test_gzip_may_be_padded(tmp_path: Path) -> None:
    assert read(tmp_path, packed("gzip") + bytes(5000)) == ("gzip", PLAIN)


@pytest.mark.parametrize("data", [b"", b"a", b"\x1f"])
def test_short_streams_are_plain(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path, data) == ("none", data)


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "xz"])
def test_a_stream_that_is_cut_off_is_data_loss(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataLoss):
        read(tmp_path, packed(kind)[:-20])


@pytest.mark.parametrize("kind", ["gzip", "zstd", "bzip2", "xz"])
def test_damage_is_data_loss(tmp_path: Path, kind: str) -> None:
    data = bytearray(packed(kind))
    data[50_000:50_100] = bytes(100)
    with pytest.raises(DataLoss):
        read(tmp_path, bytes(data))


def test_a_bomb_comes_in_chunks(tmp_path: Path) -> None:
    assert len(read(tmp_path, gzip.compress(bytes(50 << 20)))[1]) == 50 << 20


def test_a_pipe_is_read_though_it_comes_in_drops() -> None:
    reading, writing = os.pipe()
    data = gzip.compress(b"drops")
    if os.fork() == 0:
        for byte in data:
            os.write(writing, bytes([byte]))
        os._exit(0)
    os.close(writing)
    kind, chunk = plain_reader(reading)
    assert (kind, b"".join(iter(chunk, b""))) == ("gzip", b"drops")
    os.close(reading)
    os.wait()


def test_what_is_written_is_gzip_and_the_same_each_time() -> None:
    streams = []
    for _ in range(2):
        out = bytearray()
        writer = GzipWriter(out.extend)
        for start in range(0, len(PLAIN), 99_999):
            writer.write(PLAIN[start : start + 99_999])
        writer.finish()
        streams.append(bytes(out))
    assert streams[0] == streams[1]
    assert gzip.decompress(streams[0]) == PLAIN
    assert streams[0][4:8] == bytes(4)
