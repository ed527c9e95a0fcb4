"""Snapshots as directories that overlayfs stacks.

    data_dir/s/<id>/d   what the snapshot changes against its parent: an upper directory, later a lower one
    data_dir/s/<id>/w   overlayfs's work directory
    data_dir/trash/<id> what is being deleted

Committed data reach the disk a moment later, on a thread. What a crash of the host left without
its data (it was committed under another boot and is not marked as synced) is removed at `open`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Sequence

from hooper.api.errors import InvalidArgument, SkipDriver
from hooper.api.snapshots import Record, SnapshotTable
from hooper.api.storage import LayerResult, Mount, SnapshotInfo, SnapshotKind, StorageDriver, Usage
from hooper_storage_overlay.background import Background
from hooper_storage_overlay.roots import copy_root

_FEATURES = ("index=off", "metacopy=off", "redirect_dir=nofollow")
"""What overlayfs would write beyond files and whiteouts, and layers cannot hold. Redirections that are there all the
same are not followed, which `redirect_dir=off` alone would not say."""


class OverlayDriver(StorageDriver):
    _table: SnapshotTable
    _background: Background | None = None

    async def probe(self) -> None:
        data_dir = str(self.context.data_dir)
        if {":", ",", "\\"}.intersection(data_dir):
            raise SkipDriver(
                "overlay cannot be used",
                f"its directory {data_dir} has one of : , \\ in its name, which separate mount options",
                "Choose another --data-root.",
            )
        place = self.context.data_dir
        while not place.exists():
            place = place.parent
        arguments = {"directory": str(place), "features": list(_FEATURES)}
        await self.context.workers.run("hooper_storage_overlay.probe:check", arguments)

    async def open(self) -> None:
        self._snapshots = self.context.data_dir / "s"
        self._trash = self.context.data_dir / "trash"
        for directory in (self._snapshots, self._trash):
            directory.mkdir(mode=0o700, exist_ok=True)
        self._table = SnapshotTable(self.context.state)
        self._table.repair()
        self._background = Background(self.context.data_dir, self._table, self.context.log)
        self._background.drop_damaged()
        known = {str(record.id) for record in self._table}
        for name in os.listdir(self._snapshots):
            if name not in known:
                self._throw_away(f"{self._snapshots}/{name}")
        for name in os.listdir(self._trash):
            self._background.delete(f"{self._trash}/{name}")

    async def aclose(self) -> None:
        background, self._background = self._background, None
        if background is not None:
            await background.aclose()

    # --- where things are ----------------------------------------------------------------------------

    def _directory(self, record: Record) -> str:
        return f"{self._snapshots}/{record.id}"

    def _files(self, record: Record) -> str:
        return f"{self._snapshots}/{record.id}/d"

    def _lowers(self, record: Record) -> list[str]:
        return [self._files(each) for each in self._table.parents(record)]

    def _mounts(self, record: Record) -> list[Mount]:
        lowers = self._lowers(record)
        if record.kind is SnapshotKind.VIEW:
            if len(lowers) < 2:
                return [Mount("bind", lowers[0] if lowers else self._files(record), ("bind", "ro"))]
            return [Mount("overlay", "overlay", ("ro", f"lowerdir={':'.join(lowers)}", *_FEATURES))]
        if not lowers:
            return [Mount("bind", self._files(record), ("bind", "rw"))]
        work = f"{self._snapshots}/{record.id}/w"
        words = (f"lowerdir={':'.join(lowers)}", f"upperdir={self._files(record)}", f"workdir={work}", *_FEATURES)
        return [Mount("overlay", "overlay", words)]

    # --- verbs ---------------------------------------------------------------------------------------

    def _make(self, key: str, kind: SnapshotKind, parent: str) -> Sequence[Mount]:
        record = self._table.reserve(key, kind, parent)
        directory = self._directory(record)
        try:
            os.mkdir(directory, 0o700)
            if not (parent and kind is SnapshotKind.VIEW):
                os.mkdir(self._files(record), 0o755)
                copy_root(self._lowers(record), self._files(record))
            if parent and kind is SnapshotKind.ACTIVE:
                os.mkdir(f"{directory}/w", 0o700)
            self._table.store(record)
        except BaseException:
            self._table.cancel(record)
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return self._mounts(record)

    async def prepare(self, key: str, parent: str = "") -> Sequence[Mount]:
        return self._make(key, SnapshotKind.ACTIVE, parent)

    async def view(self, key: str, parent: str = "") -> Sequence[Mount]:
        return self._make(key, SnapshotKind.VIEW, parent)

    async def commit(self, name: str, key: str) -> None:
        self._commit(name, key, None)

    async def commit_onto(self, name: str, key: str, parent: str) -> None:
        """See `hooper.api.storage.Reparenting`."""
        record = self._table.active(key)
        if not record.parent:
            # Its deletions, of files of no parent, were never written down.
            raise InvalidArgument(
                f"cannot commit {key} on {parent}", "it was prepared on nothing", "Prepare it on a parent."
            )
        self._commit(name, key, parent)

    def _commit(self, name: str, key: str, parent: str | None) -> None:
        assert self._background is not None
        self._background.committing(self._table.active(key))
        self._table.commit(name, key, parent)

    async def remove(self, key: str) -> None:
        self._throw_away(self._directory(self._table.remove(key)))

    def _throw_away(self, directory: str) -> None:
        assert self._background is not None
        trash = f"{self._trash}/{os.path.basename(directory)}"
        if os.path.lexists(trash):
            # One of the same number is being deleted still.
            trash += f"-{os.urandom(4).hex()}"
        try:
            os.rename(directory, trash)
        except FileNotFoundError:
            return
        self._background.delete(trash)

    async def mounts(self, key: str) -> Sequence[Mount]:
        return self._mounts(self._table.mountable(key))

    async def stat(self, key: str) -> SnapshotInfo:
        return self._table.get(key).info()

    async def usage(self, key: str) -> Usage:
        record = self._table.get(key)
        if record.kind is SnapshotKind.VIEW and record.parent:
            return Usage(0, 0)
        arguments = {"path": self._files(record)}
        return Usage(**await self.context.workers.run("hooper.content.trees:usage", arguments))

    async def walk(self) -> AsyncIterator[SnapshotInfo]:
        for record in self._table:
            yield record.info()

    async def apply(self, key: str, layer: int) -> LayerResult:
        mounts = self._mounts(self._table.active(key))
        arguments = {
            "mounts": [{"type": each.type, "source": each.source, "options": each.options} for each in mounts],
            "whiteouts": "delete",
        }
        applied = await self.context.workers.run("hooper.content.unpack:apply_layer", arguments, [layer])
        return LayerResult(applied["diff_id"], applied["size"])

    async def diff(self, key: str, output: int | None = None) -> LayerResult:
        record = self._table.get(key)
        outputs = [] if output is None else [output]
        run = self.context.workers.run
        if record.kind is SnapshotKind.VIEW and record.parent:
            parent = self._files(self._table.get(record.parent))
            packed = await run("hooper.content.pack:diff_trees", {"lower": parent, "upper": parent}, outputs)
        else:
            arguments = {"upper": self._files(record), "lowers": self._lowers(record)}
            packed = await run("hooper.content.pack:diff_overlay", arguments, outputs)
        return LayerResult(packed["diff_id"], packed["size"])
