"""Bounds of the build cache: what goes when it is too large or too old, by itself or when somebody asks.

What to remove is a pure function of what there is (`chosen`). Nothing that a running build uses goes, and nothing that
something that stays stands on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import anyio
import msgspec

from hooper.api.engine import CachedStep, Filters, Pruned
from hooper.api.errors import Conflict, InvalidArgument, NotFound
from hooper.engine import filters as matching
from hooper.engine.build_cache import BuildCache
from hooper.engine.gc import Collector
from hooper.engine.image_filters import moment
from hooper.engine.layers import LEFT
from hooper.state.database import Database

SHARE = 10
LEAST = 2 << 30
"""The default bound: the SHARE-th part of the file system, but not less than so many bytes."""
_DELAY = 2.0
"""Seconds that a collection waits, so that builds in a row are followed by one."""
_MEASURE_AGAIN = 600.0
"""Seconds that the sizes of directories are believed: measuring looks at every file."""
_SIZE_OF_A_DAY = 86400.0
_KNOWN = (
    "until", "unused-for", "id", "parent", "parents", "type", "description", "inuse", "shared", "private", "label",
)  # fmt: skip


class Bounds(msgspec.Struct, frozen=True):
    size: int
    """Bytes that only the cache has."""
    age: float
    """Seconds since the last use; 0: any."""


def bounds_of(size: str, age: str, directory: Path) -> Bounds:
    """From the settings builder.cache_size and builder.cache_age. InvalidArgument names the one that is wrong."""
    from hooper.cli.units import parse_duration, parse_size

    try:
        bytes_ = parse_size(size) if size else max(LEAST, _disk(directory)[0] // SHARE)
    except ValueError as error:
        raise InvalidArgument(f'builder.cache_size = "{size}"', str(error), "Write it as 10GB.") from error
    try:
        days = age.removesuffix("d")
        seconds = float(days) * _SIZE_OF_A_DAY if days != age else parse_duration(age) / 1e9
    except ValueError as error:
        raise InvalidArgument(f'builder.cache_age = "{age}"', str(error), "Write it as 720h or 30d.") from error
    return Bounds(bytes_, seconds)


def _disk(directory: Path) -> tuple[int, int]:
    """Bytes of the file system, and those that are free."""
    while not directory.exists():
        directory = directory.parent
    status = os.statvfs(directory)
    return status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize


# --- what goes ----------------------------------------------------------------------------------------


def chosen(
    steps: Sequence[CachedStep],
    *,
    limit: int | None = None,
    before: float | None = None,
    candidates: Callable[[CachedStep], bool] = lambda step: True,
) -> list[str]:
    """Keys of what is to be removed, each before what it stands on.

    All that was last used before the time `before` (seconds), and beyond that the longest unused until all that only
    the cache has comes to `limit` bytes at most. Of the rest nothing. What stands on a step uses it.
    """
    parents = {step.key: step.parents for step in steps}
    used = _inherited({step.key: step.last_used for step in steps}, parents)
    busy = _inherited({step.key: float(step.in_use or not candidates(step)) for step in steps}, parents)
    total = sum(step.size for step in steps if not step.shared)
    depth = _depths(steps)
    gone = []
    for step in sorted(steps, key=lambda step: (used[step.key], -depth[step.key])):
        if busy[step.key]:
            continue
        old = before is not None and used[step.key] < before
        if not old and (limit is None or total <= limit or step.shared):
            continue
        gone.append(step.key)
        total -= 0 if step.shared else step.size
    return _without_needed(gone, parents)


def _inherited(values: Mapping[str, float], parents: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Each value is the largest of its own and of all that stand on it."""
    found = dict(values)
    todo = list(values)
    while todo:
        key = todo.pop()
        for parent in parents[key]:
            if parent in found and found[parent] < found[key]:
                found[parent] = found[key]
                todo.append(parent)
    return found


def _depths(steps: Sequence[CachedStep]) -> dict[str, int]:
    """How many steps each stands on, along its longest line. A circle, which cannot be, ends where it began."""
    parents = {step.key: step.parents for step in steps}
    depths: dict[str, int] = {}
    for step in steps:
        line, on_it = [step.key], {step.key}
        while line:
            ahead = [key for key in parents[line[-1]] if key in parents and key not in depths and key not in on_it]
            if ahead:
                line.append(ahead[0])
                on_it.add(ahead[0])
                continue
            key = line.pop()
            depths[key] = 1 + max((depths.get(parent, 0) for parent in parents[key]), default=0)
    return depths


def _without_needed(gone: Sequence[str], parents: Mapping[str, Sequence[str]]) -> list[str]:
    """Without those that something that stays stands on."""
    going = set(gone)
    needed = {parent for key, above in parents.items() if key not in going for parent in above}
    todo = [key for key in needed if key in going]
    while todo:
        key = todo.pop()
        going.discard(key)
        todo += [parent for parent in parents[key] if parent in going]
    return [key for key in gone if key in going]


def matches(step: CachedStep, wanted: Filters) -> bool:
    """Whether the step passes all filters but those of time; of the values of one any will do."""
    facts = {
        "id": step.key,
        "type": step.type,
        "inuse": str(step.in_use).lower(),
        "shared": str(step.shared).lower(),
        "private": str(not step.shared).lower(),
    }
    for name, values in wanted.items():
        if name in ("parent", "parents"):
            passed = any(value in step.parents for value in values)
        elif name == "description":
            passed = any(value in step.description for value in values)
        elif name in facts:
            # A switch without a value is on.
            passed = any(facts[name] == (value.lower() or "true" if name != "id" else value) for value in values)
        else:
            continue
        if not passed:
            return False
    return True


