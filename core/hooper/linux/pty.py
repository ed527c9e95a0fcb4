"""Pseudo-terminals of a given devpts instance (devpts(5), ioctl_tty(2))."""

from __future__ import annotations

import ctypes
import fcntl
import os
import termios

from hooper.linux.syscalls import openat2

_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441


def open_pair(root: int) -> tuple[int, int]:
    """A pty of the devpts at /dev/pts below the directory descriptor `root`: (master, slave)."""
    master = openat2(root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.ioctl(master, _TIOCSPTLCK, bytes(4))
        slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except BaseException:
        os.close(master)
        raise
    return master, slave


def set_size(fd: int, height: int, width: int) -> None:
    """The window's size in characters; the foreground processes get SIGWINCH."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, bytes((ctypes.c_uint16 * 4)(height, width, 0, 0)))


def make_controlling(slave: int) -> None:
    """Makes it the controlling terminal of the calling process, a session leader without one."""
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
