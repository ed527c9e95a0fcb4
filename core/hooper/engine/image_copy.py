"""Copies of images from registry to registry: blobs are mounted where both are one, else streamed through."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

import anyio
import anyio.to_thread
import msgspec

from hooper.api.engine import ProgressSink
from hooper.api.errors import DataLoss, HooperError, NotFound, Unsupported
from hooper.api.manifests import (
    DOCKER_INDEX,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_TAR,
    OCI_MANIFEST,
    ImageManifest,
    Index,
    choose,
    make_manifest,
    parse_manifest,
)
from hooper.api.registry import Descriptor, Manifest, Platform, RegistryClient
from hooper.engine import distribution_progress as tell

if TYPE_CHECKING:
    from hooper.content.store import ContentStore

_SIDE_BY_SIDE = 3
_DEPTH = 4
_CHUNK = 1 << 20
_OCI_LAYERS = {
    DOCKER_LAYER: f"{OCI_LAYER_TAR}+gzip",
    "application/vnd.docker.image.rootfs.diff.tar": OCI_LAYER_TAR,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": f"{OCI_LAYER_TAR}+zstd",
}


class Source(Protocol):
    """What of `RegistryClient` a copy reads from."""

    async def resolve(self, repository: str, reference: str) -> Manifest: ...

    def fetch(
        self, repository: str, blob: Descriptor, offset: int = 0
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]: ...


class Stored:
    """A manifest, all of whose blobs this engine has, as a source. The caller keeps the blobs."""

    def __init__(self, content: ContentStore, manifest: Manifest) -> None:
        self._content, self._manifest = content, manifest

    async def resolve(self, repository: str, reference: str) -> Manifest:
        return self._manifest

    @asynccontextmanager
    async def fetch(self, repository: str, blob: Descriptor, offset: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        descriptor = self._content.open(blob.digest)
        try:
            yield _chunks(descriptor, offset)
        finally:
            os.close(descriptor)


async def _chunks(descriptor: int, offset: int) -> AsyncIterator[bytes]:
    while chunk := await anyio.to_thread.run_sync(os.pread, descriptor, _CHUNK, offset):
        offset += len(chunk)
        yield chunk


class Origin(NamedTuple):
    """Where a copy comes from. `host` is "" for what is no registry."""

    client: Source
    host: str
    repository: str
    reference: str


class Side(NamedTuple):
    """A registry or layout, the repository and the reference there ("" where a layout needs none)."""

    client: RegistryClient
    host: str
    repository: str
    reference: str


class Copier:
    """Of one copy. Manifests are carried over byte for byte, so that their digests stay, unless `oci` wants OCI's."""

    def __init__(self, source: Side | Origin, target: Side, sink: ProgressSink, *, oci: bool = False) -> None:
        self._source, self._target, self._sink, self._oci = source, target, sink, oci
        self._limiter = anyio.CapacityLimiter(_SIDE_BY_SIDE)
        self._done: set[str] = set()

    async def copy(self, wanted: Platform | None, shown: str) -> Manifest:
        """What the source's reference names, or with `wanted` the image of it for a platform; as the target has it."""
        manifest = await self._source.client.resolve(self._source.repository, self._source.reference)
        if wanted is not None:
            for _ in range(_DEPTH):
                parsed = parse_manifest(manifest, shown)
                if not isinstance(parsed, Index):
                    break
                manifest = await self._child(choose(parsed, wanted))
        manifest = await self.bring(manifest, shown)
        target, reference = self._target, self._target.reference
        if not reference or not await target.client.has_manifest(
            target.repository, reference, manifest.descriptor.digest
        ):
            await target.client.push_manifest(target.repository, reference, manifest)
        return manifest

    async def _child(self, entry: Descriptor) -> Manifest:
        return await self._source.client.resolve(self._source.repository, entry.digest)

    async def bring(self, manifest: Manifest, shown: str, depth: int = 0) -> Manifest:
        """All that a manifest names, so that itself may be pushed, as it is returned."""
        parsed = parse_manifest(manifest, shown)
        if isinstance(parsed, ImageManifest):
            await self._bring_blobs(parsed)
            return make_manifest(as_oci(parsed)) if self._converts(parsed) else _typed(manifest, parsed)
        if depth == _DEPTH:
            raise Unsupported(f"cannot copy {shown}", "its indexes are nested too deeply")
        entries = []
        for entry in parsed.manifests:
            child = await self.bring(await self._child(entry), f"{shown}@{entry.digest}", depth + 1)
            await self._target.client.push_manifest(self._target.repository, child.descriptor.digest, child)
            found = child.descriptor
            entries.append(msgspec.structs.replace(
                entry, media_type=found.media_type, digest=found.digest, size=found.size
            ))  # fmt: skip
        if not self._converts(parsed) and [one.digest for one in entries] == [one.digest for one in parsed.manifests]:
            return _typed(manifest, parsed)
        return make_manifest(msgspec.structs.replace(parsed, media_type=OCI_INDEX, manifests=entries))

    def _converts(self, parsed: ImageManifest | Index) -> bool:
        return self._oci and parsed.media_type in (DOCKER_MANIFEST, DOCKER_INDEX)

    async def _bring_blobs(self, manifest: ImageManifest) -> None:
        failure: HooperError | None = None

        async def one(blob: Descriptor) -> None:
            nonlocal failure
            async with self._limiter:
                try:
                    await self._bring_blob(blob)
                except HooperError as error:
                    failure = failure or error
                    group.cancel_scope.cancel()

        blobs = {blob.digest: blob for blob in (*manifest.layers, manifest.config) if not blob.urls}
        async with anyio.create_task_group() as group:
            for blob in blobs.values():
                if blob.digest not in self._done:
                    self._done.add(blob.digest)
                    group.start_soon(one, blob)
        if failure is not None:
            raise failure

    async def _bring_blob(self, blob: Descriptor) -> None:
        source, target, short = self._source, self._target, tell.short(blob.digest)
        if await target.client.has_blob(target.repository, blob.digest):
            await tell.layer(self._sink, "Layer already exists", short)
            return
        elsewhere = source.host == target.host and source.repository != target.repository
        if elsewhere and await target.client.mount_blob(target.repository, blob.digest, source.repository):
            await tell.layer(self._sink, f"Mounted from {source.repository}", short)
            return
        meter = tell.Meter(self._sink, "Copying", short, blob.size)
        await target.client.push_blob(target.repository, blob, lambda offset: self._read(blob, offset, meter.at))
        await tell.layer(self._sink, "Pushed", short)

    async def _read(self, blob: Descriptor, offset: int, at: Callable[[int], Awaitable[None]]) -> AsyncIterator[bytes]:
        """Its bytes; the target verifies the digest of the whole. A source that breaks off is asked to go on."""
        for last in (False, False, True):
            start = offset
            try:
                async with self._source.client.fetch(self._source.repository, blob, offset) as chunks:
                    async for chunk in chunks:
                        offset += len(chunk)
                        yield chunk
                        await at(offset)
            except (DataLoss, NotFound):
                raise
            except HooperError:
                if last or offset == start:
                    raise
            if offset >= blob.size:
                return
        raise DataLoss(f"blob {blob.digest} is cut off", f"{offset} of {blob.size} bytes came", "Try again.")


def as_oci(manifest: ImageManifest) -> ImageManifest:
    """Docker's manifest with the media types that OCI has for the same things; blobs stay as they are."""
    layers = [
        msgspec.structs.replace(layer, media_type=_OCI_LAYERS.get(layer.media_type, layer.media_type))
        for layer in manifest.layers
    ]
    config = msgspec.structs.replace(manifest.config, media_type=OCI_CONFIG)
    return msgspec.structs.replace(manifest, media_type=OCI_MANIFEST, config=config, layers=layers)


def _typed(manifest: Manifest, parsed: ImageManifest | Index) -> Manifest:
    """With the media type that its content says, which a registry may have kept back."""
    found = manifest.descriptor
    return Manifest(Descriptor(parsed.media_type, found.digest, len(manifest.content)), manifest.content)
