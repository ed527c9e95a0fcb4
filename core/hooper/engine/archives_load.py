"""Load and import: images from archives. What an archive holds becomes visible only when all of an image is there."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import msgspec

from hooper.api.driver import Workers
from hooper.api.engine import ProgressSink
from hooper.api.errors import InvalidArgument, NotFound
from hooper.api.layout import INDEX, TAG_NAME, WHOLE_NAME, blob_path
from hooper.api.manifests import (
    DOCKER_LAYER,
    NO_JSON,
    OCI_CONFIG,
    OCI_LAYER_TAR,
    ImageManifest,
    Index,
    check_image,
    decode_image,
    digest_of,
    fits,
    parse_manifest,
    parse_platform,
)
from hooper.api.reference import Reference, is_digest
from hooper.api.registry import Descriptor, Manifest, Platform
from hooper.content.compression import kind_of
from hooper.engine import distribution_progress as tell
from hooper.engine.image_store import ImageStore
from hooper.engine.layers import Layer, LayerStore, Lease, chain_ids
from hooper.engine.packing import Packer

_PLAIN_TAR_MAGIC = b"ustar"
_COMPRESSED = {"gzip": DOCKER_LAYER, "zstd": f"{OCI_LAYER_TAR}+zstd"}


class Spool:
    """The files of an archive, taken apart in a private directory."""

    def __init__(self, directory: Path, files: dict[str, int], links: dict[str, str]) -> None:
        self._directory, self._files, self._links = directory, files, links

    def path(self, name: str) -> Path:
        """Where the file of that name is; links are followed. InvalidArgument if there is none."""
        wanted, hops = os.path.normpath(name), 0
        while wanted in self._links and hops < 8:
            wanted, hops = self._links[wanted], hops + 1
        if wanted not in self._files:
            raise InvalidArgument("cannot load the archive", f"it has no {name}", "Give it a tar made by save.")
        return self._directory / str(self._files[wanted])

    def __contains__(self, name: str) -> bool:
        return name in self._files or name in self._links

    def read(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def json(self, name: str, kind: Any) -> Any:
        try:
            return msgspec.json.decode(self.read(name), type=kind)
        except NO_JSON as error:
            raise InvalidArgument("cannot load the archive", f"{name} is damaged: {error}") from error

    def layer(self, name: str) -> Callable[[], AbstractContextManager[int]]:
        """A `source` for `LayerStore.unpack`."""

        @contextmanager
        def source() -> Iterator[int]:
            with self.path(name).open("rb", buffering=0) as file:
                yield file.fileno()

        return source


class Layout(Spool):
    """The files of an OCI image layout (image-layout.md) in a directory that nothing else changes."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, {}, {})
        self._names = {
            os.path.relpath(os.path.join(place, name), directory)
            for place, _, names in os.walk(directory)
            for name in names
            if stat.S_ISREG(os.lstat(os.path.join(place, name)).st_mode)
        }

    def path(self, name: str) -> Path:
        """See Spool."""
        wanted = os.path.normpath(name)
        if wanted not in self._names:
            raise InvalidArgument("cannot read the image layout", f"it has no {name}", "Give an OCI layout directory.")
        return self._directory / wanted

    def __contains__(self, name: str) -> bool:
        return os.path.normpath(name) in self._names


class ArchivedImage(NamedTuple):
    config: bytes
    layers: list[str]
    """Names of files in the archive."""
    tags: list[Reference]
    blobs: list[Descriptor] | None = None
    """Of the layers, if the archive has them in the form that a registry has."""


class Entry(msgspec.Struct, rename="pascal"):
    """Of manifest.json, as `docker save` writes it."""

    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


