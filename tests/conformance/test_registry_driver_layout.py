"""The layout driver: conformance, confinement, and what only layouts have."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hooper.api.driver import DriverContext
from hooper.api.errors import DataLoss, Forbidden, InvalidArgument, NotFound
from hooper.api.layout import Layout
from hooper.testing.registry_driver import Place, RegistryDriverSuite, image_manifest, push_blobs
from hooper.testing.workers import ForkWorkers
from hooper_registry_layout.driver import LayoutConfig, LayoutRegistry

pytestmark = pytest.mark.anyio


def driver(tmp_path: Path, *directories: str) -> LayoutRegistry:
    (tmp_path / "own").mkdir(exist_ok=True)
    context: Any = SimpleNamespace(
        config=LayoutConfig(directories=list(directories)), data_dir=tmp_path / "own", workers=ForkWorkers()
    )
    return LayoutRegistry(cast(DriverContext, context))


@pytest.mark.parametrize("scheme", ["oci", "oci-archive", "docker-archive"])
class TestLayouts(RegistryDriverSuite):
    @pytest.fixture
    def place(self, tmp_path: Path, scheme: str) -> Iterator[Place]:
        (tmp_path / "here").mkdir()
        yield driver(tmp_path, str(tmp_path / "here")), f"{scheme}:{tmp_path}/here/layout"
        assert list((tmp_path / "own").iterdir()) == []


async def test_only_configured_directories_are_used(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    layouts = driver(tmp_path, str(tmp_path / "in"))
    for path in ("/etc/passwd", f"{tmp_path}/out/x", f"{tmp_path}/in/../out/x", f"{tmp_path}/in/link/x"):
        with pytest.raises(Forbidden):
            async with layouts.connect(f"oci:{path}", None):
                pass
    with pytest.raises(InvalidArgument):
        async with layouts.connect("oci:relative", None):
            pass
    async with layouts.connect(f"oci:{tmp_path}/in/x", None) as client:
        assert list(await client.tags("")) == []


async def test_links_in_a_layout_are_not_followed(tmp_path: Path) -> None:
    layouts, secret = driver(tmp_path, str(tmp_path)), tmp_path / "secret"
    secret.write_text('{"schemaVersion": 2, "manifests": []}')
    (tmp_path / "layout").mkdir()
    (tmp_path / "layout" / "index.json").symlink_to(secret)
    async with layouts.connect(f"oci:{tmp_path}/layout", None) as client:
        with pytest.raises(NotFound):
            await client.resolve("", "")


async def test_a_compressed_archive_reads_and_a_damaged_one_does_not(tmp_path: Path) -> None:
    layouts, path = driver(tmp_path, str(tmp_path)), tmp_path / "a.tar"
    async with layouts.connect(f"oci-archive:{path}", None) as client:
        await push_blobs(client, "")
        await client.push_manifest("", "1", image_manifest())
    whole = path.read_bytes()
    path.write_bytes(gzip.compress(whole))
    async with layouts.connect(f"oci-archive:{path}", None) as client:
        assert (await client.resolve("", "")).content == image_manifest().content
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises((DataLoss, NotFound)):
        async with layouts.connect(f"oci-archive:{path}", None) as client:
            await client.resolve("", "1")


async def test_several_images_want_a_name(tmp_path: Path) -> None:
    layouts = driver(tmp_path, str(tmp_path))
    async with layouts.connect(f"oci:{tmp_path}/layout", None) as client:
        await push_blobs(client, "")
        await client.push_manifest("", "1", image_manifest())
        await client.push_manifest("", "2", image_manifest(annotations={"a": "b"}))
        with pytest.raises(InvalidArgument, match="several images"):
            await client.resolve("", "")
        with pytest.raises(NotFound, match="not found"):
            await client.resolve("", "3")


async def test_what_is_no_manifest_is_not_taken_for_one(tmp_path: Path) -> None:
    layouts = driver(tmp_path, str(tmp_path))
    layer = b"no JSON"
    digest = hashlib.sha256(layer).hexdigest()
    (tmp_path / "layout" / "blobs" / "sha256").mkdir(parents=True)
    (tmp_path / "layout" / "blobs" / "sha256" / digest).write_bytes(layer)
    async with layouts.connect(f"oci:{tmp_path}/layout", None) as client:
        with pytest.raises(DataLoss, match="damaged"):
            await client.resolve("", f"sha256:{digest}")
    with (tmp_path / "layout" / "index.json").open("wb") as file:
        file.truncate(1 << 30)
    async with layouts.connect(f"oci:{tmp_path}/layout", None) as client:
        with pytest.raises(DataLoss, match="larger than"):
            await client.resolve("", "1")


async def test_an_archive_is_added_to_and_old_dockers_read_it(tmp_path: Path) -> None:
    layouts, path = driver(tmp_path, str(tmp_path)), tmp_path / "a.tar"
    for name in ("app:1", "app:2"):
        async with layouts.connect(f"docker-archive:{path}", None) as client:
            await push_blobs(client, "")
            await client.push_manifest("", name, image_manifest(annotations={"of": name}))
    with tarfile.open(path) as archive:
        found = archive.extractfile("manifest.json")
        assert found is not None
        entries = json.load(found)
        assert [entry["RepoTags"] for entry in entries] == [["app:1", "app:2"]]
        assert all(name in archive.getnames() for name in (entries[0]["Config"], *entries[0]["Layers"]))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("oci:/srv/app:1.0", ("oci", "/srv/app", "1.0")),
        ("oci:./app", ("oci", "./app", "")),
        ("oci:app:1", ("oci", "app", "1")),
        ("oci-archive:app.tar", ("oci-archive", "app.tar", "")),
        ("docker-archive:/a.tar:host:5000/app:1", ("docker-archive", "/a.tar", "host:5000/app:1")),
        (f"oci:/a@sha256:{'0' * 64}", ("oci", "/a", f"sha256:{'0' * 64}")),
    ],
)
def test_a_layout_is_told_from_a_reference(text: str, parts: tuple[str, str, str]) -> None:
    found = Layout.parse(text)
    assert found is not None
    assert (found.scheme, found.path, found.reference) == parts
    assert Layout.parse(str(found)) == found


@pytest.mark.parametrize("text", ["oci:latest", "oci:5000/app", "oci", "app:1", "oci/app:1", "docker.io/oci:1"])
def test_what_is_a_reference_is_no_layout(text: str) -> None:
    assert Layout.parse(text) is None


def test_layouts_have_paths() -> None:
    with pytest.raises(InvalidArgument):
        Layout.parse("oci-archive::1")
