"""Save: images as one tar that is an OCI layout and what `docker load` of any age reads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import anyio.to_thread
import msgspec

from hooper.api.errors import DataLoss
from hooper.api.manifests import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_TAR,
    OCI_MANIFEST,
    ImageManifest,
    Index,
    make_manifest,
)
from hooper.api.reference import Reference
from hooper.api.registry import Descriptor, Platform
from hooper.engine.image_store import ImageStore
from hooper.engine.layers import Layer, LayerStore
from hooper.engine.packing import Packer

_BLOCK = 512
_END = bytes(2 * _BLOCK)


class Saver:
    def __init__(self, images: ImageStore, layers: LayerStore, packer: Packer) -> None:
        self._images, self._layers, self._packer = images, layers, packer

    async def save(self, names: Sequence[str], output: int) -> Sequence[str]:
        """Each name is a reference, a repository (all its tags) or an id. NotFound before anything is written.

        The ids of the images in it.
        """
        wanted = self._wanted(names)
        with self._layers.lease() as lease:
            for image_id in wanted:
                lease.add("blob", image_id)
                lease.add("layer", self._images.summary(image_id).chain)
            archive = _Archive(output)
            entries, manifests = [], []
            for image_id, references in wanted.items():
                entry, descriptors = await self._image(archive, image_id, references)
                entries.append(entry)
                manifests += descriptors
            index = make_manifest(Index(schema_version=2, media_type=OCI_INDEX, manifests=manifests))
            await archive.file("index.json", index.content)
            await archive.file("manifest.json", msgspec.json.encode(entries))
            await archive.file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            await archive.write(_END)
        return list(wanted)

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

    async def _image(
        self, archive: _Archive, image_id: str, references: list[Reference]
    ) -> tuple[dict[str, Any], list[Descriptor]]:
        """Writes one image's blobs; its part of manifest.json and of index.json."""
        summary = self._images.summary(image_id)
        layers = self._layers.ancestry(summary.chain)
        for layer in layers:
            await self._layer(archive, layer)
        config = self._images.config(image_id)
        await archive.file(_path(image_id), config)
        manifest = make_manifest(
            ImageManifest(
                schema_version=2,
                media_type=OCI_MANIFEST,
                config=Descriptor(OCI_CONFIG, image_id, len(config)),
                layers=[Descriptor(OCI_LAYER_TAR, layer.diff_id, layer.size) for layer in layers],
            )
        )
        await archive.file(_path(manifest.descriptor.digest), manifest.content)
        entry = {
            "Config": _path(image_id),
            "RepoTags": [reference.familiar for reference in references] or None,
            "Layers": [_path(layer.diff_id) for layer in layers],
        }
        notes = [_annotations(reference) for reference in references]
        platform = Platform(os=summary.image.os, architecture=summary.image.architecture, variant=summary.image.variant)
        found = manifest.descriptor
        return entry, [
            Descriptor(found.media_type, found.digest, found.size, annotations=note, platform=platform)
            for note in notes or (None,)
        ]

    async def _layer(self, archive: _Archive, layer: Layer) -> None:
        if await archive.begin(_path(layer.diff_id), layer.size):
            await self._packer.write_tar(layer, archive.output)
            await archive.end(layer.size)


class _Archive:
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


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _is_id(name: str) -> bool:
    bare = name.removeprefix("sha256:")
    return name != bare or (len(bare) == 64 and all(digit in "0123456789abcdef" for digit in bare))


def _annotations(reference: Reference) -> dict[str, str]:
    return {"io.containerd.image.name": str(reference), "org.opencontainers.image.ref.name": reference.tag}
