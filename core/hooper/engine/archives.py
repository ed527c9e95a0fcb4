"""Save: images as one tar that is an OCI layout and what `docker load` of any age reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import anyio.to_thread
import msgspec

from hooper.api.errors import DataLoss
from hooper.api.layout import INDEX, MARK, MARK_CONTENT, TAG_NAME, WHOLE_NAME, blob_path
from hooper.api.manifests import (
    DOCKER_LAYER,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_TAR,
    OCI_MANIFEST,
    ImageManifest,
    Index,
    digest_of,
    make_manifest,
)
from hooper.api.model import Image
from hooper.api.reference import Reference
from hooper.api.registry import Descriptor, Platform
from hooper.content.hashing import BackgroundHash
from hooper.engine.distribution_push import layer_type
from hooper.engine.image_store import ImageStore
from hooper.engine.layers import Layer, LayerBlob, LayerStore
from hooper.engine.packing import Packer

_BLOCK = 512
_CHUNK = 1 << 20
_END = bytes(2 * _BLOCK)
_OF_ANY_AGE = (DOCKER_LAYER, f"{OCI_LAYER_TAR}+gzip", OCI_LAYER_TAR)
"""What `docker load` of any age unpacks: zstd is newer."""


class Form(Enum):
    """How layers are written."""

    KEPT = "kept"
    """As they were pulled or pushed, which costs nothing; a layer that was neither is plain."""
    PLAIN = "plain"
    GZIP = "gzip"


class Content(NamedTuple):
    """What of one image is written."""

    image: Image
    config: bytes
    layers: Sequence[Layer]
    references: Sequence[Reference] = ()
    annotations: dict[str, str] | None = None


class Saver:
    def __init__(self, images: ImageStore, layers: LayerStore, packer: Packer) -> None:
        self._images, self._layers, self._packer = images, layers, packer

    async def save(self, names: Sequence[str], output: int, platform: str = "") -> Sequence[str]:
        """Each name is a reference, a repository (all its tags) or an id. NotFound before anything is written;
        with a platform also if it is not there for that.

        The ids of the images in it.
        """
        wanted = {
            self._images.for_platform(one, platform, found[0].familiar if found else ""): found
            for one, found in self._wanted(names).items()
        }
        with self._layers.lease() as lease:
            for image_id in wanted:
                lease.add("blob", image_id)
                lease.add("layer", self._images.summary(image_id).chain)
            await self.write((self._stored(*each) for each in wanted.items()), output, form=Form.KEPT)
        return list(wanted)

    async def write(
        self, contents: Iterable[Content], output: int, *, docker: bool = True, form: Form = Form.PLAIN
    ) -> str:
        """Writes images, stored or not, whose layers the caller keeps; the digest of the last manifest.

        `docker`: also what `docker load` of any age reads.
        """
        archive = Archive(output)
        entries: list[dict[str, Any]] = []
        manifests: list[Descriptor] = []
        for content in contents:
            entry, descriptors = await self._image(archive, content, form)
            entries.append(entry)
            manifests += descriptors
        index = make_manifest(Index(schema_version=2, media_type=OCI_INDEX, manifests=manifests))
        await archive.file(INDEX, index.content)
        if docker:
            await archive.file("manifest.json", msgspec.json.encode(entries))
        await archive.file(MARK, MARK_CONTENT)
        await archive.end_archive()
        return manifests[-1].digest if manifests else ""

    def _stored(self, image_id: str, references: list[Reference]) -> Content:
        summary = self._images.summary(image_id)
        config = self._images.config(image_id)
        return Content(summary.image, config, self._layers.ancestry(summary.chain), references)

    def _wanted(self, names: Sequence[str]) -> dict[str, list[Reference]]:
        wanted: dict[str, list[Reference]] = {}
        for name in names:
            for image_id, reference in self._named(name):
                references = wanted.setdefault(image_id, [])
                if reference and not reference.digest and reference not in references:
                    references.append(reference)
        return wanted

    def _named(self, name: str) -> list[tuple[str, Reference | None]]:
        found = self._images.resolve(name) if _is_id(name) else None
        if found is None:
            reference = Reference.parse(name)
            if not reference.tag and not reference.digest and (tagged := self._images.tagged(reference.name)):
                return [(image_id, tag) for tag, image_id in tagged]
        return [found or self._images.resolve(name)]

    async def _image(self, archive: Archive, content: Content, form: Form) -> tuple[dict[str, Any], list[Descriptor]]:
        """Writes one image's blobs; its part of manifest.json and of index.json."""
        blobs = [await self._layer(archive, layer, form) for layer in content.layers]
        image_id, image = digest_of(content.config), content.image
        await archive.file(blob_path(image_id), content.config)
        manifest = make_manifest(
            ImageManifest(
                schema_version=2,
                media_type=OCI_MANIFEST,
                config=Descriptor(OCI_CONFIG, image_id, len(content.config)),
                layers=blobs,
                annotations=content.annotations or None,
            )
        )
        await archive.file(blob_path(manifest.descriptor.digest), manifest.content)
        entry = {
            "Config": blob_path(image_id),
            "RepoTags": [reference.familiar for reference in content.references] or None,
            "Layers": [blob_path(blob.digest) for blob in blobs],
        }
        notes = [_annotations(reference) for reference in content.references]
        platform = Platform(os=image.os, architecture=image.architecture, variant=image.variant)
        found = manifest.descriptor
        return entry, [
            Descriptor(found.media_type, found.digest, found.size, annotations=note, platform=platform)
            for note in notes or (None,)
        ]

    async def _layer(self, archive: Archive, layer: Layer, form: Form) -> Descriptor:
        if blob := await self._packed(layer, form):
            await archive.blob(blob.digest, self._packer.path(blob.digest))
            return Descriptor(layer_type(blob.media_type, docker=False), blob.digest, blob.size)
        if await archive.begin(blob_path(layer.diff_id), layer.size):
            await self._packer.write_tar(layer, archive.output)
            await archive.end(layer.size)
        return Descriptor(OCI_LAYER_TAR, layer.diff_id, layer.size)

    async def _packed(self, layer: Layer, form: Form) -> LayerBlob | None:
        """The blob to write, or None for a plain tar."""
        if form is Form.GZIP:
            return await self._packer.blob(layer)
        kept = self._layers.blobs(layer.diff_id) if form is Form.KEPT else ()
        return next((blob for blob in kept if blob.media_type in _OF_ANY_AGE), None)


