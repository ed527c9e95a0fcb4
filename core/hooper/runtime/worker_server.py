"""The fork server of workers: one fresh process a call, from one that has imported the function's module.

It is forked from the launcher. It ends, and its workers with it, when the daemon's end of its channel is closed. A worker is killed, with its
process group, when the daemon's end of its own pair is closed.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from hooper.api.errors import HooperError, Internal, to_wire
from hooper.linux import syscalls
from hooper.runtime import protocol as p
from hooper.runtime import wire
from hooper.runtime.loop import CLOSED, READ, Loop

_decoder = wire.decoder(p.Call)


class Server:
    """Serves Call messages on its channel."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._loop = Loop(_complain)
        self._answers: dict[int, socket.socket] = {}
        self._loop.watch(channel.fileno(), READ, self._receive)
        self._loop.watch_children(self._reap)

    def serve(self) -> None:
        """Returns when the daemon's end is closed."""
        self._loop.run()
        for pid in self._answers:
            _kill(pid)

    def _receive(self, _: int) -> None:
        received = wire.receive(self._channel)
        if received is None:
            self._loop.stop()
            return
        data, fds = received
        answer = socket.socket(fileno=fds.pop(0))
        try:
            call: p.Call = _decoder.decode(data)
            function = _imported(call.function)
            gc.freeze()
            pid = os.fork()
        except Exception as error:
            _answer(answer, p.Failed(error=to_wire(error)))
            answer.close()
        else:
            if pid == 0:
                wire.close_all([sock.detach() for sock in (self._channel, *self._answers.values())])
                _work(answer, function, call.arguments, fds)
            self._answers[pid] = answer
            self._loop.watch(answer.fileno(), 0, lambda events: self._left(pid, events))
        finally:
            wire.close_all(fds)

    def _left(self, pid: int, events: int) -> None:
        if events & CLOSED:
            self._loop.unwatch(self._answers[pid].fileno())
            _kill(pid)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            answer = self._answers.pop(pid, None)
            if answer is None:
                continue
            self._loop.unwatch(answer.fileno())
            # Harmless after an answer: the first one counts.
            _answer(answer, p.Failed(error=to_wire(_died(os.waitstatus_to_exitcode(status)))))
            answer.close()


def _died(code: int) -> Internal:
    if code < 0:
        return Internal("a worker died", f"signal {-code}", "It may have run out of memory.")
    return Internal("a worker died", f"exit status {code}")


def _kill(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        # Killed before it had made its group.
        os.kill(pid, signal.SIGKILL)


def _answer(sock: socket.socket, message: p.Message) -> None:
    try:
        wire.send(sock, wire.encode(message))
    except OSError:
        # The caller does not want it any more.
        pass


def _imported(path: str) -> Callable[[Any, Sequence[int]], Any]:
    module, _, attribute = path.partition(":")
    function: Callable[[Any, Sequence[int]], Any] = getattr(importlib.import_module(module), attribute)
    return function


def _work(
    answer: socket.socket, function: Callable[[Any, Sequence[int]], Any], arguments: bytes, fds: Sequence[int]
) -> None:
    """The worker; does not return."""
    status = 1
    try:
        os.setpgid(0, 0)
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _answer(answer, _result(function, arguments, fds))
        status = 0
    finally:
        os._exit(status)


def _result(function: Callable[[Any, Sequence[int]], Any], arguments: bytes, fds: Sequence[int]) -> p.Message:
    try:
        value = function(msgspec.msgpack.decode(arguments), fds)
        return p.Return(value=msgspec.msgpack.encode(value))
    except Exception as error:
        if not isinstance(error, HooperError):
            _complain(error)
        return p.Failed(error=to_wire(error))


def _complain(error: BaseException) -> None:
    import traceback

    traceback.print_exception(error, file=sys.stderr)
    sys.stderr.flush()


def serve(channel: socket.socket) -> None:
    """The process."""
    os.setsid()
    wire.name_process("hooper-workers")
    gc.enable()
    Server(channel).serve()