def limit_of(total: int, free: int, *, keep: int, max_used: int, min_free: int) -> int:
    """How much may stay of `total` bytes: see `Builds.prune`."""
    limits = [max_used] if max_used else []
    if min_free:
        limits.append(total - max(0, min_free - free))
    return max(keep, min(limits, default=0))


# --- doing it -----------------------------------------------------------------------------------------


class Directories(Protocol):
    """Files that builds keep beside their steps."""

    async def kept(self) -> Sequence[CachedStep]:
        """All of them, measured."""

    async def remove(self, key: str) -> None:
        """Conflict if a build uses it; NotFound."""


class CacheLimits:
    """One an engine. `directories` gives those that builds keep beside their steps, when they are first wanted."""

    def __init__(
        self,
        database: Database,
        cache: BuildCache,
        collector: Collector,
        bounds: Bounds,
        data_root: Path,
        directories: Callable[[], Sequence[Directories]] = tuple,
        log: Any = None,
    ) -> None:
        self._database, self._cache, self._collector, self._bounds = database, cache, collector, bounds
        self._data_root, self._open, self._log = data_root, directories, log
        self._waiting = False
        self._measured: tuple[float, list[CachedStep]] = (-_MEASURE_AGAIN, [])
        self._lock = anyio.Lock()

    @cached_property
    def _directories(self) -> Sequence[Directories]:
        return self._open()

    async def usage(self) -> Sequence[CachedStep]:
        """All that builds keep, measured."""
        return [*self._steps(), *await self._kept(fresh=True)]

    def size(self) -> int:
        """Bytes that only finished steps have."""
        return self._cache.size()

    def _steps(self) -> list[CachedStep]:
        rows = self._database.query(
            "SELECT key FROM build_steps WHERE chain_id IN"
            f" (SELECT name FROM leases WHERE kind='layer' AND owner NOT LIKE '{LEFT}%')"
        )
        busy = {row[0] for row in rows}
        return [
            CachedStep(
                key=entry.key,
                description=entry.description,
                size=entry.size,
                shared=entry.shared,
                created=entry.created,
                last_used=entry.last_used,
                in_use=entry.key in busy,
                usage_count=entry.uses,
                parents=(entry.parent,) if entry.parent else (),
            )
            for entry in self._cache.entries()
        ]

    async def _kept(self, *, fresh: bool) -> list[CachedStep]:
        at, kept = self._measured
        if fresh or time.monotonic() - at > _MEASURE_AGAIN:
            kept = [step for directories in self._directories for step in await directories.kept()]
            self._measured = time.monotonic(), kept
        return kept

    async def collect(self) -> None:
        """Keeps the bounds, a moment later. For the background: after each build, and when the daemon starts."""
        if self._waiting:
            return
        self._waiting = True
        try:
            await anyio.sleep(_DELAY)
        finally:
            self._waiting = False
        await self.collect_now()

    async def collect_now(self) -> Pruned:
        """Keeps the bounds."""
        before = time.time() - self._bounds.age if self._bounds.age else None
        async with self._lock:
            steps = [*self._steps(), *await self._kept(fresh=False)]
            keys = chosen(steps, limit=self._bounds.size, before=before)
            return await self._removed(keys, steps) if keys else Pruned([], 0)

    async def prune(
        self, filters: Filters, *, all: bool = False, keep: int = 0, max_used: int = 0, min_free: int = 0
    ) -> Pruned:
        """See `Builds.prune`."""
        matching.check(filters, _KNOWN)
        times = [moment(text) for name in ("until", "unused-for") for text in filters.get(name, ())]
        async with self._lock:
            steps = await self.usage()
            total = sum(step.size for step in steps if not step.shared)
            free = _disk(self._data_root)[1]
            bounded = keep or max_used or min_free
            limit = limit_of(total, free, keep=keep, max_used=max_used, min_free=min_free) if bounded else None

            def candidate(step: CachedStep) -> bool:
                return (all or not step.shared) and matches(step, filters) and (
                    not times or step.last_used < min(times)
                )  # fmt: skip

            before = None if bounded else time.time() + 1
            keys = chosen(steps, limit=limit, before=before, candidates=candidate)
            return await self._removed(keys, steps)

    async def _removed(self, keys: Iterable[str], steps: Sequence[CachedStep]) -> Pruned:
        """Removes these; what a build has begun to use meanwhile stays."""
        known = {step.key: step for step in steps}
        own = [key for key in keys if known[key].type == "regular"]
        removed = list(self._cache.remove(own))
        space = 0
        for key in keys:
            for directories in self._directories if known[key].type != "regular" else ():
                try:
                    await directories.remove(key)
                except (NotFound, Conflict):
                    continue
                removed.append(key)
                space += known[key].size
                break
        self._measured = -_MEASURE_AGAIN, []
        collected = await self._collector.collect()
        if self._log is not None and removed:
            self._log.info("build cache collected", items=len(removed), bytes=collected.space + space)
        return Pruned(removed, collected.space + space)
