"""Containers: the use cases."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AbstractContextManager, suppress

import anyio

from hooper.api.engine import (
    AttachOptions,
    Change,
    ContainerCreate,
    Containers,
    Created,
    ExecCreate,
    Filters,
    PathStat,
    Pruned,
    WaitResult,
)
from hooper.api.errors import Conflict, InvalidArgument, NotFound, NotModified
from hooper.api.isolation import Stats
from hooper.api.logs import LogEntry, LogQuery, Running
from hooper.api.model import Container, ContainerConfig, Exec, HostConfig
from hooper.engine import listing, log_targets, spec, trees
from hooper.engine.clock import seconds
from hooper.engine.container_files import ContainerFiles
from hooper.engine.core import Core
from hooper.engine.creation import Creator
from hooper.engine.execs import Execs
from hooper.engine.init_layer import InitLayers
from hooper.engine.lifecycle import Lifecycle
from hooper.engine.names import check_name
from hooper.engine.store import ContainerStore, check_stays
from hooper.engine.top import rows as top_rows
from hooper.engine.waiting import known


class ContainerService(Containers):
    def __init__(self, core: Core, init_layers: InitLayers) -> None:
        self._core, self._store = core, core.store
        self.lifecycle = Lifecycle(core)
        self.lifecycle.remove = self._remove
        self._creator = Creator(core, init_layers)
        self._execs = Execs(core, self.lifecycle)
        self._files = ContainerFiles(core, self.lifecycle)
        core.networks.containers = Sandboxes(self._store, self.lifecycle)
        self._removing: dict[str, anyio.Event] = {}

    async def create(self, request: ContainerCreate) -> Created:
        return await self._creator.create(request)

    def using_image(self, image_id: str) -> list[tuple[str, str, bool]]:
        """(id, name, runs) of the containers made from an image."""
        return [(c.id, c.name, c.state.running) for c in self._store.all() if c.image_id == image_id]

    async def list(self, *, all: bool = False, limit: int = 0, filters: Filters | None = None) -> Sequence[Container]:
        return await listing.chosen(self._core, all=all, limit=limit, filters=filters or {})

    async def get(self, name: str) -> Container:
        return self._store.get(name)

    async def start(self, name: str, *, detach_keys: str = "") -> None:
        await self.lifecycle.start(self._store.get(name))

    async def stop(self, name: str, *, signal: str = "", timeout: int | None = None) -> None:
        await self.lifecycle.stop(self._store.get(name), signal, timeout)

    async def restart(self, name: str, *, signal: str = "", timeout: int | None = None) -> None:
        container = self._store.get(name)
        if container.state.running:
            with suppress(NotModified):  # it ended meanwhile
                await self.lifecycle.stop(container, signal, timeout, starts_again=True)
        await self.lifecycle.start(container)
        self._core.emit(container, "restart")

    async def kill(self, name: str, signal: str = "SIGKILL") -> None:
        await self.lifecycle.kill(self._store.get(name), signal)

    async def pause(self, name: str) -> None:
        await self.lifecycle.pause(self._store.get(name))

    async def unpause(self, name: str) -> None:
        await self.lifecycle.unpause(self._store.get(name))

    async def rename(self, name: str, new_name: str) -> None:
        container = self._store.get(name)
        check_stays(container)
        old = container.name
        if not new_name:
            raise InvalidArgument("Neither old nor new names may be empty")
        if new_name.removeprefix("/") == old:
            raise InvalidArgument("Renaming a container with the same name as its current name")
        self._store.rename(container, check_name(new_name))
        await self._core.networks.renamed(container)
        self._core.emit(container, "rename", oldName=f"/{old}")

    async def update(self, name: str, changes: HostConfig) -> Sequence[str]:
        container = self._store.get(name)
        check_stays(container)
        from hooper.engine import updates

        updates.check(container, changes)
        updated = spec.merge_resources(container.host_config, changes)
        live = self.lifecycle.live.get(container.id)
        if live:
            await live.monitor.update(spec.resources(updates.in_force(container.host_config, changes)))
        container.host_config = updated
        self._store.save(container)
        self._core.emit(container, "update")
        return []

    async def remove(self, name: str, *, force: bool = False, volumes: bool = False) -> None:
        container = self._store.get(name)
        check_stays(container)
        # What --rm would have removed goes here too.
        volumes = volumes or container.host_config.auto_remove
        while True:
            if container.state.running:
                if not force:
                    raise _runs(container)
                await self._end(container)
            async with self.lifecycle.lock(container.id):
                # Somebody may have started it meanwhile.
                if container.id not in self.lifecycle.live:
                    await self._remove(container, volumes=volumes)
                    return

    async def _end(self, container: Container) -> None:
        """Kills it, if it still runs, without it being removed or started again for that."""
        if live := self.lifecycle.live.get(container.id):
            live.starts_again = True
        try:
            await self.lifecycle.kill(container, "SIGKILL")
        except Conflict:
            if container.id in self.lifecycle.live:
                raise

    async def discard(self, container: Container) -> None:
        """Removes a container that is elsewhere now, or never came to be; its volumes stay."""
        if container.id in self.lifecycle.live:
            await self._end(container)
        await self._remove(container, volumes=False)

    async def _remove(self, container: Container, *, volumes: bool | None = None) -> None:
        """Waits for another removal of the same container that is under way; harmless after it."""
        if under_way := self._removing.get(container.id):
            await under_way.wait()
        if self._store.by_id(container.id) is None:
            return
        done = self._removing[container.id] = anyio.Event()
        core = self._core
        with_volumes = container.host_config.auto_remove if volumes is None else volumes
        try:
            with anyio.CancelScope(shield=True):
                try:
                    await core.storage.remove(container.id)
                except NotFound:
                    pass
                core.networks.release(container.id)
                trees.remove(core.data_dir(container.id))
                self._store.delete(container)
                self._execs.forget(container.id)
                self.lifecycle.forget(container.id)
                if with_volumes:
                    await self._remove_anonymous_volumes(container)
        finally:
            del self._removing[container.id]
            done.set()
        core.emit(container, "destroy")
        self.lifecycle.waiters.removed(container.id, WaitResult(container.state.exit_code))

    async def _remove_anonymous_volumes(self, container: Container) -> None:
        for point in container.mounts:
            if not point.anonymous:
                continue
            try:
                await self._core.volumes.remove(point.name)
            except (NotFound, Conflict):
                continue  # gone already, or another container uses it

    async def wait(self, name: str, condition: str = "not-running") -> Awaitable[WaitResult]:
        if gone := self.lifecycle.waiters.gone(name):
            return known(gone)
        container = self._store.get(name)
        if condition in ("", "not-running") and not container.state.running:
            return known(WaitResult(container.state.exit_code, container.state.error))
        return self.lifecycle.waiters.register(container.id, condition or "not-running").result()

    def attaching(self, name: str) -> AbstractContextManager[None]:
        return self.lifecycle.attaching(self._store.get(name).id)

    async def attach(self, name: str, options: AttachOptions, connection: socket.socket, received: bytes) -> None:
        try:
            container = self._store.get(name)
            await self.lifecycle.attach(container, options, connection, received)
        except BaseException:
            connection.close()
            raise

    async def resize(self, name: str, height: int, width: int) -> None:
        live = self.lifecycle.running(self._store.get(name))
        await live.monitor.resize(height, width)
        self._core.emit(live.container, "resize", height=str(height), width=str(width))

    async def logs(self, name: str, query: LogQuery) -> AsyncIterator[Sequence[LogEntry]]:
        container = self._store.get(name)
        if not (query.stdout or query.stderr):
            raise InvalidArgument("Bad parameters: you must choose at least one stream")
        core = self._core
        driver, target = log_targets.reading(core.log_drivers, container.log_driver, core.log_target(container))
        batches = driver.read(target, query, _Runs(self.lifecycle, container))
        return _opened(await anext(batches, []), batches)

    async def top(self, name: str, ps_args: str) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
        live = self.lifecycle.running(self._store.get(name))
        pids = await live.monitor.processes()
        self._core.emit(live.container, "top")
        return await anyio.to_thread.run_sync(top_rows, pids, ps_args)

    async def size(self, name: str) -> int:
        return (await self._core.storage.usage(self._store.get(name).id)).content

    async def stats(self, name: str) -> Stats | None:
        live = self.lifecycle.live.get(self._store.get(name).id)
        return await live.monitor.stats() if live else None

    async def changes(self, name: str) -> Sequence[Change]:
        return await self._files.changes(self._store.get(name))

    async def export(self, name: str, output: int) -> None:
        container = self._store.get(name)
        await self._files.export(container, output)
        self._core.emit(container, "export")

    async def stat_path(self, name: str, path: str) -> PathStat:
        return await self._files.stat(self._store.get(name), path)

    async def get_archive(self, name: str, path: str, output: int) -> None:
        container = self._store.get(name)
        await self._files.get(container, path, output)
        self._core.emit(container, "archive-path")

    async def put_archive(
        self,
        name: str,
        path: str,
        archive: int,
        *,
        no_overwrite_dir_non_dir: bool = False,
        copy_uid_gid: bool = False,
    ) -> None:
        container = self._store.get(name)
        check_stays(container)
        await self._files.put(container, path, archive, no_overwrite_dir_non_dir, copy_uid_gid)
        self._core.emit(container, "extract-to-dir")

    async def commit(
        self,
        name: str,
        *,
        reference: str = "",
        comment: str = "",
        author: str = "",
        pause: bool = True,
        changes: Sequence[str] = (),
        config: ContainerConfig | None = None,
    ) -> str:
        from hooper.engine.commit import Commit, commit

        container = self._store.get(name)
        wish = Commit(reference, comment, author, tuple(changes), config)
        pausing = pause and container.state.status == "running"
        if pausing:
            await self.lifecycle.pause(container)
        try:
            return await commit(self._core, container, wish)
        finally:
            if pausing:
                await self.lifecycle.unpause(container)

    async def prune(self, filters: Filters) -> Pruned:
        from hooper.engine import filters as matching

        matching.check(filters, ("label", "label!", "until"))
        unwanted = filters.get("label!", ())
        until = listing.moment(filters["until"][0]) if filters.get("until") else None
        removed, space = [], 0
        for container in self._store.all():
            if container.moving:
                continue
            if container.state.running or not matching.labels_match(container.config.labels, filters.get("label", ())):
                continue
            if unwanted and matching.labels_match(container.config.labels, unwanted):
                continue
            if until is not None and seconds(container.created) > until:
                continue
            async with self.lifecycle.lock(container.id):
                # Somebody may have started or removed it meanwhile.
                if container.state.running or self._store.by_id(container.id) is None:
                    continue
                space += (await self._core.storage.usage(container.id)).content
                await self._remove(container)
                removed.append(container.id)
        self._core.events.emit("container", "prune", "", {"reclaimed": str(space)})
        return Pruned(removed, space)

    async def exec_create(self, name: str, request: ExecCreate) -> str:
        return self._execs.create(self._store.get(name), request)

    async def exec_start(
        self,
        exec_id: str,
        connection: socket.socket | None,
        received: bytes,
        *,
        tty: bool = False,
        console_size: tuple[int, int] | None = None,
    ) -> None:
        await self._execs.start(exec_id, connection, received, console_size)

    async def exec_resize(self, exec_id: str, height: int, width: int) -> None:
        await self._execs.resize(exec_id, height, width)

    async def exec_get(self, exec_id: str) -> Exec:
        return self._execs.get(exec_id)

    async def exec_ids(self, name: str) -> Sequence[str]:
        return self._execs.ids(self._store.get(name).id)


_FIRST_PORTS, _PORTS = "", "ports"
"""Under which names a monitor holds the reservations that it was started with, and later ones."""


def _runs(container: Container) -> Conflict:
    """Of a removal."""
    what = f'cannot remove container "/{container.name}"'
    if container.state.status == "paused":
        return Conflict(what, "container is paused and must be unpaused first", "Or remove it by force.")
    return Conflict(
        what, f"container is {container.state.status}", "Stop the container before removing or force remove."
    )


class Sandboxes:
    """What networks need of containers."""

    def __init__(self, store: ContainerStore, lifecycle: Lifecycle) -> None:
        self._store, self._lifecycle = store, lifecycle

    def get(self, name: str) -> Container:
        return self._store.get(name)

    def save(self, container: Container) -> None:
        self._store.save(container)

    async def sandbox(self, container_id: str) -> int | None:
        """A descriptor of a running container's network namespace, the caller's; else None."""
        live = self._lifecycle.live.get(container_id)
        return await live.monitor.get_sandbox() if live else None

    async def hold(self, container_id: str, descriptors: Sequence[int]) -> None:
        """The container's monitor keeps copies of these reservations of ports."""
        if live := self._lifecycle.live.get(container_id):
            await live.monitor.hold(_PORTS, descriptors)

    async def release_ports(self, container_id: str) -> None:
        """The container's monitor closes all reservations of ports that it has."""
        if live := self._lifecycle.live.get(container_id):
            for name in (_FIRST_PORTS, _PORTS):
                await live.monitor.unhold(name)


async def _opened(
    first: Sequence[LogEntry], others: AsyncIterator[Sequence[LogEntry]]
) -> AsyncIterator[Sequence[LogEntry]]:
    """All batches that are not empty."""
    if first:
        yield first
    async for batch in others:
        if batch:
            yield batch


class _Runs(Running):
    """Tells a following log reader whether its container goes on."""

    def __init__(self, lifecycle: Lifecycle, container: Container) -> None:
        self._lifecycle, self._container = lifecycle, container

    def __call__(self) -> bool:
        return self._container.state.running

    async def changed(self, seconds: float) -> None:
        live = self._lifecycle.live.get(self._container.id)
        with anyio.move_on_after(seconds):
            if live:
                await live.ended.wait()
            else:
                await anyio.sleep(seconds)
