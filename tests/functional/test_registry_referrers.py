"""What refers to an image, where the registry keeps the list and where its clients have to."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from test_registry_http import connected

import support
from hooper.api.errors import Conflict
from hooper.api.manifests import OCI_INDEX, OCI_MANIFEST
from hooper.api.registry import Descriptor, Manifest, RegistryClient
from hooper.testing.registry import Registry
from hooper.testing.registry_driver import image_manifest, manifest_of, push_blobs
from hooper_registry_http.referrers import fallback_tag
from registry_server_support import registry_server

pytestmark = pytest.mark.anyio


def referring(subject: Descriptor, kind: str) -> Manifest:
    described = {"mediaType": OCI_MANIFEST, "digest": subject.digest, "size": subject.size}
    return image_manifest(subject=described, artifactType=kind, annotations={"of": kind})


async def push_referrers(client: RegistryClient) -> Descriptor:
    """Two of one image, one of them twice; the image."""
    await push_blobs(client, "app")
    image = image_manifest()
    await client.push_manifest("app", "1", image)
    for kind in ("application/a", "application/b", "application/a"):
        manifest = referring(image.descriptor, kind)
        await client.push_manifest("app", manifest.descriptor.digest, manifest)
    found = await client.referrers("app", image.descriptor.digest)
    assert sorted((one.artifact_type, one.annotations or {}) for one in found) == [
        ("application/a", {"of": "application/a"}),
        ("application/b", {"of": "application/b"}),
    ]
    return image.descriptor


async def test_a_registry_that_does_not_know_referrers(tmp_path: Path) -> None:
    with support.docker_registry(tmp_path) as host:
        async with connected(host) as client:
            image = await push_referrers(client)
            listed = await client.resolve("app", fallback_tag(image.digest))
            assert listed.descriptor.media_type == OCI_INDEX


async def test_a_registry_that_does_needs_no_tag(tmp_path: Path) -> None:
    with registry_server(tmp_path) as server:
        async with connected(server.host) as client:
            await push_referrers(client)
            assert list(await client.tags("app")) == ["1"]


async def test_what_others_have_listed_stays_as_it_is() -> None:
    image = image_manifest().descriptor
    theirs = {"mediaType": OCI_MANIFEST, "digest": f"sha256:{'0' * 64}", "size": 2, "data": "e30="}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [theirs], "annotations": {"by": "others"}}
    async with Registry() as registry, connected(registry.host) as client:
        await push_blobs(client, "app")
        await client.push_manifest("app", fallback_tag(image.digest), manifest_of(dict(index)))
        ours = referring(image, "application/a")
        await client.push_manifest("app", ours.descriptor.digest, ours)
        listed = msgspec.json.decode((await client.resolve("app", fallback_tag(image.digest))).content)
        assert listed["manifests"][0] == theirs
        assert listed["manifests"][1]["digest"] == ours.descriptor.digest
        assert listed["annotations"] == {"by": "others"}


async def test_a_tag_that_is_something_else_is_left() -> None:
    image = image_manifest()
    async with Registry() as registry, connected(registry.host) as client:
        await push_blobs(client, "app")
        await client.push_manifest("app", fallback_tag(image.descriptor.digest), image)
        ours = referring(image.descriptor, "application/a")
        with pytest.raises(Conflict, match="is no index of referrers"):
            await client.push_manifest("app", ours.descriptor.digest, ours)
        assert (await client.resolve("app", fallback_tag(image.descriptor.digest))).content == image.content


@pytest.mark.parametrize(
    ("digest", "tag"),
    [
        (f"sha256:{'a' * 64}", f"sha256-{'a' * 64}"),
        (f"sha512:{'ab' * 64}", f"sha512-{'ab' * 32}"),
    ],
)
def test_the_name_of_the_tag(digest: str, tag: str) -> None:
    assert fallback_tag(digest) == tag
