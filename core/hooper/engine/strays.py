"""What a daemon that was killed may have left half-done, removed by the next one."""

from __future__ import annotations

import shutil
from collections.abc import Set

import anyio

from hooper.api.errors import HooperError
from hooper.api.storage import SnapshotKind
from hooper.engine.core import Core
from hooper.runtime.client import MonitorClient


async def sweep(core: Core, arriving: Set[str] = frozenset()) -> None:
    """Nothing is under way yet when this runs: whatever no record names is removed.

    `arriving` are ids of containers that are complete and not yet this engine's.
    """
    known = {container.id for container in core.store.all()} | arriving
    for directory in (core.host.exec_root / "containers").iterdir():
        if directory.name not in known:
            await _end(core, directory.name)
    home = core.host.data_root / "containers"
    for directory in home.iterdir() if home.is_dir() else ():
        if directory.name not in known:
            shutil.rmtree(directory, ignore_errors=True)
    # Views of images that containers have mounted are named after them: ID.NUMBER.
    strays = [
        s.key
        async for s in core.storage.walk()
        if s.kind is not SnapshotKind.COMMITTED and s.key.partition(".")[0] not in known
    ]
    for key in strays:
        try:
            await core.storage.remove(key)
        except HooperError as error:
            core.log.warning("stray snapshot stays", key=key, error=str(error))
    builds = core.host.data_root / "builds"
    for directory in builds.iterdir() if builds.is_dir() else ():
        shutil.rmtree(directory, ignore_errors=True)


async def _end(core: Core, container_id: str) -> None:
    """Kills the container of a build that nobody waits for any more."""
    directory = core.run_dir(container_id)
    try:
        monitor, _ = await MonitorClient.connect(directory)
    except OSError:
        pass  # it has ended
    else:
        ended = anyio.Event()
        monitor.on_exit(lambda exited: ended.set())
        monitor.on_lost(ended.set)
        with anyio.move_on_after(10):
            await monitor.signal(9)
            await ended.wait()
        monitor.release()
    await core.networks.leave(container_id, None)
    core.networks.release(container_id)
    shutil.rmtree(directory, ignore_errors=True)
