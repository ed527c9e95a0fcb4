"""Lets the conformance suite try a backend whose containers make themselves (`IsolationBackend.fork`).

class TestMineWithin(IsolationConformance):
    @pytest.fixture
    def backend(self):
        return MadeWithin(MyBackend("mine", None))
"""

from __future__ import annotations

import os
import signal
import socket
from typing import NoReturn

import msgspec

from hooper.api import oci
from hooper.api.errors import HooperError, Internal, from_wire, to_wire
from hooper.api.isolation import Bundle, IsolationBackend, Outline, Process, Stats, Stdio

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
        linux = bundle.spec.linux
        born = {each.type: each.path for each in linux.namespaces if each.type in ("pid", "user")}
        pid = self._backend.fork(Outline(bundle.id, linux.cgroups_path, born))
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


def _heard(end: socket.socket) -> int | None:
    """The console that came with "ready"; what the process failed with is raised, and _Closed."""
    message, fds, _, _ = socket.recv_fds(end, 1 << 16, 1)
    if message[:1] == _FAILED:
        raise from_wire(_errors.decode(message[1:]))
    if message[:1] != _READY:
        raise _Closed
    return fds[0] if fds else None
