"""Images between registries and layouts: the use cases."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from hooper.api.engine import ProgressSink
from hooper.api.errors import InvalidArgument
from hooper.api.image_places import AuthBy, Difference, ImagePlaces, ListEntry
from hooper.api.layout import DIRECTORY, OCI_ARCHIVE, STREAM, Layout
from hooper.api.manifests import (
    DOCKER_INDEX,
    OCI_INDEX,
    ImageManifest,
    Index,
    make_manifest,
    parse_manifest,
    parse_platform,
)
from hooper.api.reference import Reference, is_digest
from hooper.api.registry import Credentials, Descriptor, Manifest, RegistryClient, RegistryDriver
from hooper.engine import distribution_progress as tell
from hooper.engine.image_copy import Copier, Origin, Side, Stored
from hooper.engine.images import remote_platform

if TYPE_CHECKING:
    from hooper.engine.images import ImageService

_CHUNK = 1 << 20


async def _quiet(message: dict[str, object]) -> None:
    """Nobody waits for progress."""


class PlaceService(ImagePlaces):
    def __init__(self, images: ImageService) -> None:
        self._images = images

    async def pull(
        self,
        source: str,
        progress: ProgressSink,
        *,
        archive: int = -1,
        name: str = "",
        file: str = "",
        platform: str = "",
    ) -> str:
        layout = _layout(source)
        async with self._sent(layout, archive) as sent, self._connected(sent) as client:
            top = await client.resolve("", sent.reference)
            named = Reference.parse(
                name or await self._called(client, sent.reference, file or layout.path)
            ).with_default_tag()
            image_id = await self._images.puller.take(client, named, top, progress, platform)
        self._images.tell("pull", image_id, named.familiar)
        return image_id

    async def _called(self, client: RegistryClient, reference: str, file: str) -> str:
        """The whole name that the image has in its layout, or one made of the file's name and the tag."""
        tags = await client.tags("")
        if not reference and len(tags) == 1:
            reference = tags[0]
        whole = [tag for tag in tags if reference and tag.endswith(f":{reference}")]
        if len(whole) == 1:
            return whole[0]
        if "/" in reference or (":" in reference and not is_digest(reference)):
            return reference
        base = re.sub(r"[^a-z0-9]+", "-", _stem(file).lower()).strip("-")
        if not base:
            raise InvalidArgument(
                f"cannot name the image of {file}", "its path gives no name", "Say its name: --name NAME:TAG."
            )
        return f"{base}:{reference}" if reference and not is_digest(reference) else base

    async def push(self, name: str, target: str, progress: ProgressSink, *, output: int = -1) -> None:
        image_id, reference = self._images.store.resolve(name)
        layout, layers, content = _layout(target), self._images.layers, self._images.layers.content
        with layers.lease() as lease:
            lease.add("blob", image_id)
            lease.add("layer", self._images.store.summary(image_id).chain)
            origin = Origin(Stored(content, await self._images.pusher.manifest(image_id)), "", "", "")
            async with self._given(layout, output) as given, self._connected(given) as client:
                await tell.say(progress, f"The push refers to {layout}")
                wanted = given.reference or (reference.familiar if reference and not reference.digest else "")
                end = Side(client, given.host, "", wanted)
                made = await Copier(origin, end, progress, oci=True).copy(None, name)
        await tell.say(progress, f"digest: {made.descriptor.digest} size: {len(made.content)}")
        self._images.tell("push", image_id, str(layout))

    async def copy(
        self,
        source: str,
        target: str,
        progress: ProgressSink,
        *,
        every: bool = False,
        preserve: bool = False,
        platform: str = "",
        credentials: AuthBy | None = None,
        archive: int = -1,
        output: int = -1,
    ) -> str:
        async with AsyncExitStack() as stack:
            given = await stack.enter_async_context(self._side(source, credentials, archive, sent=True))
            wanted = await stack.enter_async_context(self._side(target, credentials, output, sent=False))
            converted = Layout.parse(target) is not None and not preserve
            copier = Copier(given, wanted, progress, oci=converted)
            manifest = await copier.copy(None if every else parse_platform(platform), source)
        digest = manifest.descriptor.digest
        await tell.say(progress, f"Digest: {digest}")
        return digest

    async def manifest(self, reference: str, credentials: AuthBy | None = None) -> Manifest:
        async with self._side(reference, credentials, -1, sent=True) as side:
            return await side.client.resolve(side.repository, side.reference)

    async def push_list(
        self, target: str, entries: Sequence[ListEntry], credentials: AuthBy | None = None, *, oci: bool = False
    ) -> str:
        if not entries:
            raise InvalidArgument(f"cannot push the manifest list {target}", "it has no manifests")
        found: list[Descriptor] = []
        async with self._side(target, credentials, -1, sent=False) as end:
            for entry in entries:
                found.append(await self._list_entry(entry, end, credentials))
            kind = OCI_INDEX if oci else DOCKER_INDEX
            index = make_manifest(Index(schema_version=2, media_type=kind, manifests=found))
            await end.client.push_manifest(end.repository, end.reference, index)
        return index.descriptor.digest

    async def _list_entry(self, entry: ListEntry, end: Side, credentials: AuthBy | None) -> Descriptor:
        async with self._side(entry.ref, credentials, -1, sent=True) as side:
            manifest = await side.client.resolve(side.repository, side.reference)
            parsed = parse_manifest(manifest, entry.ref)
            if not isinstance(parsed, ImageManifest):
                raise InvalidArgument(f"{entry.ref} is a manifest list", "a list has images", "Name its images.")
            if (side.host, side.repository) != (end.host, end.repository):
                brought = await Copier(side, end, _quiet).bring(manifest, entry.ref)
                await end.client.push_manifest(end.repository, manifest.descriptor.digest, brought)
            platform = entry.platform or await remote_platform(side.client, side.repository, parsed.config, entry.ref)
        return Descriptor(parsed.media_type, *_shape(manifest), platform=platform)

    def temporary(self) -> AbstractContextManager[int]:
        return self._images.packer.temporary()

    async def diff(self, first: str, second: str) -> Difference:
        from hooper.engine.image_diff import difference

        return await difference(self._images, first, second)

    # --- places ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _connected(self, layout: Layout) -> AsyncIterator[RegistryClient]:
        driver = await self._images.registry_for(layout.host)
        async with driver.connect(layout.host, None) as client:
            yield client

    @asynccontextmanager
    async def _side(self, text: str, credentials: AuthBy | None, descriptor: int, *, sent: bool) -> AsyncIterator[Side]:
        layout = Layout.parse(text)
        if layout is not None:
            carried = self._sent(layout, descriptor) if sent else self._given(layout, descriptor)
            async with carried as here, self._connected(here) as client:
                yield Side(client, here.host, "", here.reference)
            return
        found = Reference.parse(text).with_default_tag()
        driver: RegistryDriver = await self._images.registry_for(found.host)
        async with driver.connect(found.host, _credentials(credentials, found.host)) as client:
            yield Side(client, found.host, found.path, found.digest or found.tag)

    @asynccontextmanager
    async def _sent(self, layout: Layout, archive: int) -> AsyncIterator[Layout]:
        """The layout, which if it comes with a request is kept in a file as long."""
        if layout.path != STREAM:
            yield layout
            return
        async with self._scratch(layout) as (file, here):
            await anyio.to_thread.run_sync(_pour, archive, file)
            yield here

    @asynccontextmanager
    async def _given(self, layout: Layout, output: int) -> AsyncIterator[Layout]:
        """The layout, which if a request asks for it is sent at the end."""
        if layout.path != STREAM:
            yield layout
            return
        async with self._scratch(layout) as (file, here):
            yield here
            source = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                await anyio.to_thread.run_sync(_pour_on, source, output)
            finally:
                os.close(source)

    @asynccontextmanager
    async def _scratch(self, layout: Layout) -> AsyncIterator[tuple[Path, Layout]]:
        if layout.scheme == DIRECTORY:
            raise InvalidArgument(f"cannot use {layout}", "a directory is no stream", f"Write {OCI_ARCHIVE}:-.")
        driver = await self._images.registry_for(f"{layout.scheme}:/")
        with tempfile.TemporaryDirectory(dir=driver.context.data_dir, prefix="stream-") as directory:
            file = Path(directory) / "archive.tar"
            yield file, Layout(layout.scheme, str(file), layout.reference)


def _layout(text: str) -> Layout:
    found = Layout.parse(text)
    if found is None:
        raise InvalidArgument(f"{text} is no layout", remedy="Write oci:PATH:TAG, oci-archive: or docker-archive:.")
    return found


def _stem(path: str) -> str:
    """The last part of a path, without what a tar's name ends in."""
    name = os.path.basename(path.rstrip("/"))
    return re.sub(r"(\.oci|\.docker)?(\.tar(\.\w+)?|\.tgz)?$", "", name)


def _credentials(known: AuthBy | None, host: str) -> Credentials | None:
    return known.get(host) if known else None


def _shape(manifest: Manifest) -> tuple[str, int]:
    return manifest.descriptor.digest, len(manifest.content)


def _pour(source: int, file: Path) -> None:
    """Writes all that comes from a descriptor to a new file."""
    with file.open("xb", buffering=0) as target:
        _pour_on(source, target.fileno())


def _pour_on(source: int, output: int) -> None:
    """Writes all that is left to read on to another descriptor. BrokenPipeError if nobody reads."""
    while chunk := os.read(source, _CHUNK):
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(output, rest) :]
