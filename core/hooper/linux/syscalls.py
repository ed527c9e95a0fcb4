"""System calls that Python's `os` lacks, one small function each.

A call that fails raises OSError with the errno and, where there is one, the path. Constants are the kernel's
(linux/sched.h, linux/mount.h, linux/openat2.h, linux/prctl.h).
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Sequence

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_MANDLOCK = 64
MS_DIRSYNC = 128
MS_NOSYMFOLLOW = 256
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_REC = 16384
MS_SILENT = 32768
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MNT_DETACH = 2

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_ATIME = 0x70
MOUNT_ATTR_RELATIME = 0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_SET_SECCOMP = 22
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4

CLOSE_RANGE_CLOEXEC = 4

# From 403 on, numbers are the same on every architecture that Debian has.
_IO_URING_SETUP, _IO_URING_REGISTER = 425, 427
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 428, 429, 430, 431, 432
_PIDFD_OPEN, _CLOSE_RANGE, _OPENAT2, _MOUNT_SETATTR = 434, 436, 437, 442
_BPF = {"x86_64": 321, "i686": 357, "armv7l": 386, "s390x": 351, "ppc64le": 361}
_BPF_GENERIC = 280
_RT_SIGACTIONS = {"x86_64": 13, "i686": 174, "armv7l": 174, "s390x": 174, "ppc64le": 173}
_RT_SIGACTION = _RT_SIGACTIONS.get(os.uname().machine, 134)

_libc = ctypes.CDLL(None, use_errno=True)
_int, _ulong, _str, _ptr = ctypes.c_int, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_void_p
_libc.syscall.restype = ctypes.c_long
_libc.mount.argtypes = [_str, _str, _str, _ulong, _str]
_libc.umount2.argtypes = [_str, _int]
_libc.pivot_root.argtypes = [_str, _str]
_libc.unshare.argtypes = [_int]
_libc.setns.argtypes = [_int, _int]
_libc.prctl.argtypes = [_int, _ulong, _ulong, _ulong, _ulong]
_libc.setdomainname.argtypes = [_str, ctypes.c_size_t]
_libc.capset.argtypes = [_ptr, _ptr]
_libc.signal.argtypes = [_int, _ptr]


def _check(result: int, path: str | bytes | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(path) if path is not None else None)
    return result


_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()


def _raw(text: str) -> bytes:
    """As os.fsencode, in half the time."""
    return text.encode(_ENCODING, _ERRORS)


def _encode(text: str | None) -> bytes | None:
    return None if text is None else _raw(text)


def unshare(flags: int) -> None:
    """unshare(2) of CLONE_NEW* namespaces."""
    _check(_libc.unshare(flags))


def setns(fd: int, flags: int = 0) -> None:
    """setns(2): `fd` is a namespace, or a pidfd and `flags` say which of its namespaces."""
    _check(_libc.setns(fd, flags))


def mount(source: str | None, target: str, fstype: str | None, flags: int = 0, data: str | None = None) -> None:
    """mount(2). Errors name the target."""
    result = _libc.mount(_encode(source), _raw(target), _encode(fstype), flags, _encode(data))
    _check(result, target)


def umount(target: str, flags: int = MNT_DETACH) -> None:
    """umount2(2), lazily unless told otherwise."""
    _check(_libc.umount2(_raw(target), flags), target)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2); "." for both stacks the old root on the new one."""
    _check(_libc.pivot_root(_raw(new_root), _raw(put_old)), new_root)


def prctl(option: int, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """prctl(2); addresses are passed as integers."""
    return _check(_libc.prctl(option, arg2, arg3, arg4, arg5))


def setdomainname(name: str) -> None:
    """setdomainname(2): the NIS domain of the UTS namespace."""
    raw = _raw(name)
    _check(_libc.setdomainname(raw, len(raw)))


_INTERNAL_SIGNALS = (32, 33)
"""Of the C library, which refuses to touch them; but where it has spawned this process they may be ignored."""


def default_signals() -> None:
    """Gives every signal its default action, past Python's own book-keeping: for use just before an exec."""
    for number in range(1, 65):
        _libc.signal(number, None)
    action = bytes(64)  # more than any struct sigaction
    for number in _INTERNAL_SIGNALS:
        _libc.syscall(_RT_SIGACTION, number, _str(action), None, ctypes.c_size_t(8))


_CAP_HEADER, _CAP_SETS = struct.Struct("@Ii"), struct.Struct("@6I")


def capability_sets(effective: int, permitted: int, inheritable: int) -> tuple[bytes, bytes]:
    """What capset(2) takes to set the calling thread's: the header, and the three bit sets."""
    low = 0xFFFFFFFF
    sets = _CAP_SETS.pack(
        effective & low, permitted & low, inheritable & low, effective >> 32, permitted >> 32, inheritable >> 32
    )
    return _CAP_HEADER.pack(0x20080522, 0), sets


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) of the calling thread; the arguments are bit sets."""
    header, sets = capability_sets(effective, permitted, inheritable)
    _check(_libc.capset(_str(header), _str(sets)))


def close_range(first: int, last: int = 0x7FFFFFFF, flags: int = 0) -> None:
    """close_range(2), or marks them close-on-exec with CLOSE_RANGE_CLOEXEC."""
    _check(_libc.syscall(_CLOSE_RANGE, ctypes.c_uint(first), ctypes.c_uint(last), flags))


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def openat2(dirfd: int, path: str, flags: int, mode: int = 0, resolve: int = RESOLVE_IN_ROOT) -> int:
    """openat2(2): a descriptor of `path`, resolved as `resolve` says, by default with `dirfd` as root."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    raw = _raw(path)
    result: int = _libc.syscall(_OPENAT2, dirfd, _str(raw), ctypes.byref(how), ctypes.c_size_t(24))
    return _check(result, path)