class Archive:
    """A tar that is written to a descriptor as it comes. A name that is there already is left out."""

    def __init__(self, output: int) -> None:
        self.output = output
        self._names: set[str] = set()

    async def write(self, data: bytes) -> None:
        await anyio.to_thread.run_sync(_write_all, self.output, data)

    async def begin(self, name: str, size: int) -> bool:
        """Writes the header of a file whose `size` bytes follow; False if the file is there."""
        if name in self._names:
            return False
        self._names.add(name)
        await self.write(_header(name, size))
        return True

    async def end(self, size: int) -> None:
        await self.write(bytes(-size % _BLOCK))

    async def file(self, name: str, content: bytes) -> None:
        if await self.begin(name, len(content)):
            await self.write(content)
            await self.end(len(content))

    async def blob(self, digest: str, path: Path) -> None:
        """A file of the content store. DataLoss if it is damaged: an archive is what one falls back upon."""
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if await self.begin(blob_path(digest), size):
                found = await anyio.to_thread.run_sync(_copy, file.fileno(), self.output, size)
                if found != digest:
                    raise DataLoss(f"blob {digest} is damaged", f"it has the digest {found}", "Pull the image again.")
                await self.end(size)

    async def end_archive(self) -> None:
        await self.write(_END)


def _header(name: str, size: int) -> bytes:
    import tarfile

    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT if size < 8**11 else tarfile.GNU_FORMAT)


def _write_all(output: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(output, view) :]
    except OSError as error:
        raise DataLoss("the archive was not written to its end", error.strerror or "") from error


def _copy(source: int, output: int, size: int) -> str:
    """Copies so many bytes; their digest."""
    copied = BackgroundHash()
    try:
        while copied.size < size:
            data = os.pread(source, min(size - copied.size, _CHUNK), copied.size)
            if not data:
                raise DataLoss("the archive was not written to its end", "a blob was cut off meanwhile")
            copied.update(data)
            _write_all(output, data)
    finally:
        digest = copied.finish()
    return digest


def _is_id(name: str) -> bool:
    bare = name.removeprefix("sha256:")
    return name != bare or (len(bare) == 64 and all(digit in "0123456789abcdef" for digit in bare))


def _annotations(reference: Reference) -> dict[str, str]:
    return {WHOLE_NAME: str(reference), TAG_NAME: reference.tag}
