"""Pull, push, save and load of whole images, against the in-process registry and a real one."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from images_support import Host, tar_of
from test_registry_http import connected, push_blob

import support
from hooper.api.errors import DataLoss, NotFound, Unauthorized, Unavailable, Unsupported
from hooper.api.manifests import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_TAR,
    OCI_MANIFEST,
    ImageManifest,
    Index,
    digest_of,
    host_architecture,
    make_manifest,
)
from hooper.api.model import Image, RootFS
from hooper.api.registry import Credentials, Descriptor, Manifest, Platform
from hooper.testing.registry import Fault, Registry

pytestmark = pytest.mark.anyio
LAYERS = [tar_of({"a": b"a" * 200_000, "b": os.urandom(400_000)}), tar_of({"c": b"c"}), tar_of({"d": b"d" * 70_000})]


class Pushed:
    """An image that was put in a registry, piece by piece."""

    def __init__(self, *, docker: bool = True, layers: list[bytes] = LAYERS, architecture: str = "") -> None:
        self.layers = layers
        self.packed = [gzip.compress(layer, mtime=0) for layer in layers]
        image = Image(
            architecture=architecture or host_architecture(),
            os="linux",
            created="2026-01-02T03:04:05Z",
            rootfs=RootFS([digest_of(layer) for layer in layers]),
        )
        # Bytes that no encoder of ours would give: they have to be kept as they are.
        self.config = b" " + msgspec.json.format(msgspec.json.encode(image), indent=5)
        self.id = digest_of(self.config)
        layer_type = DOCKER_LAYER if docker else f"{OCI_LAYER_TAR}+gzip"
        self.manifest = make_manifest(
            ImageManifest(
                schema_version=2,
                media_type=DOCKER_MANIFEST if docker else OCI_MANIFEST,
                config=Descriptor(DOCKER_CONFIG if docker else OCI_CONFIG, self.id, len(self.config)),
                layers=[Descriptor(layer_type, digest_of(blob), len(blob)) for blob in self.packed],
            )
        )

    async def push(self, host: str, repository: str, tag: str, credentials: Credentials | None = None) -> None:
        async with connected(host, credentials) as client:
            for blob in (*self.packed, self.config):
                await push_blob(client, repository, blob)
            await client.push_manifest(repository, tag, self.manifest)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")


@pytest.mark.parametrize("docker", [True, False])
async def test_pull_brings_an_image(host: Host, docker: bool) -> None:
    pushed = Pushed(docker=docker)
    async with Registry() as registry:
        await pushed.push(registry.host, "team/app", "1")
        name = f"{registry.host}/team/app:1"
        assert await host.images.pull(name, host.sink) == pushed.id
        image = await host.images.get(name)
        digest = pushed.manifest.descriptor.digest
        assert (image.tags, image.digests) == ([name], [f"{registry.host}/team/app@{digest}"])
        assert host.images.store.config(image.id) == pushed.config
        assert image.size == sum(len(layer) for layer in LAYERS)
        assert list(await host.images.layer_sizes(image)) == [len(layer) for layer in LAYERS]
        statuses = host.statuses()
        assert host.messages[0] == {"status": "Pulling from team/app", "id": "1"}
        assert statuses[-2:] == [f"Digest: {digest}", f"Status: Downloaded newer image for {name}"]
        for status in ("Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"):
            assert statuses.count(status) == len(LAYERS)
        assert ("image", "pull", name) in host.events
        assert host.rows("leases") == 0

        host.messages.clear()
        assert await host.images.pull(name, host.sink) == pushed.id
        assert host.statuses()[1:] == [f"Digest: {digest}", f"Status: Image is up to date for {name}"]
        assert (await host.images.get(f"{registry.host}/team/app@{digest}")).id == pushed.id


async def test_layers_that_are_there_are_not_fetched_again(host: Host) -> None:
    async with Registry() as registry:
        await Pushed(layers=LAYERS[:2]).push(registry.host, "base", "1")
        await Pushed().push(registry.host, "app", "1")
        await host.images.pull(f"{registry.host}/base:1", host.sink)
        host.messages.clear()
        await host.images.pull(f"{registry.host}/app:1", host.sink)
        assert host.statuses().count("Already exists") == 2
        assert host.tars.applied == 3


async def test_pulls_at_once_share_their_layers(host: Host) -> None:
    async with Registry() as registry:
        await Pushed().push(registry.host, "app", "1")
        registry.requests.clear()
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(host.images.pull, f"{registry.host}/app:1", host.sink)
        gets = [r.path for r in registry.requests if r.method == "GET" and "/blobs/" in r.path]
        assert host.tars.applied == 3
        assert all(gets.count(f"/v2/app/blobs/{digest_of(blob)}") == 1 for blob in Pushed().packed)


async def test_the_platform_is_chosen_from_an_index(host: Host) -> None:
    here, there = Pushed(), Pushed(architecture="s390x", layers=LAYERS[1:])
    async with Registry() as registry:
        for tag, pushed in (("here", here), ("there", there)):
            await pushed.push(registry.host, "app", tag)
        entries = [
            Descriptor(
                DOCKER_MANIFEST,
                pushed.manifest.descriptor.digest,
                len(pushed.manifest.content),
                platform=Platform(architecture=architecture),
            )
            for pushed, architecture in ((there, "s390x"), (here, host_architecture()))
        ]
        for tag, kind in (("docker", DOCKER_INDEX), ("oci", OCI_INDEX)):
            index = make_manifest(Index(schema_version=2, media_type=kind, manifests=entries))
            async with connected(registry.host) as client:
                await client.push_manifest("app", tag, index)
            assert await host.images.pull(f"{registry.host}/app:{tag}", host.sink) == here.id
            assert await host.images.pull(f"{registry.host}/app:{tag}", host.sink, platform="linux/s390x") == there.id
            with pytest.raises(NotFound, match="no matching manifest for linux/mips64le in the manifest list entries"):
                await host.images.pull(f"{registry.host}/app:{tag}", host.sink, platform="linux/mips64le")
            descriptor, platforms = await host.images.distribution(f"{registry.host}/app:{tag}")
            assert descriptor.digest == index.descriptor.digest
            assert [p.architecture for p in platforms] == ["s390x", host_architecture()]


async def test_the_wrong_single_platform_is_refused(host: Host) -> None:
    async with Registry() as registry:
        await Pushed(architecture="s390x").push(registry.host, "app", "1")
        with pytest.raises(
            NotFound, match="does not match the specified platform: wanted linux/mips, actual: linux/s390x"
        ):
            await host.images.pull(f"{registry.host}/app:1", host.sink, platform="linux/mips")


@pytest.mark.parametrize("content", [b'{"schemaVersion":1}', b'{"schemaVersion":2,"mediaType":"application/x-chart"}'])
async def test_what_is_no_image_is_refused(host: Host, content: bytes) -> None:
    async with Registry() as registry:
        async with connected(registry.host) as client:
            odd = Manifest(Descriptor("application/json", digest_of(content), len(content)), content)
            await client.push_manifest("app", "1", odd)
        with pytest.raises(Unsupported):
            await host.images.pull(f"{registry.host}/app:1", host.sink)


async def test_a_layer_that_is_not_its_diff_id_leaves_nothing(host: Host) -> None:
    lying = Pushed()
    lying.config = lying.config.replace(digest_of(LAYERS[1])[7:].encode(), b"0" * 64)
    lying.id = digest_of(lying.config)
    old = json.loads(lying.manifest.content)
    old["config"] |= {"digest": lying.id, "size": len(lying.config)}
    content = json.dumps(old).encode()
    lying.manifest = Manifest(Descriptor(DOCKER_MANIFEST, digest_of(content), len(content)), content)
    async with Registry() as registry:
        await lying.push(registry.host, "app", "1")
        with pytest.raises(DataLoss, match="is damaged"):
            await host.images.pull(f"{registry.host}/app:1", host.sink)
    assert host.rows("images") == host.rows("tags") == 0
    assert not any(key.startswith("extract-") for key in host.tars.snapshots)
    await host.images.prune({})
    assert host.rows("layers") == host.rows("blobs") == host.rows("leases") == 0
    assert host.tars.snapshots == {}


async def test_a_blob_that_is_not_its_digest_leaves_nothing(host: Host, tmp_path: Path) -> None:
    pushed = Pushed(layers=LAYERS[:1])
    async with Registry(tmp_path / "registry") as registry:
        await pushed.push(registry.host, "app", "1")
        blob = tmp_path / "registry" / "blobs" / digest_of(pushed.packed[0])[7:]
        blob.write_bytes(blob.read_bytes()[:-1] + b"?")
        with pytest.raises(DataLoss):
            await host.images.pull(f"{registry.host}/app:1", host.sink)
    assert host.rows("images") == host.rows("layers") == 0
    assert not host.content.has(digest_of(pushed.packed[0]))


async def test_a_failed_pull_keeps_its_layers_and_goes_on_later(tmp_path: Path) -> None:
    host = Host(tmp_path / "host", retries=0)
    pushed = Pushed()
    async with Registry() as registry:
        await pushed.push(registry.host, "app", "1")
        last = digest_of(pushed.packed[0])
        registry.faults.append(Fault("GET", last, cut_after=150_000))
        with pytest.raises(Unavailable):
            await host.images.pull(f"{registry.host}/app:1", host.sink)
        registry.requests.clear()
        await host.images.pull(f"{registry.host}/app:1", host.sink)
        gets = [r for r in registry.requests if r.method == "GET" and "/blobs/sha256" in r.path]
        assert [r.headers.get("range") for r in gets if last in r.path] == ["bytes=150000-"]


async def test_a_cancelled_pull_leaves_no_half_layer(host: Host) -> None:
    async with Registry() as registry:
        await Pushed().push(registry.host, "app", "1")
        with anyio.CancelScope() as scope:

            async def sink(message: dict[str, Any]) -> None:
                if message["status"] == "Pull complete":
                    scope.cancel()

            await host.images.pull(f"{registry.host}/app:1", sink)
        assert scope.cancelled_caught
        assert host.rows("images") == 0
        assert not any(key.startswith("extract-") for key in host.tars.snapshots)
        await host.images.pull(f"{registry.host}/app:1", host.sink)


async def broken_off(host: Host, registry: Registry) -> str:
    """The name of an image whose pull failed when its first layer was in place."""
    name = f"{registry.host}/app:1"

    async def sink(message: dict[str, Any]) -> None:
        if message["status"] == "Pull complete":
            raise Unavailable("the registry went away")

    await Pushed().push(registry.host, "app", "1")
    with pytest.raises(Unavailable, match="went away"):
        await host.images.pull(name, sink)
    return name


async def test_finished_layers_of_a_failed_pull_wait_for_the_next(host: Host) -> None:
    async with Registry() as registry:
        name = await broken_off(host, registry)
        assert (await host.images.collector.collect()).layers == []
        host.images.collector.forget_leases()  # as a new daemon does
        assert (await host.images.collector.collect()).layers == []
        await host.images.pull(name, host.sink)
        assert host.statuses().count("Already exists") >= 1
        assert host.tars.applied == len(LAYERS)
        assert host.rows("leases") == 0
        await host.images.remove(name)
        assert host.rows("layers") == host.rows("blobs") == 0


async def test_what_a_failed_pull_left_goes_with_prune_or_time(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Registry() as registry:
        await broken_off(host, registry)
        assert (await host.images.prune({})).space >= len(LAYERS[0])
        assert host.rows("layers") == host.rows("blobs") == host.rows("leases") == 0
        await broken_off(host, registry)
        later = time.time() + 3601
        monkeypatch.setattr("hooper.engine.gc.time.time", lambda: later)
        assert len((await host.images.collector.collect()).layers) >= 1
        assert host.rows("layers") == host.rows("blobs") == host.rows("leases") == 0


async def test_pull_errors_come_before_progress(host: Host) -> None:
    async with Registry(users={"ann": "secret"}) as registry:
        with pytest.raises(Unauthorized, match="pull access denied"):
            await host.images.pull(f"{registry.host}/app:1", host.sink)
        credentials = Credentials("ann", "secret")
        with pytest.raises(NotFound, match=r"manifest for .*/app:1 not found: manifest unknown"):
            await host.images.pull(f"{registry.host}/app:1", host.sink, credentials=credentials)
        assert await host.images.login(registry.host, credentials) == ""
    assert host.messages == []


async def test_all_tags(host: Host) -> None:
    async with Registry() as registry:
        for tag in ("1", "2"):
            await Pushed().push(registry.host, "app", tag)
        await host.images.pull(f"{registry.host}/app", host.sink, all_tags=True)
        [image] = await host.images.list()
        assert image.tags == [f"{registry.host}/app:1", f"{registry.host}/app:2"]


# --- push ---------------------------------------------------------------------------------------------


async def test_a_pulled_image_is_pushed_as_it_came(host: Host) -> None:
    pushed = Pushed()
    async with Registry() as registry:
        await pushed.push(registry.host, "app", "1")
        await host.images.pull(f"{registry.host}/app:1", host.sink)
        await host.images.tag(f"{registry.host}/app:1", f"{registry.host}/copy/app:2")
        host.messages.clear()
        registry.requests.clear()
        await host.images.push(f"{registry.host}/copy/app:2", host.sink)
        digest, size = pushed.manifest.descriptor.digest, len(pushed.manifest.content)
        statuses = host.statuses()
        assert statuses[0] == f"The push refers to repository [{registry.host}/copy/app]"
        assert statuses.count("Preparing") == statuses.count("Mounted from app") == 3
        assert statuses[-1] == f"2: digest: {digest} size: {size}"
        assert host.messages[-1]["aux"] == {"Tag": "2", "Digest": digest, "Size": size}
        host.messages.clear()
        await host.images.push(f"{registry.host}/copy/app:2", host.sink)
        assert host.statuses().count("Layer already exists") == 3


async def test_a_made_image_is_pushed_and_pulled_elsewhere(host: Host, tmp_path: Path) -> None:
    chain = ""
    for layer in LAYERS:
        await host.tars.prepare("step", chain)
        host.tars.tars["step"] = layer
        chain = (await host.images.layers.adopt("step", chain)).chain_id
    async with Registry(users={"ann": "secret"}, tokens=True) as registry:
        name, credentials = f"{registry.host}/made:1", Credentials("ann", "secret")
        image_id = await host.images.create_image(Image(architecture="", os="linux"), chain, [name])
        with pytest.raises(Unauthorized, match="push access denied"):
            await host.images.push(name, host.sink)
        await host.images.push(name, host.sink, credentials=credentials)
        assert host.statuses().count("Pushed") == 3
        other = Host(tmp_path / "other")
        assert await other.images.pull(name, other.sink, credentials=credentials) == image_id
        assert [other.tars.tars[key] for key in other.tars.snapshots] == LAYERS


async def test_a_changed_layer_is_not_pushed(host: Host) -> None:
    await host.tars.prepare("step")
    host.tars.tars["step"] = LAYERS[0]
    layer = await host.images.layers.adopt("step", "")
    async with Registry() as registry:
        await host.images.create_image(Image(architecture="", os="linux"), layer.chain_id, [f"{registry.host}/made:1"])
        host.tars.spoil = b"?"
        with pytest.raises(DataLoss, match="no longer what it was"):
            await host.images.push(f"{registry.host}/made", host.sink)
        assert not any("/manifests/" in request.path for request in registry.requests)


async def test_push_of_nothing(host: Host) -> None:
    with pytest.raises(NotFound, match=r"An image does not exist locally with the tag: 127\.0\.0\.1:9/nothing"):
        await host.images.push("127.0.0.1:9/nothing:1", host.sink)


# --- against docker-registry, dockerd's and skopeo's words --------------------------------------------


@pytest.fixture
def real_registry(tmp_path: Path) -> Iterator[str]:
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed")
    with support.docker_registry(tmp_path / "registry") as host:
        yield host


async def test_a_real_registry_takes_and_gives(host: Host, tmp_path: Path, real_registry: str) -> None:
    pushed = Pushed()
    await pushed.push(real_registry, "team/app", "1")
    name = f"{real_registry}/team/app:1"
    assert await host.images.pull(name, host.sink) == pushed.id
    await host.images.tag(name, f"{real_registry}/team/copy:2")
    await host.images.push(f"{real_registry}/team/copy:2", host.sink)
    assert host.statuses().count("Mounted from team/app") == 3
    other = Host(tmp_path / "other")
    assert await other.images.pull(f"{real_registry}/team/copy:2", other.sink) == pushed.id
    async with connected(real_registry) as client:
        assert list(await client.tags("team/copy")) == ["2"]
        with pytest.raises(NotFound, match="manifest unknown"):
            await client.resolve("team/none", "1")
        await client.delete("team/copy", pushed.manifest.descriptor.digest)


async def test_skopeo_reads_what_was_pushed_and_saved(host: Host, tmp_path: Path, real_registry: str) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    await Pushed().push(real_registry, "app", "1")
    await host.images.pull(f"{real_registry}/app:1", host.sink)
    archive = tmp_path / "saved.tar"
    with archive.open("wb") as file:
        await host.images.save([f"{real_registry}/app:1"], file.fileno())
    (tmp_path / "layout").mkdir()
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "layout", filter="data")
    for source in (f"docker-archive:{archive}", f"oci:{tmp_path}/layout:1", f"docker://{real_registry}/app:1"):
        tls = ["--tls-verify=false"] if source.startswith("docker:") else []
        done = await anyio.run_process(["skopeo", "inspect", *tls, source])
        assert len(json.loads(done.stdout)["Layers"]) == 3
    target = f"docker://{real_registry}/from/skopeo:1"
    await anyio.run_process(["skopeo", "copy", "--dest-tls-verify=false", f"docker-archive:{archive}", target])
    other = Host(tmp_path / "other")
    assert await other.images.pull(f"{real_registry}/from/skopeo:1", other.sink)


async def test_a_damaged_rest_of_an_earlier_pull_is_dropped(host: Host) -> None:
    pushed = Pushed(layers=LAYERS[:1])
    with contextlib.suppress(InterruptedError):
        async with host.content.writer(digest_of(pushed.packed[0])) as writer:
            await writer.write(b"?" * 1000)
            raise InterruptedError
    async with Registry() as registry:
        await pushed.push(registry.host, "app", "1")
        assert await host.images.pull(f"{registry.host}/app:1", host.sink) == pushed.id
