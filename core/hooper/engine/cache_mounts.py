"""Directories that outlive builds (RUN --mount=type=cache).

Who names the same id, with the same beginning, uses the same directory, as the mode of sharing allows: there may be
several of one id. A directory is made aside and renamed when it is complete, so that one that has its name can be
used, whatever happened to the daemon meanwhile. Who uses it now is known in memory alone: commands of a daemon that
has died are ended before the next one runs any.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import msgspec

from hooper.api.build_graph import CacheMount
from hooper.api.driver import Workers
from hooper.api.errors import Conflict, NotFound
from hooper.engine.layers import KeyedLocks

Fill = Callable[[Path], Awaitable[None]]
"""Makes a directory with what a cache begins with."""

Tell = Callable[[str], Awaitable[None]]
"""Takes a sentence for a person."""

_NAME = re.compile(r"[0-9a-f]{64}\.\d+")
_HIDDEN = "."
"""Begins the names of what is half-made or half-removed."""


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One of the directories."""

    id: str
    """Its own: what `remove` takes."""
    name: str
    """The id that a recipe gave it."""
    size: int
    """Bytes allocated."""
    created: float
    last_used: float
    """Seconds since the epoch, both."""
    sharing: str
    """How it is used just now: shared, private or locked; "" if it is not."""
    users: int
    """Commands that use it just now."""

    @property
    def in_use(self) -> bool:
        return self.users > 0


class _About(msgspec.Struct):
    name: str = ""
    created: float = 0.0


@dataclass
class _Held:
    sharing: str
    users: int = 1


class CacheMounts:
    """One an engine, in `directory`."""

    def __init__(self, directory: Path, workers: Workers) -> None:
        self._directory, self._workers = directory, workers
        self._locks = KeyedLocks()
        self._held: dict[str, _Held] = {}
        self._freed: dict[str, anyio.Event] = {}

    @asynccontextmanager
    async def use(
        self, mount: CacheMount, tell: Tell, *, content: str = "", fill: Fill | None = None
    ) -> AsyncIterator[Path]:
        """A directory as `mount` asks for it, for as long as the context lasts.

        `content` names what `fill` lets a new one begin with. shared: with all that share it; private: nobody else
        uses it; locked: the same, but while there is one that another uses, it is waited for, and `tell` hears so.
        """
        name = await self._take(key(mount, content), mount, tell, fill)
        try:
            yield self._directory / name / "data"
        finally:
            self._give_back(name)

    async def _take(self, wanted: str, mount: CacheMount, tell: Tell, fill: Fill | None) -> str:
        told = False
        while True:
            async with self._locks.hold(wanted):
                there = self._names(wanted)
                name = self._usable(there, mount.sharing)
                if name is None and (mount.sharing != "locked" or not there):
                    name = await self._make(wanted, there, mount, fill)
                if name is not None:
                    self._hold(name, mount.sharing)
                    return name
                freed = self._freed.setdefault(wanted, anyio.Event())
            if not told:
                told = True
                await tell(f'waiting for the cache "{mount.id}", which another command has locked or uses')
            await freed.wait()

    def _names(self, wanted: str) -> list[str]:
        """The directories of that key, first the oldest."""
        try:
            found = [name for name in os.listdir(self._directory) if name.startswith(f"{wanted}.")]
        except FileNotFoundError:
            return []
        return sorted(found, key=_number)

    def _usable(self, names: Sequence[str], sharing: str) -> str | None:
        if sharing == "shared":
            for name in names:
                if name in self._held and self._held[name].sharing == "shared":
                    return name
        return next((name for name in names if name not in self._held), None)

    def _hold(self, name: str, sharing: str) -> None:
        if name in self._held:
            self._held[name].users += 1
        else:
            self._held[name] = _Held(sharing)
        os.utime(self._directory / name)

    def _give_back(self, name: str) -> None:
        held = self._held[name]
        held.users -= 1
        os.utime(self._directory / name)
        if not held.users:
            del self._held[name]
            if freed := self._freed.pop(name.partition(".")[0], None):
                freed.set()

    async def _make(self, wanted: str, there: Sequence[str], mount: CacheMount, fill: Fill | None) -> str:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{wanted}.{_number(there[-1]) + 1 if there else 0}"
        place = self._directory / f"{_HIDDEN}new-{secrets.token_hex(8)}"
        place.mkdir(mode=0o700)
        try:
            if fill is not None:
                await fill(place / "data")
            else:
                (place / "data").mkdir()
                os.chown(place / "data", mount.uid, mount.gid)
                (place / "data").chmod(mount.mode & 0o7777)
            (place / "about.json").write_bytes(msgspec.json.encode(_About(mount.id, time.time())))
            os.rename(place, self._directory / name)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._delete(place)
            raise
        return name

    async def _delete(self, place: Path) -> None:
        await self._workers.run("hooper.content.trees:remove_tree", {"path": str(place)})

    # --- what there is ----------------------------------------------------------------------------

    async def entries(self) -> list[CacheEntry]:
        """All of them, with their sizes, which takes a look at every file."""
        try:
            names = sorted(name for name in os.listdir(self._directory) if _NAME.fullmatch(name))
        except FileNotFoundError:
            return []
        return [entry for name in names if (entry := await self._entry(name)) is not None]

    async def _entry(self, name: str) -> CacheEntry | None:
        place = self._directory / name
        usage = await self._workers.run("hooper.content.trees:usage", {"path": str(place / "data")})
        try:
            last_used = place.stat().st_mtime
        except FileNotFoundError:  # it was removed meanwhile
            return None
        about = _about(place)
        held = self._held.get(name)
        return CacheEntry(
            id=name,
            name=about.name,
            size=usage["size"],
            created=about.created or last_used,
            last_used=last_used,
            sharing=held.sharing if held else "",
            users=held.users if held else 0,
        )

    async def remove(self, id: str) -> None:
        """Removes one with its content. Conflict while it is in use; NotFound."""
        place = self._directory / id
        if not _NAME.fullmatch(id) or not place.is_dir():
            raise NotFound(f"cache {id}", "there is none of that id", "`hooper builder du` lists them.")
        if id in self._held:
            raise Conflict(f"cannot remove the cache {id}", "a build uses it", "Try again when that has ended.")
        gone = self._directory / f"{_HIDDEN}gone-{secrets.token_hex(8)}"
        os.rename(place, gone)
        await self._delete(gone)


def key(mount: CacheMount, content: str = "") -> str:
    """What directories are told apart by. As in BuildKit one that begins otherwise is another one."""
    beginning = [content] if mount.source is not None else [mount.uid, mount.gid, mount.mode]
    return hashlib.sha256(msgspec.json.encode([mount.id, *beginning])).hexdigest()


def _number(name: str) -> int:
    return int(name.rpartition(".")[2])


def _about(place: Path) -> _About:
    try:
        return msgspec.json.decode((place / "about.json").read_bytes(), type=_About)
    except (FileNotFoundError, msgspec.DecodeError):  # the host has crashed before it was on the disk
        return _About()