class Loader:
    def __init__(self, images: ImageStore, layers: LayerStore, packer: Packer, workers: Workers, scratch: Path) -> None:
        self._images, self._layers, self._packer = images, layers, packer
        self._workers, self._scratch = workers, scratch

    async def load(self, archive: int, sink: ProgressSink, platform: str = "") -> list[tuple[str, list[Reference]]]:
        """Ids and tags of what was loaded, image by image; with a platform those for it, NotFound if there are none."""
        async with self.spooled(archive) as spool:
            found = _images_of(spool)
            return await self._loaded(spool, _for_platform(found, platform) if platform else found, sink)

    async def load_layout(self, directory: Path, sink: ProgressSink) -> list[tuple[str, list[Reference]]]:
        """As `load`, of an OCI image layout in a directory; its images get no tags."""
        layout = await anyio.to_thread.run_sync(Layout, directory)
        return await self._loaded(layout, [image._replace(tags=[]) for image in _images_of(layout)], sink)

    async def _loaded(
        self, spool: Spool, images: Sequence[ArchivedImage], sink: ProgressSink
    ) -> list[tuple[str, list[Reference]]]:
        loaded = []
        for found in images:
            with self._layers.lease() as lease:
                loaded.append((await self._take(spool, found, sink, lease), found.tags))
        return loaded

    @asynccontextmanager
    async def spooled(self, archive: int) -> AsyncIterator[Spool]:
        """The files of a tar, until the end."""
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch) as directory:
            found = await self._workers.run("hooper.engine.layer_work:spool", {"directory": directory}, [archive])
            yield Spool(Path(directory), found["files"], found["links"])

    async def _take(self, spool: Spool, found: ArchivedImage, sink: ProgressSink, lease: Lease) -> str:
        image_id = digest_of(found.config)
        image = decode_image(found.config, image_id)
        diff_ids = image.rootfs.diff_ids
        if len(diff_ids) != len(found.layers):
            raise InvalidArgument("cannot load the archive", "an image's configuration does not fit its layers")
        lease.add("blob", image_id)
        chains = chain_ids(diff_ids)
        size = 0
        for index, (chain, diff_id, name) in enumerate(zip(chains, diff_ids, found.layers, strict=True)):
            lease.add("layer", chain)
            if self._layers.get(chain) is None:
                async with tell.extracting(sink, tell.short(diff_id)) as watch:
                    parent = chains[index - 1] if index else ""
                    await self._layers.unpack(diff_id, parent, spool.layer(name), watch)
                await self._keep(spool, name, diff_id, found.blobs[index] if found.blobs else None)
            layer = self._layers.get(chain)
            size += layer.size if layer else 0
        await self._layers.put(found.config, OCI_CONFIG)
        with self._images.database.transaction():
            self._images.add(image_id, image, chains[-1] if chains else "", size)
            for tag in found.tags:
                self._images.tag(tag, image_id)
        return image_id

    async def _keep(self, spool: Spool, name: str, diff_id: str, blob: Descriptor | None) -> None:
        """Keeps the layer as it came too: an archive made elsewhere cannot be written again from the snapshot."""
        if self._layers.blobs(diff_id):
            return
        with spool.layer(name)() as source:
            blob = blob or _named_by_digest(name, source)
            if blob is not None and blob.digest != diff_id:
                await self._packer.store(source, blob.digest, blob.size)
                self._layers.add_blob(blob.digest, blob.media_type, blob.size, diff_id)
            elif _is_tar(source):
                await self._packer.keep(source, diff_id)

    async def import_layer(self, archive: int, lease: Lease) -> Layer:
        """A layer of the files that a tar holds, on nothing."""
        key = f"import-{os.urandom(8).hex()}"
        try:
            await self._layers.storage.prepare(key)
            await self._layers.storage.apply(key, archive)
            return await self._layers.adopt(key, "", lease)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._layers.discard(key)
            raise


def _named_by_digest(name: str, layer: int) -> Descriptor | None:
    """What manifest.json does not say of a compressed layer in an archive that is an OCI layout, too."""
    algorithm, _, hexadecimal = name.removeprefix("blobs/").partition("/")
    digest, kind = f"{algorithm}:{hexadecimal}", kind_of(os.pread(layer, 6, 0))
    if kind not in _COMPRESSED or name != blob_path(digest) or not is_digest(digest):
        return None
    return Descriptor(_COMPRESSED[kind], digest, os.fstat(layer).st_size)


def _is_tar(descriptor: int) -> bool:
    return os.pread(descriptor, 5, 257) == _PLAIN_TAR_MAGIC


def _images_of(spool: Spool) -> list[ArchivedImage]:
    """By manifest.json if it is there, else by index.json of the OCI layout."""
    if "manifest.json" in spool:
        entries: list[Entry] = spool.json("manifest.json", list[Entry])
        return [
            ArchivedImage(spool.read(entry.config), entry.layers, [_tag(text) for text in entry.repo_tags or ()])
            for entry in entries
        ]
    if INDEX not in spool:
        raise InvalidArgument(
            "cannot load the archive", "it has neither manifest.json nor index.json", "For a file system use import."
        )
    index: Index = spool.json(INDEX, Index)
    found: dict[str, ArchivedImage] = {}
    for entry in index.manifests:
        for image in _described(spool, entry, _names(entry)):
            known = found.setdefault(digest_of(image.config), image)
            known.tags.extend(tag for tag in image.tags if tag not in known.tags)
    return list(found.values())


def _described(spool: Spool, entry: Descriptor, tags: list[Reference]) -> list[ArchivedImage]:
    """The images of a manifest, or of all manifests of an index that are there."""
    content = spool.read(blob_path(entry.digest))
    if digest_of(content) != entry.digest:
        raise InvalidArgument("cannot load the archive", f"blob {entry.digest} is damaged")
    parsed = parse_manifest(Manifest(entry, content), entry.digest)
    if isinstance(parsed, Index):
        present = [child for child in parsed.manifests if blob_path(child.digest) in spool and _is_image(child)]
        return [image for child in present for image in _described(spool, child, tags)]
    assert isinstance(parsed, ImageManifest)
    check_image(parsed, entry.digest)
    names = [blob_path(layer.digest) for layer in parsed.layers]
    return [ArchivedImage(spool.read(blob_path(parsed.config.digest)), names, list(tags), parsed.layers)]


def _for_platform(images: Sequence[ArchivedImage], platform: str) -> Sequence[ArchivedImage]:
    wanted, found = parse_platform(platform), []
    for image in images:
        what = decode_image(image.config, "an image of the archive")
        if fits(Platform(os=what.os, architecture=what.architecture, variant=what.variant), wanted):
            found.append(image)
    if not found:
        raise NotFound(f"the archive has no image for the platform {platform}", remedy="Load it without --platform.")
    return found


def _is_image(entry: Descriptor) -> bool:
    return entry.platform is None or entry.platform.os != "unknown"


def _names(entry: Descriptor) -> list[Reference]:
    """Docker and containerd write the whole reference in the first annotation; others the tag or all in the second."""
    for key in (WHOLE_NAME, TAG_NAME):
        text = (entry.annotations or {}).get(key, "")
        if ":" in text or "/" in text:
            return [_tag(text)]
    return []


def _tag(text: str) -> Reference:
    reference = Reference.parse(text)
    return Reference(reference.host, reference.path, reference.tag or "latest")
