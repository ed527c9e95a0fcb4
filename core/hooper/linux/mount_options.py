"""fstab's option words, as the kernel wants them (mount(8), OCI runtime-spec config.md "Mounts")."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from hooper.linux import syscalls as sys

_SET = {
    "ro": sys.MS_RDONLY,
    "nosuid": sys.MS_NOSUID,
    "nodev": sys.MS_NODEV,
    "noexec": sys.MS_NOEXEC,
    "sync": sys.MS_SYNCHRONOUS,
    "dirsync": sys.MS_DIRSYNC,
    "mand": sys.MS_MANDLOCK,
    "noatime": sys.MS_NOATIME,
    "nodiratime": sys.MS_NODIRATIME,
    "relatime": sys.MS_RELATIME,
    "strictatime": sys.MS_STRICTATIME,
    "lazytime": sys.MS_LAZYTIME,
    "nosymfollow": sys.MS_NOSYMFOLLOW,
    "silent": sys.MS_SILENT,
    "remount": sys.MS_REMOUNT,
    "bind": sys.MS_BIND,
    "rbind": sys.MS_BIND | sys.MS_REC,
}
_CLEAR = {
    "rw": sys.MS_RDONLY,
    "suid": sys.MS_NOSUID,
    "dev": sys.MS_NODEV,
    "exec": sys.MS_NOEXEC,
    "async": sys.MS_SYNCHRONOUS,
    "nomand": sys.MS_MANDLOCK,
    "atime": sys.MS_NOATIME,
    "diratime": sys.MS_NODIRATIME,
    "norelatime": sys.MS_RELATIME,
    "nostrictatime": sys.MS_STRICTATIME,
    "symfollow": sys.MS_NOSYMFOLLOW,
    "loud": sys.MS_SILENT,
    "defaults": 0,
}
_KINDS = {
    "private": sys.MS_PRIVATE,
    "shared": sys.MS_SHARED,
    "slave": sys.MS_SLAVE,
    "unbindable": sys.MS_UNBINDABLE,
}
PROPAGATION = _KINDS | {f"r{word}": flag | sys.MS_REC for word, flag in _KINDS.items()}
"""Flags of mount(2) by the words for propagation."""

_ATTRIBUTES = (
    (sys.MS_RDONLY, sys.MOUNT_ATTR_RDONLY),
    (sys.MS_NOSUID, sys.MOUNT_ATTR_NOSUID),
    (sys.MS_NODEV, sys.MOUNT_ATTR_NODEV),
    (sys.MS_NOEXEC, sys.MOUNT_ATTR_NOEXEC),
    (sys.MS_NODIRATIME, sys.MOUNT_ATTR_NODIRATIME),
    (sys.MS_NOSYMFOLLOW, sys.MOUNT_ATTR_NOSYMFOLLOW),
)
_ATIMES = (
    (sys.MS_NOATIME, sys.MOUNT_ATTR_NOATIME),
    (sys.MS_STRICTATIME, sys.MOUNT_ATTR_STRICTATIME),
    (sys.MS_RELATIME, sys.MOUNT_ATTR_RELATIME),
)
_RECURSIVE = {"rro": "ro", "rnosuid": "nosuid", "rnodev": "nodev", "rnoexec": "noexec"}
# Words that only a user's tools or the engine understand.
_IGNORED = frozenset(["z", "Z", "tmpcopyup", "cached", "delegated", "consistent", "nofail", "_netdev", "private-label"])


class MountOptions(NamedTuple):
    """Options taken apart."""

    flags: int
    """MS_* that are set."""
    propagation: tuple[int, ...]
    """MS_* of propagation, in order, each with MS_REC or not."""
    recursive: int
    """MS_* that hold for the whole tree of a bind mount (rro…)."""
    data: tuple[str, ...]
    """The file system's own words."""


def parse(words: Iterable[str]) -> MountOptions:
    """Takes option words apart; of contradictory ones the last wins."""
    return _parse(tuple(words))


@lru_cache(maxsize=64)
def _parse(words: tuple[str, ...]) -> MountOptions:
    flags = recursive = 0
    propagation: list[int] = []
    data: list[str] = []
    for word in words:
        if word in _SET:
            flags |= _SET[word]
        elif word in _CLEAR:
            flags &= ~_CLEAR[word]
        elif word in PROPAGATION:
            propagation.append(PROPAGATION[word])
        elif word in _RECURSIVE:
            recursive |= _SET[_RECURSIVE[word]]
        elif word and word not in _IGNORED:
            data.append(word)
    return MountOptions(flags, tuple(propagation), recursive, tuple(data))


def attributes(flags: int) -> tuple[int, int]:
    """MS_* of one mount as mount_setattr(2) has them: (to set, to clear).

    Only the time of access is ever cleared, for its values exclude each other.
    """
    found = 0
    for flag, attribute in _ATTRIBUTES:
        if flags & flag:
            found |= attribute
    for flag, attribute in _ATIMES:
        if flags & flag:
            return found | attribute, sys.MOUNT_ATTR_ATIME
    return found, 0
