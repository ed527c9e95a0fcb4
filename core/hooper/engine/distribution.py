"""Pull: from a registry's manifest to an image in place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, NamedTuple

import anyio

from hooper.api.engine import ProgressSink
from hooper.api.errors import DataLoss, NotFound, Unsupported
from hooper.api.manifests import (
    ImageManifest,
    Index,
    check_image,
    choose,
    decode_image,
    digest_of,
    fits,
    parse_manifest,
    parse_platform,
    platform_name,
)
from hooper.api.model import Image
from hooper.api.reference import Reference
from hooper.api.registry import Credentials, Descriptor, Manifest, Platform, RegistryClient, RegistryDriver
from hooper.engine import distribution_progress as tell
from hooper.engine.image_store import ImageStore
from hooper.engine.layers import LEFT_SECONDS, KeyedLocks, LayerStore, Lease, chain_ids, open_blob
from hooper.engine.transfers import Transfer

if TYPE_CHECKING:
    from hooper.content.store import ContentStore
    from hooper.engine.policy import PolicyGate

RegistryFor = Callable[[str], Awaitable[RegistryDriver]]
"""Gives the driver for a registry host."""

_DOWNLOADS = 3
_CONFIG_MAX = 16 * 1024 * 1024


class RemoteImage(NamedTuple):
    """An image as its registry describes it."""

    reference: Reference
    top: Manifest
    """What the reference names: a manifest, or the index that it was chosen from."""
    manifest: Manifest
    content: ImageManifest
    config: bytes
    image: Image

    @property
    def id(self) -> str:
        return self.content.config.digest


class Puller:
    def __init__(
        self,
        images: ImageStore,
        layers: LayerStore,
        content: ContentStore,
        registry_for: RegistryFor,
    ) -> None:
        self._images, self._layers, self._content = images, layers, content
        self._registry_for = registry_for
        self._downloads, self._limiter = KeyedLocks(), anyio.CapacityLimiter(_DOWNLOADS)
        self.gate: PolicyGate | None = None
        """Asked before anything is stored; None: there are no image policies."""

    async def pull(
        self, reference: Reference, sink: ProgressSink, platform: str, credentials: Credentials | None
    ) -> str:
        """Returns the image's id. Errors of the manifest are raised before the first message."""
        async with (await self._registry_for(reference.host)).connect(reference.host, credentials) as client:
            top = await client.resolve(reference.path, reference.digest or reference.tag)
            return await self._take(client, reference, top, sink, platform)

    async def take(
        self, client: RegistryClient, reference: Reference, top: Manifest, sink: ProgressSink, platform: str
    ) -> str:
        """As `pull`, of what a place has that is not the registry of the reference."""
        return await self._take(client, reference, top, sink, platform, sourced=False)

    async def _take(
        self,
        client: RegistryClient,
        reference: Reference,
        top: Manifest,
        sink: ProgressSink,
        platform: str,
        *,
        sourced: bool = True,
    ) -> str:
        wanted = parse_platform(platform)
        manifest, content = await self._choose(client, reference, top, wanted)
        if self.gate is not None:
            await self.gate.pull(client if sourced else None, reference, top, manifest, content.config)
        await tell.say(sink, f"Pulling from {reference.path}", reference.digest or reference.tag)
        if not platform and self._is_recorded(reference, top, content.config.digest):
            if sourced:
                self._images.add_origin(reference.name, top.descriptor.digest, content.config.digest)
            await self._conclude(reference, top, sink, newer=False)
            return content.config.digest
        with self._layers.lease() as lease, _left_for_another_try(lease):
            for digest in (top.descriptor.digest, manifest.descriptor.digest, content.config.digest):
                lease.add("blob", digest)
            remote = await self._describe(client, reference, top, manifest, content)
            if platform:
                _check_platform(remote, wanted)
            if not self._is_present(remote):
                diff_ids, blobs = remote.image.rootfs.diff_ids, remote.content.layers
                await self.fetch_layers(client, reference, diff_ids, blobs, sink, lease, sourced=sourced)
            newer = await self._record(remote)
            if sourced:
                self._images.add_origin(reference.name, top.descriptor.digest, remote.id)
            lease.supersede()
        await self._conclude(reference, top, sink, newer=newer)
        return remote.id

    @staticmethod
    async def _conclude(reference: Reference, top: Manifest, sink: ProgressSink, *, newer: bool) -> None:
        await tell.say(sink, f"Digest: {top.descriptor.digest}")
        verdict = "Downloaded newer image for" if newer else "Image is up to date for"
        await tell.say(sink, f"Status: {verdict} {reference.familiar}")

    def _is_recorded(self, reference: Reference, top: Manifest, image_id: str) -> bool:
        """Whether a pull would change nothing: the name stands for this image, which came with this manifest."""
        known = (reference.name, top.descriptor.digest)
        if self._images.lookup(reference) != image_id or known not in self._images.digests(image_id):
            return False
        chain = self._images.summary(image_id).chain
        return not chain or self._layers.get(chain) is not None

    @asynccontextmanager
    async def connected(self, reference: Reference, credentials: Credentials | None) -> AsyncIterator[RegistryClient]:
        """A conversation with the registry of a reference."""
        async with (await self._registry_for(reference.host)).connect(reference.host, credentials) as client:
            yield client

    async def look(self, client: RegistryClient, reference: Reference) -> tuple[ImageManifest, bytes]:
        """The manifest of a reference, for this host if there are several, and its configuration, of whatever kind."""
        top = await client.resolve(reference.path, reference.digest or reference.tag)
        _, content = await self._chosen(client, reference, top, parse_platform(""))
        return content, await self._config(client, reference, content.config)

    async def pull_all(
        self, name: Reference, sink: ProgressSink, platform: str, credentials: Credentials | None
    ) -> str:
        """Every tag of the name; the id of the last."""
        async with (await self._registry_for(name.host)).connect(name.host, credentials) as client:
            tags = await client.tags(name.path)
        image_id, skipped = "", list[str]()
        for tag in tags:
            try:
                image_id = await self.pull(Reference(name.host, name.path, tag), sink, platform, credentials)
            except Unsupported as error:
                skipped.append(tag)
                await tell.say(sink, f"Skipped: {error.what}: {error.why}", tag)
        if not image_id:
            why = f"none of {', '.join(skipped)} is an image that can be used here" if skipped else ""
            raise NotFound(f"{name.familiar} has no tags", why, "Look at the repository in its registry.")
        return image_id

    # --- what there is --------------------------------------------------------------------------------

    async def _choose(
        self, client: RegistryClient, reference: Reference, top: Manifest, wanted: Platform
    ) -> tuple[Manifest, ImageManifest]:
        manifest, parsed = await self._chosen(client, reference, top, wanted)
        check_image(parsed, reference.familiar)
        return manifest, parsed

    async def _chosen(
        self, client: RegistryClient, reference: Reference, top: Manifest, wanted: Platform
    ) -> tuple[Manifest, ImageManifest]:
        manifest, parsed = top, parse_manifest(top, reference.familiar)
        for _ in range(2):
            if isinstance(parsed, ImageManifest):
                break
            manifest = await client.resolve(reference.path, choose(parsed, wanted).digest)
            parsed = parse_manifest(manifest, reference.familiar)
        if isinstance(parsed, Index):
            raise Unsupported(f"{reference.familiar} is not an image", "its indexes are nested too deeply")
        return manifest, parsed

    async def _describe(
        self,
        client: RegistryClient,
        reference: Reference,
        top: Manifest,
        manifest: Manifest,
        content: ImageManifest,
    ) -> RemoteImage:
        config = await self._config(client, reference, content.config)
        image = decode_image(config, reference.familiar)
        if image.os != "linux":
            raise Unsupported(f'image operating system "{image.os}" cannot be used on this platform')
        if len(image.rootfs.diff_ids) != len(content.layers):
            raise DataLoss(
                f"the configuration of {reference.familiar} does not fit its manifest",
                f"{len(image.rootfs.diff_ids)} and {len(content.layers)} layers",
                "Push the image again.",
            )
        return RemoteImage(reference, top, manifest, content, config, image)

    async def _config(self, client: RegistryClient, reference: Reference, blob: Descriptor) -> bytes:
        if self._content.has(blob.digest):
            return self._content.path(blob.digest).read_bytes()
        if blob.size > _CONFIG_MAX:
            raise DataLoss(f"the configuration of {reference.familiar} is larger than {_CONFIG_MAX} bytes")
        async with client.fetch(reference.path, blob) as chunks:
            config = b"".join([chunk async for chunk in chunks])
        if digest_of(config) != blob.digest:
            raise DataLoss(f"the configuration of {reference.familiar} is damaged", f"wanted {blob.digest}")
        await self._layers.put(config, blob.media_type)
        return config

    def _is_present(self, remote: RemoteImage) -> bool:
        chains = chain_ids(remote.image.rootfs.diff_ids)
        return self._images.exists(remote.id) and (not chains or self._layers.get(chains[-1]) is not None)

    # --- layers ---------------------------------------------------------------------------------------

    async def fetch_layers(
        self,
        client: RegistryClient,
        reference: Reference,
        diff_ids: Sequence[str],
        blobs: Sequence[Descriptor],
        sink: ProgressSink,
        lease: Lease,
        *,
        sourced: bool = True,
    ) -> None:
        """Downloads several at once, and unpacks each as soon as it and those below it are there."""
        chains = chain_ids(diff_ids)
        missing = []
        for index, (chain, blob) in enumerate(zip(chains, blobs, strict=True)):
            lease.add("layer", chain)
            lease.add("blob", blob.digest)
            present = self._layers.get(chain) is not None
            await tell.layer(sink, "Already exists" if present else "Pulling fs layer", tell.short(blob.digest))
            if not present:
                missing.append(index)
        transfers = {index: Transfer(self._content, blobs[index]) for index in missing}
        error: BaseException | None = None
        try:
            async with anyio.create_task_group() as group:
                for index, transfer in transfers.items():
                    group.start_soon(self._download, client, reference, transfer, diff_ids[index], sink, sourced)
                for index, transfer in transfers.items():
                    parent = chains[index - 1] if index else ""
                    await self._unpack(transfer, diff_ids[index], parent, sink)
        except BaseExceptionGroup as grouped:
            error = _first(grouped)
        if error is not None:
            raise error

    async def _download(
        self,
        client: RegistryClient,
        reference: Reference,
        transfer: Transfer,
        diff_id: str,
        sink: ProgressSink,
        sourced: bool,
    ) -> None:
        blob = transfer.blob
        short = tell.short(blob.digest)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._downloads.hold(blob.digest))
            if not self._content.has(blob.digest):
                await stack.enter_async_context(self._limiter)
                await transfer.fetch(client, reference.path, tell.Meter(sink, "Downloading", short, blob.size))
                await tell.layer(sink, "Verifying Checksum", short)
            self._layers.add_blob(blob.digest, blob.media_type, blob.size, diff_id)
            if sourced:
                self._images.add_source(blob.digest, reference)
        await tell.layer(sink, "Download complete", short)
        transfer.finish()

    async def _unpack(self, transfer: Transfer, diff_id: str, parent: str, sink: ProgressSink) -> None:
        """From the blob if it is there, else while it comes."""
        digest = transfer.blob.digest
        short = tell.short(digest)
        try:
            if not (await transfer.readable() and await self._unpack_coming(transfer, diff_id, parent, sink)):
                async with tell.extracting(sink, short) as watch:
                    await self._layers.unpack(diff_id, parent, open_blob(self._content, digest), watch)
        except DataLoss:
            self._layers.forget_blob(digest)
            raise
        await tell.layer(sink, "Pull complete", short)

    async def _unpack_coming(self, transfer: Transfer, diff_id: str, parent: str, sink: ProgressSink) -> bool:
        """False if what came at first proved to be bad and has been fetched anew."""
        meter = tell.Meter(sink, "Extracting", tell.short(transfer.blob.digest), transfer.blob.size)
        try:
            async with transfer.piped(meter) as source:
                await self._layers.unpack(diff_id, parent, source)
            await transfer.arrived.wait()
        except DataLoss:
            await transfer.arrived.wait()
            if transfer.began_anew:
                return False
            raise
        return True

    # --- the end --------------------------------------------------------------------------------------

    async def _record(self, remote: RemoteImage) -> bool:
        """Makes the image visible under its names; False if it was there under this one."""
        before = self._images.lookup(remote.reference)
        for manifest in (remote.top, remote.manifest):
            kind = parse_manifest(manifest, remote.reference.familiar).media_type
            await self._layers.put(manifest.content, kind)
        chains = chain_ids(remote.image.rootfs.diff_ids)
        size = sum(layer.size for layer in self._layers.ancestry(chains[-1] if chains else ""))
        with self._images.database.transaction():
            self._images.add(remote.id, remote.image, chains[-1] if chains else "", size)
            self._images.add_digest(remote.reference.name, remote.top.descriptor.digest, remote.id)
            if not remote.reference.digest:
                self._images.tag(remote.reference, remote.id)
        return before != remote.id


@contextmanager
def _left_for_another_try(lease: Lease) -> Iterator[None]:
    """Of a pull that breaks off, what has come and is verified stays for a while."""
    try:
        yield
    except BaseException:
        lease.leave(LEFT_SECONDS)
        raise


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended a task group: the others were cancelled for it."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _check_platform(remote: RemoteImage, wanted: Platform) -> None:
    image = remote.image
    actual = Platform(os=image.os, architecture=image.architecture, variant=image.variant)
    if not fits(actual, wanted):
        raise NotFound(
            f"image with reference {remote.reference.familiar} was found but does not match the specified platform",
            f"wanted {platform_name(wanted)}, actual: {platform_name(actual)}",
        )
