"""Times of what a step has written, set to one that is the same each time."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hooper.api.storage import Mount
from hooper.content import mounting


def clamp(arguments: Mapping[str, Any], fds: Sequence[int]) -> int:
    """Worker: what a snapshot changes gets the modification time `epoch` (seconds) where it has a later one.

    `mounts` are the snapshot's, `parent` those of a view of its parent (None: it has none). Changed is what differs
    in kind, mode, owner, size, time or device: content that differs in nothing of these keeps its time, which is its
    parent's. Returns how many were set.
    """
    mounting.private_namespace()
    upper, lower = _trees(arguments)
    clamper = _Clamper(os.fsencode(upper), os.fsencode(lower) if lower else None, arguments["epoch"])
    clamper.directory(b"", lower != "")
    return clamper.count


def _trees(arguments: Mapping[str, Any]) -> tuple[str, str]:
    """Where the changes are, and what they are changes of. Of overlayfs the upper directory is all changes."""
    mounts = msgspec.convert(arguments["mounts"], list[Mount])
    parent = msgspec.convert(arguments["parent"], list[Mount] | None)
    upper = ""
    if len(mounts) == 1 and mounts[0].type == "overlay":
        found = [option for option in mounts[0].options if option.startswith("upperdir=")]
        upper = found[0].removeprefix("upperdir=") if found else ""
    return upper or mounting.mount_private(mounts), mounting.mount_private(parent) if parent else ""


class _Clamper:
    def __init__(self, upper: bytes, lower: bytes | None, epoch: int) -> None:
        self._upper, self._lower = upper, lower
        self._time = epoch * 1_000_000_000
        self.count = 0

    def directory(self, prefix: bytes, in_lower: bool) -> None:
        """What is in one directory ("" or with its "/"), and then itself."""
        path = self._upper + b"/" + prefix
        for name in os.listdir(path):
            status = os.lstat(path + name)
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                continue  # overlayfs's whiteout
            other = self._below(prefix + name) if in_lower else None
            if stat.S_ISDIR(status.st_mode):
                self.directory(prefix + name + b"/", other is not None and stat.S_ISDIR(other.st_mode))
            if other is None or _facts(status) != _facts(other):
                self._set(path + name, status)
        if not prefix:
            self._set(path, os.lstat(path))

    def _below(self, name: bytes) -> os.stat_result | None:
        assert self._lower is not None
        try:
            return os.lstat(self._lower + b"/" + name)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _set(self, path: bytes, status: os.stat_result) -> None:
        if status.st_mtime_ns > self._time:
            os.utime(path, ns=(self._time, self._time), follow_symlinks=False)
            self.count += 1


def _facts(status: os.stat_result) -> tuple[int, ...]:
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return status.st_mode, status.st_uid, status.st_gid, size, status.st_mtime_ns, status.st_rdev
