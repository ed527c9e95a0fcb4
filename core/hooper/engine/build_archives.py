"""Contexts that come as archives: a small one that comes again as it was is not unpacked again."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread

from hooper.engine.build_files import BuildFiles, SourceEntry
from hooper.engine.build_kept import TREE, new_place, temporary

SMALL = 8 << 20
"""Bytes of an archive that is looked at as a whole before it is unpacked."""
KEPT = 4
"""So many trees are kept, each for the next build of the same context."""
_PIECE = 1 << 18


class Unpacked(NamedTuple):
    """A tree, and all that is in it. `sent` are the bytes of the plain archive."""

    place: Path
    entries: list[SourceEntry]
    sent: int


class ReceivedArchives:
    """One an engine, in `directory`. What it keeps is known in memory alone, and gone with the daemon."""

    def __init__(self, directory: Path, files: BuildFiles) -> None:
        self._directory, self._files = directory, files
        self._kept: dict[str, Unpacked] = {}

    @asynccontextmanager
    async def unpacked(self, archive: int, limit: int) -> AsyncIterator[Unpacked]:
        """The tree of an archive that is read from a pipe, for this use alone. See `BuildFiles.receive`."""
        head, whole = await _beginning(archive)
        if whole:
            async with self._small(head, limit) as found:
                yield found
            return
        async with temporary(self._directory) as place, _joined(head, archive) as joined:
            entries, size = await self._files.receive(joined, place / TREE, limit)
            yield Unpacked(place, entries, size)

    @asynccontextmanager
    async def _small(self, archive: bytes, limit: int) -> AsyncIterator[Unpacked]:
        key = hashlib.sha256(archive).hexdigest()
        # Whoever uses a tree has it alone: it may set files aside.
        found = self._kept.pop(key, None) or await self._unpack(archive, limit)
        try:
            yield found
        except BaseException:
            with anyio.CancelScope(shield=True):
                await _remove(found.place)
            raise
        with anyio.CancelScope(shield=True):
            await self._keep(key, found)

    async def _unpack(self, archive: bytes, limit: int) -> Unpacked:
        place = new_place(self._directory)
        memory = os.memfd_create("context", os.MFD_CLOEXEC)
        try:
            os.write(memory, archive)
            os.lseek(memory, 0, os.SEEK_SET)
            entries, size = await self._files.receive(memory, place / TREE, limit)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await _remove(place)
            raise
        finally:
            os.close(memory)
        return Unpacked(place, entries, size)

    async def _keep(self, key: str, found: Unpacked) -> None:
        other = self._kept.pop(key, None)
        self._kept[key] = found
        gone = [other] if other else []
        while len(self._kept) > KEPT:
            gone.append(self._kept.pop(next(iter(self._kept))))
        for each in gone:
            await _remove(each.place)


async def _remove(place: Path) -> None:
    await anyio.to_thread.run_sync(lambda: shutil.rmtree(place, ignore_errors=True))


async def _beginning(archive: int) -> tuple[bytes, bool]:
    """What a pipe or a file has, up to SMALL bytes, and whether that is all."""
    os.set_blocking(archive, False)
    parts: list[bytes] = []
    size = 0
    while size <= SMALL:
        data = await _read(archive)
        if not data:
            return b"".join(parts), True
        parts.append(data)
        size += len(data)
    return b"".join(parts), False


async def _read(archive: int) -> bytes:
    while True:
        try:
            return os.read(archive, _PIECE)
        except BlockingIOError:
            await anyio.wait_readable(archive)


@asynccontextmanager
async def _joined(head: bytes, archive: int) -> AsyncIterator[int]:
    """A descriptor that has `head`, and then the rest of the pipe."""
    ours, theirs = socket.socketpair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_pump, head, archive, ours)
        try:
            yield theirs.fileno()
        finally:
            theirs.close()
            tasks.cancel_scope.cancel()


async def _pump(head: bytes, archive: int, target: socket.socket) -> None:
    target.setblocking(False)
    rest = memoryview(head)
    with target, suppress(BrokenPipeError, ConnectionResetError):
        while rest:
            try:
                rest = rest[target.send(rest) :]
            except BlockingIOError:
                await anyio.wait_writable(target)
            if not rest:
                rest = memoryview(await _read(archive))
        target.shutdown(socket.SHUT_WR)
