"""Push: from an image in place to a registry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

import anyio

from hooper.api.engine import ProgressSink
from hooper.api.errors import DataLoss, HooperError, NotFound
from hooper.api.manifests import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_LAYER_TAR,
    OCI_MANIFEST,
    ImageManifest,
    Index,
    make_manifest,
    parse_manifest,
)
from hooper.api.reference import Reference
from hooper.api.registry import Credentials, Descriptor, Manifest, RegistryClient
from hooper.engine import distribution_progress as tell
from hooper.engine.distribution import RegistryFor
from hooper.engine.image_store import ImageStore
from hooper.engine.layers import Layer, LayerStore
from hooper.engine.packing import Packer

if TYPE_CHECKING:
    from hooper.content.store import ContentStore
    from hooper.engine.policy import PolicyGate

_UPLOADS = 3
_CHUNK = 1 << 18


class Pusher:
    def __init__(
        self,
        images: ImageStore,
        layers: LayerStore,
        content: ContentStore,
        packer: Packer,
        registry_for: RegistryFor,
    ) -> None:
        self._images, self._layers, self._content, self._packer = images, layers, content, packer
        self._registry_for = registry_for
        self.gate: PolicyGate | None = None
        """Asked before anything is sent; None: there are no image policies."""

    async def push(
        self,
        reference: Reference,
        sink: ProgressSink,
        credentials: Credentials | None,
        chosen: Callable[[str], str] = str,
    ) -> None:
        """The tag of the reference, or all tags of its name; `chosen` says for which platform, of an image's id."""
        tagged = [
            (tag, chosen(image_id))
            for tag, image_id in self._images.tagged(reference.name)
            if reference.tag in ("", tag.tag)
        ]
        if not tagged:
            raise NotFound(
                f"An image does not exist locally with the tag: {reference.familiar_name}",
                remedy=f"Tag it first: docker tag IMAGE {reference.familiar}",
            )
        if self.gate is not None:
            for tag, image_id in tagged:
                await self.gate.push(tag, image_id)
        async with (await self._registry_for(reference.host)).connect(reference.host, credentials) as client:
            await tell.say(sink, f"The push refers to repository [{reference.name}]")
            for tag, image_id in tagged:
                with self._layers.lease() as lease:
                    lease.add("blob", image_id)
                    lease.add("layer", self._images.summary(image_id).chain)
                    await self._push_tag(client, tag, image_id, sink)

    async def push_made(
        self,
        reference: Reference,
        manifest: Manifest,
        layers: Sequence[Layer],
        sink: ProgressSink,
        credentials: Credentials | None,
    ) -> None:
        """A manifest that was made here, under a tag. All blobs that it names are in the content store, and the caller
        keeps them; `layers` are those that it has compressed forms of."""
        parsed = parse_manifest(manifest, reference.familiar)
        assert isinstance(parsed, ImageManifest)
        if self.gate is not None:
            await self.gate.push(reference, parsed.config.digest)
        async with (await self._registry_for(reference.host)).connect(reference.host, credentials) as client:
            await self._push_blobs(client, reference, parsed, layers, sink)
            await client.push_manifest(reference.path, reference.tag, manifest)

    async def _push_tag(self, client: RegistryClient, tag: Reference, image_id: str, sink: ProgressSink) -> None:
        layers = self._layers.ancestry(self._images.summary(image_id).chain)
        for layer in layers:
            await tell.layer(sink, "Preparing", tell.short(layer.diff_id))
        manifest = self._original(image_id, layers) or await self.make(image_id, layers)
        parsed = parse_manifest(manifest, tag.familiar)
        assert isinstance(parsed, ImageManifest)
        await self._push_blobs(client, tag, parsed, layers, sink)
        if not await client.has_manifest(tag.path, tag.tag, manifest.descriptor.digest):
            await client.push_manifest(tag.path, tag.tag, manifest)
        await self.record(tag, image_id, manifest)
        self._images.add_origin(tag.name, manifest.descriptor.digest, image_id)
        digest, size = manifest.descriptor.digest, len(manifest.content)
        await tell.say(sink, f"{tag.tag}: digest: {digest} size: {size}")
        await sink({"progressDetail": {}, "aux": {"Tag": tag.tag, "Digest": digest, "Size": size}})

    # --- the manifest ---------------------------------------------------------------------------------

    def _original(self, image_id: str, layers: list[Layer]) -> Manifest | None:
        """The manifest that the image came with, so that its digest stays the same everywhere."""
        forms = [{blob.digest for blob in self._layers.blobs(layer.diff_id)} for layer in layers]
        for _, digest in self._images.digests(image_id):
            for manifest, parsed in self._kept(digest):
                digests = [blob.digest for blob in parsed.layers]
                same = len(digests) == len(forms) and all(d in known for d, known in zip(digests, forms, strict=True))
                if parsed.config.digest == image_id and same:
                    return manifest
        return None

    def kept(self, image_id: str) -> list[tuple[Manifest, ImageManifest]]:
        """The manifests that are kept of an image."""
        found = [one for _, digest in self._images.digests(image_id) for one in self._kept(digest)]
        return [one for one in found if one[1].config.digest == image_id]

    def _kept(self, digest: str) -> list[tuple[Manifest, ImageManifest]]:
        """The manifest of that digest, or those of that index, as far as they are kept."""
        if not self._content.has(digest):
            return []
        content = self._content.path(digest).read_bytes()
        manifest = Manifest(Descriptor("", digest, len(content)), content)
        parsed = parse_manifest(manifest, digest)
        if isinstance(parsed, Index):
            return [found for entry in parsed.manifests for found in self._kept(entry.digest)]
        return [(Manifest(Descriptor(parsed.media_type, digest, len(content)), content), parsed)]

    async def manifest(self, image_id: str) -> Manifest:
        """The manifest that the image came with, or else one that is made now."""
        layers = self._layers.ancestry(self._images.summary(image_id).chain)
        return self._original(image_id, layers) or await self.make(image_id, layers)

    async def make(self, image_id: str, layers: Sequence[Layer], annotations: dict[str, str] | None = None) -> Manifest:
        """A manifest of a stored image; its layers are compressed for it. One with annotations is OCI's."""
        blobs = [await self._packer.blob(layer) for layer in layers]
        docker = not annotations and all(
            blob.media_type == DOCKER_LAYER or blob.media_type.endswith("tar+gzip") for blob in blobs
        )
        config = Descriptor(DOCKER_CONFIG if docker else OCI_CONFIG, image_id, self._content.size(image_id))
        return make_manifest(
            ImageManifest(
                schema_version=2,
                media_type=DOCKER_MANIFEST if docker else OCI_MANIFEST,
                config=config,
                layers=[Descriptor(layer_type(blob.media_type, docker), blob.digest, blob.size) for blob in blobs],
                annotations=annotations or None,
            )
        )

    # --- blobs ----------------------------------------------------------------------------------------

    async def _push_blobs(
        self,
        client: RegistryClient,
        tag: Reference,
        manifest: ImageManifest,
        layers: Sequence[Layer],
        sink: ProgressSink,
    ) -> None:
        limiter = anyio.CapacityLimiter(_UPLOADS)
        failure: HooperError | None = None

        async def upload(blob: Descriptor, short: str) -> None:
            nonlocal failure
            async with limiter:
                try:
                    await self._push_blob(client, tag, blob, short, sink)
                except HooperError as error:
                    failure = failure or error
                    group.cancel_scope.cancel()

        different = {
            blob.digest: (blob, tell.short(layer.diff_id)) for blob, layer in zip(manifest.layers, layers, strict=True)
        }
        async with anyio.create_task_group() as group:
            for blob, short in different.values():
                group.start_soon(upload, blob, short)
        if failure is not None:
            raise failure
        if not await client.has_blob(tag.path, manifest.config.digest):
            await client.push_blob(tag.path, manifest.config, lambda offset: self._read(manifest.config, offset))

    async def _push_blob(
        self, client: RegistryClient, tag: Reference, blob: Descriptor, short: str, sink: ProgressSink
    ) -> None:
        if await client.has_blob(tag.path, blob.digest):
            await tell.layer(sink, "Layer already exists", short)
        elif source := await self._mount(client, tag, blob):
            await tell.layer(sink, f"Mounted from {source}", short)
        else:
            meter = tell.Meter(sink, "Pushing", short, blob.size)
            await client.push_blob(tag.path, blob, lambda offset: self._read(blob, offset, meter))
            await tell.layer(sink, "Pushed", short)
        self._images.add_source(blob.digest, tag)

    async def _mount(self, client: RegistryClient, tag: Reference, blob: Descriptor) -> str:
        """The repository that the blob was taken over from, "" if none would do."""
        for source in self._images.sources(blob.digest, tag.host):
            if source != tag.path and await client.mount_blob(tag.path, blob.digest, source):
                return source
        return ""

    async def _read(self, blob: Descriptor, offset: int, meter: tell.Meter | None = None) -> AsyncIterator[bytes]:
        if not self._content.has(blob.digest):
            raise DataLoss(f"blob {blob.digest} is missing", remedy="Pull or build the image again.")
        async with await anyio.open_file(self._content.path(blob.digest), "rb") as file:
            await file.seek(offset)
            while chunk := await file.read(_CHUNK):
                offset += len(chunk)
                yield chunk
                if meter:
                    await meter.at(offset)

    async def record(self, tag: Reference, image_id: str, manifest: Manifest) -> None:
        """Keeps a manifest of the image, as that of the name of `tag`."""
        await self._layers.put(manifest.content, manifest.descriptor.media_type)
        self._images.add_digest(tag.name, manifest.descriptor.digest, image_id)


def layer_type(kept: str, docker: bool) -> str:
    """The media type of a layer's blob in Docker's kind of manifest, or in OCI's."""
    if docker:
        return DOCKER_LAYER
    return f"{OCI_LAYER_TAR}+gzip" if kept == DOCKER_LAYER else kept
