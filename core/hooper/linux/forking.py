"""fork(2) straight into a cgroup.

Moving a process to another cgroup waits for an RCU grace period, several milliseconds; a process that begins
there does not (clone3(2), CLONE_INTO_CGROUP, Linux 5.7).
"""

from __future__ import annotations

import ctypes
import os
import signal

_CLONE3 = 435
_CLONE_INTO_CGROUP = 0x200000000

# PyDLL: the interpreter's lock stays held, so that the child comes back as its owner.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_before, _parent, _child = (
    getattr(ctypes.pythonapi, name) for name in ("PyOS_BeforeFork", "PyOS_AfterFork_Parent", "PyOS_AfterFork_Child")
)


class _CloneArgs(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid",
            "set_tid_size", "cgroup",
        )
    ]  # fmt: skip


def fork_into(cgroup: int) -> int:
    """As os.fork(), of a process with a single thread; the child is in the cgroup v2 directory `cgroup`."""
    args = _CloneArgs(flags=_CLONE_INTO_CGROUP, exit_signal=int(signal.SIGCHLD), cgroup=cgroup)
    size = ctypes.c_size_t(ctypes.sizeof(args))
    _before()
    pid: int = _libc.syscall(_CLONE3, ctypes.byref(args), size)
    if pid == 0:
        _child()
        return 0
    number = ctypes.get_errno()
    _parent()
    if pid < 0:
        raise OSError(number, os.strerror(number))
    return pid
