"""A container that a script makes (`drafting`), seen from the monitor."""

from __future__ import annotations

import errno
import os
from array import array
from functools import cache

import msgspec

from hooper.api import oci
from hooper.api.errors import Internal
from hooper.api.isolation import Outline, Stdio
from hooper.linux import syscalls as sys
from hooper.linux.cgroups import Cgroup, read
from hooper.linux.script import Program
from hooper.linux.script_run import Script, available
from hooper_isolation_namespaces import credentials, slots


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
    oom_score: int


_decoder = msgspec.msgpack.Decoder(Draft)


@cache
def possible() -> bool:
    """Whether scripts make containers on this host.

    Not where any process of a container's user could trace the one that carries out the script: it has the monitor's
    memory, which fs.suid_dumpable=1 would lay open when it changes its user (proc_sys_fs(5)). Nor before Linux 5.12,
    where mounts get their attributes another way.
    """
    try:
        with open("/proc/sys/fs/suid_dumpable") as file:
            return file.read().strip() != "1" and _has_mount_setattr() and available()
    except OSError:
        return False


def _has_mount_setattr() -> bool:
    try:
        sys.mount_setattr(-1)
    except OSError as error:
        return error.errno != errno.ENOSYS
    return True


def begun(outline: Outline, cgroup: Cgroup, stdio: Stdio, netns: int | None, gate: int) -> Attempt | None:
    """Begins to make the container; None if that cannot be."""
    draft = _decoder.decode(outline.draft)
    given = {slots.GATE: gate, slots.NETNS: netns}
    given |= {slots.STDIN: stdio.stdin, slots.STDOUT: stdio.stdout, slots.STDERR: stdio.stderr}
    numbers = {str(name): fd for name, fd in given.items() if fd is not None}
    wanted = {str(name) for name in given if name in draft.program.slots}
    if wanted - numbers.keys() or (netns is not None and slots.NETNS not in wanted):
        return None
    if max(numbers.values()) >= slots.FIRST_TAKEN:
        return None
    own_score = int(read("/proc/self/oom_score_adj"))
    script = Script(draft.program, numbers)
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
    return Attempt(script, draft.user, stdio, own_score if own_score != draft.oom_score else None)


def _begin(script: Script, flags: int, cgroup: Cgroup) -> None:
    birthplace = cgroup.birthplace()
    try:
        script.begin(flags, birthplace)
    finally:
        if birthplace is not None:
            os.close(birthplace)


class Attempt:
    """`hooper.api.isolation.Attempt`."""

    def __init__(self, script: Script, user: oci.User, stdio: Stdio, own_score: int | None) -> None:
        """`own_score` is this process's, if the script sets another one: that holds for all that share its memory."""
        self._script, self._user, self._stdio, self._own_score = script, user, stdio, own_score

    @property
    def pid(self) -> int:
        return self._script.pid

    def complete(self) -> None:
        who = credentials.identity_with(self._read, self._user)
        home = os.fsencode(who.home)
        if len(who.groups) > slots.MOST_GROUPS or len(home) > slots.LONGEST_HOME:
            raise Internal("completing a script", "there are too many groups, or the path of the home is too long")
        script = self._script
        script.fill(slots.UID, who.uid)
        script.fill(slots.GID, who.gid)
        script.fill(slots.GROUPS, len(who.groups))
        script.put(slots.GROUP_LIST, array("I", who.groups).tobytes())
        if slots.PROGRAM in script.open_slots:
            script.fill(slots.PROGRAM, self._found())
        if script.has(slots.HOME):
            script.put(slots.HOME, b"HOME=" + home)
        if who.uid:
            fds = (self._stdio.stdin, self._stdio.stdout, self._stdio.stderr)
            credentials.give_stdio(who.uid, [fd for fd in fds if fd is not None])

    def _found(self) -> int:
        number = 0
        while self._script.result(slots.candidate(number)) != 0:
            number += 1  # KeyError behind the last: it is nowhere
        return self._script.address(slots.candidate(number))

    def _read(self, path: str) -> str:
        name = os.path.basename(path)
        size = self._script.result(name) or 0
        return self._script.read(name, size).decode("utf-8", "surrogateescape")

    def succeeded(self) -> bool:
        return self._script.failure() is None and self._script.result(slots.LAST) is not None

    def close(self) -> None:
        self._script.close()
        if self._own_score is not None:
            credentials.set_oom_score(self._own_score)
            self._own_score = None
