"""The places in a step's file system on which things are mounted while its command runs.

Those that are missing are made before, and taken away afterwards unless the command has put something there; the
times of the directories above them are as if nothing had happened. What is mounted so leaves no trace in the layer.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec

from hooper.api.driver import Workers
from hooper.api.errors import InvalidArgument
from hooper.api.model import MountPoint
from hooper.api.storage import Mount

_MODE = 0o755


@asynccontextmanager
async def present(workers: Workers, mounts: Sequence[Mount], points: Iterable[MountPoint]) -> AsyncIterator[None]:
    """While it lasts the active snapshot with these `mounts` has a place for each of the points.

    After an error what was made stays: the snapshot is of no use then. InvalidArgument if a file is in the way.
    """
    snapshot = msgspec.to_builtins(list(mounts))
    targets = [(os.fsencode(point.destination), _is_directory(point)) for point in points]
    targets.sort(key=lambda target: target[0].count(b"/"))
    made = await workers.run("hooper.engine.build_mount_points:make", {"mounts": snapshot, "targets": targets})
    yield
    if made:
        await workers.run("hooper.engine.build_mount_points:clear", {"mounts": snapshot, "made": made})


def _is_directory(point: MountPoint) -> bool:
    return point.type == "tmpfs" or os.path.isdir(point.source)


# --- in a worker ----------------------------------------------------------------------------------


def make(arguments: dict[str, Any], fds: Sequence[int]) -> list[tuple[bytes, bool]]:
    """Makes what is missing of `targets` (path, is a directory) and of the directories above; returns what it made."""
    made: list[tuple[bytes, bool]] = []
    os.umask(0)
    with _inside(arguments["mounts"]):
        for target, directory in arguments["targets"]:
            try:
                made += _make(os.path.realpath(target), directory)
            except NotADirectoryError as error:
                raise InvalidArgument(
                    f"cannot mount at {os.fsdecode(target)}",
                    "a file is where a directory above it should be",
                    "Choose another target.",
                ) from error
    return made


def _make(path: bytes, directory: bool) -> Iterator[tuple[bytes, bool]]:
    missing: list[bytes] = []
    place = path
    while not os.path.lexists(place):
        missing.append(place)
        place = os.path.dirname(place)
    for each in reversed(missing):
        with _times_kept(os.path.dirname(each)):
            if directory or each != path:
                os.mkdir(each, _MODE)
            else:
                os.close(os.open(each, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, _MODE))
        yield each, directory or each != path


def clear(arguments: dict[str, Any], fds: Sequence[int]) -> None:
    """Removes those of `made` that are still as they were made: empty, root's, with that mode."""
    with _inside(arguments["mounts"]):
        for path, directory in reversed(arguments["made"]):
            parent = os.path.dirname(path)
            if os.path.realpath(parent) == parent and _untouched(path, directory):
                with _times_kept(parent):
                    _remove(path, directory)


def _untouched(path: bytes, directory: bool) -> bool:
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    kind = stat.S_IFDIR if directory else stat.S_IFREG
    same = (found.st_mode, found.st_uid, found.st_gid) == (kind | _MODE, 0, 0)
    return same and (directory or not found.st_size)


def _remove(path: bytes, directory: bool) -> None:
    try:
        os.rmdir(path) if directory else os.unlink(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


@contextmanager
def _times_kept(directory: bytes) -> Iterator[None]:
    before = os.stat(directory)
    yield
    os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))


@contextmanager
def _inside(mounts: list[Any]) -> Iterator[None]:
    """With the snapshot as root. It is unmounted at the end, before the answer lets the container mount it."""
    from hooper.content.mounting import mount_private, move_root, private_namespace
    from hooper.linux import syscalls

    private_namespace()
    place = mount_private(msgspec.convert(mounts, list[Mount]))
    outside = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    move_root(place)
    yield
    os.fchdir(outside)
    os.chroot(".")
    os.close(outside)
    syscalls.umount(place)
