"""A storage driver whose snapshots are plain copies of directories: data_dir/<id>."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

from hooper.api.snapshots import Record, SnapshotTable
from hooper.api.storage import LayerResult, Mount, SnapshotInfo, SnapshotKind, StorageDriver, Usage


class ExampleDriver(StorageDriver):
    async def open(self) -> None:
        self._table = SnapshotTable(self.context.state)
        self._table.repair()
        known = {str(record.id) for record in self._table}
        # Directories without a record are what an interrupted run left.
        for name in os.listdir(self.context.data_dir):
            if name not in known:
                await self._delete(name)

    # --- making and removing -------------------------------------------------------------------------

    async def prepare(self, key: str, parent: str = "") -> Sequence[Mount]:
        return await self._make(key, SnapshotKind.ACTIVE, parent)

    async def view(self, key: str, parent: str = "") -> Sequence[Mount]:
        return await self._make(key, SnapshotKind.VIEW, parent)

    async def _make(self, key: str, kind: SnapshotKind, parent: str) -> Sequence[Mount]:
        """First the files, then the record: what a crash leaves in between is found by `open`."""
        record = self._table.reserve(key, kind, parent)
        try:
            if parent:
                source = self._directory(self._table.get(parent))
                arguments = {"source": source, "target": self._directory(record)}
                await self.context.workers.run("hooper.content.trees:copy_tree", arguments)
            else:
                os.mkdir(self._directory(record))
                os.chmod(self._directory(record), 0o755)
            self._table.store(record)
        except BaseException:
            self._table.cancel(record)
            raise
        return self._mounts(record)

    async def commit(self, name: str, key: str) -> None:
        self._table.commit(name, key)

    async def remove(self, key: str) -> None:
        record = self._table.remove(key)
        await self._delete(str(record.id))

    async def _delete(self, name: str) -> None:
        path = str(self.context.data_dir / name)
        await self.context.workers.run("hooper.content.trees:remove_tree", {"path": path})

    # --- looking -------------------------------------------------------------------------------------

    def _directory(self, record: Record) -> str:
        return str(self.context.data_dir / str(record.id))

    def _mounts(self, record: Record) -> list[Mount]:
        access = "ro" if record.kind is SnapshotKind.VIEW else "rw"
        return [Mount("bind", self._directory(record), ("bind", access))]

    async def mounts(self, key: str) -> Sequence[Mount]:
        return self._mounts(self._table.mountable(key))

    async def stat(self, key: str) -> SnapshotInfo:
        return self._table.get(key).info()

    async def walk(self) -> AsyncIterator[SnapshotInfo]:
        for record in self._table:
            yield record.info()

    async def usage(self, key: str) -> Usage:
        arguments = {"path": self._directory(self._table.get(key))}
        return Usage(**await self.context.workers.run("hooper.content.trees:usage", arguments))

    # --- layers --------------------------------------------------------------------------------------

    async def apply(self, key: str, layer: int) -> LayerResult:
        arguments = {"target": self._directory(self._table.active(key)), "whiteouts": "delete"}
        done = await self.context.workers.run("hooper.content.unpack:apply_layer", arguments, [layer])
        return LayerResult(done["diff_id"], done["size"])

    async def diff(self, key: str, output: int | None = None) -> LayerResult:
        record = self._table.get(key)
        lower = self._directory(self._table.get(record.parent)) if record.parent else ""
        arguments: dict[str, Any] = {"lower": lower, "upper": self._directory(record)}
        outputs = [] if output is None else [output]
        done = await self.context.workers.run("hooper.content.pack:diff_trees", arguments, outputs)
        return LayerResult(done["diff_id"], done["size"])
