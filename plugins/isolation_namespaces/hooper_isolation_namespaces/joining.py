"""Further processes of a running container (exec)."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, NoReturn

import msgspec

from hooper.api import oci
from hooper.api.errors import Conflict, StartFailed
from hooper.api.isolation import Stdio
from hooper.linux import pty
from hooper.linux import syscalls as sys
from hooper.linux.cgroups import Cgroup
from hooper_isolation_namespaces import credentials, program, setup
from hooper_isolation_namespaces.channel import MAX_PAYLOAD, READY, TELL, Channel, explained
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
        _become(start, channel, _enter(start, channel, pidfd))
    except BaseException as error:
        channel.fail(explained(error))
        os._exit(1)


def _enter(start: Start, channel: Channel, pidfd: int) -> int:
    """Enters the cgroup and the namespaces; returns the container's root."""
    gc.disable()  # a collection would touch, and so copy, the pages of all objects
    setup.close_all_but([*setup.descriptors(start.stdio), pidfd, channel.fileno()])
    credentials.set_oom_score(start.process.oom_score_adj)
    start.cgroup.enter()
    user = sys.CLONE_NEWUSER if "user" in setup.new_namespaces(start.bundle.spec) else 0
    sys.setns(pidfd, _ALL_BUT_USER | user)
    os.setsid()
    return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _become(start: Start, channel: Channel, root: int) -> NoReturn:
    stdio = start.stdio
    who = credentials.identity(root, start.process.user)
    if stdio.terminal:
        master, slave = pty.open_pair(root)
        stdio = setup.take_terminal(start.process, master, slave)
        channel.send(READY, fds=[master])
        os.close(master)
    setup.set_stdio(stdio)
    setup.become(start, who)


# --- forked before it is asked for ----------------------------------------------------------------


_TRACE = "CAP_SYS_PTRACE"
_FEW_PIDS, _LITTLE_MEMORY = 64, 64 << 20


def may_stand_by(spec: oci.Spec) -> bool:
    """Whether a process may wait in the container.

    Not where it could be traced: it has all rights until it is told which to keep. Nor where what it takes of the
    container's limits would be missed.
    """
    caps, resources = spec.process.capabilities, spec.linux.resources or oci.Resources()
    few = resources.pids is not None and 0 < resources.pids.limit < _FEW_PIDS
    memory = (resources.memory and resources.memory.limit) or -1
    return caps is not None and _TRACE not in caps.bounding and not few and not 0 < memory < _LITTLE_MEMORY


class Standby(NamedTuple):
    """A process that is in the container already, and waits to be told what to become."""

    pid: int
    channel: Channel

    def tell(self, process: oci.Process, stdio: Stdio) -> bool:
        """Whether it could be told; its answers are those of `further_process` then."""
        if process.oom_score_adj is not None:
            return False
        told = _encoder.encode(_Told(process, stdio))
        return len(told) < MAX_PAYLOAD and self.channel.try_send(TELL, told, setup.descriptors(stdio))


class _Told(msgspec.Struct):
    process: oci.Process
    stdio: Stdio
    """With the numbers that the descriptors, which come along, have for the sender."""


_encoder = msgspec.msgpack.Encoder()
_told = msgspec.msgpack.Decoder(_Told)


def _come(named: Stdio, fds: Sequence[int]) -> Stdio:
    """The same with the numbers that the descriptors have here."""
    here = dict(zip(setup.descriptors(named), fds, strict=True))

    def of(number: int | None) -> int | None:
        return None if number is None else here[number]

    return Stdio(of(named.stdin), of(named.stdout), of(named.stderr), terminal=named.terminal)


def stand_by(start: Start, channel: Channel, pidfd: int) -> NoReturn:
    """Never returns: as `further_process`, of what it is told on the channel; it ends when that is closed."""
    try:
        root = _enter(start, channel, pidfd)
        if not channel.has_message():
            _prepare(start, root)
        answer = channel.receive()
        if answer.kind != TELL:
            os._exit(0)
        told = _told.decode(answer.payload)
        _become(start._replace(process=told.process, stdio=_come(told.stdio, answer.fds)), channel, root)
    except BaseException as error:
        channel.fail(explained(error))
        os._exit(1)


def _prepare(start: Start, root: int) -> None:
    """Does what an exec like the container's own program would do, but for giving up rights.

    A forked process's first write to a page copies that: here nobody waits for it.
    """
    process = start.bundle.spec.process
    _told.decode(_encoder.encode(_Told(process, start.stdio)))
    try:
        who = credentials.identity(root, process.user)
        program.find(process.args[0], program.environment(process.env or (), who.home).get("PATH", ""))
    except StartFailed:
        pass  # it matters when it is asked for
    program.reset_signals()
