"""The content of this engine, as front-ends see it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
import msgspec

from hooper.api.content import Content
from hooper.api.errors import NotFound
from hooper.api.manifests import OCI_INDEX, OCI_MANIFEST
from hooper.api.reference import Reference
from hooper.api.registry import Descriptor, Manifest
from hooper.engine.gc import KEPT
from hooper.engine.image_store import no_such_image

if TYPE_CHECKING:
    from hooper.engine.images import ImageService

_UNNAMED = "application/octet-stream"


class _Named(msgspec.Struct, rename="camel"):
    """What a manifest or an index may name."""

    media_type: str = ""
    config: Descriptor | None = None
    layers: list[Descriptor] = []
    manifests: list[Descriptor] = []


class StoredContent(Content):
    def __init__(self, images: ImageService) -> None:
        self._images, self._store, self._database = images, images.layers.content, images.store.database

    def open(self, digest: str) -> int:
        return self._store.open(digest)

    async def add(self, file: Path, digest: str, owner: str) -> None:
        size = file.stat().st_size
        # The lease comes first, so that no collection finds the blob without it.
        self._lease(digest, owner)
        await anyio.to_thread.run_sync(self._store.adopt, file, digest)
        self._images.layers.add_blob(digest, _UNNAMED, size)

    def keep(self, digest: str, owner: str) -> None:
        size = self._store.size(digest)
        self._lease(digest, owner)
        self._images.layers.add_blob(digest, _UNNAMED, size)

    def _lease(self, digest: str, owner: str) -> None:
        self._database.execute("INSERT OR IGNORE INTO leases VALUES (?,'blob',?)", (f"{KEPT}{owner}", digest))

    def release(self, digest: str, owner: str) -> None:
        self._database.execute(
            "DELETE FROM leases WHERE owner=? AND kind='blob' AND name=?", (f"{KEPT}{owner}", digest)
        )

    def kept(self, owner: str) -> Sequence[str]:
        rows = self._database.query("SELECT name FROM leases WHERE owner=? AND kind='blob'", (f"{KEPT}{owner}",))
        return [row[0] for row in rows]

    async def collect(self) -> None:
        await self._images.collector.collect()

    def tagged(self) -> Sequence[Reference]:
        rows = self._database.query("SELECT reference FROM tags ORDER BY reference")
        return [Reference.parse(row[0]) for row in rows]

    async def manifest(self, reference: Reference) -> Manifest:
        if reference.digest:
            return self._by_digest(reference)
        image_id = self._images.store.lookup(reference)
        if image_id is None:
            raise no_such_image(reference.familiar)
        with self._images.layers.lease() as lease:
            lease.add("blob", image_id)
            lease.add("layer", self._images.store.summary(image_id).chain)
            manifest = await self._images.pusher.manifest(image_id)
            if manifest.descriptor.digest not in self._named(reference.name, only_manifests=True):
                await self._images.pusher.record(reference, image_id, manifest)
        return manifest

    def _by_digest(self, reference: Reference) -> Manifest:
        digest = reference.digest
        known = self._images.store.lookup(reference) is not None
        if not (known or digest in self._named(reference.name, only_manifests=True)) or not self._store.has(digest):
            raise NotFound(f"no manifest {digest} of {reference.familiar_name}")
        content = self._store.path(digest).read_bytes()
        document = msgspec.json.decode(content, type=_Named)
        media_type = document.media_type or (OCI_INDEX if document.manifests else OCI_MANIFEST)
        return Manifest(Descriptor(media_type, digest, len(content)), content)

    def holds(self, name: str, digest: str) -> bool:
        return digest in self._named(name)

    def _named(self, name: str, *, only_manifests: bool = False) -> set[str]:
        """All that the manifests of a name name, and theirs."""
        rows = self._database.query("SELECT DISTINCT digest FROM repo_digests WHERE name=?", (name,))
        waiting, seen, found = [row[0] for row in rows], set[str](), set[str]()
        while waiting:
            digest = waiting.pop()
            if digest in seen or not self._store.has(digest):
                continue
            seen.add(digest)
            document = msgspec.json.decode(self._store.path(digest).read_bytes(), type=_Named)
            waiting += [entry.digest for entry in document.manifests]
            if not only_manifests:
                found |= {entry.digest for entry in (document.config, *document.layers) if entry is not None}
        return seen | found
