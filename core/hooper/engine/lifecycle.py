"""The life of containers: started, watched, ended, started again."""

from __future__ import annotations

import os
import socket
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable

import anyio

from hooper.api.engine import AttachOptions, WaitResult
from hooper.api.errors import Conflict, HooperError, NotModified, StartFailed, Unavailable
from hooper.api.model import Container
from hooper.engine import signals
from hooper.engine.clock import NEVER, rfc3339, seconds
from hooper.engine.core import Core
from hooper.engine.detach_keys import parse as parse_detach_keys
from hooper.engine.launch import Live, Starter
from hooper.engine.waiting import Waiters
from hooper.runtime.client import MonitorClient, read_exit
from hooper.runtime.protocol import Attach, ExecExited, Exited

FIRST_BACKOFF_S = 0.1
LAST_BACKOFF_S = 60.0
STEADY_S = 10.0
"""A run of at least so long resets the backoff."""


class Lifecycle:
    def __init__(self, core: Core) -> None:
        self._core = core
        self.starter = Starter(core)
        self.live: dict[str, Live] = {}
        self.waiters = Waiters()
        self._attached: dict[str, list[tuple[Attach, socket.socket]]] = defaultdict(list)
        self._locks: dict[str, anyio.Lock] = defaultdict(anyio.Lock)
        self._backoff: dict[str, float] = {}
        self.on_exec_exit: Callable[[ExecExited], None] = lambda exited: None
        self.remove: Callable[[Container], Awaitable[None]]

    async def start(self, container: Container) -> None:
        """NotModified if it runs; StartFailed and the like leave it as it was, with the reason recorded."""
        async with self._locks[container.id]:
            if container.state.status == "paused":
                raise Conflict("cannot start a paused container, try unpause instead")
            if container.id in self.live:
                raise NotModified(f"container {container.name} is already running")
            container.stopped_by_user = False
            container.restart_count = 0
            await self._start(container)

    async def _start(self, container: Container) -> None:
        state = container.state
        attached = self._attached.pop(container.id, [])
        try:
            live, started = await self.starter.launch(container, attached, self.live)
        except HooperError as error:
            state.exit_code = error.exit_code if isinstance(error, StartFailed) else 128
            state.error = f"{error.what}: {error.why}" if error.why else error.what
            if state.status == "restarting":
                state.status = "exited"
            self._core.store.save(container)
            self._core.emit(container, "die", exitCode=str(state.exit_code))
            if container.host_config.auto_remove:
                # Clients wait for the removal before they report the error.
                await self.remove(container)
            raise
        finally:
            for _, connection in attached:
                connection.close()
        self.live[container.id] = live
        state.status, state.pid, state.exit_code, state.error, state.oom_killed = "running", started.pid, 0, "", False
        state.started_at, state.finished_at = rfc3339(started.time_ns), NEVER
        self._core.store.save(container)
        self._core.emit(container, "start")
        self._watch(live)

    def _watch(self, live: Live) -> None:
        def ended(exited: Exited) -> None:
            self._core.background(self._ended, live, exited)

        def lost() -> None:
            self._core.background(self._lost, live)

        live.monitor.on_exec_exit(self.on_exec_exit)
        live.monitor.on_exit(ended)
        live.monitor.on_lost(lost)

    async def _lost(self, live: Live) -> None:
        """The monitor is gone without a word of the exit: what it left on disk tells, or nothing does."""
        if live.ending:
            return
        exited = read_exit(self._core.run_dir(live.container.id))
        if exited is None:
            self._core.log.error("monitor lost", container=live.container.id)
            exited = Exited(exit_code=255, oom_killed=False, time_ns=time.time_ns())
            await self.destroy_remains(live.container)
        await self._ended(live, exited)

    async def destroy_remains(self, container: Container) -> None:
        """Removes what a container leaves behind whose monitor died before it."""
        _, backend = await self._core.selector.choose_isolation(container.runtime)
        bundle = await self.starter.bundle(container, (), self.live)
        await anyio.to_thread.run_sync(backend.delete, bundle)

    async def _ended(self, live: Live, exited: Exited) -> None:
        container, core = live.container, self._core
        async with self._locks[container.id]:
            if live.ending:
                return
            live.ending = True
            try:
                again = await self._settle(live, exited)
            finally:
                self.live.pop(container.id, None)
                live.ended.set()
        if exited.oom_killed:
            core.emit(container, "oom")
        core.emit(container, "die", exitCode=str(exited.exit_code))
        if again:
            core.background(self._restart_later, container)
        self.waiters.exited(container.id, WaitResult(exited.exit_code))
        if container.host_config.auto_remove and not again:
            await self.remove(container)

    async def _settle(self, live: Live, exited: Exited) -> bool:
        """Gives back what the run had, and records its end; True if the container is to run again."""
        container, core = live.container, self._core
        live.monitor.release()
        await core.networks.leave(container.id, None)
        await self.starter.release_volumes(container)
        self.starter.clean(container.id)
        self._record(container, exited)
        again = self._wants_restart(container)
        if again:
            container.state.status = "restarting"
        core.store.save(container)
        return again

    def _record(self, container: Container, exited: Exited) -> None:
        state = container.state
        state.status, state.pid = "exited", 0
        state.exit_code, state.oom_killed = exited.exit_code, exited.oom_killed
        state.finished_at = rfc3339(exited.time_ns)
        container.ports = {}
        ran = exited.time_ns / 1e9 - seconds(state.started_at)
        if ran >= STEADY_S:
            self._backoff.pop(container.id, None)

    def _wants_restart(self, container: Container) -> bool:
        policy = container.host_config.restart_policy
        if container.stopped_by_user or policy.name in ("", "no"):
            return False
        if policy.name == "on-failure":
            most = policy.maximum_retry_count
            return container.state.exit_code != 0 and (not most or container.restart_count < most)
        return True

    async def _restart_later(self, container: Container) -> None:
        pause = self._backoff.get(container.id, FIRST_BACKOFF_S)
        self._backoff[container.id] = min(2 * pause, LAST_BACKOFF_S)
        await anyio.sleep(pause)
        async with self._locks[container.id]:
            if container.state.status != "restarting":
                return
            container.restart_count += 1
            try:
                await self._start(container)
            except HooperError as error:
                self._core.log.warning("restart failed", container=container.id, error=str(error))

    async def stop(self, container: Container, signal: str = "", timeout: int | None = None) -> None:
        """Asks, waits, then kills. NotModified if it does not run."""
        live = self.live.get(container.id)
        container.stopped_by_user = True
        if live is None:
            if container.state.status == "restarting":
                container.state.status = "exited"
                self._core.store.save(container)
                return
            raise NotModified(f"container {container.name} is not running")
        self._core.store.save(container)
        if timeout is None:
            timeout = 10 if container.config.stop_timeout is None else container.config.stop_timeout
        name = signal or container.config.stop_signal or "SIGTERM"
        await self._signal(live, signals.number(name))
        if not await _within(live.ended, timeout):
            await self._signal(live, 9)
            await live.ended.wait()
        self._core.emit(container, "stop")

    async def kill(self, container: Container, signal: str) -> None:
        live = self.running(container)
        value = signals.number(signal)
        if value == 9 or value == signals.number(container.config.stop_signal or "SIGTERM"):
            container.stopped_by_user = True
        await self._signal(live, value)
        self._core.emit(container, "kill", signal=str(value))
        if value == 9:
            await live.ended.wait()

    async def _signal(self, live: Live, value: int) -> None:
        if value == 9 and live.container.state.status == "paused":
            await live.monitor.resume()
        try:
            await live.monitor.signal(value)
        except Unavailable:
            # Its monitor is gone, so it has just ended: the record of that is on its way.
            self._core.log.debug("signal to a container that ends", container=live.container.id, signal=value)

    def running(self, container: Container) -> Live:
        """Conflict if it does not run."""
        live = self.live.get(container.id)
        if live is None:
            raise Conflict(
                f"container {container.id} is not running", remedy=f"Start it: hooper start {container.name}"
            )
        return live

    async def pause(self, container: Container) -> None:
        live = self.running(container)
        if container.state.status == "paused":
            raise Conflict(f"Container {container.name} is already paused")
        await live.monitor.pause()
        container.state.status = "paused"
        self._core.store.save(container)
        self._core.emit(container, "pause")

    async def unpause(self, container: Container) -> None:
        live = self.running(container)
        if container.state.status != "paused":
            raise Conflict(f"Container {container.name} is not paused")
        await live.monitor.resume()
        container.state.status = "running"
        self._core.store.save(container)
        self._core.emit(container, "unpause")

    async def attach(
        self, container: Container, options: AttachOptions, connection: socket.socket, received: bytes
    ) -> None:
        request = Attach(
            stdin=options.stdin and container.config.open_stdin,
            stdout=options.stdout,
            stderr=options.stderr,
            detach_keys=parse_detach_keys(options.detach_keys),
            received=received,
        )
        live = self.live.get(container.id)
        self._core.emit(container, "attach")
        if live is None:
            self._attached[container.id].append((request, connection))
            return
        try:
            await live.monitor.attach(request, connection.fileno())
        finally:
            connection.close()

    def forget(self, container_id: str) -> None:
        """Drops what is kept about a container that is removed."""
        for _, connection in self._attached.pop(container_id, []):
            connection.close()
        self._locks.pop(container_id, None)
        self._backoff.pop(container_id, None)

    async def reconcile(self) -> None:
        """After a start of the daemon: finds the containers that went on, and records what ended meanwhile."""
        async with anyio.create_task_group() as tasks:
            for container in self._core.store.all():
                if container.state.running:
                    tasks.start_soon(self._core.guarded, self._find, container)
        await self._core.networks.reconcile(set(self.live))
        for container in self._core.store.all():
            policy = container.host_config.restart_policy.name
            if container.id in self.live or container.stopped_by_user:
                continue
            if policy == "always" or (policy == "unless-stopped" and container.state.started_at != NEVER):
                container.state.status = "restarting"
                self._core.background(self._restart_later, container)

    async def _find(self, container: Container) -> None:
        directory = self._core.run_dir(container.id)
        try:
            monitor, status = await MonitorClient.connect(directory)
        except OSError:
            await self._was_lost(container)
            return
        live = Live(container, monitor)
        if not status.started:
            await monitor.aclose()
            await self._was_lost(container)
            return
        self.live[container.id] = live
        container.state.pid = status.pid
        container.state.status = "paused" if status.paused else "running"
        self._core.store.save(container)
        self._watch(live)

    async def _was_lost(self, container: Container) -> None:
        exited = read_exit(self._core.run_dir(container.id))
        if exited is None:
            # A reboot ends all containers at once; what is not there cannot be asked.
            exited = Exited(exit_code=255, oom_killed=False, time_ns=time.time_ns())
            if os.path.isdir(self._core.run_dir(container.id)):
                await self.destroy_remains(container)
        await self._core.networks.leave(container.id, None)
        self.starter.clean(container.id)
        self._record(container, exited)
        self._core.store.save(container)
        self._core.emit(container, "die", exitCode=str(exited.exit_code))
        if container.host_config.auto_remove:
            await self.remove(container)


async def _within(event: anyio.Event, timeout: float) -> bool:
    if timeout < 0:
        await event.wait()
        return True
    with anyio.move_on_after(timeout):
        await event.wait()
    return event.is_set()
