"""Health checks: a command that is run in a container again and again, and what it found.

Imported with the first container that has one. Defaults and messages are Docker's.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from hooper.api.errors import HooperError, InvalidArgument
from hooper.api.model import Container, ContainerConfig, Exec, Health, Healthcheck, ProbeResult
from hooper.engine.clock import rfc3339, seconds
from hooper.engine.core import Core
from hooper.engine.frames import frames
from hooper.engine.launch import Live
from hooper.runtime.client import MonitorClient

if TYPE_CHECKING:
    from hooper.engine.execs import Execs

NS = 1_000_000_000
INTERVAL_S = 30.0
TIMEOUT_S = 30.0
START_INTERVAL_S = 5.0
RETRIES = 3
SHORTEST_NS = 1_000_000
REMEMBERED = 5
OUTPUT_MAX = 4096
"""Bytes of a probe's output that are kept."""
KILLED_S = 5.0
"""How long the end of a killed probe is awaited: one that hangs in the kernel must not hang its container too."""
NOT_RUN = -1
"""The exit code of a probe that took too long or could not be started."""


def check(config: Healthcheck) -> None:
    """InvalidArgument for durations and numbers that cannot be."""
    durations = {
        "Interval": config.interval,
        "Timeout": config.timeout,
        "StartPeriod": config.start_period,
        "StartInterval": config.start_interval,
    }
    for name, value in durations.items():
        if value != 0 and value < SHORTEST_NS:
            raise InvalidArgument(f"{name} in Healthcheck cannot be less than 1ms", remedy="Leave it out or raise it.")
    if config.retries < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative", remedy="0 stands for the default, 3.")


def command(config: ContainerConfig) -> list[str]:
    """What a probe runs; empty if there is no check (none given, NONE, or a form that nobody knows)."""
    test = config.healthcheck.test if config.healthcheck else None
    if not test:
        return []
    if test[0] == "CMD":
        return test[1:]
    if test[0] == "CMD-SHELL":
        return [*(config.shell or ("/bin/sh", "-c")), *test[1:]]
    return []


def begun(container: Container) -> Health | None:
    """The health of a container that starts; what earlier runs logged stays. None: it has no check."""
    if not command(container.config):
        return None
    return Health(log=container.state.health.log if container.state.health else [])


def judged(container: Container, result: ProbeResult) -> Health:
    """The health after one more probe.

    Failures within the start period do not count, as long as no probe has succeeded.
    """
    config, old = container.config.healthcheck, container.state.health
    assert config is not None and old is not None
    status, streak = old.status, old.failing_streak
    if result.exit_code == 0:
        status, streak = "healthy", 0
    elif status != "starting" or not _in_start_period(container, config, seconds(result.start)):
        streak += 1
        if streak >= (config.retries or RETRIES):
            status = "unhealthy"
    return Health(status=status, failing_streak=streak, log=[*old.log, result][-REMEMBERED:])


def _in_start_period(container: Container, config: Healthcheck, moment: float) -> bool:
    return moment - seconds(container.state.started_at) < config.start_period / NS


def pause_before_next(container: Container, now: float) -> float:
    """Seconds until the next probe is due, from the end of the last one or from the start of the container."""
    config, health = container.config.healthcheck, container.state.health
    assert config is not None and health is not None
    interval = config.interval / NS or INTERVAL_S
    if health.status == "starting" and _in_start_period(container, config, now):
        interval = config.start_interval / NS or min(interval, START_INTERVAL_S)
    started = seconds(container.state.started_at)
    last = max(started, seconds(health.log[-1].end) if health.log else 0.0)
    return min(max(0.0, last + interval - now), interval)


@dataclass
class _Watch:
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    done: anyio.Event = field(default_factory=anyio.Event)


