"""Finished steps that are elsewhere: --cache-from and --cache-to.

Sources are looked into when a step is wanted that is not here, one after the other: a build that finds all in its own
cache asks nobody. What a source says of a step is taken as it is, as from any builder; the layers are verified.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from hooper.api.build_events import Noted, Pulling
from hooper.api.build_graph import Node
from hooper.api.build_session import BuildSession
from hooper.api.builder import CacheSpec, Progress
from hooper.api.errors import DataLoss, HooperError, InvalidArgument, NotFound
from hooper.api.layout import INDEX, MARK, MARK_CONTENT, blob_path
from hooper.api.manifests import OCI_INDEX, OCI_MANIFEST, ImageManifest, Index, decode_image, digest_of, make_manifest
from hooper.api.model import Image
from hooper.api.reference import Reference
from hooper.api.registry import Credentials, Descriptor, Manifest
from hooper.engine.archives import Archive
from hooper.engine.build_cache_formats import (
    DOCUMENT,
    MODES,
    Entry,
    Record,
    chains_of,
    read_document,
    read_inline,
    selected,
    write_document,
)
from hooper.engine.build_cache_plain import Lineage, taken
from hooper.engine.build_export import client_stream
from hooper.engine.build_image import Made
from hooper.engine.build_layers import BuildLayers
from hooper.engine.distribution_push import layer_type
from hooper.engine.layers import Layer, Lease, chain_ids, open_blob

if TYPE_CHECKING:
    from hooper.engine.archives_load import Spool
    from hooper.engine.images import ImageService

_FROM = {"registry": ("ref", "mode"), "local": ("src", "mode")}
_TO = {"registry": ("ref", "mode", "ignore-error"), "local": ("dest", "mode", "ignore-error"), "inline": ("mode",)}
"""Attributes by type. `ref` must be there; `src` and `dest` concern the client alone. Where `mode` decides nothing it
may stand, as many write one text for both options."""
_ALWAYS = {"oci-mediatypes": ("true",), "image-manifest": ("true",), "compression": ("gzip",), "force-compression": ()}
"""Of BuildKit's attributes of a target those that say how it is written, with the values that hold here; () are any."""


def check_caches(sources: Sequence[CacheSpec], targets: Sequence[CacheSpec]) -> None:
    """InvalidArgument for what cannot be: call it before any work is done."""
    for option, specs, known in (("--cache-from", sources, _FROM), ("--cache-to", targets, _TO)):
        for spec in specs:
            if spec.type not in known:
                raise InvalidArgument(
                    f'{option} has no type "{spec.type}"', remedy=f"There are: {', '.join(sorted(known))}."
                )
            _check_attributes(option, spec, known[spec.type])
            if spec.type == "registry":
                if not spec.attrs.get("ref"):
                    raise InvalidArgument(f"{option} type=registry lacks ref=", remedy="Write type=registry,ref=NAME.")
                Reference.parse(spec.attrs["ref"])
            if spec.attrs.get("mode", "min") not in MODES:
                raise InvalidArgument(f"{option} has no mode={spec.attrs['mode']}", remedy="There are: min, max.")


def _check_attributes(option: str, spec: CacheSpec, known: Sequence[str]) -> None:
    for name, value in spec.attrs.items():
        if name in known:
            continue
        if name not in _ALWAYS or option == "--cache-from":
            raise InvalidArgument(
                f'{option} type={spec.type} has no attribute "{name}"', remedy=f"There are: {', '.join(known)}."
            )
        if _ALWAYS[name] and value not in _ALWAYS[name]:
            raise InvalidArgument(
                f"{option} type={spec.type} cannot have {name}={value}",
                "a cache is an OCI image with gzip layers",
                f"Leave it out, or write {name}={_ALWAYS[name][0]}.",
            )


def _shown(spec: CacheSpec) -> str:
    place = spec.attrs.get("ref") or spec.attrs.get("src") or spec.attrs.get("dest") or ""
    return f"{spec.type} {place}".strip()


class _Content(NamedTuple):
    """What a source has: steps, or an image that says nothing of its steps, with its blobs if it is not stored."""

    entries: Mapping[str, Entry]
    image: Image | None = None
    blobs: Sequence[Descriptor] = ()


class _Source:
    """One place that may have steps. `load` is called once, by the first step that wants something of it."""

    def __init__(self, shown: str, load: Callable[[], Awaitable[_Content]]) -> None:
        self.shown, self._load = shown, load
        self._content: _Content | None = None
        self._lock = anyio.Lock()
        self.reference: Reference | None = None
        """Where a registry has the blobs; None if they are here."""
        self.complained = False

    async def entry(self, key: str, texts: Sequence[str], base: Made | None) -> Entry | None:
        async with self._lock:
            if self._content is None:
                self._content = _Content({})  # also if it fails: it is not asked again
                self._content = await self._load()
        entries, image, blobs = self._content
        if image is None or base is None:
            return entries.get(key)
        return taken(image, blobs, texts, base)


