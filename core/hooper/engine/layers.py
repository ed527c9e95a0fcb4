"""Layers: committed snapshots that bear chain ids, the compressed blobs that they came as, and leases."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple

import anyio

from hooper.api.errors import DataLoss, NotFound
from hooper.api.storage import LayerResult, StorageDriver
from hooper.state.database import Database

if TYPE_CHECKING:
    from hooper.content.store import ContentStore

Watch = Callable[[int], AbstractContextManager[None]]
"""Given the descriptor that a layer is unpacked from, follows its progress for as long as it is entered."""


class Layer(NamedTuple):
    chain_id: str
    parent: str
    """Chain id, "" for none."""
    diff_id: str
    size: int
    """Bytes of the tar, uncompressed."""


class LayerBlob(NamedTuple):
    """A compressed form of a layer."""

    digest: str
    media_type: str
    size: int


def chain_id(parent: str, diff_id: str) -> str:
    """The name of a layer on its parents (OCI image-spec config.md, "Layer ChainID")."""
    if not parent:
        return diff_id
    return f"sha256:{hashlib.sha256(f'{parent} {diff_id}'.encode()).hexdigest()}"


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """Of each layer, from the lowest on."""
    chains: list[str] = []
    for diff_id in diff_ids:
        chains.append(chain_id(chains[-1] if chains else "", diff_id))
    return chains


class KeyedLocks:
    """A lock a key, for as long as somebody holds or wants it."""

    def __init__(self) -> None:
        self._locks: dict[str, tuple[anyio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        lock, users = self._locks.get(key) or (anyio.Lock(), 0)
        self._locks[key] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            users = self._locks[key][1] - 1
            if users:
                self._locks[key] = lock, users
            else:
                del self._locks[key]


LEFT = "left-until:"
"""Begins the owner of a lease that its owner left; the time follows, in seconds since the epoch."""
LEFT_SECONDS = 3600.0
"""How long what failed work left is kept for a later try."""


class Lease:
    """Keeps what it names from being collected."""

    def __init__(self, database: Database, owner: str) -> None:
        self._database, self._owner = database, owner

    def add(self, kind: str, name: str) -> None:
        """`kind` is blob (by digest) or layer (by chain id; with all below it)."""
        self._database.execute("INSERT OR IGNORE INTO leases VALUES (?,?,?)", (self._owner, kind, name))

    def release(self) -> None:
        self._database.execute("DELETE FROM leases WHERE owner=?", (self._owner,))

    def leave(self, seconds: float) -> None:
        """Goes on without its owner, for what is there of all that it names: a later try may use that.

        It ends after so many seconds, or with `Collector.forget_left`, or with `supersede`.
        """
        with self._database.transaction():
            self._database.execute(
                "DELETE FROM leases WHERE owner=? AND name NOT IN"
                " (SELECT chain_id FROM layers UNION SELECT digest FROM blobs)",
                (self._owner,),
            )
            left = f"{LEFT}{int(time.time() + seconds)}:{self._owner}"
            self._database.execute("UPDATE leases SET owner=? WHERE owner=?", (left, self._owner))

    def supersede(self) -> None:
        """Ends the leases that earlier owners left on what this one names: the work is done."""
        self._database.execute(
            f"DELETE FROM leases WHERE owner LIKE '{LEFT}%' AND (kind, name) IN"
            " (SELECT kind, name FROM leases WHERE owner=?)",
            (self._owner,),
        )


class LayerStore:
    """What layers there are on the present storage driver, and how new ones come about."""

    def __init__(self, database: Database, content: ContentStore, storage: StorageDriver, driver: str) -> None:
        """`driver` is the name of the storage driver."""
        self._database, self.content, self.storage, self.driver = database, content, storage, driver
        self._locks = KeyedLocks()

    @contextmanager
    def lease(self) -> Iterator[Lease]:
        """A lease for the work of one caller; a daemon that starts forgets those of an earlier one."""
        lease = Lease(self._database, os.urandom(8).hex())
        try:
            yield lease
        finally:
            lease.release()

    def get(self, chain: str) -> Layer | None:
        row = self._database.row(
            "SELECT chain_id, coalesce(parent,''), diff_id, size FROM layers WHERE chain_id=? AND driver=?",
            (chain, self.driver),
        )
        return Layer(*row) if row else None

    def ancestry(self, chain: str) -> list[Layer]:
        """The layers that a chain id stands for, from the lowest on. NotFound if one is missing."""
        layers: list[Layer] = []
        while chain:
            layer = self.get(chain)
            if layer is None:
                raise NotFound(f"layer {chain} does not exist", remedy="Pull or build the image again.")
            layers.append(layer)
            chain = layer.parent
        return layers[::-1]

    def total_size(self) -> int:
        """Bytes of all layers."""
        row = self._database.row("SELECT coalesce(sum(size), 0) FROM layers")
        return int(row[0]) if row else 0

    def register(self, chain: str, parent: str, diff_id: str, size: int) -> Layer:
        """Records a committed snapshot of the name `chain` as a layer. `size`: bytes of its tar."""
        self._database.execute(
            "INSERT INTO layers VALUES (?,?,?,?,?) ON CONFLICT (chain_id) DO UPDATE"
            " SET driver=excluded.driver, size=excluded.size",
            (chain, parent or None, diff_id, size, self.driver),
        )
        return Layer(chain, parent, diff_id, size)

    def blobs(self, diff_id: str) -> list[LayerBlob]:
        """The compressed forms of a layer, the present ones alone."""
        rows = self._database.query(
            "SELECT digest, media_type, size FROM layer_blobs JOIN blobs USING (digest) WHERE diff_id=? ORDER BY size",
            (diff_id,),
        )
        return [LayerBlob(*row) for row in rows if self.content.has(row[0])]

    def add_blob(self, digest: str, media_type: str, size: int, diff_id: str = "") -> None:
        """Records a blob that is in the content store, and the layer that it is a form of."""
        with self._database.transaction():
            self._database.execute("INSERT OR IGNORE INTO blobs VALUES (?,?,?)", (digest, media_type, size))
            if diff_id:
                self._database.execute("INSERT OR IGNORE INTO layer_blobs VALUES (?,?)", (diff_id, digest))

    async def put(self, data: bytes, media_type: str) -> str:
        """Stores and records a small blob; returns its digest."""
        digest: str = await self.content.put_bytes(data)
        self.add_blob(digest, media_type, len(data))
        return digest

    def forget_blob(self, digest: str) -> None:
        """Deletes a blob that proved to be bad."""
        with self._database.transaction():
            self._database.execute("DELETE FROM layer_blobs WHERE digest=?", (digest,))
            self._database.execute("DELETE FROM blob_sources WHERE digest=?", (digest,))
            self._database.execute("DELETE FROM blobs WHERE digest=?", (digest,))
        self.content.delete(digest)

    async def unpack(
        self, diff_id: str, parent: str, source: Callable[[], AbstractContextManager[int]], watch: Watch | None = None
    ) -> Layer:
        """Makes the layer `diff_id` on `parent` from an archive, or finds it made meanwhile.

        `source` opens the archive; several callers unpack one layer once. DataLoss if the archive is
        not what `diff_id` says; nothing of it is left then.
        """
        chain = chain_id(parent, diff_id)
        async with self._locks.hold(chain):
            if layer := self.get(chain):
                return layer
            key = f"extract-{chain}"
            await self.discard(key)
            await self.discard(chain)
            with source() as archive:
                result = await self._apply(key, parent, archive, watch)
            if result.diff_id != diff_id:
                await self.discard(key)
                raise DataLoss(
                    f"layer {diff_id} is damaged",
                    f"its content has the digest {result.diff_id}",
                    "Get the image again.",
                )
            return await self._commit(chain, key, parent, result)

    async def adopt(self, key: str, parent: str, lease: Lease | None = None) -> Layer:
        """Makes the active snapshot `key`, prepared on the layer `parent`, a layer; the snapshot is gone then.

        The lease keeps the layer until an image has it.
        """
        result = await self.storage.diff(key)
        chain = chain_id(parent, result.diff_id)
        if lease is not None:
            lease.add("layer", chain)
        async with self._locks.hold(chain):
            if layer := self.get(chain):
                await self.discard(key)
                return layer
            await self.discard(chain)
            return await self._commit(chain, key, parent, result)

    async def _apply(self, key: str, parent: str, archive: int, watch: Watch | None) -> LayerResult:
        try:
            await self.storage.prepare(key, parent)
            with nullcontext() if watch is None else watch(archive):
                result = await self.storage.apply(key, archive)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.discard(key)
            raise
        return result

    async def _commit(self, chain: str, key: str, parent: str, result: LayerResult) -> Layer:
        with anyio.CancelScope(shield=True):
            await self.storage.commit(chain, key)
        return self.register(chain, parent, result.diff_id, result.size)

    async def discard(self, key: str) -> None:
        """Removes what an interrupted run may have left."""
        try:
            await self.storage.remove(key)
        except NotFound:
            return


def open_blob(content: ContentStore, digest: str) -> Callable[[], AbstractContextManager[int]]:
    """A `source` for `LayerStore.unpack`."""

    @contextmanager
    def source() -> Iterator[int]:
        descriptor = content.open(digest)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    return source
