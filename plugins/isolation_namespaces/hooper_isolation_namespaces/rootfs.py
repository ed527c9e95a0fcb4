"""The file system that a container sees: mounts, devices, and what is hidden from it.

All is made below a descriptor of the new root, while the host's root is still there; `enter` leaves that behind.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

from hooper.api import oci
from hooper.linux import mounts, pty
from hooper.linux import syscalls as sys
from hooper.linux.cgroups import Cgroup
from hooper.linux.cgroups import layout as cgroup_layout
from hooper.linux.defaults import DEVICE_LINKS, DEVICES
from hooper.linux.mount_options import MountOptions, attributes, parse
from hooper_isolation_namespaces.channel import failure

_SHARED = ("shared", "rshared")
_FILE_TYPES = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_SELF_BIND = MountOptions(sys.MS_BIND | sys.MS_REC, (), 0, ())
_READ_ONLY = MountOptions(sys.MS_BIND | sys.MS_REC | sys.MS_RDONLY, (), 0, ())
_PLAIN_BIND = MountOptions(sys.MS_BIND, (), 0, ())


def isolate_propagation(spec: oci.Spec) -> None:
    """Keeps mounts of this new mount namespace out of the host's.

    Where a bind is to be shared with the host only the mount that holds the root is taken out, for
    a slave's copies can share nothing.
    """
    if spec.linux.rootfs_propagation in _SHARED or any(set(_SHARED) & set(m.options) for m in spec.mounts):
        mounts.set_propagation(_mount_point(os.path.realpath(spec.root.path)), "private")
    else:
        mounts.set_propagation("/", "rslave")


def _mount_point(path: str) -> str:
    with open("/proc/self/mountinfo") as file:
        points = [line.split()[4] for line in file]
    return max((p for p in points if p == "/" or f"{path}/".startswith(f"{p}/")), key=len)


def make_mounts(root: int, spec: oci.Spec, cgroup: Cgroup) -> None:
    """Makes the spec's mounts and devices. The container's cgroup exists."""
    for mount in spec.mounts:
        if mount.type == "cgroup":
            _mount_cgroup(root, mount, spec, cgroup)
        else:
            _make_mount(root, mount)
    if not any(m.destination.rstrip("/") == "/dev" and m.type == "bind" for m in spec.mounts):
        _fill_dev(root)
    for device in spec.linux.devices:
        _make_device(root, device)
    _hide(root, spec.linux.masked_paths)
    for path in spec.linux.readonly_paths:
        _make_readonly(root, path)


def _make_mount(root: int, mount: oci.Mount) -> None:
    try:
        try:
            mounts.mount_in_root(root, mount)
        except PermissionError:
            # The network namespace is not of this user namespace: the host's view must do, read-only.
            if mount.type != "sysfs":
                raise
            mounts.mount_in_root(
                root, oci.Mount(destination=mount.destination, type="bind", source="/sys", options=["rbind", "ro"])
            )
    except OSError as error:
        raise failure(f'error mounting "{mount.source}" to rootfs at "{mount.destination}"', error) from error


# --- cgroups --------------------------------------------------------------------------------------


def _mount_cgroup(root: int, mount: oci.Mount, spec: oci.Spec, cgroup: Cgroup) -> None:
    """Binds the container's own cgroup: cheaper than a mount of the hierarchy, and it shows the same."""
    try:
        if cgroup_layout().unified:
            own = any(namespace.type == "cgroup" for namespace in spec.linux.namespaces)
            _bind_directory(root, cgroup.directories()[""] if own else cgroup_layout().unified, mount)
        else:
            _mount_cgroup_v1(root, mount, cgroup)
    except OSError as error:
        raise failure(f'error mounting "cgroup" to rootfs at "{mount.destination}"', error) from error


def _bind_directory(root: int, source: str, mount: oci.Mount) -> None:
    target = mounts.open_target(root, mount.destination, directory=True)
    try:
        options = parse(mount.options)
        mounts.bind(source, target, options._replace(flags=options.flags | sys.MS_BIND))
    finally:
        os.close(target)


def _mount_cgroup_v1(root: int, mount: oci.Mount, cgroup: Cgroup) -> None:
    options = parse(mount.options)
    target = mounts.open_target(root, mount.destination, directory=True)
    mounts.mount_at(target, "tmpfs", "tmpfs", options.flags & ~sys.MS_RDONLY, "mode=755,size=1m")
    os.close(target)
    place = sys.openat2(root, mount.destination, os.O_PATH)
    for name, source in cgroup.directories().items():
        os.mkdir(name, 0o755, dir_fd=place)
        tree = sys.open_tree(sys.AT_FDCWD, source, sys.OPEN_TREE_CLONE)
        sys.move_mount(tree, place, name)
        os.close(tree)
        for part in name.split(",") if "," in name else ():
            os.symlink(name, part, dir_fd=place)
    set_, clear = attributes(options.flags)
    sys.mount_setattr(place, flags=sys.AT_EMPTY_PATH | sys.AT_RECURSIVE, set_=set_, clear=clear)
    os.close(place)


