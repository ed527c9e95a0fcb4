"""Mounts that several containers share, or that a path alone cannot name safely, made on the host for one container.

They lie in a directory of their own that nothing deletes recursively: what is mounted there is others' content.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from hooper.api.errors import InvalidArgument
from hooper.api.storage import Mount
from hooper.linux import mounts as linux_mounts
from hooper.linux import syscalls as sys
from hooper.linux.mount_options import MountOptions

_BIND = MountOptions(sys.MS_BIND | sys.MS_REC, (sys.MS_PRIVATE | sys.MS_REC,), 0, ())


class HostMounts:
    """By container, in `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._mine: set[str] = set()
        """Containers that this process mounted something for."""

    def path(self, container_id: str, name: str) -> Path:
        return self._root / container_id / name

    def _place(self, container_id: str, name: str) -> Path:
        path = self._path_for(container_id, name)
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def _path_for(self, container_id: str, name: str) -> Path:
        self._mine.add(container_id)
        path = self.path(container_id, name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def shm(self, container_id: str, size: int) -> str:
        """A new /dev/shm of so many bytes."""
        place = str(self._place(container_id, "shm"))
        sys.mount("shm", place, "tmpfs", sys.MS_NOSUID | sys.MS_NODEV | sys.MS_NOEXEC, f"mode=1777,size={size}")
        return place

    def snapshot(self, container_id: str, name: str, mounts: Sequence[Mount]) -> str:
        """The file system that a storage driver's mounts make."""
        place = self._place(container_id, name)
        linux_mounts.mount_snapshot(mounts, place)
        return str(place)

    def below(self, container_id: str, name: str, directory: str, subpath: str) -> str:
        """What `directory` has at `subpath`, found with `directory` as "/": links in it lead nowhere else.

        InvalidArgument if there is nothing.
        """
        root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flags = sys.RESOLVE_IN_ROOT | sys.RESOLVE_NO_MAGICLINKS
            source = sys.openat2(root, subpath, os.O_PATH | os.O_CLOEXEC, resolve=flags)
        except OSError as error:
            raise InvalidArgument(
                f'cannot mount the subpath "{subpath}" of {directory}',
                (error.strerror or str(error)).lower(),
                "Make it first, in a container that has the whole volume.",
            ) from error
        finally:
            os.close(root)
        try:
            return self._bind(source, self._path_for(container_id, name))
        finally:
            os.close(source)

    def _bind(self, source: int, place: Path) -> str:
        if linux_mounts.is_directory(source):
            place.mkdir()
        else:
            place.touch()
        target = os.open(place, os.O_PATH | os.O_CLOEXEC)
        try:
            linux_mounts.bind("", target, _BIND, source_fd=source)
        finally:
            os.close(target)
        return str(place)

    def release(self, container_id: str) -> None:
        """Undoes all of a container. Harmless if it has none."""
        self._mine.discard(container_id)
        try:
            names = os.listdir(f"{self._root}/{container_id}")
        except FileNotFoundError:
            return
        directory = self._root / container_id
        for name in sorted(names, reverse=True):
            place = directory / name
            _unmount(str(place))
            if place.is_dir():
                place.rmdir()
            else:
                place.unlink()
        directory.rmdir()

    def release_all_but(self, live: Iterable[str]) -> None:
        """What containers left that ended while no daemon was there."""
        if self._root.is_dir():
            for name in set(os.listdir(self._root)) - set(live) - self._mine:
                self.release(name)


def _unmount(place: str) -> None:
    """All that is mounted there; a daemon that was killed may have left an earlier one below."""
    while True:
        try:
            sys.umount(place, sys.MNT_DETACH)
        except OSError as error:
            if error.errno != errno.EINVAL:  # none is left
                raise
            return
