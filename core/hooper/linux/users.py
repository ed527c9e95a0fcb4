"""Who a container's process runs as: Docker's rules for "user[:group]".

The files are the container's own, so they are opened from a descriptor of its root and hold whatever the image's
author liked: lines that are not well-formed are passed over.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from hooper.api.errors import StartFailed
from hooper.linux.syscalls import openat2

_MAX_ID = (1 << 31) - 1
_MAX_FILE = 4 << 20

Read = Callable[[str], str]
"""The content of a file of the container, by its path."""


class Identity(NamedTuple):
    """A resolved user."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    """Supplementary groups: its own, those of /etc/group that list it, and those asked for besides."""
    home: str
    """ "/" where there is no passwd entry."""


class _Passwd(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


class _Group(NamedTuple):
    name: str
    gid: int
    members: tuple[str, ...]


def resolve(root: int, user: str, groups: Sequence[str] = ()) -> Identity:
    """Looks `user`, "user[:group]" with names or numbers, up below the directory descriptor `root`.

    An empty user is root. A number needs no entry; StartFailed says in Docker's words that a name has none.
    Groups that list the user count, unless a group was given. `groups` are more of them, names or numbers.
    """
    return resolve_with(partial(_read, root), user, groups)


def resolve_with(read: Read, user: str, groups: Sequence[str] = ()) -> Identity:
    """As `resolve`, with what `read` says is in /etc/passwd and /etc/group; nothing, if they are not there."""
    found = _resolve(read, user)
    more = [_group_id(read, group) for group in groups]
    return found._replace(groups=tuple(dict.fromkeys([found.gid, *found.groups, *more])))


def _resolve(read: Read, user: str) -> Identity:
    name, _, group = user.partition(":")
    name = name or "0"
    number = _number(name)
    entries = _passwd(read("/etc/passwd"))
    found = next((e for e in entries if (e.uid == number if number is not None else e.name == name)), None)
    if found is None and number is None:
        raise StartFailed(
            f"unable to find user {name}",
            "no matching entries in passwd file",
            "Add the user to the image, or give a number.",
        )
    uid = found.uid if found else _in_range(number)
    gid, home = (found.gid, found.home) if found else (0, "/")
    if group:
        return Identity(uid, _group_id(read, group), (), home)
    listed = _groups(read("/etc/group")) if found else iter(())
    extra = tuple(entry.gid for entry in listed if found and found.name in entry.members)
    return Identity(uid, gid, extra, home)


def _group_id(read: Read, group: str) -> int:
    number = _number(group)
    if number is not None:
        return _in_range(number)
    for entry in _groups(read("/etc/group")):
        if entry.name == group:
            return entry.gid
    raise StartFailed(
        f"unable to find group {group}",
        "no matching entries in group file",
        "Add the group to the image, or give a number.",
    )


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.lstrip("-").isdigit() and text.count("-") <= 1 else None


def _in_range(number: int | None) -> int:
    if number is None or not 0 <= number <= _MAX_ID:
        raise StartFailed(f"invalid user or group {number}", f"uids and gids must be in range 0-{_MAX_ID}")
    return number


def _read(root: int, path: str) -> str:
    try:
        fd = openat2(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        return os.read(fd, _MAX_FILE).decode("utf-8", "surrogateescape")
    except OSError:
        return ""
    finally:
        os.close(fd)


def _passwd(text: str) -> Iterator[_Passwd]:
    for line in text.splitlines():
        parts = line.strip().split(":")
        if len(parts) >= 4 and parts[2].isdigit() and parts[3].isdigit():
            home = parts[5] if len(parts) > 5 and parts[5] else "/"
            yield _Passwd(parts[0], int(parts[2]), int(parts[3]), home)


def _groups(text: str) -> Iterator[_Group]:
    for line in text.splitlines():
        parts = line.strip().split(":")
        if len(parts) >= 3 and parts[2].isdigit():
            members = tuple(parts[3].split(",")) if len(parts) > 3 else ()
            yield _Group(parts[0], int(parts[2]), members)
