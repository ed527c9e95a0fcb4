"""Garbage collection of layers and blobs: mark what something refers to, sweep the rest."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

import anyio
import msgspec

from hooper.api.errors import Conflict, DataLoss, NotFound
from hooper.api.manifests import Index
from hooper.api.storage import SnapshotKind, StorageDriver
from hooper.engine.layers import LEFT, LEFT_SECONDS
from hooper.state.database import Database

if TYPE_CHECKING:
    from hooper.content.store import ContentStore


_IS_GARBAGE = """NOT EXISTS (SELECT 1 FROM layers WHERE parent=l.chain_id)
    AND NOT EXISTS (SELECT 1 FROM images WHERE chain_id=l.chain_id)
    AND NOT EXISTS (SELECT 1 FROM build_steps WHERE chain_id=l.chain_id)
    AND NOT EXISTS (SELECT 1 FROM leases WHERE kind='layer' AND name=l.chain_id)"""


KEPT = "kept:"
"""Begins the owner of a lease that lasts until it is released; the rest of it says who."""


class Collected(NamedTuple):
    layers: list[str]
    """Chain ids, children first."""
    blobs: list[str]
    space: int
    """Bytes: of the layers' tars and of the blobs."""


class Collector:
    """Roots are images, the build cache, leases, and the parents of snapshots in use."""

    def __init__(
        self,
        database: Database,
        content: ContentStore,
        storage: StorageDriver,
        drop_derived: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """`drop_derived` removes the snapshots that the engine itself derived from a layer, before the layer goes;
        it may raise Conflict if one is in use."""
        self._database, self._content, self._storage = database, content, storage
        self._drop_derived = drop_derived
        self._lock = anyio.Lock()

    def forget_leases(self) -> None:
        """For a daemon that starts: whoever held them is gone. What was left on purpose stays its time."""
        self._database.execute(f"DELETE FROM leases WHERE owner NOT LIKE '{LEFT}%' AND owner NOT LIKE '{KEPT}%'")

    def forget_left(self) -> None:
        """Ends the leases on what failed work left for a later try, before their time, and drops partial blobs."""
        self._database.execute(f"DELETE FROM leases WHERE owner LIKE '{LEFT}%'")
        self._content.forget_partial()

    def _forget_expired(self) -> None:
        self._database.execute(
            f"DELETE FROM leases WHERE owner LIKE '{LEFT}%' AND CAST(substr(owner, {len(LEFT) + 1}) AS INTEGER) < ?",
            (time.time(),),
        )
        self._content.forget_partial(LEFT_SECONDS)

    async def collect(self) -> Collected:
        """Removes every layer and blob that nothing refers to. Several calls at once take turns."""
        async with self._lock:
            self._forget_expired()
            layers, space = await self._sweep_layers()
            blobs, more = self._sweep_blobs()
            return Collected(layers, blobs, space + more)

    async def _sweep_layers(self) -> tuple[list[str], int]:
        in_use = await self._parents_in_use()
        removed, space = [], 0
        while garbage := self._unreferenced_layers(in_use):
            for chain, size in garbage:
                if not await self._remove_layer(chain):
                    in_use.add(chain)
                    continue
                removed.append(chain)
                space += size
        return removed, space

    async def _parents_in_use(self) -> set[str]:
        """All committed snapshots below an active one or a view."""
        infos = {info.key: info async for info in self._storage.walk()}
        in_use: set[str] = set()
        for info in infos.values():
            parent = info.parent if info.kind is not SnapshotKind.COMMITTED else ""
            while parent and parent not in in_use:
                in_use.add(parent)
                parent = infos[parent].parent if parent in infos else ""
        return in_use

    def _unreferenced_layers(self, in_use: set[str]) -> list[tuple[str, int]]:
        """Those without children, so that the sweep goes from the top of each chain downwards."""
        rows = self._database.query(
            f"SELECT chain_id, size FROM layers l WHERE driver=? AND {_IS_GARBAGE}", (self._storage.context.name,)
        )
        return [(chain, size) for chain, size in rows if chain not in in_use]

    async def _remove_layer(self, chain: str) -> bool:
        """The row goes first, so that nobody builds on a snapshot that is being removed; it comes back if the
        snapshot cannot go. False if the layer stays, also because somebody took it meanwhile."""
        row = self._database.row(f"SELECT * FROM layers l WHERE chain_id=? AND {_IS_GARBAGE}", (chain,))
        if row is None:
            return False
        self._database.execute("DELETE FROM layers WHERE chain_id=?", (chain,))
        try:
            if self._drop_derived is not None:
                await self._drop_derived(chain)
            await self._storage.remove(chain)
        except NotFound:
            pass
        except Conflict:
            self._database.execute("INSERT OR IGNORE INTO layers VALUES (?,?,?,?,?)", row)
            return False
        self._database.execute("DELETE FROM build_digests WHERE chain_id=?", (chain,))
        return True

    def _sweep_blobs(self) -> tuple[list[str], int]:
        keep = self._referenced_blobs()
        removed, space = [], 0
        for digest, size in self._database.query("SELECT digest, size FROM blobs"):
            if digest in keep:
                continue
            with self._database.transaction():
                self._database.execute("DELETE FROM layer_blobs WHERE digest=?", (digest,))
                self._database.execute("DELETE FROM blob_sources WHERE digest=?", (digest,))
                self._database.execute("DELETE FROM blobs WHERE digest=?", (digest,))
            self._content.delete(digest)
            removed.append(digest)
            space += size
        return removed, space

    def _referenced_blobs(self) -> set[str]:
        """Configurations and manifests of images, and the compressed forms of their layers."""
        rows = self._database.query(
            """SELECT id FROM images UNION SELECT digest FROM repo_digests
               UNION SELECT name FROM leases WHERE kind='blob'
               UNION SELECT b.digest FROM layer_blobs b JOIN layers l ON l.diff_id=b.diff_id"""
        )
        keep = {row[0] for row in rows}
        return keep | {child for digest in tuple(keep) for child in self._index_entries(digest)}

    def _index_entries(self, digest: str) -> list[str]:
        row = self._database.row(
            "SELECT 1 FROM blobs WHERE digest=? AND media_type LIKE '%.index.%'"
            " OR digest=? AND media_type LIKE '%.list.%'",
            (digest, digest),
        )
        if row is None or not self._content.has(digest):
            return []
        try:
            index = msgspec.json.decode(self._content.path(digest).read_bytes(), type=Index)
        except msgspec.DecodeError as error:
            raise DataLoss(f"blob {digest} is damaged", str(error), "Remove its image and pull it again.") from error
        return [entry.digest for entry in index.manifests]
