"""The file systems of a build: snapshots that become layers, and views of what is copied from."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import anyio

from hooper.api.storage import LayerResult, Mount, Reparenting, StorageDriver
from hooper.engine.layers import KeyedLocks, Layer, LayerStore, Lease, chain_id

PREFIX = "build-"


class BuildLayers:
    """One a build. Whatever it made that is no layer is gone after `aclose`; layers are held by the lease."""

    def __init__(
        self, layers: LayerStore, storage: StorageDriver, lease: Lease, locks: KeyedLocks, directory: Path
    ) -> None:
        self._layers, self._storage, self._lease = layers, storage, lease
        self._locks, self._directory = locks, directory
        self._views: dict[str, tuple[str, Sequence[Mount]]] = {}
        self._held: set[str] = set()

    def hold(self, chain: str) -> None:
        """Keeps a layer, also one that is yet to come, with all below it, as long as the build lasts."""
        if chain and chain not in self._held:
            self._lease.add("layer", chain)
            self._held.add(chain)

    def hold_blob(self, digest: str) -> None:
        """Keeps a blob, also one that is yet to come, as long as the build lasts."""
        self._lease.add("blob", digest)

    async def view(self, chain: str) -> Sequence[Mount]:
        """Mounts to read a file system by; the same ones each time."""
        if chain not in self._views:
            key = f"{PREFIX}{uuid4().hex}"
            self._views[chain] = key, await self._storage.view(key, chain)
        return self._views[chain][1]

    @asynccontextmanager
    async def snapshot(self, parent: str) -> AsyncIterator[tuple[str, Sequence[Mount]]]:
        """An active snapshot to work on, and its mounts. It is removed at the end, unless it became a layer."""
        key = f"{PREFIX}{uuid4().hex}"
        mounts = await self._storage.prepare(key, parent)
        try:
            yield key, mounts
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._layers.discard(key)
            raise

    async def discard(self, key: str) -> None:
        await self._layers.discard(key)

    async def keep(self, key: str, parent: str) -> Layer:
        """The snapshot `key`, prepared on the layer `parent` itself, as a layer."""
        return await self._layers.adopt(key, parent, self._lease)

    async def keep_onto(self, key: str, parent: str) -> Layer:
        """What the snapshot `key` changes, as a layer on `parent`, which is not what it was prepared on."""
        # What was prepared on nothing (COPY --link) has not written down what it deleted.
        if isinstance(self._storage, Reparenting) and (await self._storage.stat(key)).parent:
            return await self._committed(key, parent, await self._storage.diff(key), self._storage)
        return await self._copied(key, parent)

    async def _committed(self, key: str, parent: str, result: LayerResult, storage: Reparenting) -> Layer:
        chain = chain_id(parent, result.diff_id)
        self.hold(chain)
        async with self._locks.hold(chain):
            if existing := self._layers.get(chain):
                await self._layers.discard(key)
                return existing
            await self._layers.discard(chain)
            # Between the two calls a cancelled build would leave a layer that nobody knows of.
            with anyio.CancelScope(shield=True):
                await storage.commit_onto(chain, key, parent)
                self._layers.register(chain, parent, result.diff_id, result.size)
        return Layer(chain, parent, result.diff_id, result.size)

    async def _copied(self, key: str, parent: str) -> Layer:
        with tempfile.TemporaryFile(dir=self._directory) as spool:
            result = await self._storage.diff(key, spool.fileno())
            await self._layers.discard(key)
            chain = chain_id(parent, result.diff_id)
            self.hold(chain)
            if layer := self._layers.get(chain):
                return layer
            os.lseek(spool.fileno(), 0, os.SEEK_SET)
            async with self.snapshot(parent) as (fresh, _):
                await self._storage.apply(fresh, spool.fileno())
                return await self._layers.adopt(fresh, parent, self._lease)

    async def restack(self, chain: str, parent: str) -> Layer:
        """What the topmost layer of `chain` changes, as a layer on `parent`."""
        with tempfile.TemporaryFile(dir=self._directory) as spool:
            await self._storage.diff(chain, spool.fileno())
            os.lseek(spool.fileno(), 0, os.SEEK_SET)
            async with self.snapshot(parent) as (fresh, _):
                await self._storage.apply(fresh, spool.fileno())
                return await self._layers.adopt(fresh, parent, self._lease)

    async def aclose(self) -> None:
        """Removes the views."""
        views, self._views = self._views, {}
        for key, _ in views.values():
            await self._layers.discard(key)
