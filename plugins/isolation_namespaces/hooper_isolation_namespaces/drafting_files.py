"""The part of a script that makes what a container sees of files: what `mounts` and `rootfs` do."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Sequence

from hooper.api import oci
from hooper.api.isolation import Bundle
from hooper.linux import syscalls as sys
from hooper.linux.cgroups import Cgroup, Order
from hooper.linux.cgroups import layout as cgroup_layout
from hooper.linux.defaults import DEVICE_LINKS, DEVICES
from hooper.linux.mount_options import MountOptions, attributes, parse
from hooper.linux.script import ANY, NOTHING, Room, Writer
from hooper_isolation_namespaces.setup import new_namespaces

OPEN_HOW = struct.Struct("@QQQ")
_MOUNT_ATTR = struct.Struct("@QQQQ")


class Unusual(Exception):
    """There is no script for such a container."""


def is_bind(fstype: str, options: MountOptions) -> bool:
    """Whether a mount of that type with these options binds something."""
    return fstype == "bind" or bool(options.flags & sys.MS_BIND)


class FileDrafter(Writer):
    """Writes steps below a root whose descriptor is `_root`."""

    def __init__(self, bundle: Bundle, cgroup: Cgroup, machine: str) -> None:
        super().__init__(machine)
        self._bundle, self._spec, self._cgroup = bundle, bundle.spec, cgroup
        self._asked = new_namespaces(bundle.spec)
        self._how = self.block(OPEN_HOW.pack(os.O_PATH | os.O_CLOEXEC, 0, sys.RESOLVE_IN_ROOT))
        self._root = -1

    # --- pieces -----------------------------------------------------------------------------------

    def _carry_out(self, order: Order) -> None:
        if order.texts:
            self._write_file(order.path, *order.texts)
        else:
            self.call("mkdirat", sys.AT_FDCWD, order.path, 0o755, other=-errno.EEXIST)

    def _write_file(self, path: str, *texts: str | bytes, other: int = NOTHING) -> None:
        fd = self.open("openat", sys.AT_FDCWD, path, os.O_WRONLY | os.O_CLOEXEC, 0)
        for text in texts:
            raw = os.fsencode(text)
            self.call("write", fd, raw, len(raw), accept=ANY, other=other)
        self.close(fd)

    def _in_root(self, path: str, *, parent: int | None = None, other: int = NOTHING) -> int:
        """An O_PATH descriptor of a path below the root."""
        return self.open("openat2", self._root if parent is None else parent, path, self._how, 24, other=other)

    def _target(self, path: str, *, directory: bool) -> int:
        """As `mounts.open_target`; directories above it are not made."""
        number = self._in_root(path, other=-errno.ENOENT)
        with self.if_other(self.size - 1):
            self._make_target(number, path, directory=directory)
        return number

    def _make_target(self, number: int, path: str, *, directory: bool) -> None:
        above, name = os.path.split(path.rstrip("/"))
        self.call("openat2", self._root, above or "/", self._how, 24, accept=(number, number))
        if directory:
            self.call("mkdirat", number, name, 0o755)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
            self.close(self.open("openat", number, name, flags, 0o644))
        made = self._in_root(name, parent=number)
        self.call("dup3", made, number, os.O_CLOEXEC, accept=(number, number))
        self.close(made)

    def _move(self, tree: int, target: int) -> None:
        flags = sys.MOVE_MOUNT_F_EMPTY_PATH | sys.MOVE_MOUNT_T_EMPTY_PATH
        self.call("move_mount", tree, "", target, "", flags)

    def _tree(self, source: str | Room, fd: int = sys.AT_FDCWD, *, recursive: bool = False) -> int:
        flags = sys.OPEN_TREE_CLONE | sys.OPEN_TREE_CLOEXEC
        flags |= (sys.AT_EMPTY_PATH if source == "" else 0) | (sys.AT_RECURSIVE if recursive else 0)
        return self.open("open_tree", fd, source, flags)

    def _set_attributes(self, fd: int, *, recursive: bool, set_: int = 0, clear: int = 0, propagation: int = 0) -> None:
        flags = sys.AT_EMPTY_PATH | (sys.AT_RECURSIVE if recursive else 0)
        what = self.block(_MOUNT_ATTR.pack(set_, clear, propagation, 0))
        self.call("mount_setattr", fd, "", flags, what, _MOUNT_ATTR.size)

    def _bind(self, source: str | Room, target: int, options: MountOptions, source_fd: int = sys.AT_FDCWD) -> None:
        """As `mounts.bind`."""
        tree = self._tree(source, source_fd, recursive=bool(options.flags & sys.MS_REC))
        set_, clear = attributes(options.flags)
        for propagation in options.propagation:
            kind = propagation & ~sys.MS_REC
            self._set_attributes(tree, recursive=bool(propagation & sys.MS_REC), propagation=kind)
        if set_ or clear:
            self._set_attributes(tree, recursive=False, set_=set_, clear=clear)
        if options.recursive:
            self._set_attributes(tree, recursive=True, set_=attributes(options.recursive)[0])
        self._move(tree, target)
        self.close(tree)

    # --- mounts, devices and what is hidden -------------------------------------------------------

    def _make_mounts(self) -> None:
        linux = self._spec.linux
        for mount in self._spec.mounts:
            options = parse(mount.options)
            if mount.type == "cgroup":
                self._mount_cgroup(mount, options)
            elif is_bind(mount.type, options):
                target = self._target(mount.destination, directory=os.path.isdir(mount.source))
                self._bind(mount.source, target, options)
                self.close(target)
            else:
                self._mount(mount, options)
        if not any(m.destination.rstrip("/") == "/dev" and m.type == "bind" for m in self._spec.mounts):
            self._fill_dev()
        self._hide(linux.masked_paths)
        for path in linux.readonly_paths:
            self._make_readonly(path)

    def _mount(self, mount: oci.Mount, options: MountOptions) -> None:
        if options.propagation:
            raise Unusual
        target = self._target(mount.destination, directory=True)
        self.call("fchdir", target)
        self.call("mount", mount.source or mount.type, ".", mount.type, options.flags, ",".join(options.data))
        self.close(target)

    def _mount_cgroup(self, mount: oci.Mount, options: MountOptions) -> None:
        target = self._target(mount.destination, directory=True)
        places = self._cgroup.planned(self._spec.linux.resources)
        if cgroup_layout().unified:
            source = places[""] if "cgroup" in self._asked else cgroup_layout().unified
            self._bind(source, target, options._replace(flags=options.flags | sys.MS_BIND))
            self.close(target)
            return
        self.call("fchdir", target)
        self.call("mount", "tmpfs", ".", "tmpfs", options.flags & ~sys.MS_RDONLY, "mode=755,size=1m")
        self.close(target)
        place = self._in_root(mount.destination)
        for name, source in places.items():
            self.call("mkdirat", place, name, 0o755)
            tree = self._tree(source)
            self.call("move_mount", tree, "", place, name, sys.MOVE_MOUNT_F_EMPTY_PATH)
            self.close(tree)
            for part in name.split(",") if "," in name else ():
                self.call("symlinkat", name, place, part)
        set_, clear = attributes(options.flags)
        self._set_attributes(place, recursive=True, set_=set_, clear=clear)
        self.close(place)

    def _fill_dev(self) -> None:
        dev = self._target("/dev", directory=True)
        there = -errno.EEXIST
        for name, major, minor in DEVICES:
            self.call("mknodat", dev, name, stat.S_IFCHR | 0o666, os.makedev(major, minor), other=there)
        for name, target in DEVICE_LINKS:
            self.call("symlinkat", target, dev, name, other=there)
        self.close(dev)

    def _hide(self, paths: Sequence[str]) -> None:
        """As `rootfs._hide`, with the empty directory made first, in a place that the container will not see."""
        if not paths:
            return
        empty = self._empty_directory()
        for path in paths:
            target = self._in_root(path, other=-errno.ENOENT)
            with self.unless_other(self.size - 1):
                is_directory = self.call("fchdir", target, other=-errno.ENOTDIR)
                with self.unless_other(is_directory):
                    self._cover(target, "", empty)
                    covered = self.size - 1
                self._cover(target, "/dev/null")
                self.skip(covered, other=False)
                self.close(target)
        self.close(empty)

    def _cover(self, target: int, source: str, fd: int = sys.AT_FDCWD) -> None:
        tree = self._tree(source, fd)
        self._move(tree, target)
        self.close(tree)

    def _empty_directory(self) -> int:
        context = self.open("fsopen", "tmpfs", sys.FSOPEN_CLOEXEC)
        for key in ("nr_blocks", "nr_inodes"):
            self.call("fsconfig", context, sys.FSCONFIG_SET_STRING, key, "1", 0)
        self.call("fsconfig", context, sys.FSCONFIG_CMD_CREATE, 0, 0, 0)
        flags = sys.MOUNT_ATTR_RDONLY | sys.MOUNT_ATTR_NOSUID | sys.MOUNT_ATTR_NODEV
        made = self.open("fsmount", context, sys.FSMOUNT_CLOEXEC, flags)
        self.close(context)
        # Only what is attached can be cloned, before Linux 6.15.
        place = self.open("openat", sys.AT_FDCWD, str(self._bundle.directory), os.O_PATH | os.O_CLOEXEC, 0)
        self._move(made, place)
        self.close(place)
        return made

    def _make_readonly(self, path: str) -> None:
        target = self._in_root(path, other=-errno.ENOENT)
        with self.unless_other(self.size - 1):
            tree = self._tree("", target, recursive=True)
            self._set_attributes(tree, recursive=False, set_=sys.MOUNT_ATTR_RDONLY)
            self._move(tree, target)
            self.close(tree)
            self.close(target)
