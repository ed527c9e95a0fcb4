"""Contexts that come as archives: a small one that comes again as it was is not unpacked again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, NamedTuple

import anyio
import anyio.lowlevel
import anyio.to_thread

from hooper.content.removal import discard
from hooper.engine.build_files import BuildFiles, SourceEntry
from hooper.engine.build_kept import TREE, new_place

SMALL = 8 << 20
"""Bytes of an archive that is looked at as a whole before it is unpacked."""
KEPT = 4
"""So many trees are kept, each for the next build of the same context."""
KEPT_SIZE = 64 << 20
"""Bytes of the plain archive of a tree that is kept: a small one, compressed, may have any."""
_PIECE = 1 << 18


class Unpacked(NamedTuple):
    """A tree, and all that is in it. `sent` are the bytes of the plain archive."""

    place: Path
    entries: Sequence[SourceEntry]
    sent: int


class ReceivedArchives:
    """One an engine, in `directory`. What it keeps is known in memory alone, and gone with the daemon."""

    def __init__(self, directory: Path, files: BuildFiles) -> None:
        self._directory, self._files = directory, files
        self._kept: dict[str, Unpacked] = {}

    @asynccontextmanager
    async def unpacked(self, archive: int, limit: int) -> AsyncIterator[Unpacked]:
        """The tree of an archive that is read from a pipe or a file, for this use alone. See `BuildFiles.receive`."""
        with os.fdopen(os.memfd_create("context", os.MFD_CLOEXEC), "w+b") as beginning:
            key = await _begin(archive, beginning)
            # Whoever uses a tree has it alone: it may set files aside.
            found = self._kept.pop(key, None) or await self._unpack((beginning.fileno(), archive), limit)
        try:
            yield found
        except BaseException:
            with anyio.CancelScope(shield=True):
                await _remove(found.place)
            raise
        with anyio.CancelScope(shield=True):
            if key and found.sent <= KEPT_SIZE:
                await self._keep(key, found)
            else:
                await _remove(found.place)

    async def _unpack(self, archive: Sequence[int], limit: int) -> Unpacked:
        place = new_place(self._directory)
        try:
            entries, size = await self._files.receive(archive, place / TREE, limit)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await _remove(place)
            raise
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
    await anyio.to_thread.run_sync(discard, place)


async def _begin(archive: int, beginning: IO[bytes]) -> str:
    """Moves what a pipe or a file has, a little more than SMALL bytes at most, to the start of another.

    A digest of it, if that is all; "" if there is more.
    """
    digest, size = hashlib.sha256(), 0
    os.set_blocking(archive, False)
    try:
        while size <= SMALL and (data := await _read(archive)):
            digest.update(data)
            beginning.write(data)
            size += len(data)
            await anyio.lowlevel.checkpoint()  # a file never keeps anybody waiting
    finally:
        os.set_blocking(archive, True)
    beginning.seek(0)
    return digest.hexdigest() if size <= SMALL else ""


async def _read(archive: int) -> bytes:
    while True:
        try:
            return os.read(archive, _PIECE)
        except BlockingIOError:
            await anyio.wait_readable(archive)
