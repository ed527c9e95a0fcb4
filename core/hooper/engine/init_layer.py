"""The mount points that every container needs, in a snapshot between its image and itself.

A container's own changes are then its diff against that snapshot: files such as an empty /etc/hosts never
reach an image. One snapshot serves all containers of an image.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import anyio
import msgspec

from hooper.api.driver import Workers
from hooper.api.errors import NotFound
from hooper.api.storage import Mount, StorageDriver

PREFIX = "init-"
_DIRECTORIES = ("dev", "dev/pts", "dev/shm", "proc", "sys", "etc")
_FILES = ("etc/hosts", "etc/hostname", "etc/resolv.conf", "dev/console", ".dockerenv")


class InitLayers:
    def __init__(self, storage: StorageDriver, workers: Workers) -> None:
        self._storage, self._workers = storage, workers
        self._known: set[str] = set()
        self._lock = anyio.Lock()

    async def parent(self, chain: str) -> str:
        """The name of the committed snapshot that a container of this image is prepared on."""
        name = PREFIX + (chain or "scratch")
        if name in self._known:
            return name
        async with self._lock:
            if name not in self._known:
                await self._ensure(name, chain)
                self._known.add(name)
        return name

    async def _ensure(self, name: str, chain: str) -> None:
        try:
            await self._storage.stat(name)
        except NotFound:
            key = f"{name}-new"
            try:
                await self._storage.remove(key)
            except NotFound:
                pass
            mounts = await self._storage.prepare(key, chain)
            try:
                await self._workers.run("hooper.engine.init_layer:populate", {"mounts": msgspec.to_builtins(mounts)})
                await self._storage.commit(name, key)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await self._storage.remove(key)
                raise

    async def drop(self, chain: str) -> None:
        """Removes it, before its image's layer goes. Harmless if there is none."""
        name = PREFIX + (chain or "scratch")
        self._known.discard(name)
        try:
            await self._storage.remove(name)
        except NotFound:
            return


def populate(arguments: dict[str, Any], fds: Sequence[int]) -> None:
    """In a worker: makes what is missing of the mount points, and touches nothing that is there."""
    from hooper.content.mounting import mount_private, move_root, private_namespace

    private_namespace()
    move_root(mount_private(msgspec.convert(arguments["mounts"], list[Mount])))
    for path in _DIRECTORIES:
        if not os.path.lexists(path):
            os.mkdir(path, 0o755)
    for path in _FILES:
        if not os.path.lexists(path) and os.path.isdir(os.path.dirname(path) or "."):
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o755))
    if not os.path.lexists("etc/mtab") and os.path.isdir("etc"):
        os.symlink("/proc/mounts", "etc/mtab")
