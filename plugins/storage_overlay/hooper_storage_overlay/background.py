"""What need not be waited for: deleting files, and writing committed data to the disk."""

from __future__ import annotations

import asyncio
import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hooper.api.errors import NoSpace
from hooper.api.snapshots import Record, SnapshotTable
from hooper.api.storage import SnapshotKind
from hooper.content.removal import remove

_SYNC_DELAY = 2.0
"""Seconds in which commits gather for one flush."""
_BOOT = "boot"
"""Key of the record's data: the boot in which it was committed; absent once its files are on the disk."""


def _this_boot() -> int:
    text = Path("/proc/sys/kernel/random/boot_id").read_text()
    return int(text.replace("-", "")[:12], 16)


def _syncfs(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(fd) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(directory))
    finally:
        os.close(fd)


class Background:
    """Two threads of an overlay driver. Its methods are called on the event loop."""

    def __init__(self, data_dir: Path, table: SnapshotTable, log: Any) -> None:
        self._data_dir, self._table, self._log = data_dir, table, log
        self._boot = _this_boot()
        self._deleting = ThreadPoolExecutor(1, "overlay-delete")
        self._syncing = ThreadPoolExecutor(1, "overlay-sync")
        self._flush: asyncio.Task[None] | None = None

    def delete(self, path: str) -> None:
        """Deletes a directory that nobody uses any more, some time."""
        self._deleting.submit(self._delete, path)

    def _delete(self, path: str) -> None:
        try:
            remove(os.fsencode(path))
        except OSError as error:
            # The next daemon tries again.
            self._log.warning("cannot delete a snapshot", path=path, error=str(error))

    def drop_damaged(self) -> None:
        """Drops what a crash of the host left without its data; with children it stays, and the log says so."""
        while True:
            damaged = [each for each in self._table if each.data.get(_BOOT, self._boot) != self._boot]
            parents = {each.parent for each in self._table}
            leaves = [each for each in damaged if each.key not in parents]
            for record in leaves:
                self._log.warning("snapshot lost: the host went down before it was on disk", snapshot=record.key)
                self._table.remove(record.key)
            if not leaves:
                for record in damaged:
                    self._log.warning("snapshot may be damaged: the host went down early", snapshot=record.key)
                return

    def committing(self, record: Record) -> None:
        """Notes, before a commit, that the files of the snapshot are not on the disk yet, and sees to it."""
        record.data[_BOOT] = self._boot
        if self._flush is None:
            self._flush = asyncio.get_running_loop().create_task(self._flush_later())

    async def _flush_later(self) -> None:
        await asyncio.sleep(_SYNC_DELAY)
        self._flush = None
        await self._flush_now()

    async def _flush_now(self) -> None:
        waiting = [each for each in self._table if each.kind is SnapshotKind.COMMITTED and _BOOT in each.data]
        try:
            await asyncio.get_running_loop().run_in_executor(self._syncing, _syncfs, self._data_dir)
        except OSError as error:
            self._log.error("cannot write snapshots to the disk", error=str(error))
            return
        current = {id(each) for each in self._table}
        for record in waiting:
            boot = record.data.pop(_BOOT)
            if id(record) in current and not self._is_noted(record):
                record.data[_BOOT] = boot
                return

    def _is_noted(self, record: Record) -> bool:
        try:
            self._table.store(record)
        except NoSpace as error:
            self._log.error("cannot note that snapshots are on the disk", error=str(error))
            return False
        return True

    async def aclose(self) -> None:
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
            await self._flush_now()
        self._syncing.shutdown()
        # What is not deleted yet is found in the trash by the next `open`.
        self._deleting.shutdown(wait=False, cancel_futures=True)