def pidfd_open(pid: int) -> int:
    """pidfd_open(2)."""
    return _check(_libc.syscall(_PIDFD_OPEN, pid, 0))


def open_tree(dirfd: int, path: str, flags: int) -> int:
    """open_tree(2): with OPEN_TREE_CLONE a detached bind mount of `path`."""
    raw = _raw(path)
    return _check(_libc.syscall(_OPEN_TREE, dirfd, _str(raw), ctypes.c_uint(flags | OPEN_TREE_CLOEXEC)), path)


def move_mount(mount_fd: int, target_fd: int, name: str = "") -> None:
    """move_mount(2) of a detached mount onto what `target_fd` is open on, or onto `name`, no link, in it."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | (0 if name else MOVE_MOUNT_T_EMPTY_PATH)
    raw = _raw(name)
    _check(_libc.syscall(_MOVE_MOUNT, mount_fd, _str(b""), target_fd, _str(raw), ctypes.c_uint(flags)))


def fsopen(fstype: str) -> int:
    """fsopen(2): a context in which a file system is configured."""
    return _check(_libc.syscall(_FSOPEN, _str(_raw(fstype)), FSOPEN_CLOEXEC), fstype)


def fsconfig(context: int, command: int, key: str | None = None, value: str | None = None) -> None:
    """fsconfig(2). Strings of more than 255 bytes are refused by the kernel (EINVAL)."""
    _check(_libc.syscall(_FSCONFIG, context, command, _str(_encode(key)), _str(_encode(value)), 0), key)


def fsmount(context: int, attributes: int = 0) -> int:
    """fsmount(2): a detached mount of the configured file system."""
    return _check(_libc.syscall(_FSMOUNT, context, FSMOUNT_CLOEXEC, attributes))


class _MountAttr(ctypes.Structure):
    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


def mount_setattr(
    fd: int, path: str = "", *, flags: int = AT_EMPTY_PATH, set_: int = 0, clear: int = 0, propagation: int = 0
) -> None:
    """mount_setattr(2): changes the given attributes and leaves the others as they are."""
    attr = _MountAttr(set_, clear, propagation, 0)
    raw = _raw(path)
    result = _libc.syscall(
        _MOUNT_SETATTR, fd, _str(raw), ctypes.c_uint(flags), ctypes.byref(attr), ctypes.c_size_t(ctypes.sizeof(attr))
    )
    _check(result, path)


def bpf(command: int, attributes: ctypes.Structure | ctypes.Array[ctypes.c_char]) -> int:
    """bpf(2)."""
    number = _BPF.get(os.uname().machine, _BPF_GENERIC)
    size = ctypes.c_uint(ctypes.sizeof(attributes))
    return _check(_libc.syscall(number, command, ctypes.byref(attributes), size))


_IO_URING_PARAMS = 120
"""Size of struct io_uring_params, in bytes."""
_IORING_REGISTER_BUFFERS = 0


class _IoVec(ctypes.Structure):
    _fields_ = [("base", _ptr), ("length", ctypes.c_size_t)]


def io_uring_setup(entries: int) -> int:
    """io_uring_setup(2): a new ring, which is closed at an exec."""
    return _check(_libc.syscall(_IO_URING_SETUP, ctypes.c_uint(entries), ctypes.create_string_buffer(_IO_URING_PARAMS)))


def io_uring_register_buffers(ring: int, buffers: Sequence[tuple[int, int]]) -> None:
    """io_uring_register(2) of fixed buffers, each an address and a length in bytes: pinned while the ring is there."""
    vector = (_IoVec * len(buffers))(*(_IoVec(*buffer) for buffer in buffers))
    _check(_libc.syscall(_IO_URING_REGISTER, ring, _IORING_REGISTER_BUFFERS, vector, ctypes.c_uint(len(buffers))))
