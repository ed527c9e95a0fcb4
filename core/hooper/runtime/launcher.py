"""The fork server: a small process that has imported backends and log drivers, and forks monitors.

Workers are forked by another one, which it forks itself: what they import would make each fork of a monitor slower.

    python -m hooper.runtime.launcher FD

FD is its end of the daemon's pair, on which the first message is a `LauncherConfig`. It ends when the daemon's end
is closed; the monitors go on.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from hooper.api.driver import HostInfo
from hooper.api.errors import HooperError, Internal, to_wire
from hooper.api.isolation import IsolationBackend
from hooper.runtime import heap, monitor, rehearsal, spare, wire, worker
from hooper.runtime.forking import Forked, fork
from hooper.runtime.protocol import Done, DriverReference, Failed, LauncherConfig

_CALL = b"\xa4type\xa4Call"
"""How the encoded map of a `Call` begins: its tag."""


def load(reference: DriverReference) -> Any:
    """Imports a driver and makes it with its settings."""
    config = None
    if reference.config_type:
        config = msgspec.json.decode(reference.config, type=_imported(reference.config_type))
    return _imported(reference.factory)(reference.name, config)


def _imported(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _load_all(references: Sequence[DriverReference], host: HostInfo) -> dict[str, Any]:
    """A driver that cannot be loaded is left out: one that is broken does not take the others down."""
    drivers = {}
    for reference in references:
        try:
            driver = load(reference)
            if isinstance(driver, IsolationBackend):
                driver.preload(host)
        except Exception as error:
            print(f"hooper launcher: driver {reference.name} is left out: {error!r}", file=sys.stderr, flush=True)
        else:
            drivers[reference.name] = driver
    return drivers


class Launcher:
    """Serves Spawn messages on its channel."""

    def __init__(self, channel: socket.socket, config: LauncherConfig) -> None:
        self._channel = channel
        self._backends = _load_all(config.backends, config.host)
        self._log_drivers = _load_all(config.log_drivers, config.host)
        self._place = config.host.exec_root / f"rehearsal-{os.getpid()}"
        self._log_driver = config.log_driver
        self._usual_netns = config.usual_netns
        self._spare: Forked | None = None
        self._workers: Forked | None = None
        self._wants_spare = True
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)

    def rehearse(self) -> None:
        """What goes wrong in it costs speed alone."""
        try:
            rehearsal.rehearse(self._place, self._log_drivers, self._log_driver)
        except Exception as error:
            print(f"hooper launcher: the rehearsal failed: {error!r}", file=sys.stderr, flush=True)

    def serve(self) -> None:
        """Returns when the daemon's end is closed."""
        try:
            wire.send(self._channel, wire.encode(Done(id=0)))
        except OSError:
            return  # the daemon did not get so far
        while True:
            if self._wants_spare and spare.is_quiet(self._channel):
                self._wants_spare = False
                self._fork_spare()
            try:
                received = wire.receive(self._channel)
            except HooperError as error:
                print(f"hooper launcher: {error}", file=sys.stderr, flush=True)
                continue
            if received is None:
                return
            data, fds = received
            try:
                (self._call if data.startswith(_CALL, 1) else self._spawn)(data, fds)
            except OSError as error:
                worker.refuse(fds[0], error)
            finally:
                wire.close_all(fds)

    def _call(self, data: bytes, fds: list[int]) -> None:
        if self._workers is not None:
            if self._workers.give(data, fds):
                return
            self._workers.channel.close()
            self._workers = None

        def serve(channel: socket.socket) -> None:
            wire.close_all(fds)
            worker.serve(channel)

        self._workers = Forked(serve, self._channels())
        self._workers.give(data, fds)

    def _spawn(self, data: bytes, fds: list[int]) -> None:
        waiting, self._spare, self._wants_spare = self._spare, None, True
        if waiting is not None:
            with waiting.channel:
                if waiting.give(data, fds):
                    return
        fork(lambda: self._become_monitor(data, fds), self._channels())

    def _fork_spare(self) -> None:
        try:
            self._spare = Forked(self._wait, self._channels())
        except OSError:
            pass  # whoever is to have a monitor will hear of it

    def _wait(self, channel: socket.socket) -> None:
        told = spare.wait(channel, self._usual_netns)
        if told is not None:
            self._become_monitor(*told)

    def _channels(self) -> list[socket.socket]:
        """What is this process's alone: who keeps a copy of an end would keep others from hearing that it is closed."""
        return [self._channel, *(forked.channel for forked in (self._spare, self._workers) if forked is not None)]

    def _become_monitor(self, data: bytes, fds: list[int], made: spare.Netns | None = None) -> None:
        os.setsid()
        # A monitor outlives the daemon: it must not hold the daemon's streams open.
        for number in range(3):
            os.dup2(self._null, number)
        channel = socket.socket(fileno=fds.pop(0))
        monitor.main(channel, data, fds, self._backends, self._log_drivers, made)


def _configuration(channel: socket.socket) -> LauncherConfig:
    """It is no argument, which whoever runs as pid 1 of a container (an init) would show to the container."""
    received = wire.receive(channel)
    if received is None:
        raise Internal("starting the launcher", "the daemon is gone")
    config: LauncherConfig = wire.from_json(received[0], LauncherConfig)
    return config


def _outlive(*_: object) -> None:
    """The call that caused the signal raises OSError."""


def main(arguments: Sequence[str]) -> None:
    """The process."""
    wire.name_process("hooper-launcher")
    channel = socket.socket(fileno=int(arguments[0]))
    os.set_inheritable(channel.fileno(), False)
    try:
        launcher = Launcher(channel, _configuration(channel))
    except Exception as error:
        wire.send(channel, wire.encode(Failed(error=to_wire(error))))
        return
    os.chdir("/")
    # Monitors that end are nobody's concern here.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # For them: Python ignores these, and what is ignored stays so through exec; a handler does not.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, _outlive)
    launcher.rehearse()
    heap.settle()
    launcher.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
