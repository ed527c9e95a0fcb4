"""What every registry driver does: the conformance suite of `hooper.api.registry`.

class TestMine(RegistryDriverSuite):
    @pytest.fixture
    def place(self, ...): yields (driver, host)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest

from hooper.api.errors import HooperError, NotFound
from hooper.api.manifests import OCI_CONFIG, OCI_INDEX, OCI_LAYER_TAR, OCI_MANIFEST, digest_of
from hooper.api.registry import Descriptor, Manifest, RegistryClient, RegistryDriver

Place = tuple[RegistryDriver, str]
_LAYER = b"a layer, as it were" * 5000
_CONFIG = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()


def described(content: bytes, kind: str) -> Descriptor:
    return Descriptor(kind, digest_of(content), len(content))


def reader(content: bytes) -> Callable[[int], AsyncIterator[bytes]]:
    """A `read` for push_blob."""

    async def read(offset: int) -> AsyncIterator[bytes]:
        for start in range(offset, len(content), 1000):
            yield content[start : start + 1000]

    return read


def manifest_of(value: dict[str, object]) -> Manifest:
    content = json.dumps(value).encode()
    return Manifest(described(content, str(value["mediaType"])), content)


def image_manifest(**more: object) -> Manifest:
    """Of the one configuration and the one layer that the suite pushes."""
    config, layer = described(_CONFIG, OCI_CONFIG), described(_LAYER, OCI_LAYER_TAR)
    parts = [{"mediaType": part.media_type, "digest": part.digest, "size": part.size} for part in (config, layer)]
    return manifest_of({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": parts[0], "layers": parts[1:], **more})


async def push_blobs(client: RegistryClient, repository: str) -> None:
    for content, kind in ((_CONFIG, OCI_CONFIG), (_LAYER, OCI_LAYER_TAR)):
        await client.push_blob(repository, described(content, kind), reader(content))


async def read_blob(client: RegistryClient, repository: str, blob: Descriptor, offset: int = 0) -> bytes:
    async with client.fetch(repository, blob, offset) as chunks:
        return b"".join([chunk async for chunk in chunks])


class RegistryDriverSuite:
    """Tests are given `place`: an open driver and a host, on which nothing is stored yet."""

    @staticmethod
    def connected(place: Place) -> AbstractAsyncContextManager[RegistryClient]:
        driver, host = place
        return driver.connect(host, None)

    async def test_a_pushed_image_is_pulled_byte_for_byte(self, place: Place) -> None:
        manifest = image_manifest()
        async with self.connected(place) as client:
            await push_blobs(client, "one/app")
            await client.push_manifest("one/app", "1.0", manifest)
        async with self.connected(place) as client:
            for reference in ("1.0", manifest.descriptor.digest):
                found = await client.resolve("one/app", reference)
                assert (found.content, found.descriptor.digest) == (manifest.content, manifest.descriptor.digest)
            assert await read_blob(client, "one/app", described(_LAYER, OCI_LAYER_TAR)) == _LAYER
            assert await read_blob(client, "one/app", described(_LAYER, OCI_LAYER_TAR), 60_000) == _LAYER[60_000:]

    async def test_what_is_not_there_is_not_found(self, place: Place) -> None:
        missing = described(b"nowhere", OCI_LAYER_TAR)
        async with self.connected(place) as client:
            await push_blobs(client, "one/app")
            await client.push_manifest("one/app", "1.0", image_manifest())
            for reference in ("2.0", missing.digest):
                with pytest.raises(NotFound):
                    await client.resolve("one/app", reference)
            with pytest.raises(NotFound):
                await read_blob(client, "one/app", missing)
            assert not await client.has_blob("one/app", missing.digest)
            assert await client.has_blob("one/app", digest_of(_LAYER))

    async def test_a_damaged_blob_is_refused(self, place: Place) -> None:
        async with self.connected(place) as client:
            wanted = Descriptor(OCI_LAYER_TAR, f"sha256:{hashlib.sha256(b'x').hexdigest()}", len(_LAYER))
            with pytest.raises(HooperError):
                await client.push_blob("one/app", wanted, reader(_LAYER))
            assert not await client.has_blob("one/app", wanted.digest)

    async def test_a_manifest_whose_blobs_are_missing_is_refused(self, place: Place) -> None:
        async with self.connected(place) as client:
            with pytest.raises(HooperError):
                await client.push_manifest("empty/app", "1", image_manifest())

    async def test_a_tag_moves_and_the_old_manifest_stays(self, place: Place) -> None:
        old, new = image_manifest(), image_manifest(annotations={"new": "yes"})
        async with self.connected(place) as client:
            await push_blobs(client, "one/app")
            for manifest in (old, new):
                await client.push_manifest("one/app", "1.0", manifest)
            assert (await client.resolve("one/app", "1.0")).content == new.content
            assert (await client.resolve("one/app", old.descriptor.digest)).content == old.content

    async def test_tags_are_those_of_a_repository(self, place: Place) -> None:
        async with self.connected(place) as client:
            for repository, tags in (("one/app", ("b", "a")), ("two/app", ("c",))):
                await push_blobs(client, repository)
                for tag in tags:
                    await client.push_manifest(repository, tag, image_manifest())
            assert sorted(await client.tags("one/app")) == ["a", "b"]
            assert list(await client.tags("two/app")) == ["c"]

    async def test_an_index_has_its_manifests(self, place: Place) -> None:
        child = image_manifest()
        entry = {
            "mediaType": OCI_MANIFEST,
            "digest": child.descriptor.digest,
            "size": child.descriptor.size,
            "platform": {"os": "linux", "architecture": "amd64"},
        }
        index = manifest_of({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]})
        async with self.connected(place) as client:
            await push_blobs(client, "one/app")
            await client.push_manifest("one/app", child.descriptor.digest, child)
            await client.push_manifest("one/app", "all", index)
            found = await client.resolve("one/app", "all")
            assert (found.content, found.descriptor.media_type) == (index.content, OCI_INDEX)
            assert (await client.resolve("one/app", child.descriptor.digest)).content == child.content

    async def test_a_blob_is_mounted_or_declined(self, place: Place) -> None:
        async with self.connected(place) as client:
            await push_blobs(client, "one/app")
            if await client.mount_blob("two/app", digest_of(_LAYER), "one/app"):
                assert await client.has_blob("two/app", digest_of(_LAYER))
            assert not await client.mount_blob("two/app", digest_of(b"nowhere"), "one/app")

    async def test_a_deleted_tag_is_gone(self, place: Place) -> None:
        manifest = image_manifest()
        async with self.connected(place) as client:
            await push_blobs(client, "one/app")
            await client.push_manifest("one/app", "1.0", manifest)
            await client.delete("one/app", manifest.descriptor.digest)
            for reference in ("1.0", manifest.descriptor.digest):
                with pytest.raises(NotFound):
                    await client.resolve("one/app", reference)

    async def test_referrers_are_found_by_their_subject(self, place: Place) -> None:
        subject = image_manifest()
        described_subject = {
            "mediaType": OCI_MANIFEST, "digest": subject.descriptor.digest, "size": subject.descriptor.size,
        }  # fmt: skip
        artifact = image_manifest(subject=described_subject, artifactType="application/example")
        async with self.connected(place) as client:
            await push_blobs(client, "one/app")
            await client.push_manifest("one/app", "1.0", subject)
            assert list(await client.referrers("one/app", subject.descriptor.digest)) == []
            await client.push_manifest("one/app", artifact.descriptor.digest, artifact)
            found = await client.referrers("one/app", subject.descriptor.digest)
            assert [one.digest for one in found] == [artifact.descriptor.digest]
