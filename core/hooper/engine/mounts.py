"""What users ask for with -v, --mount and --tmpfs, as mount points of a container."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from hooper.api import oci
from hooper.api.errors import InvalidArgument
from hooper.api.model import ContainerConfig, HostConfig, MountPoint, MountRequest

_PROPAGATIONS = ("rprivate", "private", "rshared", "shared", "rslave", "slave")
_MODES = {"ro", "rw", "z", "Z", "nocopy", "cached", "delegated", "consistent", *_PROPAGATIONS}


def requested(config: ContainerConfig, host: HostConfig) -> list[MountPoint]:
    """All mounts a container asks for, one a destination; a volume without name is anonymous.

    InvalidArgument names the request that is wrong, or the destination asked for twice.
    """
    points: dict[str, MountPoint] = {}
    explicit = [*map(_from_bind, host.binds or ()), *map(_from_request, host.mounts or ())]
    for point in explicit:
        if point.destination in points:
            raise InvalidArgument(f"Duplicate mount point: {point.destination}", remedy="Ask for it once.")
        points[point.destination] = point
    for destination in config.volumes or ():
        place = _absolute(destination, f'volume "{destination}"')
        if place not in points and place not in (host.tmpfs or {}):
            points[place] = MountPoint(type="volume", destination=place, driver=host.volume_driver)
    return list(points.values())


def _absolute(path: str, what: str) -> str:
    if not path.startswith("/"):
        raise InvalidArgument(
            f"invalid mount {what}", f"mount path must be absolute, and {path!r} is not", "Begin it with /."
        )
    clean = os.path.normpath(path)
    if clean in ("/", "//"):
        raise InvalidArgument(f"invalid mount {what}", "destination can't be '/'", "Mount a directory below it.")
    return clean


def _from_bind(text: str) -> MountPoint:
    parts = text.split(":")
    if len(parts) == 1:
        return MountPoint(type="volume", destination=_absolute(parts[0], f'"{text}"'))
    if len(parts) > 3 or not all(parts[:2]):
        raise InvalidArgument(f'invalid volume specification: "{text}"', remedy="Write SOURCE:DESTINATION[:MODE].")
    source, destination = parts[0], _absolute(parts[1], f'"{text}"')
    mode = parts[2] if len(parts) == 3 else ""
    words = [word for word in mode.split(",") if word]
    if bad := [word for word in words if word not in _MODES]:
        raise InvalidArgument(f'invalid mode "{bad[0]}" in "{text}"', remedy=f"Modes are {', '.join(sorted(_MODES))}.")
    propagation = next((word for word in words if word in _PROPAGATIONS), "")
    common: dict[str, Any] = {"destination": destination, "mode": mode, "rw": "ro" not in words}
    if source.startswith("/"):
        return MountPoint(type="bind", source=os.path.normpath(source), propagation=propagation or "rprivate", **common)
    return MountPoint(type="volume", name=source, **common)


def _from_request(request: MountRequest) -> MountPoint:
    destination = _absolute(request.target, f'"{request.target}"')
    rw = not request.read_only
    if request.type == "bind":
        if not request.source.startswith("/"):
            raise InvalidArgument(
                f'invalid mount config for type "bind": "{request.source}"', "the source must be an absolute path"
            )
        options = request.bind_options or {}
        create = bool(options.get("CreateMountpoint"))
        if not create and not os.path.lexists(request.source):
            raise InvalidArgument(
                'invalid mount config for type "bind"',
                f"bind source path does not exist: {request.source}",
                "Make the path first, or use -v, which makes a directory.",
            )
        return MountPoint(
            type="bind",
            source=request.source,
            destination=destination,
            rw=rw,
            propagation=options.get("Propagation") or "rprivate",
        )
    if request.type == "volume":
        driver = (request.volume_options or {}).get("DriverConfig") or {}
        return MountPoint(
            type="volume", name=request.source, destination=destination, rw=rw, driver=driver.get("Name", "")
        )
    if request.type == "tmpfs":
        return MountPoint(type="tmpfs", destination=destination, rw=rw, mode=_tmpfs_mode(request))
    raise InvalidArgument(f'mount type "{request.type}" unknown', remedy="There are bind, volume and tmpfs.")


def _tmpfs_mode(request: MountRequest) -> str:
    options = request.tmpfs_options or {}
    words = []
    if options.get("SizeBytes"):
        words.append(f"size={options['SizeBytes']}")
    if options.get("Mode"):
        words.append(f"mode={options['Mode']:o}")
    return ",".join(words)


def runtime_mounts(points: Iterable[MountPoint], tmpfs: dict[str, str] | None) -> list[oci.Mount]:
    """The OCI mounts of those points, parents before children; `tmpfs` is HostConfig's."""
    mounts = [_runtime_mount(point) for point in points]
    for destination, words in (tmpfs or {}).items():
        options = ["nosuid", "nodev", "noexec", *filter(None, words.split(","))]
        mounts.append(oci.Mount(destination=destination, type="tmpfs", source="tmpfs", options=options))
    return sorted(mounts, key=lambda mount: mount.destination.count("/") if mount.destination != "/" else 0)


def _runtime_mount(point: MountPoint) -> oci.Mount:
    if point.type == "tmpfs":
        options = ["nosuid", "nodev", *([] if point.rw else ["ro"]), *filter(None, point.mode.split(","))]
        return oci.Mount(destination=point.destination, type="tmpfs", source="tmpfs", options=options)
    options = ["rbind", point.propagation or "rprivate"]
    if not point.rw:
        options.append("ro")
    return oci.Mount(destination=point.destination, type="bind", source=point.source, options=options)
