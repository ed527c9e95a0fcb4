"""What users ask for with -v, --mount and --tmpfs, as mount points of a container. Rules and words are Docker's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from hooper.api import oci
from hooper.api.errors import InvalidArgument
from hooper.api.model import ContainerConfig, HostConfig, MountPoint, MountRequest

_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_MODE_GROUPS = (("ro", "rw"), ("z", "Z"), _PROPAGATIONS, ("nocopy",), ("consistent", "cached", "delegated"))
_OPTIONS = {
    "bind": "bind_options", "volume": "volume_options", "tmpfs": "tmpfs_options", "image": "image_options",
}  # fmt: skip
_SHOWN_OPTIONS = {field: "".join(part.capitalize() for part in field.split("_")) for field in _OPTIONS.values()}
_TMPFS_WORDS = frozenset(
    "ro rw suid nosuid dev nodev exec noexec sync async dirsync mand nomand atime noatime diratime nodiratime relatime "
    "norelatime strictatime nostrictatime private rprivate shared rshared slave rslave unbindable runbindable "
    "bind rbind remount defaults swap noswap".split()
)
_TMPFS_VALUES = {
    "size": re.compile(r"\d+[kmgtKMGT%]?"),
    "nr_blocks": re.compile(r"\d+[kmgtKMGT]?"),
    "nr_inodes": re.compile(r"\d+[kmgtKMGT]?"),
    "mode": re.compile(r"[0-7]{1,5}"),
    "uid": re.compile(r"\d+"),
    "gid": re.compile(r"\d+"),
    "mpol": re.compile(r"\S+"),
    "huge": re.compile(r"\S+"),
}
_TMPFS_DEFAULTS = ("nosuid", "nodev", "noexec")


def requested(config: ContainerConfig, host: HostConfig, taken_over: Iterable[MountPoint] = ()) -> list[MountPoint]:
    """All mounts a container asks for, one a destination; a volume without name is anonymous.

    `taken_over` are other containers' (--volumes-from), which stand back for the container's own. InvalidArgument
    names the request that is wrong, or the destination asked for twice.
    """
    explicit: dict[str, MountPoint] = {}
    for point in [*(_from_bind(text, host) for text in host.binds or ()), *map(_from_request, host.mounts or ())]:
        if point.destination in explicit:
            raise _duplicate(point.destination)
        explicit[point.destination] = point
    for place in check_tmpfs(host.tmpfs or {}):
        if place in explicit:
            raise _duplicate(place)
    points = {point.destination: point for point in taken_over if point.destination not in (host.tmpfs or {})}
    points.update(explicit)
    for destination in config.volumes or ():
        place = _absolute(destination, f'invalid volume specification: "{destination}": ')
        if place not in points and place not in (host.tmpfs or {}):
            points[place] = MountPoint(type="volume", destination=place, driver=host.volume_driver)
    for point in points.values():
        point.anonymous = point.type == "volume" and (not point.name or point.anonymous)
    return list(points.values())


def _duplicate(place: str) -> InvalidArgument:
    return InvalidArgument(f"Duplicate mount point: {place}", remedy="Ask for it once.")


def _absolute(path: str, what: str) -> str:
    if not path.startswith("/"):
        raise InvalidArgument(
            f"{what}invalid mount path: '{path}' mount path must be absolute", remedy="Begin it with /."
        )
    clean = os.path.normpath(path)
    if clean in ("/", "//"):
        raise InvalidArgument(
            f"{what}invalid specification: destination can't be '/'", remedy="Mount a directory below it."
        )
    return "/" + clean.lstrip("/")


# --- -v -------------------------------------------------------------------------------------------


def _from_bind(text: str, host: HostConfig) -> MountPoint:
    parts = text.split(":")
    what = f"invalid volume specification: '{text}'"
    if len(parts) > 3 or not all(parts):
        raise InvalidArgument(what, remedy="Write SOURCE:DESTINATION[:MODE].")
    if len(parts) == 1:
        place = _absolute(parts[0], f'{what}: invalid mount config for type "volume": ')
        return MountPoint(type="volume", destination=place, driver=host.volume_driver)
    source, mode = parts[0], parts[2] if len(parts) == 3 else ""
    words = _mode(mode)
    kind = "bind" if source.startswith("/") else "volume"
    what = f'{what}: invalid mount config for type "{kind}": '
    propagation = next((word for word in words if word in _PROPAGATIONS), "")
    wrong = "VolumeOptions" if kind == "bind" and "nocopy" in words else ""
    wrong = "BindOptions" if kind == "volume" and propagation else wrong
    if wrong:
        raise InvalidArgument(
            f"{what}field {wrong} must not be specified",
            remedy="Propagation is for directories of the host, nocopy for volumes.",
        )
    point = MountPoint(type=kind, destination=_absolute(parts[1], what), mode=mode, rw="ro" not in words)
    if kind == "bind":
        point.source, point.propagation = os.path.normpath(source), propagation or "rprivate"
    else:
        point.name, point.driver, point.mode = source, host.volume_driver, mode or "z"
    return point


def _mode(mode: str) -> list[str]:
    words = mode.split(",") if mode else []
    groups = [next((number for number, group in enumerate(_MODE_GROUPS) if word in group), -1) for word in words]
    if -1 in groups or len(set(groups)) != len(groups):
        known = ", ".join("|".join(group) for group in _MODE_GROUPS)
        raise InvalidArgument(f"invalid mode: {mode}", remedy=f"At most one each of: {known}.")
    return words


def volumes_from(item: str) -> tuple[str, bool]:
    """Container and whether its volumes are to be read-only. InvalidArgument."""
    name, _, mode = item.partition(":")
    if not name:
        raise InvalidArgument("volumes-from specification cannot be an empty string", remedy="Write CONTAINER[:ro].")
    words = _mode(mode)
    if any(word in _PROPAGATIONS or word == "nocopy" for word in words):
        raise InvalidArgument(f"invalid mode: {mode}", remedy="There are ro, rw, z and Z.")
    return name, "ro" in words


# --- --mount --------------------------------------------------------------------------------------


def _from_request(request: MountRequest) -> MountPoint:
    what = f'invalid mount config for type "{request.type}": '
    if request.type not in _OPTIONS:
        raise InvalidArgument(f"{what}mount type unknown", remedy="There are bind, volume, tmpfs and image.")
    if not request.target:
        raise InvalidArgument(f"{what}field Target must not be empty", remedy="Say where: target=/PATH.")
    destination = _absolute(request.target, what)
    for kind, field in _OPTIONS.items():
        # Docker passes over a TmpfsOptions of a bind.
        if kind != request.type and getattr(request, field) is not None and kind != "tmpfs":
            raise InvalidArgument(
                f"{what}field {_SHOWN_OPTIONS[field]} must not be specified", remedy=f"It is for mounts of type {kind}."
            )
    point = MountPoint(type=request.type, destination=destination, rw=not request.read_only)
    {"bind": _bind, "volume": _volume, "tmpfs": _tmpfs, "image": _image}[request.type](point, request, what)
    return point


def _bind(point: MountPoint, request: MountRequest, what: str) -> None:
    options = request.bind_options or {}
    if not request.source:
        raise InvalidArgument(f"{what}field Source must not be empty", remedy="Name a path of the host: source=/PATH.")
    if not request.source.startswith("/"):
        raise InvalidArgument(
            f"{what}invalid mount path: '{request.source}' mount path must be absolute", remedy="Begin it with /."
        )
    propagation = options.get("Propagation") or ""
    if propagation and propagation not in _PROPAGATIONS:
        raise InvalidArgument(
            f"{what}invalid propagation mode: {propagation}", remedy=f"There are: {', '.join(_PROPAGATIONS)}."
        )
    _recursion(point, options, what)
    if not options.get("CreateMountpoint") and not os.path.lexists(request.source):
        raise no_source(request.source, what)
    point.source, point.propagation = os.path.normpath(request.source), propagation or "rprivate"


def no_source(source: str, what: str = 'invalid mount config for type "bind": ') -> InvalidArgument:
    """The error of a bind whose source is not there and not to be made."""
    return InvalidArgument(
        f"{what}bind source path does not exist: {source}",
        remedy="Make the path first, or use -v, which makes a directory.",
    )


def _recursion(point: MountPoint, options: Mapping[str, Any], what: str) -> None:
    if options.get("NonRecursive"):
        point.recursion = "none"
    if options.get("ReadOnlyNonRecursive"):
        if options.get("ReadOnlyForceRecursive"):
            raise InvalidArgument(f"{what}ReadOnlyForceRecursive conflicts with ReadOnlyNonRecursive")
        point.recursion = point.recursion or "writable"
    for name in ("ReadOnlyNonRecursive", "ReadOnlyForceRecursive"):
        if options.get(name) and point.rw:
            raise InvalidArgument(f"{what}{name} requires the mount to be read-only", remedy="Add readonly.")


def _volume(point: MountPoint, request: MountRequest, what: str) -> None:
    options = request.volume_options or {}
    if not request.source and request.read_only:
        raise InvalidArgument(
            f"{what}must not set ReadOnly mode when using anonymous volumes", remedy="Name the volume: source=NAME."
        )
    point.name, point.driver = request.source, (options.get("DriverConfig") or {}).get("Name") or ""
    point.subpath = _subpath(options.get("Subpath") or "", what)
    if point.subpath and not request.source:
        raise InvalidArgument(
            f"{what}must not set Subpath when using anonymous volumes", remedy="Name the volume: source=NAME."
        )
    point.mode = "z"


def _subpath(path: str, what: str) -> str:
    if path and (path.startswith("/") or ".." in path.split("/")):
        raise InvalidArgument(
            f"{what}subpath must be a relative path within the volume", remedy=f"{path} leads out of it."
        )
    return os.path.normpath(path) if path else ""


def _tmpfs(point: MountPoint, request: MountRequest, what: str) -> None:
    options = request.tmpfs_options or {}
    if request.source:
        raise InvalidArgument(
            f"{what}field Source must not be specified", remedy="A tmpfs begins empty and has no source."
        )
    words = []
    if size := _number(options, "SizeBytes", what):
        words.append(f"size={size}")
    if mode := _number(options, "Mode", what):
        if mode > 0o7777:
            raise InvalidArgument(f"{what}invalid file mode {mode:o}", remedy="The highest is 7777.")
        words.append(f"mode={mode:o}")
    for pair in options.get("Options") or ():
        words.append("=".join(map(str, pair)))
    check_tmpfs({point.destination: ",".join(words)})
    point.options = ",".join(words)


def _number(options: Mapping[str, Any], name: str, what: str) -> int:
    value = options.get(name) or 0
    if not isinstance(value, int) or value < 0:
        raise InvalidArgument(f"{what}invalid {name}: {value}", remedy="It is a positive number.")
    return value


def _image(point: MountPoint, request: MountRequest, what: str) -> None:
    if not request.source:
        raise InvalidArgument(f"{what}field Source must not be empty", remedy="Name an image: source=IMAGE.")
    point.name, point.rw = request.source, False
    point.subpath = _subpath((request.image_options or {}).get("Subpath") or "", what)


# --- --tmpfs --------------------------------------------------------------------------------------


def check_tmpfs(tmpfs: Mapping[str, str]) -> list[str]:
    """Where they go. InvalidArgument names a wrong place or option."""
    for text in tmpfs.values():
        bad = [word for word in text.split(",") if word and not _is_tmpfs_option(word)]
        if bad:
            raise InvalidArgument(
                f"invalid tmpfs option {bad}".replace("'", '"'),
                remedy=f"There are mount options and {', '.join(f'{name}=' for name in _TMPFS_VALUES)}.",
            )
    return [_absolute(place, "") for place in tmpfs]


def _is_tmpfs_option(word: str) -> bool:
    name, equals, value = word.partition("=")
    if not equals:
        return word in _TMPFS_WORDS
    return name in _TMPFS_VALUES and _TMPFS_VALUES[name].fullmatch(value) is not None


# --- as the runtime has them ----------------------------------------------------------------------


def runtime_mounts(points: Iterable[MountPoint], tmpfs: dict[str, str] | None) -> list[oci.Mount]:
    """The OCI mounts of those points, parents before children; `tmpfs` is HostConfig's."""
    mounts = [_runtime_mount(point) for point in points]
    for destination, text in (tmpfs or {}).items():
        mounts.append(_runtime_tmpfs(destination, text, rw=True))
    return sorted(mounts, key=lambda mount: mount.destination.rstrip("/").count("/"))


def _runtime_tmpfs(destination: str, text: str, *, rw: bool) -> oci.Mount:
    options = [*_TMPFS_DEFAULTS, *filter(None, text.split(",")), *([] if rw else ["ro"])]
    return oci.Mount(destination=destination, type="tmpfs", source="tmpfs", options=options)


def _runtime_mount(point: MountPoint) -> oci.Mount:
    if point.type == "tmpfs":
        return _runtime_tmpfs(point.destination, point.options, rw=point.rw)
    options = ["bind" if point.recursion == "none" else "rbind", point.propagation or "rprivate"]
    if not point.rw:
        options.append("ro")
        if not point.recursion:
            options.append("rro")
    return oci.Mount(destination=point.destination, type="bind", source=point.source, options=options)
