"""Removes directory trees, however deep archives or containers have made them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(path: bytes, gone: Callable[[bytes], object] | None = None) -> None:
    """Removes a path and all below it, however deep it is; harmless if it is gone. `gone` is told each path after it.

    OSError: ESTALE if a directory is moved meanwhile, and what the kernel says.
    """
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            _Removal(path, gone).run()
            os.rmdir(path)
        else:
            os.unlink(path)
    except FileNotFoundError:
        return
    if gone is not None:
        gone(path)


def discard(path: str | Path) -> None:
    """As `remove`, for what nobody uses any more: what cannot be removed stays."""
    with suppress(OSError):
        remove(os.fsencode(path))


class _Removal:
    """Empties a directory with one descriptor open: neither Python's stack nor the kernel's PATH_MAX limits the depth
    of what archives can make."""

    def __init__(self, path: bytes, gone: Callable[[bytes], object] | None) -> None:
        self._path, self._gone = path, gone
        self._fd = os.open(path, _DIRECTORY)

    def run(self) -> None:
        """Goes down into each directory, and up again by "..", which must be the one that it came from."""
        above: list[tuple[os.stat_result, bytes, list[bytes]]] = []
        try:
            directories = self._unlink_files()
            while directories or above:
                if directories:
                    name = directories.pop()
                    above.append((os.fstat(self._fd), name, directories))
                    self._go(name)
                    directories = self._unlink_files()
                else:
                    status, name, directories = above.pop()
                    self._go(b"..")
                    if not os.path.samestat(os.fstat(self._fd), status):
                        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
                    self._path = self._path[: -len(name) - 1]
                    os.rmdir(name, dir_fd=self._fd)
                    self._tell(name)
        finally:
            os.close(self._fd)

    def _go(self, name: bytes) -> None:
        following = os.open(name, _DIRECTORY, dir_fd=self._fd)
        os.close(self._fd)
        self._fd = following
        if name != b"..":
            self._path += b"/" + name

    def _unlink_files(self) -> list[bytes]:
        """Returns the names of the directories, which stay."""
        with os.scandir(self._fd) as found:
            entries = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in found]
        for name, is_directory in entries:
            if not is_directory:
                os.unlink(name, dir_fd=self._fd)
                self._tell(name)
        return [name for name, is_directory in entries if is_directory]

    def _tell(self, name: bytes) -> None:
        if self._gone is not None:
            self._gone(self._path + b"/" + name)
