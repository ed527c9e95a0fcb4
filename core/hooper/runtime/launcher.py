"""The fork server: a small process that has imported backends and log drivers, and forks monitors.

Workers are forked by another one, which it forks itself: what they import would make each fork of a monitor slower.

    python -m hooper.runtime.launcher FD

FD is its end of the daemon's pair, on which the first message is a `LauncherConfig`. It ends when the daemon's end
is closed; the monitors go on.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from hooper.api.driver import HostInfo
from hooper.api.errors import HooperError, Internal, to_wire
from hooper.api.isolation import IsolationBackend
from hooper.linux import pinning
from hooper.runtime import heap, monitor, rehearsal, spare, wire, worker
from hooper.runtime.forking import Forked, descriptors, fork
from hooper.runtime.protocol import Done, DriverReference, Failed, LauncherConfig

_CALL = b"\xa4type\xa4Call"
"""How the encoded map of a `Call` begins: its tag."""
CONTAINERS = 100
"""How many containers a monitor has at most, one after the other."""


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
        self._spares = spare.Spares(lambda: Forked(self._wait, self._channels()).channel)
        self._workers: Forked | None = None
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._inherited: set[int] = set()
        """What a monitor has open that has no container."""

    def rehearse(self) -> None:
        """What goes wrong in it costs speed alone."""
        for name, backend in self._backends.items():
            self._try(f"the rehearsal of {name}", partial(rehearsal.rehearse_backend, backend))
        self._try("the rehearsal", lambda: rehearsal.rehearse(self._place, self._log_drivers, self._log_driver))

    def _try(self, what: str, run: Callable[[], None]) -> None:
        try:
            run()
        except Exception as error:
            print(f"hooper launcher: {what} failed: {error!r}", file=sys.stderr, flush=True)

    def serve(self) -> None:
        """Returns when the daemon's end is closed."""
        self._inherited = descriptors() - {channel.fileno() for channel in self._channels()}
        try:
            wire.send(self._channel, wire.encode(Done(id=0)))
        except OSError:
            return  # the daemon did not get so far
        while True:
            self._spares.attend(self._channel)
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
        if not self._spares.give(data, fds):
            fork(lambda: self._be_monitor(spare.Told(data, fds, None)), self._channels())

    def _wait(self, channel: socket.socket) -> None:
        self._be_monitor(spare.wait(channel, self._usual_netns))

    def _channels(self) -> list[socket.socket]:
        """What is this process's alone: who keeps a copy of an end would keep others from hearing that it is closed."""
        workers = [] if self._workers is None else [self._workers.channel]
        return [self._channel, *self._spares.channels, *workers]

    def _be_monitor(self, told: spare.Told | None) -> None:
        """The life of a monitor: of one container after the other."""
        if told is None:
            return
        os.setsid()
        # A monitor outlives the daemon: it must not hold the daemon's streams open.
        for number in range(3):
            os.dup2(self._null, number)
        had = 0
        while told is not None and self._have_container(told) and (had := had + 1) < CONTAINERS:
            if had == 1:
                self._pin()
            channel = spare.offer(self._spares.door)
            told = None if channel is None else spare.wait(channel, self._usual_netns)

    def _pin(self) -> None:
        """What a container's life has written to, the next one's will write to, and its first process too."""
        try:
            self._inherited.add(pinning.pin_own())
        except OSError:
            pass  # each fork takes a millisecond longer

    def _have_container(self, told: spare.Told) -> bool:
        """True if the process is as it was before."""
        channel = socket.socket(fileno=told.fds.pop(0))
        again = monitor.main(channel, told.taken(), told.fds, self._backends, self._log_drivers, told.netns)
        gc.collect(0)  # what was made for this container, and refers to itself
        return again and descriptors() == self._inherited


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
    heap.fill()
    launcher.rehearse()
    heap.settle()
    launcher.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
