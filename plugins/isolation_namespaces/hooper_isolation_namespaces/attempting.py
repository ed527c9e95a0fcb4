"""A container that a script makes (`drafting`), seen from the monitor."""

from __future__ import annotations

import os
import socket
from array import array
from functools import cache

import msgspec

from hooper.api import oci
from hooper.api.errors import Internal
from hooper.api.isolation import GATE_READY, Bundle, Outline, Stdio
from hooper.linux import syscalls as sys
from hooper.linux.cgroups import Cgroup
from hooper.linux.script import Program
from hooper.linux.script_run import Script, available
from hooper_isolation_namespaces import credentials, drafting, models


class Draft(msgspec.Struct):
    """What the daemon writes for the monitor."""

    program: Program
    flags: int
    makes_cgroup: bool
    """As in `drafting.Drafted`."""
    texts: dict[str, bytes]
    """What belongs in places of the program, by their names."""
    user: oci.User
    resources: oci.Resources | None
    """Of a cgroup that the script does not make."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Draft)


def written(bundle: Bundle, cgroup: Cgroup, last_capability: int) -> bytes:
    """The draft of a container, encoded; empty if it is none for a script, or none runs here."""
    if not _possible():
        return b""
    try:
        texts = drafting.root_texts(bundle.rootfs)
        drafted = models.draft(bundle, cgroup, last_capability)
    except drafting.Unusual:
        return b""
    resources = None if drafted.makes_cgroup else bundle.spec.linux.resources
    return _encoder.encode(Draft(*drafted, texts, bundle.spec.process.user, resources))


@cache
def _possible() -> bool:
    """Not where any process of a container's user could trace the one that carries out the script: it has the monitor's
    memory, which fs.suid_dumpable=1 would lay open when it changes its user (proc_sys_fs(5))."""
    try:
        with open("/proc/sys/fs/suid_dumpable") as file:
            return file.read().strip() != "1" and available()
    except OSError:
        return False


def begun(outline: Outline, cgroup: Cgroup, stdio: Stdio, netns: int | None, gate: int) -> Attempt | None:
    """Begins to make the container; None if that cannot be."""
    draft = _decoder.decode(outline.draft)
    given = {drafting.GATE: gate, drafting.NETNS: netns}
    given |= {drafting.STDIN: stdio.stdin, drafting.STDOUT: stdio.stdout, drafting.STDERR: stdio.stderr}
    slots = {str(name): fd for name, fd in given.items() if fd is not None}
    wanted = {str(name) for name in given if name in draft.program.slots}
    if wanted - slots.keys() or (netns is not None and drafting.NETNS not in wanted):
        return None
    if max(slots.values()) >= drafting.FIRST_TAKEN:
        return None
    script = Script(draft.program, slots)
    try:
        for place, text in draft.texts.items():
            script.put(place, text)
        if not draft.makes_cgroup:
            cgroup.create(draft.resources)
            if draft.resources:
                cgroup.apply(draft.resources)
        sys.prctl(sys.PR_SET_DUMPABLE, 0)
        _begin(script, draft.flags, cgroup)
    except BaseException:
        script.close()
        raise
    return Attempt(script, draft.user, stdio)


def _begin(script: Script, flags: int, cgroup: Cgroup) -> None:
    birthplace = cgroup.birthplace()
    try:
        script.begin(flags, birthplace)
    finally:
        if birthplace is not None:
            os.close(birthplace)


PATIENCE_S = 5.0
REHEARSALS = 12
"""A function is rewritten for what it is used for after eight calls (PEP 659), and does not write to its code then."""


def rehearse(cgroup: Cgroup) -> None:
    """Goes through attempts that make nothing, in the process that monitors are forked from, which takes a moment.

    Their pages of this code stay shared, and the first container of each is no slower than the others. OSError if that
    cannot be, which costs nothing but speed.
    """
    if not _possible():
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(PATIENCE_S)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    draft = _encoder.encode(Draft(drafting.rehearsal(), 0, True, {drafting.HOME: b""}, oci.User(), None))
    outline = Outline("rehearsal", draft=draft)
    try:
        with ours, theirs:
            for _ in range(REHEARSALS):
                attempt = begun(outline, cgroup, Stdio(null, null, null), None, theirs.fileno())
                if attempt is not None:
                    _go_through(attempt, ours)
    finally:
        os.close(null)
        sys.prctl(sys.PR_SET_DUMPABLE, 1)


def _go_through(attempt: Attempt, gate: socket.socket) -> None:
    try:
        gate.recv(len(GATE_READY))
        attempt.complete()
        gate.send(b"go")
    finally:
        attempt.wait()
        attempt.succeeded()
        attempt.close()


class Attempt:
    """`hooper.api.isolation.Attempt`."""

    def __init__(self, script: Script, user: oci.User, stdio: Stdio) -> None:
        self._script, self._user, self._stdio = script, user, stdio

    @property
    def pid(self) -> int:
        return self._script.pid

    def complete(self) -> None:
        who = credentials.identity_with(self._read, self._user)
        home = os.fsencode(who.home)
        if len(who.groups) > drafting.MOST_GROUPS or len(home) > drafting.LONGEST_HOME:
            raise Internal("completing a script", "there are too many groups, or the path of the home is too long")
        script = self._script
        script.fill(drafting.UID, who.uid)
        script.fill(drafting.GID, who.gid)
        script.fill(drafting.GROUPS, len(who.groups))
        script.put(drafting.GROUP_LIST, array("I", who.groups).tobytes())
        if script.has(drafting.HOME):
            script.put(drafting.HOME, b"HOME=" + home)
        if who.uid:
            fds = (self._stdio.stdin, self._stdio.stdout, self._stdio.stderr)
            credentials.give_stdio(who.uid, [fd for fd in fds if fd is not None])

    def _read(self, path: str) -> str:
        name = os.path.basename(path)
        size = self._script.result(name) or 0
        return self._script.read(name, size).decode("utf-8", "surrogateescape")

    def wait(self) -> None:
        """For the end of the process, of an attempt that does not execute a program."""
        try:
            os.waitpid(self._script.pid, 0)
        except ChildProcessError:
            pass  # SIGCHLD is ignored

    def succeeded(self) -> bool:
        return self._script.failure() is None

    def close(self) -> None:
        self._script.close()
