"""Directories of files that outlive the builds they came for: contexts, downloads, checkouts.

Each has a key, and in it `tree`; what else is there is its maker's. While files are set aside, which an ignore file
leaves out, `journal` names them, so that whoever finds it knows that the tree is not whole.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from hooper.api.driver import Workers
from hooper.api.engine import CachedStep
from hooper.api.errors import Conflict, NotFound
from hooper.content.removal import discard
from hooper.engine.clock import rfc3339
from hooper.engine.layers import KeyedLocks

TREE, JOURNAL, _ASIDE, _ABOUT = "tree", "journal", "aside", "about.json"
_KEY = re.compile(r"[0-9a-f]{64}")


class _About(msgspec.Struct):
    name: str = ""
    created: float = 0.0


class KeptTrees:
    """Those of one type ("source.local"…), in `directory`. One an engine."""

    def __init__(self, directory: Path, type: str, workers: Workers) -> None:
        self._directory, self._type, self._workers = directory, type, workers
        self._users: dict[str, int] = {}
        self._alone: set[str] = set()
        self.locks = KeyedLocks()

    @asynccontextmanager
    async def use(self, key: str, name: str, *, alone: bool = False) -> AsyncIterator[Path]:
        """The directory of a key, with a `tree` in it; nothing removes it as long as it is used.

        `alone`: nobody else uses it meanwhile. If somebody uses it in another way, an empty one that goes at the end.
        """
        if key in self._alone or (alone and self._users.get(key)):
            async with temporary(self._directory) as place:
                yield place
            return
        self._users[key] = self._users.get(key, 0) + 1
        if alone:
            self._alone.add(key)
        try:
            yield await anyio.to_thread.run_sync(self._opened, key, name)
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key]
            self._alone.discard(key)

    def is_shared(self, key: str) -> bool:
        """Whether several use it now."""
        return self._users.get(key, 0) > 1

    def _opened(self, key: str, name: str) -> Path:
        place = self._directory / key
        (place / TREE).mkdir(parents=True, exist_ok=True)
        place.chmod(0o700)
        if not (place / _ABOUT).exists():
            (place / _ABOUT).write_bytes(msgspec.json.encode(_About(name, time.time())))
        os.utime(place)
        return place

    # --- what there is (build_cache_limits.Directories) ---------------------------------------------

    async def kept(self) -> Sequence[CachedStep]:
        """All of them, measured."""
        try:
            keys = sorted(name for name in os.listdir(self._directory) if _KEY.fullmatch(name))
        except FileNotFoundError:
            return []
        return [step for key in keys if (step := await self._step(key)) is not None]

    async def _step(self, key: str) -> CachedStep | None:
        place = self._directory / key
        usage = await self._workers.run("hooper.content.trees:usage", {"path": str(place)})
        try:
            last_used = place.stat().st_mtime
        except FileNotFoundError:  # it was removed meanwhile
            return None
        about = _about(place)
        return CachedStep(
            key=key,
            description=about.name,
            size=usage["size"],
            shared=False,
            created=rfc3339(int((about.created or last_used) * 1e9)),
            last_used=last_used,
            type=self._type,
            in_use=key in self._users,
        )

    async def remove(self, key: str) -> None:
        """Removes one. Conflict while it is in use; NotFound."""
        place = self._directory / key
        if not _KEY.fullmatch(key) or not place.is_dir():
            raise NotFound(f"build source {key}", "there is none of that key", "`hooper builder du` lists them.")
        if key in self._users:
            raise Conflict(f"cannot remove the build source {key}", "a build uses it", "Try again when that has ended.")
        gone = self._directory / f".gone-{secrets.token_hex(8)}"
        os.rename(place, gone)
        await self._workers.run("hooper.content.trees:remove_tree", {"path": str(gone)})


def _about(place: Path) -> _About:
    try:
        return msgspec.json.decode((place / _ABOUT).read_bytes(), type=_About)
    except (FileNotFoundError, msgspec.DecodeError):  # the host has crashed before it was on the disk
        return _About()


def new_place(above: Path) -> Path:
    """A directory with an empty `tree`, the caller's. A daemon that starts removes what is left of another."""
    place = above / f".own-{secrets.token_hex(8)}"
    (place / TREE).mkdir(parents=True)
    place.chmod(0o700)
    (place / TREE).chmod(0o755)
    return place


@asynccontextmanager
async def temporary(above: Path) -> AsyncIterator[Path]:
    """A directory with an empty `tree`, for this use alone."""
    place = new_place(above)
    try:
        yield place
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(discard, place)


class Aside:
    """Takes files out of the `tree` of a directory, and puts them back."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._taken: list[str] = []

    async def take(self, paths: Sequence[str]) -> None:
        """Moves these away, with all below them."""
        await anyio.to_thread.run_sync(self._take, paths)

    def _take(self, paths: Sequence[str]) -> None:
        aside = self._place / _ASIDE
        journal = msgspec.msgpack.encode([os.fsencode(path) for path in (*self._taken, *paths)])
        (self._place / JOURNAL).write_bytes(journal)
        aside.mkdir(exist_ok=True)
        for path in paths:
            self._move(path, self._place / TREE / path, aside / str(len(self._taken)))
            self._taken.append(path)

    async def put_back(self) -> None:
        """The tree is whole again."""
        if self._taken:
            await anyio.to_thread.run_sync(self._put_back)

    def _put_back(self) -> None:
        while self._taken:
            number = len(self._taken) - 1
            path = self._taken[number]
            self._move(path, self._place / _ASIDE / str(number), self._place / TREE / path)
            self._taken.pop()
        (self._place / JOURNAL).unlink()

    def _move(self, path: str, source: Path, target: Path) -> None:
        """The time of the directory that it is in stays, which is a part of what is copied."""
        parent = (self._place / TREE / path).parent
        status = parent.stat()
        os.rename(source, target)
        os.utime(parent, ns=(status.st_atime_ns, status.st_mtime_ns))
