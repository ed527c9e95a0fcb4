"""The life of containers: started, watched, ended, started again."""

from __future__ import annotations

import socket
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING

import anyio

from hooper.api.detach_keys import parse as parse_detach_keys
from hooper.api.engine import AttachOptions, WaitResult
from hooper.api.errors import Conflict, HooperError, NotFound, NotModified, StartFailed, Unavailable
from hooper.api.model import Container
from hooper.api.network import Endpoint, Network
from hooper.engine import restarts, signals
from hooper.engine.clock import rfc3339, seconds
from hooper.engine.core import Core
from hooper.engine.launch import Live, Starter
from hooper.engine.pending import PendingClients
from hooper.engine.store import check_stays
from hooper.engine.takeover import take_over
from hooper.engine.waiting import Waiters
from hooper.runtime.client import read_exit
from hooper.runtime.protocol import Attach, Exited

if TYPE_CHECKING:
    from hooper.engine.execs import Execs
    from hooper.engine.health import HealthChecks


class Lifecycle:
    def __init__(self, core: Core) -> None:
        self._core = core
        self.starter = Starter(core)
        self.live: dict[str, Live] = {}
        self.waiters = Waiters()
        self._attached = PendingClients()
        self._starting: dict[str, anyio.Event] = {}
        self._locks: dict[str, anyio.Lock] = defaultdict(anyio.Lock)
        self._backoff = restarts.Backoff()
        self._health: HealthChecks | None = None
        self.execs: Execs
        self.remove: Callable[[Container], Awaitable[None]]

    @property
    def health(self) -> HealthChecks:
        """Made, and its module imported, when the first container has a health check."""
        if self._health is None:
            from hooper.engine.health import HealthChecks

            self._health = HealthChecks(self._core, self.execs)
        return self._health

    def lock(self, container_id: str) -> anyio.Lock:
        """Held while a container is started, and while its end is recorded."""
        return self._locks[container_id]

    async def start(self, container: Container) -> None:
        """NotModified if it runs; StartFailed and the like leave it as it was, with the reason recorded."""
        await self._attached.arrived(container.id)
        async with self._locks[container.id]:
            check_stays(container)
            if self._core.store.by_id(container.id) is None:
                raise NotFound(f"No such container: {container.name}", "it was removed meanwhile")
            if container.state.status == "paused":
                raise Conflict("cannot start a paused container, try unpause instead")
            if container.state.running:
                raise NotModified(f"container {container.name} is already running")
            container.stopped_by_user = False
            container.restart_count = 0
            self._backoff.reset(container.id)
            await self._start(container)

    async def _start(self, container: Container) -> None:
        state = container.state
        self._starting[container.id] = ended = anyio.Event()
        attached = self._attached.take(container.id)
        try:
            live, started = await self.starter.launch(container, attached, self.live)
        # Also a fault of hooper itself: who waits for the removal is to be told of either.
        except Exception as error:
            state.exit_code = error.exit_code if isinstance(error, StartFailed) else 128
            state.error = _said(error)
            if state.status == "restarting":
                state.status = "exited"
            self._core.store.save(container)
            if container.host_config.auto_remove:
                # Clients wait for the removal before they report the error.
                await self.remove(container)
            raise
        else:
            self.live[container.id] = live
        finally:
            for _, connection in attached:
                connection.close()
            del self._starting[container.id]
            ended.set()
        state.status, state.pid, state.exit_code, state.error, state.oom_killed = "running", started.pid, 0, "", False
        state.started_at = rfc3339(started.time_ns)
        self.begin_health(container)
        self._core.store.save(container)
        self._core.emit_mounts(container, "mount")
        self._core.emit(container, "start")
        self.watch(live)

    def begin_health(self, container: Container) -> None:
        """For a run that begins: nothing is known yet of its health, if it has a check."""
        if container.config.healthcheck is not None:
            from hooper.engine import health

            container.state.health = health.begun(container)

    def watch(self, live: Live) -> None:
        """Sees to what becomes of a container that runs."""

        def ended(exited: Exited) -> None:
            self._core.background(self._ended, live, exited)

        def lost() -> None:
            self._core.background(self._lost, live)

        def detached(exec_id: str) -> None:
            if exec_id:
                self._core.emit(live.container, "exec_detach", execID=exec_id)
            else:
                self._core.emit(live.container, "detach")

        live.monitor.on_exec_exit(self.execs.exited)
        live.monitor.on_detached(detached)
        live.monitor.on_exit(ended)
        live.monitor.on_lost(lost)
        if live.container.state.status == "running":
            self._probe_on(live)

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
        await anyio.to_thread.run_sync(backend.delete, self.starter.remains(container))

    async def _ended(self, live: Live, exited: Exited) -> None:
        container, core = live.container, self._core
        async with self._locks[container.id]:
            if live.ending:
                return
            live.ending = True
            if container.state.health is not None:
                self.health.rest(container.id)
            self.execs.container_ended(container.id, exited.execs)
            try:
                again, left = await self._settle(live, exited)
            finally:
                self.live.pop(container.id, None)
                live.ended.set()
        self.tell_end(container, exited)
        core.networks.tell_left(left)
        core.emit_mounts(container, "unmount")
        if again:
            core.background(self.restart_later, container)
        result = WaitResult(exited.exit_code)
        self.waiters.exited(container.id, result)
        if container.host_config.auto_remove and not again and not live.starts_again:
            if live.inherited:
                self.waiters.keep(container.id, result)
            await self.remove(container)

    def tell_end(self, container: Container, exited: Exited) -> None:
        """The events of an end that is recorded."""
        if exited.oom_killed:
            self._core.emit(container, "oom")
        self._core.emit(container, "die", exitCode=str(exited.exit_code))

    async def _settle(self, live: Live, exited: Exited) -> tuple[bool, Sequence[tuple[Network, Endpoint]]]:
        """Gives back what the run had, and records its end. Whether it is to run again, and the networks it left."""
        container, core = live.container, self._core
        live.monitor.release()
        left = await core.networks.part(container.id, None)
        await self.starter.release_volumes(container)
        container.stopped_by_user = container.stopped_by_user or live.ends_for_good
        again = self.record(container, exited, may_restart=not live.starts_again)
        core.store.save(container)
        # Last: until the end is recorded, what the monitor left there tells of it.
        self.starter.clean(container.id)
        return again, left

    def record(self, container: Container, exited: Exited, *, may_restart: bool = True) -> bool:
        """Notes the end in the container, which the caller saves; True if it is to run again."""
        state = container.state
        state.status, state.pid = "exited", 0
        state.exit_code, state.oom_killed = exited.exit_code, exited.oom_killed
        state.finished_at = rfc3339(exited.time_ns)
        container.ports = {}
        ran = exited.time_ns / 1e9 - seconds(state.started_at)
        if ran >= restarts.STEADY_S:
            self._backoff.reset(container.id)
        if state.health is not None:
            # As Docker has it: what does not run is not healthy.
            state.health.status = "unhealthy"
        again = may_restart and restarts.wanted(container)
        if again:
            state.status = "restarting"
            container.restart_count += 1
        return again

    async def restart_later(self, container: Container) -> None:
        """Starts a container that is to run again, after its backoff; not if that was cancelled."""
        if not await self._backoff.pause(container.id):
            return
        async with self._locks[container.id]:
            if container.state.status != "restarting" or self._core.store.by_id(container.id) is None:
                return
            try:
                await self._start(container)
            except HooperError as error:
                self._core.log.warning("restart failed", container=container.id, error=str(error))

    async def stop(
        self, container: Container, signal: str = "", timeout: int | None = None, *, starts_again: bool = False
    ) -> None:
        """Asks, waits, then kills. NotModified if it does not run."""
        if signal:
            signals.number(signal)
        live = await self._ending(container)
        if live is None:
            self._core.emit(container, "stop")
            return
        live.starts_again = starts_again
        if timeout is None:
            timeout = 10 if container.config.stop_timeout is None else container.config.stop_timeout
        name = signal or container.config.stop_signal or "SIGTERM"
        await self._ask(live, signals.number(name), ends=True)
        if not await _within(live.ended, timeout):
            await self._ask(live, 9, ends=True)
            await live.ended.wait()
        self._core.emit(container, "stop")

    async def _ending(self, container: Container) -> Live | None:
        """A container that its user wants to end, whatever its policy says; None if it was between two runs.

        NotModified if it does not run. A start that is under way is waited for.
        """
        self._backoff.cancel(container.id)
        async with self._locks[container.id]:
            live = self.live.get(container.id)
            if live is None and container.state.status != "restarting":
                raise NotModified(f"container {container.name} is not running")
            container.stopped_by_user = True
            if live is None:
                container.state.status = "exited"
            self._core.store.save(container)
            return live

    async def kill(self, container: Container, signal: str) -> None:
        """Sends a signal. As Docker has it, one that is its stop signal ends the restart policy's reign too, and
        where none is set every signal does, if the container ends of it."""
        value = signals.number(signal)
        stop_signal = container.config.stop_signal
        ends = value == 9 or not stop_signal or value == signals.number(stop_signal)
        if container.state.status == "restarting" and ends:
            with suppress(NotModified):  # somebody else was quicker
                if await self._ending(container) is None:
                    return
        live = self.running(container)
        live.ends_for_good = live.ends_for_good or ends
        await self._ask(live, value, ends=ends)
        if value == 9:
            await live.ended.wait()

    async def _ask(self, live: Live, value: int, *, ends: bool) -> None:
        """Sends a signal, which is an event of its own, also where it is part of a stop.

        A paused container could not end, so that it is thawed.
        """
        await self._signal(live, value)
        self._core.emit(live.container, "kill", signal=str(value))
        if ends and live.container.state.status == "paused":
            try:
                await self.unpause(live.container)
            except (Conflict, Unavailable):
                # It has ended, or somebody else was quicker.
                self._core.log.debug("not thawed", container=live.container.id)

    async def _signal(self, live: Live, value: int) -> None:
        try:
            await live.monitor.signal(value)
        except Unavailable:
            # Its monitor is gone, so it has just ended: the record of that is on its way.
            self._core.log.debug("signal to a container that ends", container=live.container.id, signal=value)

    def running(self, container: Container) -> Live:
        """Conflict if it does not run, or is between two runs."""
        live = self.live.get(container.id)
        if live is None and container.state.status == "restarting":
            raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
        if live is None:
            raise Conflict(
                f"container {container.id} is not running", remedy=f"Start it: hooper start {container.name}"
            )
        return live

    async def pause(self, container: Container) -> None:
        live = self.running(container)
        if container.state.status == "paused":
            raise Conflict(f"Container {container.name} is already paused")
        await self._rest(live)
        try:
            await live.monitor.pause()
        except BaseException:
            self._probe_on(live)
            raise
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
        self._probe_on(live)

    async def _rest(self, live: Live) -> None:
        """Nothing is probed in a frozen container, nor frozen in the middle of it."""
        if live.container.state.health is not None:
            await self.health.rested(live.container.id)

    def _probe_on(self, live: Live) -> None:
        if live.container.state.health is not None:
            self.health.watch(live)

    def attaching(self, container_id: str) -> AbstractContextManager[None]:
        """A start waits for the client that is attached within."""
        return self._attached.coming(container_id)

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
        before = container.state.started_at
        if starting := self._starting.get(container.id):
            await starting.wait()
        live = self.live.get(container.id)
        self._core.emit(container, "attach")
        if live is None and container.state.started_at != before:
            # It has ended in the meantime: nothing follows.
            connection.close()
            return
        if live is None:
            self._attached.add(container.id, request, connection)
            return
        try:
            await live.monitor.attach(request, connection.fileno())
        finally:
            connection.close()

    def forget(self, container_id: str) -> None:
        """Drops what is kept about a container that is removed."""
        self._attached.drop(container_id)
        self._locks.pop(container_id, None)
        self._backoff.cancel(container_id)
        self._backoff.reset(container_id)

    async def reconcile(self) -> None:
        """After a start of the daemon: finds the containers that went on, and records what ended meanwhile."""
        await take_over(self._core, self)


async def _within(event: anyio.Event, timeout: float) -> bool:
    if timeout < 0:
        await event.wait()
        return True
    with anyio.move_on_after(timeout):
        await event.wait()
    return event.is_set()


def _said(error: Exception) -> str:
    if not isinstance(error, HooperError):
        return repr(error)
    return f"{error.what}: {error.why}" if error.why else error.what
