"""Files of containers: copied, exported, compared. All in workers that are confined to the container's tree."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from hooper.api.engine import Change, PathStat
from hooper.api.model import Container
from hooper.engine.core import Core
from hooper.engine.lifecycle import Lifecycle
from hooper.engine.names import new_id


class ContainerFiles:
    def __init__(self, core: Core, lifecycle: Lifecycle) -> None:
        self._core, self._lifecycle = core, lifecycle

    @asynccontextmanager
    async def _tree(self, container: Container) -> AsyncIterator[dict[str, Any]]:
        """A running container is seen through its first process; one that rests by its snapshot and its mounts."""
        if container.id in self._lifecycle.live:
            yield {"root": f"/proc/{container.state.pid}/root"}
            return
        async with self._lifecycle.starter.sources.at_rest(container) as bound:
            snapshot = list(await self._core.storage.mounts(container.id))
            yield {"mounts": msgspec.to_builtins(snapshot), "bound": msgspec.to_builtins(bound)}

    async def _work(self, function: str, container: Container, fds: Sequence[int] = (), **arguments: Any) -> Any:
        async with self._tree(container) as tree:
            return await self._core.workers.run(f"hooper.content.files:{function}", arguments | tree, fds)

    async def stat(self, container: Container, path: str) -> PathStat:
        found = await self._work("stat_path", container, path=path)
        return msgspec.convert(found, PathStat)

    async def get(self, container: Container, path: str, output: int) -> None:
        await self._work("archive_path", container, [output], path=path)

    async def put(
        self, container: Container, path: str, archive: int, no_overwrite_dir_non_dir: bool, copy_uid_gid: bool
    ) -> None:
        await self._work(
            "extract_path",
            container,
            [archive],
            path=path,
            no_overwrite_dir_non_dir=no_overwrite_dir_non_dir,
            copy_uid_gid=copy_uid_gid,
            user=container.config.user,
        )

    async def export(self, container: Container, output: int) -> None:
        mounts = msgspec.to_builtins(list(await self._core.storage.mounts(container.id)))
        await self._core.workers.run("hooper.content.files:export_tree", {"mounts": mounts}, [output])

    async def changes(self, container: Container) -> list[Change]:
        """What the container's snapshot changes against the one that it began with."""
        storage = self._core.storage
        parent = (await storage.stat(container.id)).parent
        key = f"diff-{new_id()[:32]}"
        mounts = await storage.view(key, parent)
        try:
            with tempfile.TemporaryFile() as spool:
                await storage.diff(container.id, spool.fileno())
                rows = await self._core.workers.run(
                    "hooper.engine.container_changes:changes",
                    {"mounts": msgspec.to_builtins(list(mounts))},
                    [spool.fileno()],
                )
        finally:
            await storage.remove(key)
        return [Change(path, kind) for path, kind in rows]
