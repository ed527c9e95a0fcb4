"""The making of a container, in a process that its monitor forks.

Where the backend can, that is the container's first process itself: it makes everything and then executes the
program. Otherwise it is a maker, which ends when the program runs; the container's first process is its child until
then, and afterwards, the monitor being a subreaper, the monitor's.

Either way it is not the monitor: whatever a backend touches while it makes a container is memory that a monitor would
keep for the container's whole life. A page that the monitor writes to while this process has not executed its program
is copied, so the monitor has got its own things ready before.
"""

from __future__ import annotations

import os
import select
import signal
import socket

from hooper.api.errors import HooperError, to_wire
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


class Making:
    """The monitor's side of it. Made, then `begin`."""

    def __init__(self) -> None:
        self._channel, self._theirs = wire.pair()
        self.pid = 0
        self._within = False
        self._allowed = False
        self.reaped = False
        """To be set by who has waited for `pid`, which may be another process's then."""

    def fileno(self) -> int:
        return self._channel.fileno()

    def begin(
        self, spawn: p.Spawn, backend: IsolationBackend, stdio: Stdio, netns: int | None, daemon: socket.socket
    ) -> None:
        """Begins to make the container; `netns` is the one to use, if there is one already."""
        pid = backend.fork(spawn.outline)
        self._within = pid is not None
        if pid is None:
            pid = os.fork()
        self.pid = pid
        if pid:
            self._theirs.close()
            return
        self._channel.close()
        # The monitor's, for its loop.
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            (_become if self._within else _make)(spawn, backend, stdio, netns, daemon, self._theirs)
        finally:
            os._exit(1)

    def receive(self) -> tuple[p.Message | None, list[int]]:
        """What comes next of Sandbox, Created, Started and Failed; None if the process died without a word."""
        received = wire.receive(self._channel)
        if received is None:
            started = self._within and self._allowed
            return (p.Started(id=0, pid=self.pid, time_ns=0) if started else None), []
        data, fds = received
        message: p.Message = _told.decode(data)
        if self._within and isinstance(message, p.Created):
            # It is the first in its pid namespace and does not know how others call it.
            message.pid = self.pid
        return message, fds

    def allow(self) -> None:
        """Lets the program run, which is told as Started."""
        self._allowed = True
        try:
            self._channel.send(b"go")
        except (BrokenPipeError, ConnectionResetError):
            pass  # that is heard by who receives

    def close(self) -> None:
        """The process, if it still waits, gives up. Harmless twice."""
        self._channel.close()
        self._theirs.close()

    def break_off(self, first: int) -> None:
        """Returns when the process has ended: until then it may go on making. Harmless when it is over.

        `first` is the container's first process, if it was told and not waited for: it ends, too, for a maker may
        have begun to run the program.
        """
        self.close()
        if not self.reaped and self.pid:
            self.reaped = True
            _end(self.pid, kill=self._within)
        if first and first != self.pid:
            _end(first, kill=True)


def _end(pid: int, *, kill: bool) -> None:
    """Waits for a child to end."""
    try:
        if kill:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass  # it ended before this process asked to hear of its children


def _sandbox(spawn: p.Spawn, netns: int | None, daemon: socket.socket, monitor: socket.socket) -> int | None:
    if spawn.netns != "new" or netns is not None:
        return netns
    made = sandbox.make(spawn.new_netns)
    # The daemon first: it has more to do with it.
    for end in (daemon, monitor):
        wire.send(end, wire.encode(p.Sandbox()), [made])
    return made


# --- from within ---


class _Gate:
    """`hooper.api.isolation.Gate` on the channel to the monitor."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel

    def fileno(self) -> int:
        return self._channel.fileno()

    def ready(self, console: int | None) -> None:
        wire.send(self._channel, wire.encode(p.Created(pid=0)), () if console is None else (console,))
        if not self._channel.recv(16):
            os._exit(1)

    def fail(self, error: HooperError) -> None:
        wire.send(self._channel, wire.encode(p.Failed(error=to_wire(error))))


def _become(
    spawn: p.Spawn,
    backend: IsolationBackend,
    stdio: Stdio,
    netns: int | None,
    daemon: socket.socket,
    monitor: socket.socket,
) -> None:
    try:
        netns = _sandbox(spawn, netns, daemon, monitor)
        backend.become(unpacked(spawn, netns), stdio, _Gate(monitor))
    except Exception as error:
        # The socket object may have been closed by number; the number is still the channel's.
        wire.send(monitor, wire.encode(p.Failed(error=to_wire(error))))
        os._exit(getattr(error, "exit_code", 1))


# --- by a maker ---


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
        netns = _sandbox(spawn, netns, daemon, monitor)
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


def _allowed(monitor: socket.socket, pid: int) -> bool:
    """Waits for the monitor's word to start the program; False if it has given up, and then it removes what there is,
    or if the process has ended, which the monitor is to see: it becomes its child when this one ends."""
    ended = os.pidfd_open(pid)
    try:
        ready, _, _ = select.select([monitor.fileno(), ended], [], [])
        return monitor.fileno() in ready and bool(monitor.recv(16))
    finally:
        os.close(ended)
