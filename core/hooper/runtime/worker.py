"""Workers: each is a process for one call, forked from a server that has imported what they need.

The server is a fork of the launcher. It ends when the launcher does.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from hooper.api.errors import HooperError, Internal, no_space, to_wire
from hooper.runtime import heap, wire
from hooper.runtime import protocol as p
from hooper.runtime.forking import fork

_F_SETSIG = 10
"""Linux's fcntl.h; Python's fcntl does not name it."""
_DEPTH = 9000
"""Python's limit of nested calls in a worker: those that follow a tree of PATH_MAX's depth, 2048, fit in it."""
_decoder = wire.decoder(p.Call)

Function = Callable[[Any, Sequence[int]], Any]


def serve(channel: socket.socket) -> None:
    """The server: forks a worker for each encoded `Call` that comes."""
    wire.name_process("hooper-workers")
    while True:
        try:
            received = wire.receive(channel)
        except HooperError as error:
            print(f"hooper workers: {error}", file=sys.stderr, flush=True)
            continue
        if received is None:
            return
        _fork(channel, *received)


def _fork(channel: socket.socket, data: bytes, fds: list[int]) -> None:
    imported = _preload(data)
    try:
        fork(lambda: main(data, fds), [channel])
    except OSError as error:
        refuse(fds[0], error)
    finally:
        wire.close_all(fds)
    if imported:
        heap.settle()


def refuse(pair: int, error: OSError) -> None:
    """Tells the daemon, on its pair, that there can be no further process."""
    cause = Internal("cannot fork", error.strerror or str(error), "Free memory or raise pids.max.")
    with socket.socket(fileno=os.dup(pair)) as end:
        wire.send(end, wire.encode(p.Failed(error=to_wire(cause))))


def _preload(data: bytes) -> bool:
    """Imports the module of a call if it is one of hooper's own, so that the next one finds it.

    True if there was something to import. A stranger's module is imported in the worker alone. What goes wrong is left
    to the worker to find and tell.
    """
    module = _decoder.decode(data).function.partition(":")[0]
    if module in sys.modules or not module.startswith("hooper."):
        return False
    try:
        importlib.import_module(module)
    except ImportError as error:
        print(f"hooper workers: {error}", file=sys.stderr, flush=True)
    return True


def main(data: bytes, fds: list[int]) -> None:
    """The process: calls the function and answers on the first descriptor."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    wire.name_process("hooper-worker")
    sys.setrecursionlimit(_DEPTH)
    answer = socket.socket(fileno=fds.pop(0))
    _die_with(answer)
    if _is_closed(answer):
        return  # it was cancelled before that held
    message = _result(_decoder.decode(data), fds)
    # From here on the peer may close as it likes.
    fcntl.fcntl(answer, fcntl.F_SETFL, 0)
    try:
        wire.send(answer, wire.encode(message))
    except OSError:
        return  # nobody waits for it any more


def _die_with(answer: socket.socket) -> None:
    """The kernel kills this process when the daemon closes its end: the call was cancelled, or the daemon died."""
    fcntl.fcntl(answer, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(answer, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(answer, fcntl.F_SETFL, os.O_ASYNC)


def _is_closed(answer: socket.socket) -> bool:
    poll = select.poll()
    poll.register(answer, select.POLLIN)
    return bool(poll.poll(0))


def _result(call: p.Call, fds: Sequence[int]) -> p.Message:
    try:
        module, _, attribute = call.function.partition(":")
        function: Function = getattr(importlib.import_module(module), attribute)
        value = function(msgspec.msgpack.decode(call.arguments), fds)
        return p.Return(value=msgspec.msgpack.encode(value))
    except Exception as error:
        if not isinstance(no_space(error) or error, HooperError):
            # Without the module traceback, which cannot be imported once the worker has moved its root.
            sys.__excepthook__(type(error), error, error.__traceback__)
            sys.stderr.flush()
        return p.Failed(error=to_wire(error))