class HealthChecks:
    """Probes the containers that it is told of, each in a task of its own."""

    def __init__(self, core: Core, execs: Execs) -> None:
        self._core, self._execs = core, execs
        self._watches: dict[str, _Watch] = {}

    def watch(self, live: Live) -> None:
        """Begins, or goes on where an earlier daemon or a pause left off. Harmless without a check."""
        if not command(live.container.config) or live.container.state.health is None:
            return
        self.rest(live.container.id)
        watch = self._watches[live.container.id] = _Watch()
        self._core.background(self._run, live, watch)

    def rest(self, container_id: str) -> None:
        """Ends probing; a probe that is under way is ended soon."""
        if watch := self._watches.pop(container_id, None):
            watch.scope.cancel()

    async def rested(self, container_id: str) -> None:
        """As `rest`; returns when the probe that was under way has ended."""
        if watch := self._watches.pop(container_id, None):
            watch.scope.cancel()
            await watch.done.wait()

    async def _run(self, live: Live, watch: _Watch) -> None:
        try:
            with watch.scope:
                while True:
                    await anyio.sleep(pause_before_next(live.container, time.time()))
                    result = await _Probe(self._core, self._execs, live).run()
                    if watch.scope.cancel_called or live.ending or live.monitor.closed.is_set():
                        return
                    self._record(live.container, result)
        finally:
            watch.done.set()

    def _record(self, container: Container, result: ProbeResult) -> None:
        before = container.state.health
        if before is None:
            return
        now = judged(container, result)
        container.state.health = now
        self._core.store.save(container)
        if now.status != before.status:
            self._core.emit(container, f"health_status: {now.status}")


class _Probe:
    """One run of the command, which does not outlive the wish for it."""

    def __init__(self, core: Core, execs: Execs, live: Live) -> None:
        self._core, self._execs, self._live = core, execs, live
        config = live.container.config.healthcheck
        assert config is not None
        self._timeout = config.timeout / NS or TIMEOUT_S
        self._output = b""
        self._cut = False

    async def run(self) -> ProbeResult:
        begun_ns = time.time_ns()
        process = self._execs.add_probe(self._live.container, command(self._live.container.config))
        try:
            code, output = await self._outcome(process)
        except HooperError as error:
            code, output = NOT_RUN, f"{error.what}: {error.why}" if error.why else error.what
        finally:
            self._execs.drop(process.id)
        return ProbeResult(start=rfc3339(begun_ns), end=rfc3339(), exit_code=code, output=output)

    async def _outcome(self, process: Exec) -> tuple[int, str]:
        ours, theirs = socket.socketpair()
        try:
            ended = self._execs.ended(process.id)
            try:
                await self._execs.start(process.id, theirs, b"", None)
            finally:
                theirs.close()
            try:
                with anyio.move_on_after(self._timeout) as patience:
                    await self._collect(ours)
                    await ended.wait()
            finally:
                if not ended.is_set():
                    with anyio.move_on_after(KILLED_S, shield=True):
                        await end_probe(self._live.monitor, process)
                        await ended.wait()
        finally:
            ours.close()
        text = self._output.decode("utf-8", "replace") + ("..." if self._cut else "")
        if process.exit_code is not None and not patience.cancelled_caught:
            return process.exit_code, text
        late = f"Health check exceeded timeout ({_go_duration(self._timeout)})"
        return NOT_RUN, f"{late}: {text}" if text else late

    async def _collect(self, connection: socket.socket) -> None:
        """Takes all output, so that the probe never waits for us, and keeps its beginning."""
        async for _, data in frames(connection):
            room = OUTPUT_MAX - len(self._output)
            self._cut = self._cut or len(data) > room
            self._output += data[:room]


async def end_probe(monitor: MonitorClient, process: Exec) -> None:
    """Kills a probe and what it started: it leads a process group of its own."""
    with suppress(ProcessLookupError):
        if process.pid > 0 and os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
    await monitor.signal(signal.SIGKILL, process.id)


def _go_duration(seconds: float) -> str:
    """As Go prints a duration: 500ms, 1.5s, 1m30s, 2h0m0s."""
    if seconds < 1:
        return f"{seconds * 1000:.6f}".rstrip("0").rstrip(".") + "ms"
    minutes, rest = divmod(round(seconds, 9), 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{rest:.9f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
