"""Volumes: named directories, and who uses them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from hooper.api.engine import Filters, Pruned, Volumes
from hooper.api.errors import Conflict, InvalidArgument, NotFound, Unsupported
from hooper.api.model import Volume
from hooper.api.volume import VolumeDriver
from hooper.engine import filters as matching
from hooper.engine.clock import rfc3339
from hooper.engine.events import EventService
from hooper.engine.names import new_id
from hooper.state.database import Database

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")


class VolumeService(Volumes):
    def __init__(
        self, database: Database, drivers: Mapping[str, VolumeDriver], default: str, events: EventService
    ) -> None:
        self._database, self._drivers, self._default, self._events = database, drivers, default, events
        self._decode = msgspec.msgpack.Decoder(Volume).decode

    def _driver(self, name: str) -> VolumeDriver:
        driver = self._drivers.get(name)
        if driver is None:
            raise Unsupported(
                f'no volume driver "{name}"', "no active plugin brings it", f"There are: {', '.join(self._drivers)}."
            )
        return driver

    async def create(self, volume: Volume) -> Volume:
        wanted_driver = volume.driver or self._default
        if volume.name and (existing := self._find(volume.name)):
            if existing.driver != wanted_driver:
                raise Conflict(
                    f"a volume named {volume.name} already exists",
                    f"it is of the driver {existing.driver}",
                    "Choose another name, or the same driver.",
                )
            return existing
        anonymous = volume.anonymous or not volume.name
        name = volume.name or new_id()
        if not _NAME.match(name):
            raise InvalidArgument(
                f'"{name}" is not a volume name',
                'it includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed',
                "If you intended to pass a host directory, use an absolute path.",
            )
        place = await self._driver(wanted_driver).create(name, volume.options or {})
        made = msgspec.structs.replace(
            volume, name=name, driver=wanted_driver, mountpoint=str(place), created_at=rfc3339(), anonymous=anonymous
        )
        self._database.execute("INSERT INTO volumes VALUES (?,?)", (name, msgspec.msgpack.encode(made)))
        self._events.emit("volume", "create", name, {"driver": wanted_driver})
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
        volumes = [self._decode(row[0]) for row in self._database.query("SELECT document FROM volumes ORDER BY name")]
        used = {row[0] for row in self._database.query("SELECT DISTINCT volume FROM volume_users")}

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
        volume = self._find(name)
        if volume is None:
            if force:
                return
            raise NotFound(f"get {name}: no such volume", remedy="`hooper volume ls` lists them.")
        rows = self._database.query("SELECT container_id FROM volume_users WHERE volume=?", (name,))
        if rows:
            raise Conflict(
                f"remove {name}: volume is in use - [{', '.join(row[0] for row in rows)}]",
                remedy="Remove those containers first.",
            )
        await self._driver(volume.driver).remove(name)
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
            space += directory_size(Path(volume.mountpoint))
            await self.remove(volume.name)
            removed.append(volume.name)
        self._events.emit("volume", "prune", "", {"reclaimed": str(space)})
        return Pruned(removed, space)

    def use(self, name: str, container_id: str) -> None:
        """Records that a container needs the volume."""
        self._database.execute("INSERT OR IGNORE INTO volume_users VALUES (?,?)", (name, container_id))

    async def mount(self, name: str, container_id: str) -> Path:
        """The directory to bind, made ready."""
        volume = await self.get(name)
        return await self._driver(volume.driver).mount(name, container_id)

    async def unmount(self, name: str, container_id: str) -> None:
        volume = self._find(name)
        if volume:
            await self._driver(volume.driver).unmount(name, container_id)


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
