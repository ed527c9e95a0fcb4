"""The making of a container, in a process that its monitor forks.

Where the backend can, that is the container's first process itself: it makes everything and then executes the
program, either by an attempt, which is the quick way, or because it was forked, and can do anything. Otherwise it is
a maker, which ends when the program runs; the container's first process is its child until then, and afterwards, the
monitor being a subreaper, the monitor's.

Whoever is forked is not the monitor: whatever a backend touches while it makes a container is memory that a monitor
would keep for the container's whole life. A page that the monitor writes to while this process has not executed its
program is copied, so the monitor has got its own things ready before.
"""

from __future__ import annotations

import os
import select
import signal
import socket

from hooper.api.errors import HooperError, to_wire
from hooper.api.isolation import Attempt, Bundle, IsolationBackend, Stdio
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

    def __init__(
        self, spawn: p.Spawn, backend: IsolationBackend, stdio: Stdio, netns: int | None, daemon: socket.socket
    ) -> None:
        """`netns` is the network namespace to use, if there is one already."""
        self._spawn, self._backend, self._stdio, self._netns, self._daemon = spawn, backend, stdio, netns, daemon
        self._channel, self._theirs = wire.pair()
        self._attempt: Attempt | None = None
        self.pid = 0
        self._within = False
        self._allowed = False
        self.ready = False
        """All is made, and waits to be allowed to run the program."""
        self.failed = False
        """An attempt has failed: `begin_again` is to be called."""
        self.reaped = False
        """To be set by who has waited for `pid`, which may be another process's then."""

    def fileno(self) -> int:
        return self._channel.fileno()

    @property
    def attempting(self) -> bool:
        """Whether it works is not known yet: `receive` tells of nothing before."""
        return self._attempt is not None

    def begin(self) -> None:
        """Begins to make the container."""
        if self._netns is not None or self._spawn.netns == "host":
            gate = self._theirs.fileno()
            self._attempt = self._backend.attempt(self._spawn.outline, self._stdio, self._netns, gate)
        if self._attempt is None:
            self._fork()
            return
        self._within, self.pid = True, self._attempt.pid
        self._theirs.close()

    def _fork(self) -> None:
        spawn, backend = self._spawn, self._backend
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
            live = _become if self._within else _make
            live(spawn, backend, self._stdio, self._netns, self._daemon, self._theirs)
        finally:
            os._exit(1)

    def receive(self) -> tuple[p.Message | None, list[int]] | None:
        """What comes next of Sandbox, Created, Started and Failed, with no message if the process died without a word.

        None: there is nothing to tell yet.
        """
        received = wire.receive(self._channel)
        if self._attempt is not None:
            return self._heard(self._attempt, received)
        if received is None:
            started = self._within and self._allowed
            return (p.Started(id=0, pid=self.pid, time_ns=0) if started else None), []
        data, fds = received
        message: p.Message = _told.decode(data)
        if isinstance(message, p.Created):
            self.ready = True
            if self._within:
                # It is the first in its pid namespace and does not know how others call it.
                message.pid = self.pid
        return message, fds

    def _heard(
        self, attempt: Attempt, received: tuple[bytes, list[int]] | None
    ) -> tuple[p.Message | None, list[int]] | None:
        if received is not None:
            self.ready = True
            return None
        if self._allowed and attempt.succeeded():
            attempt.close()
            self._attempt = None
            self._spawn.outline.draft = b""  # it is large, and not needed again
            return p.Started(id=0, pid=self.pid, time_ns=0), []
        self.ready, self.failed = False, True
        return None

    def begin_again(self) -> None:
        """After an attempt that has failed: makes the container the other way. `fileno` is another one from now on."""
        self.break_off(0)
        self._channel, self._theirs = wire.pair()
        self._allowed = self.reaped = self.failed = False
        self._fork()

    def allow(self) -> None:
        """Lets the program run, which is told as Started. Harmless twice."""
        if self._allowed:
            return
        try:
            if self._attempt is not None:
                self._attempt.complete()
        except Exception:
            self._channel.shutdown(socket.SHUT_RDWR)  # so it has failed, as who receives will hear
            return
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
        if self._attempt is not None:
            self._attempt.close()
            self._attempt = None
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
