"""The daemon's side of the worker server: `hooper.api.driver.Workers`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from hooper.api.errors import Internal, from_wire
from hooper.runtime import protocol as p
from hooper.runtime import wire
from hooper.runtime.channel import Channel

IDLE_S = 60.0
"""After so long without a call the server is ended, and its memory is free."""

_decoder = wire.decoder(p.Return | p.Failed)


class WorkerServer:
    """Runs calls in forks of a process of its own, which is started by the first one."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._channel: Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._slots = asyncio.Semaphore(2 * (os.cpu_count() or 1))
        self._running = 0
        self._idle: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int:
        """Of the server; 0 if there is none."""
        return self._process.pid if self._process else 0

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
        process, self._process = self._process, None
        if channel is not None:
            channel.close()
        if process is not None:
            await anyio.to_thread.run_sync(_end, process)

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
                await self.aclose()
                self._start()
            assert self._channel is not None
            try:
                await self._channel.send(data, fds)
            except (BrokenPipeError, ConnectionError):
                self._channel.close()
            else:
                return
        raise Internal("cannot run a worker", "the worker server ends as soon as it is asked for something")

    def _start(self) -> None:
        ours, theirs = wire.pair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hooper.runtime.worker_server", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
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


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
