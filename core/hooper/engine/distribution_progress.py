"""Messages of Docker's progress stream, for pull and push."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio

from hooper.api.engine import ProgressSink
from hooper.engine.layers import Watch

_INTERVAL = 0.1


def short(digest: str) -> str:
    """Twelve digits, as Docker shows layers."""
    return digest.partition(":")[2][:12]


async def say(sink: ProgressSink, status: str, id: str = "", **more: Any) -> None:
    await sink({"status": status, **more, **({"id": id} if id else {})})


async def layer(sink: ProgressSink, status: str, id: str, current: int = 0, total: int = 0) -> None:
    """A layer's state; `current` and `total` in bytes."""
    detail = {"current": current, "total": total} if total else {}
    await say(sink, status, id, progressDetail=detail)


class Meter:
    """Counts the bytes of one transfer, and tells of them at most ten times a second."""

    def __init__(self, sink: ProgressSink, status: str, id: str, total: int) -> None:
        self._sink, self._status, self._id, self._total = sink, status, id, total
        self._told = 0.0

    async def at(self, current: int) -> None:
        now = time.monotonic()
        if now - self._told >= _INTERVAL or current == self._total:
            self._told = now
            await layer(self._sink, self._status, self._id, current, self._total)


@asynccontextmanager
async def extracting(sink: ProgressSink, id: str) -> AsyncIterator[Watch]:
    """Yields a `Watch` that tells how far another process has read the descriptor, which shares its offset."""
    failure: Exception | None = None
    async with anyio.create_task_group() as group:

        async def follow(descriptor: int, scope: anyio.CancelScope) -> None:
            try:
                with scope:
                    meter = Meter(sink, "Extracting", id, os.fstat(descriptor).st_size)
                    while True:
                        await meter.at(os.lseek(descriptor, 0, os.SEEK_CUR))
                        await anyio.sleep(_INTERVAL)
            finally:
                os.close(descriptor)  # here, for a task that is cancelled may look at it once more

        @contextmanager
        def watch(descriptor: int) -> Iterator[None]:
            duplicate, scope = os.dup(descriptor), anyio.CancelScope()
            group.start_soon(follow, duplicate, scope)
            try:
                yield
            finally:
                scope.cancel()

        try:
            yield watch
        except Exception as error:  # goes on outside, where no task group wraps it
            failure = error
    if failure is not None:
        raise failure
