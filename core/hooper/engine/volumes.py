"""Volumes: named directories, and who uses them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from hooper.api.engine import Filters, Pruned, Volumes
from hooper.api.errors import Conflict, InvalidArgument, NotFound
from hooper.api.model import Volume
from hooper.api.volume import VolumeDriver
from hooper.engine import filters as matching
from hooper.engine.clock import rfc3339
from hooper.engine.events import EventService
from hooper.engine.names import new_id
from hooper.state.database import Database

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
_BOOLEANS = ("true", "false", "1", "0", "t", "f")
ANONYMOUS = "com.docker.volume.anonymous"
"""Label of a volume that nobody named; `docker volume prune` knows it by that."""


class VolumeService(Volumes):
    def __init__(
        self, database: Database, drivers: Mapping[str, VolumeDriver], default: str, events: EventService
    ) -> None:
        self._database, self._drivers, self._default, self._events = database, drivers, default, events
        self._decode = msgspec.msgpack.Decoder(Volume).decode
        self._promised: dict[str, set[str]] = {}
        """By container that is being created: the volumes that it will use."""
        self._lock = anyio.Lock()
        """Of creation and removal: a name is one volume's at a time."""

    def _driver(self, volume: str, name: str) -> VolumeDriver:
        driver = self._drivers.get(name)
        if driver is None:
            raise NotFound(
                f'create {volume}: error looking up volume plugin {name}: plugin "{name}" not found',
                remedy=f"There are: {', '.join(self._drivers)}.",
            )
        return driver

    async def create(self, volume: Volume) -> Volume:
        return (await self.obtain(volume))[0]

    async def obtain(self, volume: Volume, container_id: str = "") -> tuple[Volume, bool]:
        """As `create`, and whether it is new. It is in use from now on by the container, whose record may be missing.

        `use` or `give_up` follows.
        """
        async with self._lock:
            found = self._find(volume.name) if volume.name else None
            if found is not None and volume.driver and found.driver != volume.driver:
                self._driver(volume.name, volume.driver)
                raise Conflict(
                    f"create {volume.name}: conflict: volume name must be unique",
                    f"there is one of the driver {found.driver}",
                    "Choose another name, or the same driver.",
                )
            made = found or await self._make(volume)
            if container_id:
                self._promised.setdefault(container_id, set()).add(made.name)
            return made, found is None

    async def _make(self, volume: Volume) -> Volume:
        anonymous = volume.anonymous or not volume.name
        name, driver = volume.name or new_id(), volume.driver or self._default
        check_name(name)
        place = await self._driver(name, driver).create(name, volume.options or {})
        labels = {ANONYMOUS: "", **(volume.labels or {})} if anonymous else volume.labels
        made = msgspec.structs.replace(
            volume,
            name=name,
            driver=driver,
            mountpoint=str(place),
            created_at=rfc3339(),
            anonymous=anonymous,
            labels=labels,
        )
        self._database.execute("INSERT INTO volumes VALUES (?,?)", (name, msgspec.msgpack.encode(made)))
        self._events.emit("volume", "create", name, {"driver": driver})
        return made

    def _find(self, name: str) -> Volume | None:
        row = self._database.row("SELECT document FROM volumes WHERE name=?", (name,))
        return self._decode(row[0]) if row else None

    async def get(self, name: str) -> Volume:
        found = self._find(name)
        if found is None:
            raise NotFound(f"get {name}: no such volume", remedy="`hooper volume ls` lists them.")
        return found

    async def list(self, filters: Filters | None = None) -> Sequence[Volume]:
        filters = filters or {}
        matching.check(filters, ("dangling", "driver", "label", "name"))
        if filters.get("dangling") and filters["dangling"][0].lower() not in _BOOLEANS:
            raise InvalidArgument(
                f"invalid filter 'dangling=[{' '.join(filters['dangling'])}]'", remedy="It is true or false."
            )
        volumes = [self._decode(row[0]) for row in self._database.query("SELECT document FROM volumes ORDER BY name")]
        used = {row[0] for row in self._database.query("SELECT DISTINCT volume FROM volume_users")}
        used = used.union(*self._promised.values())

        def matches(volume: Volume) -> bool:
            return (
                matching.labels_match(volume.labels, filters.get("label", ()))
                and ("driver" not in filters or volume.driver in filters["driver"])
                and ("name" not in filters or any(part in volume.name for part in filters["name"]))
                and ("dangling" not in filters or matching.is_true(filters["dangling"]) == (volume.name not in used))
            )

        return [volume for volume in volumes if matches(volume)]

    async def users(self, name: str) -> int:
        row = self._database.row("SELECT count(*) FROM volume_users WHERE volume=?", (name,))
        return int(row[0]) if row else 0

    async def remove(self, name: str, *, force: bool = False) -> None:
        async with self._lock:
            await self._remove(name, force=force)

    async def _remove(self, name: str, *, force: bool) -> None:
        volume = self._find(name)
        if volume is None:
            if force:
                return
            raise NotFound(f"get {name}: no such volume", remedy="`hooper volume ls` lists them.")
        rows = self._database.query("SELECT container_id FROM volume_users WHERE volume=?", (name,))
        users = [row[0] for row in rows] + [user for user, names in self._promised.items() if name in names]
        if users:
            raise Conflict(
                f"remove {name}: volume is in use - [{', '.join(users)}]", remedy="Remove those containers first."
            )
        await self._driver(name, volume.driver).remove(name)
        self._database.execute("DELETE FROM volumes WHERE name=?", (name,))
        self._events.emit("volume", "destroy", name, {"driver": volume.driver})

    async def prune(self, filters: Filters) -> Pruned:
        matching.check(filters, ("all", "label", "label!"))
        everything = matching.is_true(filters.get("all", ()))
        unwanted = filters.get("label!", ())
        removed, space = [], 0
        for volume in await self.list({"dangling": ["true"], "label": filters.get("label", ())}):
            if not (volume.anonymous or everything):
                continue
            if unwanted and matching.labels_match(volume.labels, unwanted):
                continue
            size = await anyio.to_thread.run_sync(directory_size, Path(volume.mountpoint))
            with suppress(Conflict):  # somebody has taken it into use meanwhile
                await self.remove(volume.name)
                removed.append(volume.name)
                space += size
        self._events.emit("volume", "prune", "", {"reclaimed": str(space)})
        return Pruned(removed, space)

    def use(self, name: str, container_id: str) -> None:
        """Records that a container needs the volume."""
        self._database.execute("INSERT OR IGNORE INTO volume_users VALUES (?,?)", (name, container_id))
        self.give_up(container_id, name)

    def give_up(self, container_id: str, name: str = "") -> None:
        """Forgets that a container was to use a volume, or any."""
        promised = self._promised.get(container_id, set())
        promised.discard(name)
        if not (name and promised):
            self._promised.pop(container_id, None)

    async def reconcile(self, live: Set[str]) -> None:
        """When a daemon starts: gives back what containers had mounted that ended meanwhile."""
        for driver in self._drivers.values():
            await driver.reconcile(live)

    async def mount(self, name: str, container_id: str) -> Path:
        """The directory to bind, made ready."""
        volume = await self.get(name)
        return await self._driver(name, volume.driver).mount(name, container_id)

    async def unmount(self, name: str, container_id: str) -> None:
        volume = self._find(name)
        if volume:
            await self._driver(name, volume.driver).unmount(name, container_id)


def check_name(name: str) -> None:
    """InvalidArgument for what cannot be a volume's name."""
    if len(name) == 1 and name.isalnum():
        raise InvalidArgument(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _NAME.match(name):
        raise InvalidArgument(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def directory_size(directory: Path) -> int:
    """Bytes allocated below a directory; what vanishes meanwhile does not count."""
    import os

    total = 0
    for folder, _, files in os.walk(directory):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total
