"""The small init of `docker run --init`: pid 1 starts the program, forwards signals, reaps, and exits as it did."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Callable, Iterable
from typing import NoReturn

from hooper.linux import syscalls as sys

_KEPT = {signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU}
"""Not forwarded: they concern this process."""


def run(program: Callable[[], NoReturn], keep: Iterable[int]) -> NoReturn:
    """Forks `program`, which executes or exits, and stays until it ends.

    `keep` are the descriptors that only the program needs; this process closes its copies.
    """
    name = ctypes.create_string_buffer(b"docker-init")  # as Docker's is called, for who looks with ps
    sys.prctl(sys.PR_SET_NAME, ctypes.addressof(name))
    everything = signal.valid_signals()
    signal.pthread_sigmask(signal.SIG_BLOCK, everything)
    child = os.fork()
    if child == 0:
        _take_terminal()
        program()
    for fd in keep:
        os.close(fd)
    while True:
        number = signal.sigwaitinfo(everything).si_signo
        if number == signal.SIGCHLD:
            _reap(child)
        elif number not in _KEPT:
            try:
                os.kill(child, number)
            except ProcessLookupError:
                continue


def _take_terminal() -> None:
    """A process group of its own in the foreground, so that ^C reaches the program but not pid 1."""
    os.setpgid(0, 0)
    try:
        fcntl.ioctl(0, termios.TIOCSPGRP, struct.pack("i", os.getpid()))
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL, errno.ENODEV, errno.EBADF):
            raise


def _reap(child: int) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
