"""What a daemon that starts does about the containers of the one before it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from hooper.api.engine import WaitResult
from hooper.api.errors import HooperError
from hooper.api.model import Container, Exec
from hooper.engine import restarts
from hooper.engine.clock import rfc3339
from hooper.engine.core import Core
from hooper.engine.launch import Live
from hooper.runtime.client import MonitorClient, read_exit
from hooper.runtime.protocol import EXIT_FILE, ExecExited, Exited, Status

if TYPE_CHECKING:
    from hooper.engine.lifecycle import Lifecycle


async def take_over(core: Core, lifecycle: Lifecycle) -> None:
    """Finds the containers that went on, records what ended meanwhile, and starts what its policy wants to run."""
    there = set(os.listdir(core.host.exec_root / "containers"))
    taker = _Taker(core, lifecycle)
    async with anyio.create_task_group() as tasks:
        for container in core.store.all():
            # Also one whose start or end was not recorded any more.
            if container.state.running or container.id in there:
                tasks.start_soon(core.guarded, taker.find, container)
    await core.networks.reconcile(set(lifecycle.live))
    resting = [c for c in core.store.all() if c.id not in lifecycle.live and not c.moving]
    wanted = [container for container in resting if restarts.wanted_at_boot(container)]
    for container in wanted:
        container.state.status = "restarting"
    if wanted:
        core.background(taker.revive, restarts.in_waves(wanted))


class _Taker:
    def __init__(self, core: Core, lifecycle: Lifecycle) -> None:
        self._core, self._lifecycle = core, lifecycle

    async def revive(self, waves: list[list[Container]]) -> None:
        for wave in waves:
            async with anyio.create_task_group() as tasks:
                for container in wave:
                    tasks.start_soon(self._core.guarded, self._lifecycle.restart_later, container)

    async def find(self, container: Container) -> None:
        try:
            monitor, status = await MonitorClient.connect(self._core.run_dir(container.id))
        except OSError:
            await self._was_lost(container)
            return
        if not status.started:
            await monitor.aclose()
            await self._was_lost(container)
            return
        self._adopt(container, monitor, status)
        execs = self._lifecycle.execs.recover(container, status.execs)
        self._lifecycle.watch(self._lifecycle.live[container.id])
        if execs:
            self._core.background(self._see_to, monitor, execs)

    def _adopt(self, container: Container, monitor: MonitorClient, status: Status) -> None:
        self._lifecycle.live[container.id] = Live(container, monitor, inherited=True)
        state = container.state
        if not state.running or state.status == "restarting":
            state.started_at, state.exit_code, state.error = rfc3339(status.started_ns), 0, ""
            self._lifecycle.begin_health(container)
        state.pid = status.pid
        state.status = "paused" if status.paused else "running"
        self._core.store.save(container)

    async def _see_to(self, monitor: MonitorClient, execs: list[Exec]) -> None:
        """Ends the probes, which nobody waits for any more, and notes the end of what the monitor has forgotten."""
        from hooper.engine.health import end_probe

        try:
            for process in execs:
                if process.probe:
                    await end_probe(monitor, process)
            # The answer to this comes after all that the monitor had to tell.
            await monitor.signal(0, execs[0].id)
        except HooperError as error:
            self._core.log.debug("a container ended while it was taken over", error=str(error))
            return
        await anyio.lowlevel.checkpoint()
        for process in execs:
            if process.running and not process.pid:
                self._lifecycle.execs.exited(ExecExited(exec_id=process.id, exit_code=255, time_ns=time.time_ns()))

    async def _was_lost(self, container: Container) -> None:
        """Nothing of it runs."""
        core, state, directory = self._core, container.state, self._core.run_dir(container.id)
        exited = read_exit(directory)
        if exited is not None and state.finished_at == rfc3339(exited.time_ns):
            exited = None  # it is recorded already
        elif exited is None and state.status in ("running", "paused"):
            # A reboot ends all containers at once; what is not there cannot be asked.
            exited = Exited(exit_code=255, oom_killed=False, time_ns=time.time_ns())
        if os.path.isdir(directory) and not (directory / EXIT_FILE).exists():
            await self._lifecycle.destroy_remains(container)
        self._lifecycle.execs.recover(container, {})
        await core.networks.leave(container.id, None)
        if exited is not None:
            self._lifecycle.execs.container_ended(container.id, exited.execs)
            await self._record(container, exited)
        self._lifecycle.starter.clean(container.id)

    async def _record(self, container: Container, exited: Exited) -> None:
        again = self._lifecycle.record(container, exited)
        self._core.store.save(container)
        self._lifecycle.tell_end(container, exited)
        if container.host_config.auto_remove and not again:
            self._lifecycle.waiters.keep(container.id, WaitResult(exited.exit_code, container.state.error))
            await self._lifecycle.remove(container)
