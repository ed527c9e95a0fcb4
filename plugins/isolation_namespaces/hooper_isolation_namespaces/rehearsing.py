"""An attempt that makes nothing, for the launcher to go through before monitors do."""

from __future__ import annotations

import errno
import os
import socket

import msgspec

from hooper.api import oci
from hooper.api.isolation import GATE_READY, Outline, Stdio
from hooper.linux import syscalls as sys
from hooper.linux.cgroups import Cgroup
from hooper.linux.script import ANY, Program, Writer
from hooper_isolation_namespaces import slots
from hooper_isolation_namespaces.attempting import Attempt, Draft, begun, possible

PATIENCE_S = 5.0


def rehearse(cgroup: Cgroup) -> None:
    """Goes through an attempt that makes nothing. OSError if that cannot be."""
    if not possible():
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(PATIENCE_S)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    draft = msgspec.msgpack.encode(Draft(_script(), 0, True, {slots.HOME: b""}, oci.User(), None, 0))
    try:
        with ours, theirs:
            outline = Outline("rehearsal", draft=draft)
            attempt = begun(outline, cgroup, Stdio(null, null, null), None, theirs.fileno())
            if attempt is not None:
                _go_through(attempt, ours)
    finally:
        os.close(null)
        sys.prctl(sys.PR_SET_DUMPABLE, 1)


def _script() -> Program:
    """A script that makes nothing: it meets at the gate, takes the identity that it has, and ends."""
    writer = Writer(os.uname().machine)
    home = writer.block(bytes(slots.LONGEST_HOME + 8), slots.HOME)
    groups = writer.block(bytes(slots.MOST_GROUPS * 4), slots.GROUP_LIST)
    for slot, number in ((slots.GATE, slots.KEPT_GATE), (slots.STDIN, 0), (slots.STDOUT, 1), (slots.STDERR, 2)):
        writer.call("dup3", slot, number, 0, accept=(number, number))
    writer.call("close_range", 3, slots.KEPT_GATE - 1, 0)
    writer.call("close_range", slots.KEPT_GATE + 1, 0x7FFFFFFF, 0)
    for name in (slots.PASSWD, slots.GROUP):
        number = writer.open("openat", sys.AT_FDCWD, f"/etc/{name}", os.O_RDONLY, 0, other=-errno.ENOENT)
        with writer.unless_other(writer.size - 1):
            writer.call("read", number, writer.room(slots.FILE_SIZE, name), slots.FILE_SIZE, accept=ANY, mark=name)
            writer.close(number)
    writer.call("write", slots.KEPT_GATE, GATE_READY, len(GATE_READY), accept=ANY)
    writer.call("read", slots.KEPT_GATE, writer.room(slots.WAIT, "word"), slots.WAIT, accept=ANY)
    writer.call("setgroups", slots.GROUPS, groups)
    writer.call("setresgid", slots.GID, slots.GID, slots.GID)
    writer.call("setresuid", slots.UID, slots.UID, slots.UID)
    writer.call("chdir", home)  # nowhere: so it ends
    return writer.program()


def _go_through(attempt: Attempt, gate: socket.socket) -> None:
    try:
        gate.recv(len(GATE_READY))
        attempt.complete()
        gate.send(b"go")
    finally:
        _wait(attempt.pid)
        attempt.succeeded()
        attempt.close()


def _wait(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # SIGCHLD is ignored