# --- devices --------------------------------------------------------------------------------------


def _fill_dev(root: int) -> None:
    dev = mounts.open_target(root, "/dev", directory=True)
    try:
        for name, major, minor in DEVICES:
            _make_node(dev, name, stat.S_IFCHR | 0o666, os.makedev(major, minor), f"/dev/{name}")
        for name, target in DEVICE_LINKS:
            try:
                os.symlink(target, name, dir_fd=dev)
            except FileExistsError:
                continue
    finally:
        os.close(dev)


def _make_node(parent: int, name: str, mode: int, device: int, host_path: str) -> bool:
    """Makes a device node; in a user namespace, where that is refused, binds the host's. False: it was there."""
    try:
        os.mknod(name, mode, device, dir_fd=parent)
    except FileExistsError:
        return False
    except PermissionError:
        target = mounts.open_target(parent, name, directory=False)
        try:
            mounts.bind(host_path, target, _PLAIN_BIND)
        finally:
            os.close(target)
        return False
    return True


def _make_device(root: int, device: oci.Device) -> None:
    above, name = os.path.split(device.path)
    mode = _FILE_TYPES[device.type] | (0o666 if device.file_mode is None else device.file_mode & 0o7777)
    try:
        parent = mounts.open_target(root, above or "/", directory=True)
        try:
            number = os.makedev(device.major, device.minor)
            if _make_node(parent, name, mode, number, device.path):
                os.chown(name, device.uid or 0, device.gid or 0, dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(parent)
    except OSError as error:
        raise failure(f"error making the device {device.path}", error) from error


def open_console(root: int) -> tuple[int, int]:
    """A pty of the container's own devpts whose slave is also its /dev/console: (master, slave)."""
    try:
        master, slave = pty.open_pair(root)
        target = mounts.open_target(root, "/dev/console", directory=False)
        try:
            mounts.bind("", target, _PLAIN_BIND, source_fd=slave)
        finally:
            os.close(target)
    except OSError as error:
        raise failure("error making its terminal", error) from error
    return master, slave


# --- hidden and read-only paths -------------------------------------------------------------------


def _hide(root: int, paths: Sequence[str]) -> None:
    """Puts /dev/null over files, and one empty read-only tmpfs, however many, over directories."""
    empty = -1
    for path in paths:
        target = _open_existing(root, path)
        if target is None:
            continue
        try:
            if not mounts.is_directory(target):
                mounts.bind("/dev/null", target, _PLAIN_BIND)
            elif empty < 0:
                empty = _empty_directory()
                sys.move_mount(empty, target)
            else:
                mounts.bind("", target, _PLAIN_BIND, source_fd=empty)
        except OSError as error:
            raise failure(f"error masking {path}", error) from error
        finally:
            os.close(target)
    if empty >= 0:
        os.close(empty)


def _empty_directory() -> int:
    context = sys.fsopen("tmpfs")
    try:
        sys.fsconfig(context, sys.FSCONFIG_SET_STRING, "nr_blocks", "1")
        sys.fsconfig(context, sys.FSCONFIG_SET_STRING, "nr_inodes", "1")
        sys.fsconfig(context, sys.FSCONFIG_CMD_CREATE)
        return sys.fsmount(context, sys.MOUNT_ATTR_RDONLY | sys.MOUNT_ATTR_NOSUID | sys.MOUNT_ATTR_NODEV)
    finally:
        os.close(context)


def _make_readonly(root: int, path: str) -> None:
    target = _open_existing(root, path)
    if target is None:
        return
    try:
        mounts.bind("", target, _READ_ONLY, source_fd=target)
    except OSError as error:
        raise failure(f"error making {path} read-only", error) from error
    finally:
        os.close(target)


def _open_existing(root: int, path: str) -> int | None:
    try:
        return sys.openat2(root, path, os.O_PATH)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            return None
        raise failure(f"error opening {path}", error) from error


# --- the root -------------------------------------------------------------------------------------


def bind_root_on_itself() -> int:
    """A mount of the current directory, made on it, that belongs to this mount namespace; its descriptor."""
    tree = sys.open_tree(sys.AT_FDCWD, ".", sys.OPEN_TREE_CLONE | sys.AT_RECURSIVE)
    target = os.open(".", os.O_PATH | os.O_CLOEXEC)
    mounts.attach(tree, target, _SELF_BIND)
    os.close(target)
    return tree


def enter(root: int, spec: oci.Spec) -> None:
    """Makes `root`, a mount point, the root directory, and the host's file system unreachable."""
    try:
        if spec.root.readonly:
            sys.mount_setattr(root, set_=sys.MOUNT_ATTR_RDONLY)
        old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        os.fchdir(root)
        sys.pivot_root(".", ".")
        os.fchdir(old)
        mounts.set_propagation(".", "rslave")  # or its unmounting would reach the host
        sys.umount(".", sys.MNT_DETACH)
        os.chdir("/")
        os.close(old)
        if spec.linux.rootfs_propagation:
            mounts.set_propagation("/", spec.linux.rootfs_propagation)
    except OSError as error:
        raise failure("error entering the root file system", error) from error
