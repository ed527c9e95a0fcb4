"""The daemon's side of workers: `hooper.api.driver.Workers`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import msgspec

from hooper.api.errors import from_wire
from hooper.runtime import protocol as p
from hooper.runtime import wire
from hooper.runtime.channel import Channel
from hooper.runtime.client import Launcher

KILLED_S = 5.0
"""How long a cancelled call waits for the end of its worker, which may be in a system call that takes its time."""

_decoder = wire.decoder(p.Return | p.Failed)


class ForkedWorkers:
    """Runs each call in a fork of the launcher; twice as many at once as there are processors."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._slots = asyncio.Semaphore(2 * (os.cpu_count() or 1))

    async def run(self, function: str, arguments: Mapping[str, Any], fds: Sequence[int] = ()) -> Any:
        """See `hooper.api.driver.Workers`."""
        async with self._slots:
            return await self._run(function, msgspec.msgpack.encode(arguments), fds)

    async def _run(self, function: str, arguments: bytes, fds: Sequence[int]) -> Any:
        ours, theirs = wire.pair()
        answer: asyncio.Future[p.Message] = asyncio.get_running_loop().create_future()
        over = anyio.Event()

        def heard(data: bytes, received: list[int]) -> None:
            wire.close_all(received)
            _settle(answer, _decoder.decode(data))

        def ended() -> None:
            why = "it died without an answer: killed, or out of memory"
            error: dict[str, str | int] = {"what": f"worker {function}", "why": why, "remedy": "See the daemon's log."}
            _settle(answer, p.Failed(error=error))
            over.set()

        channel = Channel(ours, heard, ended)
        try:
            with theirs:
                await self._launcher.call(p.Call(function=function, arguments=arguments), [theirs.fileno(), *fds])
            message = await answer
        finally:
            if not answer.done():
                # That kills a worker. Only when it is gone has it stopped making files.
                channel.end_sending()
                with anyio.move_on_after(KILLED_S, shield=True):
                    await over.wait()
            channel.close()
        if isinstance(message, p.Failed):
            raise from_wire(message.error)
        assert isinstance(message, p.Return)
        return msgspec.msgpack.decode(message.value)


def _settle(answer: asyncio.Future[p.Message], message: p.Message) -> None:
    if not answer.done():
        answer.set_result(message)
