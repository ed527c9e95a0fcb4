"""Streams of a request: JSON lines out, pipes to and from the engine."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import anyio
import anyio.abc
import msgspec

from hooper_api_docker.errors import ClientGone, in_band, unwrap
from hooper_api_docker.http import JSON, Request

T = TypeVar("T")
F_SETPIPE_SZ = 1031
"""fcntl(2)."""
PIPE_SIZE = 1 << 20
MULTIPLEXED = b"application/vnd.docker.multiplexed-stream"
RAW = b"application/vnd.docker.raw-stream"


def stream_type(request: Request, tty: bool) -> bytes:
    """Content type of a container's output: told apart from API 1.42 on."""
    return MULTIPLEXED if not tty and request.version >= (1, 42) else RAW


def frame(stream: int, data: bytes) -> bytes:
    """A frame of the multiplexed stream: 1 is stdout, 2 stderr."""
    return bytes((stream, 0, 0, 0)) + len(data).to_bytes(4, "big") + data


class JsonLines:
    """A chunked answer of JSON objects, a line each. It begins with the first one."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._lock = anyio.Lock()

    async def send(self, *messages: dict[str, Any]) -> None:
        """All of them in one write. Concurrent senders are fine."""
        if not messages:
            return
        async with self._lock:
            if not self._request.begun:
                await self._request.begin(JSON)
            await self._request.write(b"".join(msgspec.json.encode(message) + b"\r\n" for message in messages))

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Does the work while the client is there. An error after the first line is told in band."""
        try:
            async with self._request.while_connected():
                await work()
        except ClientGone:
            raise
        except Exception as raised:
            error = unwrap(raised)
            if isinstance(error, ClientGone) or not self._request.begun:
                raise error from None
            await self.send(in_band(error))
        if not self._request.begun:
            await self._request.begin(JSON)
        await self._request.end()


class _Pipe:
    """A large pipe whose ends are closed once; `own` is the end that is non-blocking."""

    def __init__(self, own: int) -> None:
        self.ends = list(os.pipe2(os.O_CLOEXEC))
        os.set_blocking(self.ends[own], False)
        with suppress(OSError):
            # The limit of pipe memory per user may be reached; the default size works too.
            fcntl.fcntl(self.ends[0], F_SETPIPE_SZ, PIPE_SIZE)

    def close(self, end: int) -> None:
        descriptor, self.ends[end] = self.ends[end], -1
        if descriptor >= 0:
            os.close(descriptor)


async def send_produced(
    request: Request,
    content_type: bytes,
    produce: Callable[[int], Awaitable[None]],
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    """Answers with what `produce` writes to a descriptor.

    An error before the first byte is raised; after it, it breaks the connection off.
    """
    pipe = _Pipe(own=0)
    failed: list[Exception] = []

    async def run() -> None:
        try:
            await produce(pipe.ends[1])
        except Exception as error:
            failed.append(error)
        finally:
            pipe.close(1)

    try:
        async with request.while_connected(), anyio.create_task_group() as group:
            group.start_soon(run)
            try:
                async for chunk in _read_pipe(pipe):
                    if not request.begun:
                        await request.begin(content_type, headers)
                    await request.write(chunk)
            finally:
                # A producer in a thread cannot be cancelled: it ends when nobody reads any more.
                pipe.close(0)
    finally:
        pipe.close(0)
        pipe.close(1)
    if failed:
        raise failed[0]
    if not request.begun:
        await request.begin(content_type, headers)
    await request.end()


async def _read_pipe(pipe: _Pipe) -> AsyncIterator[bytes]:
    while True:
        try:
            chunk = os.read(pipe.ends[0], PIPE_SIZE)
        except BlockingIOError:
            await anyio.wait_readable(pipe.ends[0])
            continue
        if not chunk:
            return
        yield chunk


class BodyPipe:
    """A request's body as a descriptor to read from."""

    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe
        self.ended = anyio.Event()

    @property
    def archive(self) -> int:
        """Until it is closed."""
        return self._pipe.ends[0]

    async def close(self) -> None:
        """What is unread is discarded. Nothing reads the request's body then."""
        self._pipe.close(0)
        await self.ended.wait()


@asynccontextmanager
async def body_pipe(request: Request) -> AsyncIterator[BodyPipe]:
    """Gives the body to the block while it arrives. A client that goes away cancels the block."""
    pipe = _Pipe(own=1)
    body = BodyPipe(pipe)

    async def pump(group: anyio.abc.TaskGroup) -> None:
        try:
            async for chunk in request.chunks():
                if pipe.ends[0] < 0 or not await _write_pipe(pipe, chunk):
                    break
        except BaseException:
            # Before the pipe ends: half an upload must not be taken for all of it.
            group.cancel_scope.cancel()
            raise
        finally:
            pipe.close(1)
            body.ended.set()

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(pump, group)
            yield body
            await body.close()
    except BaseExceptionGroup as raised:
        raise unwrap(raised) from None
    finally:
        pipe.close(0)
        pipe.close(1)


async def consume_body(request: Request, consume: Callable[[int], Awaitable[T]]) -> T:
    """Gives the request's body to `consume` as a descriptor to read from, while it arrives.

    What `consume` leaves unread is discarded. Its error wins over a failing upload; a client that
    goes away cancels it.
    """
    async with body_pipe(request) as body:
        return await consume(body.archive)


async def _write_pipe(pipe: _Pipe, data: bytes) -> bool:
    """False if nobody reads any more."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(pipe.ends[1], rest) :]
        except BlockingIOError:
            await anyio.wait_writable(pipe.ends[1])
        except BrokenPipeError:
            return False
    return True
