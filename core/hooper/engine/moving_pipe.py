"""Joins a coroutine and a blocking function by a pipe: the stream is read or written on a thread, files by a worker."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import lru_cache
from typing import TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")
U = TypeVar("U")
_SIZE = 1 << 20
_F_SETPIPE_SZ = 1031
"""fcntl(2)."""


@lru_cache(maxsize=1)
def _threads() -> anyio.CapacityLimiter:
    """Of their own: a stream may last for hours, and others wait for threads too."""
    return anyio.CapacityLimiter(64)


async def on_thread(function: Callable[..., T], *arguments: object) -> T:
    """Runs a function that may block for long."""
    return await anyio.to_thread.run_sync(function, *arguments, limiter=_threads())


async def joined(work: Callable[[int], Awaitable[T]], blocking: Callable[[int], U], *, work_reads: bool) -> tuple[T, U]:
    """Gives the two ends of a pipe to `work` and to `blocking`, which runs on a thread; returns both results.

    Of two errors the one that is the cause is raised, not that of a pipe that was closed for it.
    """
    ends = os.pipe2(os.O_CLOEXEC)
    with suppress(OSError):
        # The limit of pipe memory per user may be reached; the default size works too.
        fcntl.fcntl(ends[0], _F_SETPIPE_SZ, _SIZE)
    mine, other = ends if work_reads else ends[::-1]
    results: list[U] = []
    failed: list[Exception] = []

    async def run() -> None:
        try:
            results.append(await on_thread(blocking, other))
        except Exception as error:
            failed.append(error)
        finally:
            os.close(other)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        try:
            result = await work(mine)
        except Exception as error:
            failed.append(error)
        finally:
            os.close(mine)
    if failed:
        raise next((error for error in failed if not isinstance(error, BrokenPipeError)), failed[0])
    return result, results[0]
