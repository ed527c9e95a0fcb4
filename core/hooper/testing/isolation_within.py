"""Lets the conformance suite try a backend whose containers make themselves (`IsolationBackend.fork`, `attempt`).

class TestMineWithin(IsolationConformance):
    @pytest.fixture
    def backend(self):
        return MadeWithin(MyBackend("mine", None))

class TestMineAttempted(IsolationConformance):
    @pytest.fixture
    def backend(self):
        return Attempted(MyBackend("mine", None))
"""

from __future__ import annotations

import os
import signal
import socket
from typing import NoReturn

import msgspec

from hooper.api import oci
from hooper.api.errors import HooperError, Internal, from_wire, to_wire
from hooper.api.isolation import GATE_READY, Attempt, Bundle, IsolationBackend, Process, Stats, Stdio
from hooper.linux import syscalls

_READY, _FAILED = b"r", b"f"
_errors = msgspec.msgpack.Decoder(dict[str, str | int])


class _Gate:
    """`hooper.api.isolation.Gate` on a socket."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def fileno(self) -> int:
        return self._end.fileno()

    def ready(self, console: int | None) -> None:
        socket.send_fds(self._end, [_READY], [] if console is None else [console])
        if not self._end.recv(1):
            os._exit(1)

    def fail(self, error: HooperError) -> None:
        self._end.send(_FAILED + msgspec.msgpack.encode(to_wire(error)))


class _Closed(Exception):
    """The process has no gate any more."""


class MadeWithin(IsolationBackend):
    """`create` and `start` by way of the other backend's `fork` and `become`; everything else is the other's."""

    def __init__(self, backend: IsolationBackend) -> None:
        super().__init__(backend.name, backend.config)
        self._backend = backend
        self._waiting: dict[str, socket.socket] = {}

    def create(self, bundle: Bundle, stdio: Stdio) -> Process:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = self._backend.fork(self._backend.outline(bundle))
        if pid is None:
            ours.close()
            theirs.close()
            return self._backend.create(bundle, stdio)
        if pid == 0:
            self._become(bundle, stdio, theirs)
        theirs.close()
        try:
            console = _heard(ours)
        except BaseException as error:
            ours.close()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._backend.delete(bundle)
            if isinstance(error, _Closed):
                raise Internal("making a container", "its process died without a word") from None
            raise
        self._waiting[bundle.id] = ours
        return Process(pid, console)

    def _become(self, bundle: Bundle, stdio: Stdio, end: socket.socket) -> NoReturn:
        code = 1
        try:
            self._backend.become(bundle, stdio, _Gate(end))
        except HooperError as error:
            end.send(_FAILED + msgspec.msgpack.encode(to_wire(error)))
            code = int(getattr(error, "exit_code", 1))
        finally:
            os._exit(code)

    def start(self, bundle: Bundle, process: Process) -> None:
        end = self._waiting.pop(bundle.id, None)
        if end is None:
            self._backend.start(bundle, process)
            return
        with end:
            end.send(b"g")
            try:
                _heard(end)
            except _Closed:
                return  # the program runs
            raise Internal(f"starting container {bundle.id}", "it was ready twice")

    def exec(self, bundle: Bundle, process: oci.Process, stdio: Stdio, init_pid: int) -> Process:
        return self._backend.exec(bundle, process, stdio, init_pid)

    def expect_exec(self, bundle: Bundle, init_pid: int) -> None:
        self._backend.expect_exec(bundle, init_pid)

    def forget_exec(self, bundle: Bundle) -> None:
        self._backend.forget_exec(bundle)

    def pause(self, bundle: Bundle) -> None:
        self._backend.pause(bundle)

    def resume(self, bundle: Bundle) -> None:
        self._backend.resume(bundle)

    def update(self, bundle: Bundle, resources: oci.Resources) -> None:
        self._backend.update(bundle, resources)

    def stats(self, bundle: Bundle) -> Stats:
        return self._backend.stats(bundle)

    def processes(self, bundle: Bundle) -> list[int]:
        return self._backend.processes(bundle)

    def oom_killed(self, bundle: Bundle) -> bool:
        return self._backend.oom_killed(bundle)

    def delete(self, bundle: Bundle) -> None:
        end = self._waiting.pop(bundle.id, None)
        if end is not None:
            end.close()
        self._backend.delete(bundle)


class Attempted(MadeWithin):
    """`create` and `start` by way of the other backend's `attempt`, and where that fails as `MadeWithin`."""

    def __init__(self, backend: IsolationBackend) -> None:
        super().__init__(backend)
        self._attempts: dict[str, tuple[Attempt, socket.socket, Stdio]] = {}
        self.succeeded = 0
        """How many containers have come to run so."""

    def create(self, bundle: Bundle, stdio: Stdio) -> Process:
        own = _copies(stdio)  # as the monitor has them until the program runs
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            attempt = self._attempt(bundle, own, theirs.fileno())
        if attempt is not None and ours.recv(len(GATE_READY)) == GATE_READY:
            self._attempts[bundle.id] = attempt, ours, own
            return Process(attempt.pid)
        _close(own)
        ours.close()
        if attempt is not None:
            os.waitpid(attempt.pid, 0)
            attempt.close()
        return super().create(bundle, stdio)

    def _attempt(self, bundle: Bundle, stdio: Stdio, gate: int) -> Attempt | None:
        outline = self._backend.outline(bundle)
        if bundle.netns is not None or all(each.type != "network" for each in bundle.spec.linux.namespaces):
            return self._backend.attempt(outline, stdio, bundle.netns, gate)
        netns = _new_netns()
        try:
            return self._backend.attempt(outline, stdio, netns, gate)
        finally:
            os.close(netns)

    def start(self, bundle: Bundle, process: Process) -> None:
        found = self._attempts.pop(bundle.id, None)
        if found is None:
            super().start(bundle, process)
            return
        attempt, gate, stdio = found
        try:
            if self._runs(attempt, gate):
                self.succeeded += 1
                return
            # It says why; were it to succeed instead, the process would be another one than was told.
            super().start(bundle, super().create(bundle, stdio))
            raise Internal(f"starting container {bundle.id}", "it can be made, but not by an attempt")
        finally:
            _close(stdio)

    def _runs(self, attempt: Attempt, gate: socket.socket) -> bool:
        try:
            attempt.complete()
        except Exception:
            self._give_up(attempt, gate)
            return False
        gate.send(b"go")
        gate.recv(1)
        if not attempt.succeeded():
            self._give_up(attempt, gate)
            return False
        gate.close()
        attempt.close()
        return True

    def _give_up(self, attempt: Attempt, gate: socket.socket) -> None:
        gate.close()
        os.waitpid(attempt.pid, 0)
        attempt.close()

    def delete(self, bundle: Bundle) -> None:
        found = self._attempts.pop(bundle.id, None)
        if found is not None:
            attempt, gate, stdio = found
            gate.close()
            _close(stdio)
            os.kill(attempt.pid, signal.SIGKILL)
        super().delete(bundle)


def _copies(stdio: Stdio) -> Stdio:
    copies = [None if fd is None else os.dup(fd) for fd in (stdio.stdin, stdio.stdout, stdio.stderr)]
    return Stdio(copies[0], copies[1], copies[2], terminal=stdio.terminal)


def _close(stdio: Stdio) -> None:
    for fd in (stdio.stdin, stdio.stdout, stdio.stderr):
        if fd is not None:
            os.close(fd)


def _new_netns() -> int:
    """A network namespace such as the monitor makes; its descriptor."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        syscalls.setns(own, syscalls.CLONE_NEWNET)
        os.close(own)


def _heard(end: socket.socket) -> int | None:
    """The console that came with "ready"; what the process failed with is raised, and _Closed."""
    message, fds, _, _ = socket.recv_fds(end, 1 << 16, 1)
    if message[:1] == _FAILED:
        raise from_wire(_errors.decode(message[1:]))
    if message[:1] != _READY:
        raise _Closed
    return fds[0] if fds else None