class RemoteCache:
    """One a build."""

    def __init__(
        self,
        images: ImageService,
        layers: BuildLayers,
        session: BuildSession,
        credentials: Mapping[str, Credentials],
        progress: Progress,
    ) -> None:
        self._images, self._layers, self._session = images, layers, session
        self._credentials, self._progress = credentials, progress
        self._sources: list[_Source] = []
        self._lineage: Lineage = {}

    # --- reading --------------------------------------------------------------------------------------

    async def load(self, specs: Sequence[CacheSpec], lineage: Lineage | None = None) -> None:
        """Makes the sources known. InvalidArgument for one that cannot be.

        `lineage` lets commands be found in images that say nothing of their steps.
        """
        check_caches(specs, ())
        self._lineage = lineage or {}
        for index, spec in enumerate(specs):
            self._sources += [self._local(spec, index)] if spec.type == "local" else self._named(spec)

    def _named(self, spec: CacheSpec) -> list[_Source]:
        """An image that is here, and what a registry has under the name."""
        reference = Reference.parse(spec.attrs["ref"]).with_default_tag()
        image_id = self._images.store.lookup(reference)
        sources = []
        if image_id is not None:
            image = self._images.store.summary(image_id).image

            async def stored() -> _Content:
                return _of_image(image, (), reference)

            sources.append(_Source(reference.familiar, stored))
            if image.build_cache is None:
                return sources  # an image that somebody pulled for its layers alone
        remote = _Source(_shown(spec), lambda: self._from_registry(reference))
        remote.reference = reference
        return [*sources, remote]

    def _local(self, spec: CacheSpec, index: int) -> _Source:
        return _Source(_shown(spec), lambda: self._from_client(index, _shown(spec)))

    async def _from_registry(self, reference: Reference) -> _Content:
        puller = self._images.puller
        async with puller.connected(reference, self._credentials.get(reference.host)) as client:
            manifest, config = await puller.look(client, reference)
        if manifest.config.media_type == DOCUMENT:
            return _Content(read_document(config, reference.familiar))
        return _of_image(decode_image(config, reference.familiar), manifest.layers, reference)

    async def _from_client(self, index: int, shown: str) -> _Content:
        """Takes over the blobs of the layers that are not here: the archive is gone afterwards."""
        connection = await self._session.open("cache-in", str(index))
        with connection:
            connection.setblocking(True)
            async with self._images.loader.spooled(connection.fileno()) as spool:
                entries = read_document(_document(spool), shown)
                wanted = {
                    chain: blob
                    for entry in entries.values()
                    for chain, blob in zip(chain_ids(entry.made.diff_ids), entry.blobs, strict=True)
                }
                for chain, blob in wanted.items():
                    if self._images.layers.get(chain) is None and blob_path(blob.digest) in spool:
                        await self._take(spool, blob)
        return _Content(entries)

    async def _take(self, spool: Spool, blob: Descriptor) -> None:
        self._layers.hold_blob(blob.digest)
        with spool.path(blob_path(blob.digest)).open("rb", buffering=0) as file:
            await self._images.packer.store(file.fileno(), blob.digest, blob.size)
        self._images.layers.add_blob(blob.digest, blob.media_type, blob.size)

    async def find(self, key: str, node: Node | None = None, base: Made | None = None) -> Made | None:
        """The file system of a step, its layers fetched, verified and in place; None if no source has it.

        `node`, on `base`, is looked for in images that say nothing of their steps. A source that is missing or broken
        is told of once, and passed over.
        """
        texts = self._lineage.get(node, ()) if node is not None else ()
        for source in self._sources:
            try:
                entry = await source.entry(key, texts, base)
                if entry is not None and await self._placed(source, entry):
                    return entry.made
            except HooperError as error:
                await self._complain(source, error)
        return None

    async def _complain(self, source: _Source, error: HooperError) -> None:
        if not source.complained:
            source.complained = True
            none = isinstance(error, NotFound) and source.reference is not None
            why = "there is none yet" if none else f"{error.what}: {error.why}"
            await self._progress.event(Noted(text=f"build cache {source.shown} is not used: {why}"))

    async def _placed(self, source: _Source, entry: Entry) -> bool:
        """Puts the layers in place. False if they are not here, nor can be had from the source."""
        store, made = self._images.layers, entry.made
        chains = chain_ids(made.diff_ids)
        for chain in chains:
            self._layers.hold(chain)
        if not chains or store.get(made.chain) is not None:
            return True
        if not entry.blobs:
            return False
        with store.lease() as lease:
            if source.reference is not None:
                await self._fetch(source.reference, entry, lease)
            else:
                await self._unpack(entry)
        return True

    async def _fetch(self, reference: Reference, entry: Entry, lease: Lease) -> None:
        puller = self._images.puller
        async with puller.connected(reference, self._credentials.get(reference.host)) as client:
            await puller.fetch_layers(client, reference, entry.made.diff_ids, entry.blobs, self._tell, lease)

    async def _unpack(self, entry: Entry) -> None:
        store, parent = self._images.layers, ""
        for chain, diff_id, blob in zip(chain_ids(entry.made.diff_ids), entry.made.diff_ids, entry.blobs, strict=True):
            if store.get(chain) is None:
                await store.unpack(diff_id, parent, open_blob(store.content, blob.digest))
                store.add_blob(blob.digest, blob.media_type, blob.size, diff_id)
            parent = chain

    async def _tell(self, message: dict[str, Any]) -> None:
        if message.get("status") != "Already exists":
            await self._progress.event(Pulling(message=message))

    # --- writing --------------------------------------------------------------------------------------

    async def store(self, specs: Sequence[CacheSpec], records: Sequence[Record], result: Made) -> None:
        """Writes the steps to each target of type registry or local (inline is `with_inline`'s).

        mode=min, the default, has those that `result` stands on; mode=max all. With ignore-error=true a target that
        fails is told of, and no more.
        """
        for index, spec in enumerate(specs):
            if spec.type == "inline":
                continue
            chosen = selected(records, result.diff_ids, spec.attrs.get("mode", "min"))
            try:
                with self._images.layers.lease() as lease:
                    await self._store(spec, index, chosen, lease)
            except HooperError as error:
                if spec.attrs.get("ignore-error", "").lower() not in ("1", "true"):
                    error.what = f"build cache {_shown(spec)} was not written: {error.what}"
                    raise
                await self._progress.event(Noted(text=f"build cache {_shown(spec)} was not written: {error.what}"))

    async def _store(self, spec: CacheSpec, index: int, records: Sequence[Record], lease: Lease) -> None:
        store, packer = self._images.layers, self._images.packer
        layers: dict[str, Layer] = {}
        blobs = {}
        for chain in chains_of(records):
            layer = store.get(chain)
            if layer is None:
                raise NotFound(f"layer {chain} does not exist", "it was removed meanwhile", "Build again.")
            blobs[chain] = await packer.blob(layer)
            lease.add("blob", blobs[chain].digest)
            layers[blobs[chain].digest] = layer
        document = write_document(records, blobs)
        lease.add("blob", digest_of(document))
        config = Descriptor(DOCUMENT, await store.put(document, DOCUMENT), len(document))
        named = {blob.digest: blob for blob in blobs.values()}
        described = [
            Descriptor(layer_type(blob.media_type, docker=False), blob.digest, blob.size) for blob in named.values()
        ]
        manifest = make_manifest(
            ImageManifest(schema_version=2, media_type=OCI_MANIFEST, config=config, layers=described)
        )  # fmt: skip
        if spec.type == "registry":
            reference = Reference.parse(spec.attrs["ref"]).with_default_tag()
            credentials = self._credentials.get(reference.host)
            await self._images.pusher.push_made(
                reference, manifest, [layers[digest] for digest in named], self._tell, credentials
            )
            return
        async with client_stream(self._session, "cache-out", index, _shown(spec)) as descriptor:
            await self._write_layout(descriptor, manifest, [*described, config])

    async def _write_layout(self, output: int, manifest: Manifest, blobs: Sequence[Descriptor]) -> None:
        archive = Archive(output)
        for blob in blobs:
            await archive.blob(blob.digest, self._images.packer.path(blob.digest))
        await archive.file(blob_path(manifest.descriptor.digest), manifest.content)
        index = make_manifest(Index(schema_version=2, media_type=OCI_INDEX, manifests=[manifest.descriptor]))
        await archive.file(INDEX, index.content)
        await archive.file(MARK, MARK_CONTENT)
        await archive.end_archive()


def _document(spool: Spool) -> bytes:
    """The document of the first cache that a layout names. DataLoss if it is not what its name says."""
    for name in _manifests(spool):
        manifest: ImageManifest = spool.json(blob_path(name), ImageManifest)
        if manifest.config.media_type == DOCUMENT:
            content = spool.read(blob_path(manifest.config.digest))
            if digest_of(content) != manifest.config.digest:
                raise DataLoss(f"blob {manifest.config.digest} is damaged", "its content has another digest")
            return content
    raise NotFound("the directory has no build cache")


def _manifests(spool: Spool) -> list[str]:
    if INDEX not in spool:
        return []
    index: Index = spool.json(INDEX, Index)
    return [entry.digest for entry in index.manifests]


def _of_image(image: Image, blobs: Sequence[Descriptor], reference: Reference) -> _Content:
    if image.build_cache is None:
        return _Content({}, image, blobs)
    return _Content(read_inline(image, blobs, reference.familiar))
