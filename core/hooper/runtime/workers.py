"""The daemon's side of the worker server: `hooper.api.driver.Workers`."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from hooper.api.errors import Internal, from_wire
from hooper.runtime import protocol as p
from hooper.runtime import wire
from hooper.runtime.channel import Channel

IDLE_S = 60.0
"""After so long without a call the server is ended, and its memory is free."""

_decoder = wire.decoder(p.Return | p.Failed)


Starter = Callable[[socket.socket], Awaitable[None]]
"""Makes a process that serves calls on a socket; the caller still closes its own: `Launcher.serve_calls`."""


class WorkerServer:
    """Runs calls in forks of a process of its own, which is made for the first one."""

    def __init__(self, start: Starter, idle_s: float = IDLE_S) -> None:
        self._starter, self._idle_s = start, idle_s
        self._channel: Channel | None = None
        self._starting = asyncio.Lock()
        self._slots = asyncio.Semaphore(2 * (os.cpu_count() or 1))
        self._running = 0
        self._idle: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    async def run(self, function: str, arguments: Mapping[str, Any], fds: Sequence[int] = ()) -> Any:
        """See `hooper.api.driver.Workers`."""
        async with self._slots:
            self._running += 1
            self._cancel_idle()
            try:
                return await self._run(function, msgspec.msgpack.encode(arguments), fds)
            finally:
                self._running -= 1
                if not self._running:
                    self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._end_idle)

    async def aclose(self) -> None:
        """Ends the server and the calls that still run. Harmless if there is none."""
        self._cancel_idle()
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    async def _run(self, function: str, arguments: bytes, fds: Sequence[int]) -> Any:
        ours, theirs = wire.pair()
        answer: asyncio.Future[p.Message] = asyncio.get_running_loop().create_future()

        def heard(data: bytes, received: list[int]) -> None:
            wire.close_all(received)
            _settle(answer, _decoder.decode(data))

        def ended() -> None:
            _settle(answer, p.Failed(error={"what": f"worker {function}", "why": "the worker server is gone"}))

        # Closing it is also what kills a worker that still runs.
        channel = Channel(ours, heard, ended)
        try:
            with theirs:
                call = wire.encode(p.Call(function=function, arguments=arguments))
                await self._send(call, [theirs.fileno(), *fds])
            message = await answer
        finally:
            channel.close()
        if isinstance(message, p.Failed):
            raise from_wire(message.error)
        assert isinstance(message, p.Return)
        return msgspec.msgpack.decode(message.value)

    async def _send(self, data: bytes, fds: Sequence[int]) -> None:
        for _ in range(2):
            if self._channel is None or self._channel.closed:
                await self._start()
            assert self._channel is not None
            try:
                await self._channel.send(data, fds)
            except (BrokenPipeError, ConnectionError):
                self._channel.close()
            else:
                return
        raise Internal("cannot run a worker", "the worker server ends as soon as it is asked for something")

    async def _start(self) -> None:
        async with self._starting:
            if self._channel is not None and not self._channel.closed:
                return
            ours, theirs = wire.pair()
            with theirs:
                await self._starter(theirs)
            self._channel = Channel(ours, lambda _, fds: wire.close_all(fds), lambda: None)

    def _cancel_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _end_idle(self) -> None:
        task = asyncio.get_running_loop().create_task(self.aclose())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _settle(answer: asyncio.Future[p.Message], message: p.Message) -> None:
    if not answer.done():
        answer.set_result(message)
