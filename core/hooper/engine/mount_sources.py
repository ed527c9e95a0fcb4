"""The sources of a container's mounts, made ready before it starts and given back after it ended."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection, Set
from contextlib import asynccontextmanager, suppress

import anyio.to_thread
import msgspec

from hooper.api import oci
from hooper.api.errors import Conflict, InvalidArgument, NotFound
from hooper.api.model import Container, MountPoint
from hooper.engine import mounts, spec
from hooper.engine.core import Core
from hooper.engine.host_mounts import HostMounts
from hooper.engine.names import new_id


class MountSources:
    def __init__(self, core: Core) -> None:
        self._core = core
        self.host = HostMounts(core.host.exec_root / "mounts")

    async def mounts(self, container: Container) -> list[oci.Mount]:
        """The mounts that the container asked for, parents before children."""
        return mounts.runtime_mounts(await self._points(container), container.host_config.tmpfs)

    async def _points(self, container: Container) -> list[MountPoint]:
        return [await self._ready(container, number, point) for number, point in enumerate(container.mounts)]

    @asynccontextmanager
    async def at_rest(self, container: Container) -> AsyncIterator[list[oci.Mount]]:
        """What a container that does not run would have mounted of volumes, images and this host, for the time being.

        A path that is missing on this host is left out.
        """
        there = [point for point in container.mounts if point.type in ("volume", "image") or _is_there(point)]
        user = msgspec.structs.replace(
            container,
            id=f"{container.id}.rest-{new_id()[:12]}",
            mounts=[msgspec.structs.replace(point, propagation="") for point in there],
        )
        try:
            yield mounts.runtime_mounts(await self._points(user), None)
        finally:
            await self.release(user)

    async def _ready(self, container: Container, number: int, point: MountPoint) -> MountPoint:
        """The point with the directory or file of this host that is to be bound."""
        if point.type == "volume":
            point.source = str(await self._core.volumes.mount(point.name, container.id))
            if point.subpath:
                return await self._below(container, number, point, point.source)
        elif point.type == "bind":
            if not os.path.lexists(point.source):
                _make(container, point)
            if point.propagation.removeprefix("r") in ("shared", "slave"):
                check_propagation(point)
        elif point.type == "image":
            return await self._image(container, number, point)
        return point

    async def _below(self, container: Container, number: int, point: MountPoint, directory: str) -> MountPoint:
        name = f"{number}-below"
        # The directory may be on a server that does not answer.
        place = await anyio.to_thread.run_sync(self.host.below, container.id, name, directory, point.subpath)
        return msgspec.structs.replace(point, source=place)

    async def _image(self, container: Container, number: int, point: MountPoint) -> MountPoint:
        core, key = self._core, view_key(container.id, number)
        image = await core.images.get(point.source)
        try:
            snapshot = await core.storage.view(key, image.chain)
        except Conflict:  # a daemon that was killed left it
            snapshot = await core.storage.mounts(key)
        place = self.host.snapshot(container.id, str(number), snapshot)
        if point.subpath:
            return await self._below(container, number, point, place)
        return msgspec.structs.replace(point, source=place)

    async def release(self, container: Container) -> None:
        """Harmless if nothing was made ready."""
        self.host.release(container.id)
        for number, point in enumerate(container.mounts):
            with suppress(NotFound):
                if point.type == "volume":
                    await self._core.volumes.unmount(point.name, container.id)
                elif point.type == "image":
                    await self._core.storage.remove(view_key(container.id, number))

    async def reconcile(self, live: Set[str]) -> None:
        """When a daemon starts: gives back what containers had that ended meanwhile."""
        self.host.release_all_but(live)
        await self._core.volumes.reconcile(live)

    def shm(self, container: Container, live: Collection[str]) -> str:
        """Where on this host the container's /dev/shm is: "" for one of its own, spec.NO_SHM for none.

        InvalidArgument if the container whose it would be does not share it.
        """
        mode = container.host_config.ipc_mode
        if mode == "none":
            return spec.NO_SHM
        if mode == "host":
            return "/dev/shm"
        if mode == "shareable":
            return self.host.shm(container.id, container.host_config.shm_size)
        if not mode.startswith("container:"):
            return ""
        donor = self._core.store.get(mode.removeprefix("container:"))
        if donor.host_config.ipc_mode == "host":
            return "/dev/shm"
        check_shares_ipc(donor)
        place = self.host.path(donor.id, "shm")
        if donor.id not in live:
            raise Conflict(
                f"cannot join IPC of a non running container: {donor.id}", remedy=f"Start it: hooper start {donor.name}"
            )
        return str(place)


def _is_there(point: MountPoint) -> bool:
    return point.type == "bind" and os.path.exists(point.source)


def check_shares_ipc(donor: Container) -> None:
    """InvalidArgument if it keeps its System V IPC and /dev/shm to itself."""
    if donor.host_config.ipc_mode not in ("shareable", "host"):
        raise InvalidArgument(
            f"can't join IPC of container {donor.id}: non-shareable IPC",
            "(hint: use IpcMode:shareable for the donor container)",
            f"Make {donor.name} anew with --ipc shareable.",
        )


def check_propagation(point: MountPoint) -> None:
    """InvalidArgument if the mount that holds the source shares nothing (proc(5), mountinfo)."""
    source = os.path.realpath(point.source)
    holder, optional = "/", ""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            before, _, _ = line.partition(" - ")
            fields = before.split()
            if f"{source}/".startswith(f"{fields[4].rstrip('/')}/") and len(fields[4]) >= len(holder):
                holder, optional = fields[4], " ".join(fields[6:])
    slave = point.propagation.endswith("slave")
    if "shared:" not in optional and not (slave and "master:" in optional):
        raise InvalidArgument(
            f"path {point.source} is mounted on {holder} but it is not a shared{' or slave' if slave else ''} mount",
            remedy=f"Share it first: mount --make-shared {holder}",
        )


def view_key(container_id: str, number: int) -> str:
    """The name of the snapshot in which a container sees an image."""
    return f"{container_id}.{number}"


def _make(container: Container, point: MountPoint) -> None:
    """-v makes a directory that is missing; --mount asks for it."""
    for request in container.host_config.mounts or ():
        wanted = (request.bind_options or {}).get("CreateMountpoint")
        if request.type == "bind" and os.path.normpath(request.target) == point.destination and not wanted:
            raise mounts.no_source(point.source)
    try:
        os.makedirs(point.source)
    except OSError as error:
        raise InvalidArgument(
            f"error while creating mount source path '{point.source}'",
            f"mkdir {point.source}: {(error.strerror or str(error)).lower()}",
            "Name a path that is there, or can be made.",
        ) from error
