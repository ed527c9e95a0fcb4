"""Workers for tests: one fork a call, no server behind it."""

from __future__ import annotations

import importlib
import os
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import anyio
import anyio.to_thread
import msgspec

from hooper.api.errors import Internal, from_wire, to_wire


def _die(output: int, result: Callable[[], Any]) -> NoReturn:
    """Runs in the child: sends what `result` returns or raises, and ends the process."""
    try:
        try:
            answer = {"value": result()}
        except BaseException as error:
            wire = to_wire(error)
            if wire["kind"] == "internal":
                wire["why"] = traceback.format_exc()
            answer = {"error": wire}
        data = msgspec.msgpack.encode(answer)
        while data:
            data = data[os.write(output, data) :]
    finally:
        os._exit(0)


def in_child(function: Callable[[], Any]) -> Any:
    """What `function` returns when it is called in a forked process; HooperErrors that it raises are raised here.

    Whatever it does to its namespaces, root or working directory ends with it. AssertionErrors and others
    become Internal, with their traceback. Results are made of what msgpack has.
    """
    pid, reading = _fork(function)
    return _collect(pid, reading)


def _fork(function: Callable[[], Any], keep: Sequence[int] | None = None) -> tuple[int, int]:
    """`keep`: the descriptors that are open in the child; None for all."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        if keep is not None:
            _close_all_but({0, 1, 2, writing, *keep})
        _die(writing, function)
    os.close(writing)
    return pid, reading


def _close_all_but(keep: set[int]) -> None:
    """A worker has no more than it was given: the other end of a pipe of its own would keep it from its end."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor not in keep:
            with suppress(OSError):  # the one that the listing needed
                os.close(descriptor)


def _collect(pid: int, reading: int) -> Any:
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(pid, 0)
    if not data:
        raise Internal("a worker died", f"exit status {os.waitstatus_to_exitcode(status)}")
    answer = msgspec.msgpack.decode(data)
    if "error" in answer:
        raise from_wire(answer["error"])
    return answer["value"]


class ForkWorkers:
    """A `hooper.api.driver.Workers` that forks the caller's own process for each call."""

    async def run(self, function: str, arguments: Mapping[str, Any], fds: Sequence[int] = ()) -> Any:
        module, _, name = function.partition(":")
        call = getattr(importlib.import_module(module), name)
        given = msgspec.msgpack.decode(msgspec.msgpack.encode(arguments))
        pid, reading = _fork(lambda: call(given, list(fds)), fds)
        try:
            return await anyio.to_thread.run_sync(_collect, pid, reading, abandon_on_cancel=True)
        except anyio.get_cancelled_exc_class():
            # The thread that waits reaps it.
            os.kill(pid, signal.SIGKILL)
            raise
