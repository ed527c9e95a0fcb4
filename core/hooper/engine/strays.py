"""What a daemon that was killed may have left half-done, removed by the next one."""

from __future__ import annotations

import shutil
from collections.abc import Set

import anyio
import anyio.to_thread

from hooper.api.errors import HooperError
from hooper.api.model import Container, ContainerConfig, HostConfig
from hooper.api.storage import SnapshotKind
from hooper.content.removal import discard
from hooper.engine.core import Core
from hooper.runtime.client import MonitorClient
from hooper.runtime.protocol import EXIT_FILE

_LASTING = ("caches", "contexts", "downloads", "git")
"""What builds keep for later ones."""


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
        if directory.name not in _LASTING:
            discard(directory)
    # What outlives a build stays; what has a dot was half-made or half-removed.
    for directory in builds.glob("*/.*"):
        discard(directory)


async def _end(core: Core, container_id: str) -> None:
    """Kills the container of a build that nobody waits for any more."""
    directory = core.run_dir(container_id)
    try:
        monitor, _ = await MonitorClient.connect(directory)
    except OSError:
        if not (directory / EXIT_FILE).exists():
            container = Container(
                id=container_id, name="", created="", config=ContainerConfig(), host_config=HostConfig(), path="none"
            )
            await destroy_remains(core, container)
    else:
        ended = anyio.Event()
        monitor.on_exit(lambda exited: ended.set())
        monitor.on_lost(ended.set)
        with anyio.move_on_after(10):
            await monitor.signal(9)
            await ended.wait()
        monitor.release()
    # Not `leave`, which would tell of a container that nobody knows.
    await core.networks.part(container_id)
    core.networks.release(container_id)
    shutil.rmtree(directory, ignore_errors=True)


async def destroy_remains(core: Core, container: Container) -> None:
    """Ends and removes what the container of a build leaves whose monitor died before it. Harmless otherwise."""
    from hooper.engine.launch import Starter

    try:
        _, backend = await core.selector.choose_isolation(core.default_runtime)
        await anyio.to_thread.run_sync(backend.delete, Starter(core).remains(container))
    except (HooperError, OSError) as error:
        core.log.warning("the remains of a build's container stay", container=container.id, error=str(error))
