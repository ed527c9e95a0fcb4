"""Snapshots as full copies: slow to prepare, large, and good for every file system.

data_dir/<id>        the files of one snapshot; a view has none, it shows its parent's
data_dir/trash-<id>  what is being deleted
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread

from hooper.api.snapshots import Record, SnapshotTable
from hooper.api.storage import LayerResult, Mount, SnapshotInfo, SnapshotKind, StorageDriver, Usage

_TRASH = "trash-"


class VfsDriver(StorageDriver):
    _table: SnapshotTable

    async def open(self) -> None:
        self._table = SnapshotTable(self.context.state)
        self._table.repair()
        known = {str(record.id) for record in self._table}
        for name in os.listdir(self.context.data_dir):
            # Half-made copies and half-done removals of an earlier run.
            if name not in known:
                await self._delete(self.context.data_dir / name)

    def _directory(self, record: Record) -> Path:
        return self.context.data_dir / str(record.id)

    def _mounts(self, record: Record) -> list[Mount]:
        if record.kind is SnapshotKind.VIEW and record.parent:
            return [Mount("bind", str(self._directory(self._table.get(record.parent))), ("bind", "ro"))]
        words = ("bind", "ro") if record.kind is SnapshotKind.VIEW else ("bind", "rw")
        return [Mount("bind", str(self._directory(record)), words)]

    async def _make(self, key: str, kind: SnapshotKind, parent: str) -> Sequence[Mount]:
        record = self._table.reserve(key, kind, parent)
        try:
            if not parent:
                self._directory(record).mkdir(mode=0o755)
                self._directory(record).chmod(0o755)
            elif kind is SnapshotKind.ACTIVE:
                await self._copy(record, parent)
            self._table.store(record)
        except BaseException:
            self._table.cancel(record)
            await self._discard(record)
            raise
        return self._mounts(record)

    async def _copy(self, record: Record, parent: str) -> None:
        source = self._directory(self._table.get(parent))
        copied = await self.context.workers.run(
            "hooper.content.trees:copy_tree", {"source": str(source), "target": str(self._directory(record))}
        )
        record.data["stamp"] = copied["stamp"]

    async def prepare(self, key: str, parent: str = "") -> Sequence[Mount]:
        return await self._make(key, SnapshotKind.ACTIVE, parent)

    async def view(self, key: str, parent: str = "") -> Sequence[Mount]:
        return await self._make(key, SnapshotKind.VIEW, parent)

    async def commit(self, name: str, key: str) -> None:
        self._table.commit(name, key)

    async def remove(self, key: str) -> None:
        await self._discard(self._table.remove(key))

    async def _discard(self, record: Record) -> None:
        trash = self.context.data_dir / f"{_TRASH}{record.id}"
        try:
            self._directory(record).rename(trash)
        except FileNotFoundError:
            return
        with anyio.CancelScope(shield=True):
            await self._delete(trash)

    async def _delete(self, path: Path) -> None:
        await self.context.workers.run("hooper.content.trees:remove_tree", {"path": str(path)})

    async def mounts(self, key: str) -> Sequence[Mount]:
        return self._mounts(self._table.mountable(key))

    async def stat(self, key: str) -> SnapshotInfo:
        return self._table.get(key).info()

    async def usage(self, key: str) -> Usage:
        record = self._table.get(key)
        if record.kind is SnapshotKind.VIEW and record.parent:
            return Usage(0, 0)
        path = str(self._directory(record))
        return Usage(**await self.context.workers.run("hooper.content.trees:usage", {"path": path}))

    async def walk(self) -> AsyncIterator[SnapshotInfo]:
        for record in self._table:
            yield record.info()

    async def apply(self, key: str, layer: int) -> LayerResult:
        target = str(self._directory(self._table.active(key)))
        arguments = {"target": target, "whiteouts": "delete"}
        applied = await self.context.workers.run("hooper.content.unpack:apply_layer", arguments, [layer])
        return LayerResult(applied["diff_id"], applied["size"])

    async def diff(self, key: str, output: int | None = None) -> LayerResult:
        record = self._table.get(key)
        lower = str(self._directory(self._table.get(record.parent))) if record.parent else ""
        view = record.kind is SnapshotKind.VIEW and record.parent
        arguments: dict[str, Any] = {"lower": lower, "upper": lower if view else str(self._directory(record))}
        arguments["stamp"] = record.data.get("stamp", 0)
        outputs = [] if output is None else [output]
        packed = await self.context.workers.run("hooper.content.pack:diff_trees", arguments, outputs)
        return LayerResult(packed["diff_id"], packed["size"])
