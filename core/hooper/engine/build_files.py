"""A build's work on files: each call is one worker process, confined to the trees that it is given."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from hooper.api.builder import CopyStep, SourceEntry
from hooper.api.driver import Workers
from hooper.api.storage import Mount

Place = Path | Sequence[Mount]
"""A directory of the host or the mounts of a snapshot: what a worker makes its root."""


def _root(place: Place) -> dict[str, Any]:
    if isinstance(place, Path):
        return {"root": str(place)}
    return {"mounts": msgspec.to_builtins(list(place))}


def _encoded(paths: Sequence[str]) -> list[bytes]:
    """Names need not be UTF-8: they travel as bytes, and are Python's file names elsewhere."""
    return [os.fsencode(path) for path in paths]


_LISTINGS = 64
_LISTED_MOST = 1000


class BuildFiles:
    """One an engine. Listings of layers, which never change, are kept for the next build."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._listings: dict[tuple[str, tuple[str, ...]], list[SourceEntry]] = {}

    def known(self, chain: str, paths: tuple[str, ...]) -> list[SourceEntry] | None:
        """What `keep` was given of a file system; the latest few, not the long ones."""
        return self._listings.get((chain, paths))

    def keep(self, chain: str, paths: tuple[str, ...], entries: list[SourceEntry]) -> None:
        if len(entries) > _LISTED_MOST:
            return
        self._listings[chain, paths] = entries
        if len(self._listings) > _LISTINGS:
            del self._listings[next(iter(self._listings))]

    async def _call(self, function: str, arguments: dict[str, Any], fds: Sequence[int] = ()) -> Any:
        return await self._workers.run(f"hooper.content.files:{function}", arguments, fds)

    async def unpack(self, archive: int, directory: Path) -> None:
        await self._call("unpack_archive", _root(directory), (archive,))

    async def list(self, place: Place, paths: Sequence[str]) -> list[SourceEntry]:
        rows = await self._call("list_tree", {**_root(place), "paths": _encoded(paths)})
        return [SourceEntry(os.fsdecode(path), kind, digest) for path, kind, digest in rows]

    async def copy(
        self, target: Sequence[Mount], sources: Sequence[tuple[Place, Sequence[str]]], step: CopyStep
    ) -> None:
        arguments = {
            **_root(target),
            "sources": [{**_root(place), "paths": _encoded(paths)} for place, paths in sources],
            "destination": step.destination,
            "chown": step.chown,
            "chmod": step.chmod,
            "keep_owner": step.keep_owner,
            "unpack": step.unpack,
        }
        await self._call("copy_files", arguments)

    async def make_directory(self, target: Sequence[Mount], path: str, user: str) -> bool:
        """False if it was there."""
        return bool(await self._call("make_directory", {**_root(target), "path": path, "user": user}))

    async def read(self, place: Place, path: str) -> bytes:
        content: bytes = await self._call("read_file", {**_root(place), "path": path})
        return content
