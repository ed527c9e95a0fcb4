"""The making of a container, in a process beside its monitor that ends when the program runs.

Whatever a backend touches while it makes a container is memory that a monitor would keep for the container's whole
life; and the monitor gets its own things ready in the meantime. The container's first process is the maker's child
until the maker ends, and then, the monitor being a subreaper, the monitor's.
"""

from __future__ import annotations

import os
import select
import signal
import socket

from hooper.api.errors import Internal, from_wire, to_wire
from hooper.api.isolation import Bundle, IsolationBackend, Stdio
from hooper.runtime import protocol as p
from hooper.runtime import sandbox, wire

_told = wire.decoder(p.Sandbox | p.Created | p.Started | p.Failed)
_bundle = wire.decoder(Bundle)


def unpacked(spawn: p.Spawn, netns: int | None) -> Bundle:
    """The bundle of a Spawn, with the network namespace that this process has."""
    bundle: Bundle = _bundle.decode(spawn.bundle)
    bundle.netns = netns
    return bundle


class Maker:
    """The monitor's side of it."""

    def __init__(self, channel: socket.socket, pid: int) -> None:
        self._channel, self.pid = channel, pid

    def fileno(self) -> int:
        return self._channel.fileno()

    def receive(self) -> tuple[p.Message, list[int]]:
        """What the maker says next; Failed if it died."""
        received = wire.receive(self._channel)
        if received is None:
            return p.Failed(error=to_wire(Internal("the making of the container broke off", "its process died"))), []
        data, fds = received
        message: p.Message = _told.decode(data)
        return message, fds

    def start(self) -> None:
        """Lets the program run; raises what `IsolationBackend.start` raised. The maker ends."""
        try:
            self._channel.send(b"go")
            message, _ = self.receive()
        finally:
            self.close()
        if isinstance(message, p.Failed):
            raise from_wire(message.error)

    def close(self) -> None:
        """The maker, if it still waits, gives up. Harmless twice."""
        self._channel.close()


def fork(spawn: p.Spawn, backend: IsolationBackend, stdio: Stdio, netns: int | None, daemon: socket.socket) -> Maker:
    """Begins to make the container; `netns` is the one to use, unless the Spawn asks for a new one."""
    ours, theirs = wire.pair()
    pid = os.fork()
    if pid:
        theirs.close()
        return Maker(ours, pid)
    ours.close()
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _make(spawn, backend, stdio, netns, daemon, theirs)
        status = 0
    finally:
        os._exit(status)


def _allowed(monitor: socket.socket, pid: int) -> bool:
    """Waits for the monitor's word to start the program; False if it has given up, and then it removes what there is,
    or if the process has ended, which the monitor is to see: it becomes its child when this one ends."""
    ended = os.pidfd_open(pid)
    try:
        ready, _, _ = select.select([monitor.fileno(), ended], [], [])
        return monitor.fileno() in ready and bool(monitor.recv(16))
    finally:
        os.close(ended)


def _make(
    spawn: p.Spawn,
    backend: IsolationBackend,
    stdio: Stdio,
    netns: int | None,
    daemon: socket.socket,
    monitor: socket.socket,
) -> None:
    def tell(message: p.Message, *fds: int) -> None:
        wire.send(monitor, wire.encode(message), fds)

    try:
        if spawn.netns == "new":
            netns = sandbox.make(disable_ipv6=spawn.disable_ipv6, sysctls=spawn.sysctls)
            # The daemon first: it has more to do with it.
            wire.send(daemon, wire.encode(p.Sandbox()), [netns])
            tell(p.Sandbox(), netns)
        bundle = unpacked(spawn, netns)
        process = backend.create(bundle, stdio)
    except Exception as error:
        tell(p.Failed(error=to_wire(error)))
        return
    tell(p.Created(pid=process.pid), *(() if process.console is None else (process.console,)))
    if not _allowed(monitor, process.pid):
        return
    try:
        backend.start(bundle, process)
    except Exception as error:
        tell(p.Failed(error=to_wire(error)))
    else:
        tell(p.Started(id=0, pid=process.pid, time_ns=0))
