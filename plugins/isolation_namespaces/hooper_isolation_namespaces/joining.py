"""Further processes of a running container (exec)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from hooper.api.errors import Conflict
from hooper.linux import pty
from hooper.linux import syscalls as sys
from hooper.linux.cgroups import Cgroup
from hooper_isolation_namespaces import credentials, setup
from hooper_isolation_namespaces.channel import READY, Channel, explained
from hooper_isolation_namespaces.setup import Start

_ALL_BUT_USER = sys.CLONE_NEWNS | sys.CLONE_NEWUTS | sys.CLONE_NEWIPC | sys.CLONE_NEWNET | sys.CLONE_NEWCGROUP


@contextmanager
def target(pid: int) -> Iterator[int]:
    """A pidfd of the container's first process; Conflict if it is gone."""
    try:
        pidfd = sys.pidfd_open(pid)
    except ProcessLookupError as error:
        raise Conflict("running a process in a container", "the container has ended", "Start it again.") from error
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def fork(cgroup: Cgroup) -> int:
    """As os.fork(), into the cgroup if that is possible.

    The child is never open to what already runs in its pid namespace: /proc/PID/exe is the host's interpreter.
    """
    sys.prctl(sys.PR_SET_DUMPABLE, 0)
    return cgroup.fork()


def fork_in_pid_namespace(namespace: int | None, cgroup: Cgroup) -> int:
    """As `fork`, into the pid namespace that the descriptor stands for, or a new one; this process stays in its own."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    pid = -1
    try:
        if namespace is None:
            sys.unshare(sys.CLONE_NEWPID)
        else:
            sys.setns(namespace, sys.CLONE_NEWPID)
        try:
            pid = fork(cgroup)
        finally:
            if pid:
                sys.setns(own, sys.CLONE_NEWPID)
    finally:
        if pid:
            os.close(own)
    return pid


def fork_beside(pidfd: int, cgroup: Cgroup) -> int:
    """As `fork`, into the pid namespace of another process; Conflict if that is gone."""
    try:
        return fork_in_pid_namespace(pidfd, cgroup)
    except ProcessLookupError as error:
        raise Conflict("running a process in a container", "the container has ended", "Start it again.") from error


def end(pid: int) -> None:
    """Kills and reaps a process that did not come to run its program."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def further_process(start: Start, channel: Channel, pidfd: int) -> NoReturn:
    """Never returns: it becomes the program of an exec, or says why not and exits."""
    try:
        stdio = start.stdio
        given = (stdio.stdin, stdio.stdout, stdio.stderr, pidfd, channel.fileno())
        setup.close_all_but([fd for fd in given if fd is not None])
        credentials.set_oom_score(start.process.oom_score_adj)
        start.cgroup.enter()
        user = sys.CLONE_NEWUSER if "user" in setup.new_namespaces(start.bundle.spec) else 0
        sys.setns(pidfd, _ALL_BUT_USER | user)
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        who = credentials.identity(root, start.process.user)
        os.setsid()
        if stdio.terminal:
            master, slave = pty.open_pair(root)
            stdio = setup.take_terminal(start.process, master, slave)
            channel.send(READY, fds=[master])
            os.close(master)
        setup.set_stdio(stdio)
        setup.become(start, who)
    except BaseException as error:
        channel.fail(explained(error))
        os._exit(1)
