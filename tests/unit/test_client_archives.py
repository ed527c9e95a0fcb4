"""Archives that a client keeps: only whole ones."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from hooper.api.errors import DataLoss
from hooper.client.unpacking import copy_archive, keep_archive, keep_tree


def archive(format: int) -> bytes:
    """With files of zeros, links, directories, long names and extended headers."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as made:
        files = {"zeros": bytes(8192), "long/" + "n" * 150: b"x" * 700, "empty": b"", "last": bytes(700)}
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.pax_headers = (
                {"size": str(len(content)), "comment": "c" * 600} if format == tarfile.PAX_FORMAT else {}
            )
            made.addfile(entry, io.BytesIO(content))
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("directory", tarfile.DIRTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "zeros"
            made.addfile(entry)
    return buffer.getvalue()


class Slow(io.BytesIO):
    """Gives a few bytes at a time."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size, 100) if size is not None and size > 0 else size)


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_whole_one_is_kept_as_it_is(tmp_path: Path, format: int) -> None:
    whole = archive(format)
    for stream in (io.BytesIO(whole), Slow(whole)):
        keep_archive(stream, str(tmp_path / "out.tar"))
        assert (tmp_path / "out.tar").read_bytes() == whole
    assert keep_tree(io.BytesIO(whole), str(tmp_path / "tree")) == 0
    assert (tmp_path / "tree" / "zeros").read_bytes() == bytes(8192)


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_one_that_was_cut_off_is_not_kept(tmp_path: Path, format: int) -> None:
    """Also within zeros, at any block."""
    whole = archive(format)
    ends = whole.rstrip(b"\0")
    for length in range(0, len(ends) + 512, 512):
        with pytest.raises(DataLoss):
            keep_archive(io.BytesIO(whole[:length]), str(tmp_path / "out.tar"))
    assert list(tmp_path.iterdir()) == []


def test_a_large_file_has_its_size_in_an_extended_header() -> None:
    entry = tarfile.TarInfo("large")
    entry.size = 1 << 34
    for format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        head = entry.tobuf(format)
        with pytest.raises(DataLoss, match="not complete"):
            copy_archive(io.BytesIO(head + bytes(1 << 16)), io.BytesIO())


def test_a_header_that_is_none() -> None:
    head = bytearray(tarfile.TarInfo("a").tobuf())
    head[124:136] = b"what is this"
    with pytest.raises(DataLoss, match="damaged"):
        copy_archive(io.BytesIO(bytes(head) + bytes(1024)), io.BytesIO())
