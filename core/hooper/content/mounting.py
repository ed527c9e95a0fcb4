"""Puts a worker process into the file system that it works on.

A worker makes a mount namespace of its own, mounts there what it needs and moves its root into it: no name
that it meets can leave the tree, and nothing is left behind however it ends.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hooper.api import oci
from hooper.api.errors import Internal, InvalidArgument
from hooper.api.storage import Mount
from hooper.linux import mounts as linux_mounts
from hooper.linux import syscalls


def private_namespace() -> None:
    """Gives this process a mount namespace whose changes nobody else sees."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    linux_mounts.make_private("/")


def _place_for(first: Mount) -> str:
    """A directory to mount on. A snapshot's own is used where it is known: then none has to be removed later."""
    if first.type == "bind" or {"bind", "rbind"}.intersection(first.options):
        return first.source
    for option in first.options:
        if option.startswith("upperdir="):
            return option.removeprefix("upperdir=")
        if option.startswith("lowerdir="):
            return option.removeprefix("lowerdir=").partition(":")[0]
    return tempfile.mkdtemp(prefix="hooper-")


def mount_private(mounts: Sequence[Mount]) -> str:
    """Mounts a snapshot in this process's own namespace (see `private_namespace`) and returns where.

    Internal if the kernel refuses it.
    """
    if not mounts:
        raise InvalidArgument("a snapshot without mounts", "there is nothing to work on")
    place = _place_for(mounts[0])
    try:
        linux_mounts.mount_snapshot(mounts, place)
    except OSError as error:
        raise Internal(
            f"cannot mount the snapshot {place}",
            error.strerror or str(error),
            "See the kernel's log (dmesg) for the reason.",
        ) from error
    return place


def move_root(path: str | int) -> None:
    """Makes a directory, given by path or descriptor, this process's root and working directory."""
    try:
        os.chdir(path)
        os.chroot(".")
        os.chdir("/")
    except OSError as error:
        raise Internal(f"cannot enter {path}", error.strerror or str(error)) from error


def open_tree(arguments: Mapping[str, Any], *, devices: bool = True) -> int:
    """A descriptor of the tree that a worker's arguments name; call `private_namespace` before.

    `mounts`: a snapshot's (as `msgspec.to_builtins` gives them); or `root`: a directory, such as
    /proc/<pid>/root of a running container. `devices`: whether those in it can be opened.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    if "mounts" in arguments:
        place = mount_private(msgspec.convert(arguments["mounts"], list[Mount]))
    elif devices:
        return os.open(arguments["root"], flags)
    else:
        place = arguments["root"]
        syscalls.mount(place, place, None, syscalls.MS_BIND)
    if not devices:
        syscalls.mount(None, place, None, syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_NODEV)
    fd = os.open(place, flags)
    # The descriptor keeps the mount; its place may be a lower directory of the next one.
    syscalls.umount(place)
    return fd


def enter(arguments: Mapping[str, Any], *, devices: bool = True) -> None:
    """Moves this process's root into the tree that a worker's arguments name; see `open_tree`.

    With `bound`, mounts of an OCI spec, those are made in a snapshot's tree before.
    """
    private_namespace()
    try:
        tree = _with_bound(arguments) if arguments.get("bound") else open_tree(arguments, devices=devices)
    except OSError as error:
        raise Internal("cannot open the tree to work on", error.strerror or str(error)) from error
    move_root(tree)
    os.close(tree)


def _with_bound(arguments: Mapping[str, Any]) -> int:
    """As `open_tree`; the snapshot stays mounted at its place, since what is mounted in it would go with that."""
    place = mount_private(msgspec.convert(arguments["mounts"], list[Mount]))
    tree = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for mount in msgspec.convert(arguments["bound"], list[oci.Mount]):
        linux_mounts.mount_in_root(tree, mount)
    return tree


def open_in_root(root: int, path: bytes, flags: int) -> int:
    """Opens a path with the directory of the descriptor `root` as "/", following no /proc link that leads elsewhere.

    OSError passes through.
    """
    resolve = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
    return syscalls.openat2(root, os.fsdecode(path) or ".", flags, resolve=resolve)
