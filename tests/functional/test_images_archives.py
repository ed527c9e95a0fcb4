"""Save, load and import."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import threading
from pathlib import Path

import pytest
import zstandard
from images_support import Host, tar_of

from hooper.api.errors import DataLoss, InvalidArgument
from hooper.api.layout import blob_path
from hooper.api.manifests import OCI_LAYER_TAR, digest_of
from hooper.api.model import Image

pytestmark = [pytest.mark.anyio, pytest.mark.root]
LAYERS = [tar_of({"a": b"a" * 3000}), tar_of({"b": b"b" * 1000})]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")


async def make_image(host: Host, *tags: str) -> str:
    chain = ""
    for layer in LAYERS:
        await host.tars.prepare("step", chain)
        host.tars.tars["step"] = layer
        chain = (await host.images.layers.adopt("step", chain)).chain_id
    return await host.images.create_image(Image(architecture="amd64", os="linux"), chain, tags)


async def saved(host: Host, path: Path, *names: str) -> Path:
    with path.open("wb") as file:
        await host.images.save(names, file.fileno())
    return path


async def loaded(host: Host, path: Path) -> list[str]:
    with path.open("rb") as file:
        return list(await host.images.load(file.fileno(), host.sink))


@pytest.mark.parametrize("compress", [False, True])
async def test_what_is_saved_loads_elsewhere(host: Host, tmp_path: Path, compress: bool) -> None:
    image_id = await make_image(host, "app:1", "other/app:2")
    archive = await saved(host, tmp_path / "a.tar", "app:1", image_id, "other/app")
    if compress:
        archive.write_bytes(gzip.compress(archive.read_bytes()))
    other = Host(tmp_path / "other")
    assert await loaded(other, archive) == ["app:1", "other/app:2"]
    assert {"stream": "Loaded image: app:1\n"} in other.messages
    image = await other.images.get("app:1")
    assert (image.id, image.tags, image.size) == (image_id, ["app:1", "other/app:2"], sum(map(len, LAYERS)))
    again = await saved(other, tmp_path / "b.tar", image_id)
    assert await loaded(host, again) == [image_id]


async def test_a_saved_archive_is_also_an_oci_layout(host: Host, tmp_path: Path) -> None:
    await make_image(host, "app:1")
    archive = await saved(host, tmp_path / "a.tar", "app")
    stripped = tmp_path / "oci.tar"
    with tarfile.open(archive) as source, tarfile.open(stripped, "w") as target:
        for member in source:
            if member.name != "manifest.json":
                target.addfile(member, source.extractfile(member))
    other = Host(tmp_path / "other")
    assert await loaded(other, stripped) == ["app:1"]


async def test_the_layout_of_old_docker_loads(host: Host, tmp_path: Path) -> None:
    """<id>/layer.tar, where equal layers are symlinks to the first."""
    layer = LAYERS[0]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": None,
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)] * 2},
        }
    ).encode()
    entry = {"Config": "c.json", "RepoTags": ["old:1"], "Layers": ["1/layer.tar", "2/layer.tar"]}
    path = tmp_path / "old.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in {
            "1/layer.tar": layer,
            "c.json": config,
            "manifest.json": json.dumps([entry]).encode(),
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("2/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../1/layer.tar"
        archive.addfile(link)
    assert await loaded(host, path) == ["old:1"]
    assert (await host.images.get("old:1")).id == digest_of(config)


async def test_a_loaded_layer_is_pushed_as_it_was(host: Host, tmp_path: Path) -> None:
    """A driver that writes another tar than the one it read must not matter."""
    image_id = await make_image(host, "app:1")
    archive = await saved(host, tmp_path / "a.tar", "app:1")
    other = Host(tmp_path / "other")
    await loaded(other, archive)
    other.tars.spoil = b"?"
    again = await saved(other, tmp_path / "b.tar", image_id)
    assert await loaded(Host(tmp_path / "third"), again) == [image_id]


async def test_layers_stay_as_they_were_pushed(host: Host, tmp_path: Path) -> None:
    image_id = await make_image(host, "app:1")
    first = host.images.layers.ancestry((await host.images.get("app:1")).chain)[0]
    kept = await host.images.packer.blob(first)
    archive = await saved(host, tmp_path / "a.tar", "app:1")
    with tarfile.open(archive) as found:
        assert found.getmember(blob_path(kept.digest)).size == kept.size
    other = Host(tmp_path / "other")
    assert await loaded(other, archive) == ["app:1"]
    assert (await other.images.get("app:1")).id == image_id
    assert other.images.layers.blobs(first.diff_id) == [kept]


async def test_a_kept_layer_that_is_damaged_is_not_saved(host: Host, tmp_path: Path) -> None:
    await make_image(host, "app:1")
    first = host.images.layers.ancestry((await host.images.get("app:1")).chain)[0]
    kept = await host.images.packer.blob(first)
    path = host.content.path(kept.digest)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(DataLoss, match=f"blob {kept.digest} is damaged"):
        await saved(host, tmp_path / "a.tar", "app:1")


async def test_whoever_breaks_a_save_off_leaves_no_thread(host: Host) -> None:
    """Of a layer that is large enough to be hashed on one."""
    await host.tars.prepare("step", "")
    host.tars.tars["step"] = tar_of({"large": os.urandom(12 << 20)})
    chain = (await host.images.layers.adopt("step", "")).chain_id
    await host.images.create_image(Image(architecture="amd64", os="linux"), chain, ("large:1",))
    await host.images.packer.blob(host.images.layers.ancestry(chain)[0])
    reading, writing = os.pipe()

    def read_half() -> None:
        left = 6 << 20
        while left > 0:
            left -= len(os.read(reading, 1 << 16))
        os.close(reading)

    reader = threading.Thread(target=read_half)
    reader.start()
    with pytest.raises(DataLoss, match="not written to its end"):
        await host.images.save(["large:1"], writing)
    os.close(writing)
    reader.join()
    assert not [thread for thread in threading.enumerate() if "_run)" in thread.name]


async def test_a_layer_in_zstd_is_plain_in_an_archive(host: Host, tmp_path: Path) -> None:
    """An old Docker cannot unpack it."""
    await make_image(host, "app:1")
    first = host.images.layers.ancestry((await host.images.get("app:1")).chain)[0]
    digest = await host.images.layers.put(zstandard.compress(LAYERS[0]), f"{OCI_LAYER_TAR}+zstd")
    host.images.layers.add_blob(digest, f"{OCI_LAYER_TAR}+zstd", 1, first.diff_id)
    with tarfile.open(await saved(host, tmp_path / "a.tar", "app:1")) as found:
        assert blob_path(digest) not in found.getnames()
        assert found.getmember(blob_path(first.diff_id)).size == len(LAYERS[0])


async def test_a_damaged_layer_leaves_nothing(host: Host, tmp_path: Path) -> None:
    await make_image(host, "app:1")
    archive = await saved(host, tmp_path / "a.tar", "app:1")
    archive.write_bytes(archive.read_bytes().replace(b"b" * 1000, b"?" * 1000))
    other = Host(tmp_path / "other")
    with pytest.raises(DataLoss):
        await loaded(other, archive)
    assert other.rows("images") == other.rows("tags") == 0
    await other.images.collector.collect()
    assert other.rows("layers") == other.rows("blobs") == 0 and other.tars.snapshots == {}


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100, tar_of({"etc/passwd": b""})])
async def test_what_is_no_image_archive_is_refused(host: Host, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.tar").write_bytes(content)
    with pytest.raises(InvalidArgument, match="cannot load the archive"):
        await loaded(host, tmp_path / "bad.tar")
    assert list((tmp_path / "host" / "scratch").iterdir()) == []


async def test_import_makes_an_image_of_a_file_system(host: Host, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(LAYERS[0])
    with (tmp_path / "root.tar").open("rb") as file:
        image_id = await host.images.import_tar(
            file.fileno(),
            reference="base:1",
            message="made by hand",
            changes=['CMD ["sh"]', "ENV A=1 B='2 3'", "EXPOSE 80", "LABEL x=y", "WORKDIR /srv"],
        )
    image = await host.images.get("base:1")
    config = image.image.config
    assert (image.id, image.image.history[0].comment) == (image_id, "made by hand")
    assert (config.cmd, config.env, config.exposed_ports) == (["sh"], ["A=1", "B=2 3"], {"80/tcp": {}})
    assert (config.labels, config.working_dir) == ({"x": "y"}, "/srv")
    with (tmp_path / "root.tar").open("rb") as file, pytest.raises(InvalidArgument, match="run is not a valid change"):
        await host.images.import_tar(file.fileno(), changes=["RUN x"])
