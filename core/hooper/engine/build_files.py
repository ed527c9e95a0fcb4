"""A build's work on files: each call is one worker process, confined to the trees that it is given."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from hooper.api.build_graph import Copy
from hooper.api.driver import Workers
from hooper.api.storage import Mount
from hooper.content import selection

if TYPE_CHECKING:
    from hooper.engine.build_sources import Selection

Place = Path | Sequence[Mount]
"""A directory of the host or the mounts of a snapshot: what a worker makes its root."""


class SourceEntry(NamedTuple):
    """One file of a tree. Names that are not UTF-8 are as Python has them (`os.fsdecode`)."""

    path: str
    """Relative, without "./"."""
    kind: str
    """file, directory, symlink or other."""
    digest: str
    """Of content, mode and attributes: see `hooper.content.listing.entry_digest`."""
    size: int = 0
    link: str = ""
    """Where a symlink points to."""


def root_of(place: Place) -> dict[str, Any]:
    """The arguments by which a worker is told a place."""
    if isinstance(place, Path):
        return {"root": str(place)}
    return {"mounts": msgspec.to_builtins(list(place))}


def entries_of(rows: Sequence[Any]) -> list[SourceEntry]:
    """From the rows that workers return (`hooper.content.listing.Row`)."""
    decode = os.fsdecode
    return [SourceEntry(decode(path), kind, digest, size, decode(link)) for path, kind, digest, size, link in rows]


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

    async def receive(self, archive: Sequence[int], directory: Path, limit: int = 0) -> tuple[list[SourceEntry], int]:
        """Unpacks a tar, compressed or not, into a directory: all that is in it then, and the bytes of the tar.

        `archive` are descriptors that block, read one after the other; `limit`: bytes that it may have, 0 for any.
        DataLoss if it is damaged; InvalidArgument if it is too large.
        """
        found = await self._call("receive_archive", {**root_of(directory), "limit": limit}, archive)
        return entries_of(found["rows"]), int(found["size"])

    async def is_archive(self, file: Path) -> bool:
        """Whether a file is a tar, compressed or not, with something in it."""
        return bool(await self._call("looks_like_archive", {"path": str(file)}))

    async def list(self, place: Place, paths: Sequence[str]) -> list[SourceEntry]:
        """All that is at and below these paths, sorted. NotFound."""
        return entries_of(await self._call("list_tree", {**root_of(place), "paths": _encoded(paths)}))

    async def choose(
        self,
        place: Place,
        paths: Sequence[str],
        *,
        literal: bool,
        parents: bool,
        exclude: Sequence[str],
        owners: bool = False,
    ) -> selection.Chosen:
        """What paths mean, see `hooper.content.selection.choose`. `owners`: the digest is also of the files' owners."""
        arguments = {
            **root_of(place),
            "paths": _encoded(paths),
            "literal": literal,
            "parents": parents,
            "exclude": _encoded(exclude),
            "owners": owners,
        }
        return selection.from_wire(await self._call("choose_files", arguments))

    async def copy(self, target: Sequence[Mount], sources: Sequence[tuple[Place, Selection]], step: Copy) -> None:
        """Carries out COPY or ADD. InvalidArgument for what cannot be, in Docker's words."""
        arguments = {
            **root_of(target),
            "sources": [{**root_of(place), "items": list(chosen.items)} for place, chosen in sources],
            "several": sum(chosen.matched for _, chosen in sources) > 1,
            "destination": os.fsencode(step.destination),
            "chown": step.chown,
            "chmod": step.chmod,
            "keep_owner": step.keep_owner,
            "unpack": step.unpack,
            "parents": step.parents,
        }
        await self._call("copy_files", arguments)

    async def make_directory(self, target: Sequence[Mount], path: str, user: str) -> bool:
        """False if it was there."""
        return bool(await self._call("make_directory", {**root_of(target), "path": path, "user": user}))

    async def read(self, place: Place, path: str) -> bytes:
        """A file, 16 MiB at most. NotFound, InvalidArgument."""
        content: bytes = await self._call("read_file", {**root_of(place), "path": path})
        return content
