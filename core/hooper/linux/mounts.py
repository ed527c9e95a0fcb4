"""Mounts, made on directories that a container's image may have prepared to mislead.

Every target inside a root is resolved by the kernel with that root as "/" (openat2, RESOLVE_IN_ROOT), and the
mount is made on the descriptor that came of it: a symbolic link in an image never redirects a mount.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from hooper.api import oci
from hooper.api.storage import Mount
from hooper.linux import syscalls as sys
from hooper.linux.mount_options import PROPAGATION, MountOptions, attributes, parse
from hooper.linux.overlay import mount_overlay

_MAX_LINKS = 40
_LOCKED = {
    os.ST_RDONLY: sys.MS_RDONLY,
    os.ST_NOSUID: sys.MS_NOSUID,
    os.ST_NODEV: sys.MS_NODEV,
    os.ST_NOEXEC: sys.MS_NOEXEC,
    os.ST_NOATIME: sys.MS_NOATIME,
    os.ST_NODIRATIME: sys.MS_NODIRATIME,
    os.ST_RELATIME: sys.MS_RELATIME,
}


def make_private(path: str = "/") -> None:
    """Nothing mounted below `path` is seen elsewhere from now on, nor the other way."""
    set_propagation(path, "rprivate")


def set_propagation(path: str, word: str) -> None:
    """Sets "rslave", "private"… on the mount at `path`."""
    sys.mount(None, path, None, PROPAGATION[word])


def mount_snapshot(mounts: Sequence[Mount], target: str | Path) -> None:
    """Makes the mounts of a snapshot, in order, on the directory `target`.

    The caller has a mount namespace of its own. Unsupported if the kernel cannot take that many layers.
    """
    place = os.path.abspath(target)
    for mount in mounts:
        options = parse(mount.options)
        if mount.type == "overlay":
            mount_overlay(place, options.flags, options.data)
        elif _is_bind(mount.type, options):
            fd = os.open(place, os.O_PATH | os.O_CLOEXEC)
            try:
                bind(mount.source, fd, options)
            finally:
                os.close(fd)
        else:
            sys.mount(mount.source, place, mount.type, options.flags, ",".join(options.data))
        for propagation in options.propagation:
            sys.mount(None, place, None, propagation)


def _is_bind(fstype: str, options: MountOptions) -> bool:
    return fstype == "bind" or bool(options.flags & sys.MS_BIND)


def mount_in_root(root: int, mount: oci.Mount) -> None:
    """Makes one mount of an OCI spec at its destination below the directory descriptor `root`.

    The working directory may be another one afterwards. A missing destination is made: a directory, or an empty
    file to bind a file on. OSError as the kernel says.
    """
    options = parse(mount.options)
    if _is_bind(mount.type, options):
        target = open_target(root, mount.destination, directory=os.path.isdir(mount.source))
        try:
            bind(mount.source, target, options)
        except OSError as error:
            if os.path.exists(mount.source) and is_directory(target) != os.path.isdir(mount.source):
                text = "not a directory: are you trying to mount a directory onto a file, or a file onto a directory?"
                raise NotADirectoryError(errno.ENOTDIR, text) from error
            raise
        finally:
            os.close(target)
        return
    target = open_target(root, mount.destination, directory=True)
    try:
        mount_at(target, mount.source or mount.type, mount.type, options.flags, ",".join(options.data))
    finally:
        os.close(target)
    if options.propagation:
        _repropagate(root, mount.destination, options.propagation)


def mount_at(target: int, source: str, fstype: str, flags: int, data: str) -> None:
    """mount(2) on the directory that `target` is open on, which becomes the working directory if that may be."""
    try:
        os.fchdir(target)
        place = "."  # the kernel would have to make up several entries of /proc for the other
    except PermissionError:
        place = f"/proc/self/fd/{target}"
    sys.mount(source, place, fstype, flags, data)


def _repropagate(root: int, path: str, propagation: Sequence[int]) -> None:
    place = sys.openat2(root, path, os.O_PATH)
    try:
        for flags in propagation:
            sys.mount(None, f"/proc/self/fd/{place}", None, flags)
    finally:
        os.close(place)


def bind(source: str, target: int, options: MountOptions, *, source_fd: int = sys.AT_FDCWD) -> None:
    """Binds `source` on what the descriptor `target` is open on, with attributes and propagation at once.

    Attributes that the source's mount has (a locked "nosuid" for one) are kept. With `source_fd` the source
    is relative to it, and may be empty.
    """
    flags = sys.OPEN_TREE_CLONE | (0 if source else sys.AT_EMPTY_PATH)
    if options.flags & sys.MS_REC:
        flags |= sys.AT_RECURSIVE
    tree = sys.open_tree(source_fd, source, flags)
    try:
        attach(tree, target, options)
    finally:
        os.close(tree)


def attach(tree: int, target: int, options: MountOptions) -> None:
    """Gives a detached mount its attributes and attaches it to what `target` is open on."""
    set_, clear = attributes(options.flags)
    try:
        for propagation in options.propagation:
            _setattr(tree, propagation & sys.MS_REC, propagation=propagation & ~sys.MS_REC)
        if set_ or clear:
            _setattr(tree, 0, set_=set_, clear=clear)
        if options.recursive:
            _setattr(tree, 1, set_=attributes(options.recursive)[0])
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        sys.move_mount(tree, target)
        _remount(tree, options)
        return
    sys.move_mount(tree, target)


def _setattr(tree: int, recursive: int, *, set_: int = 0, clear: int = 0, propagation: int = 0) -> None:
    flags = sys.AT_EMPTY_PATH | (sys.AT_RECURSIVE if recursive else 0)
    sys.mount_setattr(tree, flags=flags, set_=set_, clear=clear, propagation=propagation)


def _remount(tree: int, options: MountOptions) -> None:
    """For kernels before 5.12: the same by remounting, which must name the flags that are there."""
    place = f"/proc/self/fd/{tree}"
    present = os.statvfs(place).f_flag
    flags = (options.flags | options.recursive) & ~(sys.MS_BIND | sys.MS_REC)
    for given, flag in _LOCKED.items():
        if present & given:
            flags |= flag
    sys.mount(None, place, None, flags | sys.MS_BIND | sys.MS_REMOUNT)
    for propagation in options.propagation:
        sys.mount(None, place, None, propagation)


def open_target(root: int, path: str, *, directory: bool, links: int = 0) -> int:
    """An O_PATH descriptor of `path` below `root`; it, and directories above it, are made if missing.

    The caller closes it. A symbolic link to nothing is followed and its target made, inside the root.
    """
    try:
        return sys.openat2(root, path, os.O_PATH)
    except FileNotFoundError:
        pass
    above, name = os.path.split(path.rstrip("/"))
    parent = open_target(root, above or "/", directory=True, links=links)
    try:
        if directory:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=parent))
        return sys.openat2(parent, name, os.O_PATH)
    except FileExistsError:
        if links >= _MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
        target = os.readlink(name, dir_fd=parent)
    finally:
        os.close(parent)
    return open_target(root, os.path.join(above or "/", target), directory=directory, links=links + 1)


def is_directory(fd: int) -> bool:
    """Whether the descriptor, which may be an O_PATH one, is of a directory."""
    return stat.S_ISDIR(os.fstat(fd).st_mode)
