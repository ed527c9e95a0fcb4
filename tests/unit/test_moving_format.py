"""The stream in which containers travel, and what of a manifest is refused before anything is made."""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hooper.api.errors import DataLoss, HooperError, InvalidArgument, Unsupported
from hooper.api.model import Container, ContainerConfig, EndpointSettings, HostConfig, MountPoint, Volume
from hooper.api.moving import ImagePart, LayerPart, Manifest, NetworkPart, Section, VolumePart
from hooper.api.network import Network
from hooper.engine.layers import chain_ids
from hooper.engine.moving_check import validate
from hooper.engine.moving_format import PIECE, StreamReader, StreamWriter

CONFIG = msgspec.json.encode(
    {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "a" * 64]},
    }
)


def manifest(**changes: Any) -> Manifest:
    image_id = f"sha256:{hashlib.sha256(CONFIG).hexdigest()}"
    diff_ids = ["sha256:" + "a" * 64]
    made = Manifest(
        container=Container(
            id="c" * 64,
            name="web",
            created="2024-01-01T00:00:00Z",
            config=ContainerConfig(image="busybox"),
            host_config=HostConfig(network_mode="inner"),
            image_id=image_id,
            networks={"inner": EndpointSettings(aliases=["w"])},
            mounts=[MountPoint(type="volume", name="data", destination="/data", driver="local")],
        ),
        image=ImagePart(
            id=image_id, config=CONFIG, layers=[LayerPart(diff_id=diff_ids[0], chain_id=chain_ids(diff_ids)[0])]
        ),
        networks=[NetworkPart(network=Network(id="", name="inner", driver="bridge", created=0.0))],
        volumes=[VolumePart(volume=Volume(name="data"))],
        sections=[
            Section(kind="layer", diff_id=diff_ids[0], chain_id=chain_ids(diff_ids)[0]),
            Section(kind="container"),
            Section(kind="volume", name="data"),
            Section(kind="state"),
        ],
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def written(path: Path, contents: list[bytes], described: Manifest | None = None) -> bytes:
    described = described or manifest()
    with path.open("wb", buffering=0) as output:
        writer = StreamWriter(output.fileno())
        writer.manifest(described)
        for content in contents:
            source = path.with_suffix(".part")
            source.write_bytes(content)
            with source.open("rb", buffering=0) as file:
                writer.section(file.fileno())
        writer.finish()
    return path.read_bytes()


def read(path: Path) -> list[bytes]:
    """The sections of a stream; its whole form is checked."""
    found = []
    with path.open("rb", buffering=0) as file:
        reader = StreamReader(file.fileno())
        for _ in reader.manifest().sections:
            target = path.with_suffix(".out")
            with target.open("wb", buffering=0) as output:
                end = reader.section(output.fileno())
            found.append(target.read_bytes())
            assert end.size == len(found[-1])
        reader.finish()
    return found


CONTENTS = [b"", b"one", os.urandom(PIECE + 12345), b"x" * (2 * PIECE)]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written(tmp_path / "c.tar", CONTENTS)
    assert read(tmp_path / "c.tar") == CONTENTS


def test_the_manifest_keeps_every_field(tmp_path: Path) -> None:
    described = manifest(running=True, engine="e" * 64)
    described.container.host_config.memory = 64 << 20
    written(tmp_path / "c.tar", CONTENTS, described)
    with (tmp_path / "c.tar").open("rb", buffering=0) as file:
        assert StreamReader(file.fileno()).manifest() == described


def test_any_tar_program_reads_it(tmp_path: Path) -> None:
    written(tmp_path / "c.tar", CONTENTS)
    with tarfile.open(tmp_path / "c.tar") as archive:
        names = archive.getnames()
    assert names[0] == "hooper-container.json" and names[-1] == "end.json"
    assert "section-0002/00000001" in names and not any(name.startswith("section-0000") for name in names)


@pytest.mark.parametrize("seed", range(40))
def test_a_stream_cut_anywhere_is_refused(tmp_path: Path, seed: int) -> None:
    data = written(tmp_path / "c.tar", [b"a" * 700, b"", b"b" * 5000, b"c"])
    # The last block of zeros is all that may be missing.
    cut = (len(data) - 1024) * seed // 40
    (tmp_path / "c.tar").write_bytes(data[:cut])
    with pytest.raises(DataLoss):
        read(tmp_path / "c.tar")


def test_a_changed_byte_of_a_section_is_noticed(tmp_path: Path) -> None:
    data = bytearray(written(tmp_path / "c.tar", [b"a" * 700, b"", b"precious" * 100, b"c"]))
    data[data.index(b"precious")] ^= 1
    (tmp_path / "c.tar").write_bytes(bytes(data))
    with pytest.raises(DataLoss, match="section 2 has another digest"):
        read(tmp_path / "c.tar")


def test_a_changed_manifest_is_noticed(tmp_path: Path) -> None:
    data = written(tmp_path / "c.tar", CONTENTS)
    (tmp_path / "c.tar").write_bytes(data.replace(b'"Name":"web"', b'"Name":"wob"', 1))
    with pytest.raises(DataLoss, match="manifest"):
        read(tmp_path / "c.tar")


def test_missing_and_additional_sections_are_noticed(tmp_path: Path) -> None:
    written(tmp_path / "c.tar", CONTENTS[:3])
    with pytest.raises(DataLoss, match="section"):
        read(tmp_path / "c.tar")
    written(tmp_path / "c.tar", [*CONTENTS, b"more"])
    with pytest.raises(DataLoss):
        read(tmp_path / "c.tar")


def test_a_newer_version_and_an_unknown_kind_are_told_apart_from_damage(tmp_path: Path) -> None:
    written(tmp_path / "c.tar", CONTENTS, manifest(version=2))
    with pytest.raises(Unsupported, match="version 2"):
        read(tmp_path / "c.tar")
    written(tmp_path / "c.tar", CONTENTS, manifest(sections=[Section(kind="processes")]))
    with pytest.raises(Unsupported, match="processes"):
        read(tmp_path / "c.tar")


def test_other_archives_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "c.tar", "w") as archive:
        archive.add("/etc/hostname", "manifest.json")
    with pytest.raises(DataLoss, match=r"hooper-container\.json"):
        read(tmp_path / "c.tar")
    (tmp_path / "c.tar").write_bytes(b"")
    with pytest.raises(DataLoss):
        read(tmp_path / "c.tar")


