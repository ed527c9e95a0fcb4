"""Whatever bytes come as a container, the reader answers with an error of its own kinds or with what was written."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hooper.api.errors import HooperError
from hooper.api.model import Container, ContainerConfig, HostConfig
from hooper.api.moving import ImagePart, Manifest, Section
from hooper.engine.moving_format import StreamReader, StreamWriter


def described() -> Manifest:
    container = Container(id="c" * 64, name="web", created="", config=ContainerConfig(), host_config=HostConfig())
    sections = [Section(kind="container"), Section(kind="state")]
    return Manifest(container=container, image=ImagePart(id="", config=b""), sections=sections)


def _stream(path: Path, sections: list[bytes], manifest: Manifest) -> bytes:
    part = path.with_suffix(".part")
    with path.open("wb", buffering=0) as output:
        writer = StreamWriter(output.fileno())
        writer.manifest(manifest)
        for content in sections:
            part.write_bytes(content)
            with part.open("rb", buffering=0) as file:
                writer.section(file.fileno())
        writer.finish()
    return path.read_bytes()


def _read(path: Path) -> list[bytes]:
    out = path.with_suffix(".out")
    found = []
    with path.open("rb", buffering=0) as file:
        reader = StreamReader(file.fileno())
        for _ in reader.manifest().sections:
            with out.open("wb", buffering=0) as output:
                reader.section(output.fileno())
            found.append(out.read_bytes())
        reader.finish()
    return found


@settings(max_examples=60, deadline=None)
@given(
    sections=st.lists(st.binary(max_size=2000), min_size=2, max_size=2),
    edits=st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=8)), max_size=4),
    cut=st.integers(0, 1 << 20),
)
def test_a_damaged_stream_is_refused_or_is_what_it_was(
    sections: list[bytes], edits: list[tuple[int, bytes]], cut: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "c.tar"
        data = bytearray(_stream(path, sections, described()))
        for place, content in edits:
            place %= len(data)
            data[place : place + len(content)] = content
        path.write_bytes(bytes(data[: len(data) - cut % len(data)] if cut % 2 else data))
        try:
            assert _read(path) == sections
        except HooperError:
            return


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=4096))
def test_bytes_that_are_no_stream_are_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "c.tar"
        path.write_bytes(data)
        try:
            _read(path)
        except HooperError:
            return
        raise AssertionError("it was taken")
