"""Blobs on their way from a registry into the content store, that can be read while they come."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import anyio

from hooper.api.errors import DataLoss
from hooper.api.registry import Descriptor, RegistryClient
from hooper.engine.distribution_progress import Meter

if TYPE_CHECKING:
    from hooper.content.store import BlobWriter, ContentStore

_WRITE = 1 << 20
"""Bytes that are written at once: hashing takes a thread, which small chunks are not worth."""
_BUFFER = 1 << 20


class Transfer:
    """One blob. `arrived` is set by its owner when the whole of it is in the content store."""

    def __init__(self, content: ContentStore, blob: Descriptor) -> None:
        self.blob, self.arrived = blob, anyio.Event()
        self._content = content
        self._writer: BlobWriter | None = None
        self._moved = anyio.Event()
        self.began_anew = False
        """What came first was bad, and whoever has read it has to read all again once the blob is there."""

    def finish(self) -> None:
        self.arrived.set()
        self._move()

    def _move(self) -> None:
        moved, self._moved = self._moved, anyio.Event()
        moved.set()

    async def fetch(self, client: RegistryClient, repository: str, meter: Meter) -> None:
        """Goes on from where an earlier try broke off. What proves to be bad is dropped and fetched once more from the
        beginning: what an earlier try left, and what this one got."""
        for last in (False, False, True):
            resumed = self._content.partial(self.blob.digest) > 0
            try:
                await self._attempt(client, repository, meter)
                return
            except DataLoss:
                if last or (self.began_anew and not resumed):
                    raise
                self._writer, self.began_anew = None, self.began_anew or not resumed
                self._move()

    async def _attempt(self, client: RegistryClient, repository: str, meter: Meter) -> None:
        async with self._content.writer(self.blob.digest, self.blob.size) as writer:
            self._writer = None if writer.offset or self.began_anew else writer
            async with client.fetch(repository, self.blob, writer.offset) as chunks:
                await self._write(writer, chunks, meter)
            if writer.offset == self.blob.size:
                self._writer = None  # its file is about to be verified and renamed

    async def _write(self, writer: BlobWriter, chunks: AsyncIterator[bytes], meter: Meter) -> None:
        pending = bytearray()
        try:
            async for chunk in chunks:
                pending += chunk
                if len(pending) >= _WRITE:
                    full, pending = pending, bytearray()
                    await writer.write(memoryview(full))
                    self._move()
                    await meter.at(writer.offset)
        finally:
            # Also of a download that breaks off, every byte is worth keeping.
            with anyio.CancelScope(shield=True):
                await writer.write(memoryview(pending))
            self._move()
        await meter.at(writer.offset)

    async def readable(self) -> bool:
        """Waits until the blob is there (False), or is coming and can be followed with `piped` (True)."""
        while not self.arrived.is_set():
            if self._writer is not None and self._writer.offset:
                return True
            await self._moved.wait()
        return False

    @asynccontextmanager
    async def piped(self, meter: Meter) -> AsyncIterator[Callable[[], AbstractContextManager[int]]]:
        """Yields a `source` for `LayerStore.unpack`: a socket that gives the blob's bytes as they come.

        `meter` tells how far it is read, once the whole blob is there.
        """
        assert self._writer is not None
        reader, failure = self._writer.reader(), None
        try:
            async with anyio.create_task_group() as group:

                @contextmanager
                def source() -> Iterator[int]:
                    scope = anyio.CancelScope()
                    # Not a pipe: the end must show also where another process inherited the sending side.
                    receive, send = socket.socketpair()
                    send.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
                    send.setblocking(False)
                    group.start_soon(self._feed, reader, send, meter, scope)
                    try:
                        yield receive.fileno()
                    finally:
                        scope.cancel()
                        receive.close()

                try:
                    yield source
                except Exception as error:  # goes on outside, where no task group wraps it
                    failure = error
        finally:
            os.close(reader)
        if failure is not None:
            raise failure

    async def _feed(self, reader: int, send: socket.socket, meter: Meter, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                sent = 0
                while sent < self.blob.size and not self.began_anew:
                    count = self._available() - sent
                    if count <= 0:
                        await self._moved.wait()
                        continue
                    await anyio.wait_writable(send)
                    sent += os.sendfile(send.fileno(), reader, sent, min(count, _BUFFER))
                    if self.arrived.is_set():
                        await meter.at(sent)
                send.shutdown(socket.SHUT_WR)
        except BrokenPipeError:
            return
        finally:
            send.close()

    def _available(self) -> int:
        """Bytes of the blob that are written."""
        return self.blob.size if self.arrived.is_set() or self._writer is None else self._writer.offset