def test_a_good_manifest_is_taken() -> None:
    validate(manifest())


def _changed(path: str, value: Any) -> Manifest:
    """The good manifest with one field changed: "container.id"."""
    made = manifest()
    *way, last = path.split(".")
    target: Any = made
    for step in way:
        target = target[int(step)] if step.isdigit() else getattr(target, step)
    setattr(target, last, value)
    return made


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("container.id", "../../../etc"),
        ("container.id", "C" * 64),
        ("container.name", "../evil"),
        ("container.image_id", "sha256:" + "0" * 64),
        ("image.config", CONFIG + b" "),
        ("image.layers", []),
        ("image.layers.0.chain_id", "sha256:" + "1" * 64),
        ("container.mounts.0.destination", "/"),
        ("container.mounts.0.destination", "relative"),
        ("container.mounts.0.type", "devpts"),
        ("container.mounts.0.name", "other"),
        ("volumes", []),
        ("container.networks", {}),
        ("networks.0.network.name", "../x"),
        ("sections.0.chain_id", "sha256:" + "2" * 64),
        ("sections.2.name", "other"),
        ("sections", [Section(kind="state"), Section(kind="container")]),
        ("sections", [Section(kind="container"), Section(kind="container")]),
        ("sections", [Section(kind="state")]),
    ],
)
def test_a_manifest_that_no_hooper_wrote_is_refused(path: str, value: Any) -> None:
    with pytest.raises(InvalidArgument):
        validate(_changed(path, value))


def test_a_volume_name_that_is_a_path_is_refused() -> None:
    made = manifest()
    made.container.mounts[0].name = made.volumes[0].volume.name = made.sections[2].name = "../../x"
    with pytest.raises(HooperError, match="volume name"):
        validate(made)
