"""Writes the script of a container: what `setup.first_process` does, as system calls that need no interpreter.

Only for containers of the usual kind; `Unusual` is raised of any other, which is made as ever. Also a step of the
script may find what it did not expect, a path in the image that is no directory for one. It ends then, and the
container is made as ever too, so that nothing is explained here: every error has its words in `setup`, and in what
that uses.
"""

from __future__ import annotations

import errno
import os
import resource
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hooper.api import oci
from hooper.api.isolation import GATE_READY, Bundle
from hooper.api.storage import Mount
from hooper.linux import capabilities, seccomp
from hooper.linux import syscalls as sys
from hooper.linux.cgroups import Cgroup, Order
from hooper.linux.mount_options import parse
from hooper.linux.overlay import ONE_MOUNT
from hooper.linux.script import ANY, NEVER, Pointer, Program
from hooper_isolation_namespaces.drafting_files import OPEN_HOW, FileDrafter, Unusual, is_bind
from hooper_isolation_namespaces.setup import FLAGS, new_namespaces
from hooper_isolation_namespaces.slots import (
    FILE_SIZE,
    GATE,
    GID,
    GROUP,
    GROUP_LIST,
    GROUPS,
    HOME,
    KEPT_GATE,
    KEPT_NETNS,
    LAST,
    LONGEST_HOME,
    MOST_GROUPS,
    NETNS,
    PASSWD,
    PROGRAM,
    STDERR,
    STDIN,
    STDOUT,
    UID,
    WAIT,
    candidate,
)

ROOT_TEXT = ONE_MOUNT + 1
"""Bytes that a `root_texts` has room for."""

_LITTLE_MEMORY = 32 << 20
"""With a limit below that, the kernel could look for a process to kill while the script runs: the monitor, for that has
the same memory."""
_SIGNALS = [number for number in range(1, 65) if number not in (9, 19)]
_APPARMOR_FILES = ("/proc/self/attr/apparmor/exec", "/proc/self/attr/exec")


class Drafted(NamedTuple):
    """The script of a container."""

    program: Program
    """`root_texts` are missing in it."""
    flags: int
    """CLONE_NEW* to begin with."""
    makes_cgroup: bool
    """It does; otherwise the cgroup is to be there, with its limits."""


def draft(bundle: Bundle, cgroup: Cgroup, machine: str, last_capability: int) -> Drafted:
    """Writes the script of a container; Unusual if it must be made another way."""
    flags = _check(bundle)
    orders = cgroup.orders(bundle.spec.linux.resources)
    writer = _Drafter(bundle, cgroup, machine, last_capability)
    writer.write(orders or ())
    return Drafted(writer.program(), flags, orders is not None)


def root_texts(rootfs: Sequence[Mount]) -> dict[str, bytes]:
    """What is to be put in the places of the script that name the directories of its snapshot. Unusual as `draft`."""
    return {_root_place(number): _root_text(mount) + b"\0" for number, mount in enumerate(rootfs)}


def oom_score(bundle: Bundle) -> int:
    """As `credentials.set_oom_score` has it."""
    return bundle.spec.process.oom_score_adj or 0


def _root_place(number: int) -> str:
    return f"root {number}"


def _root_text(mount: Mount) -> bytes:
    options = parse(mount.options)
    bound = is_bind(mount.type, options)
    text = os.fsencode(mount.source if bound else ",".join(options.data))
    if (mount.type != "overlay" and not bound) or options.propagation or len(text) >= ROOT_TEXT:
        raise Unusual
    return text


def _check(bundle: Bundle) -> int:
    """The flags to begin with; Unusual for what no script is written for."""
    spec = bundle.spec
    asked = new_namespaces(spec)
    limit = (spec.linux.resources and spec.linux.resources.memory and spec.linux.resources.memory.limit) or -1
    if (
        asked.get("pid") != ""
        or any(path or kind == "user" for kind, path in asked.items())
        or bundle.init
        or spec.process.terminal
        or spec.linux.devices
        or spec.linux.rootfs_propagation
        or 0 < limit < _LITTLE_MEMORY
        or not bundle.rootfs
        or not spec.process.args
        or not spec.process.args[0]
    ):
        raise Unusual
    flags = sys.CLONE_NEWNS | sys.CLONE_NEWPID
    for kind in asked:
        if kind in ("uts", "ipc"):
            flags |= FLAGS[kind]
    return flags


class _Drafter(FileDrafter):
    def __init__(self, bundle: Bundle, cgroup: Cgroup, machine: str, last_capability: int) -> None:
        super().__init__(bundle, cgroup, machine)
        self._last = last_capability

    def write(self, orders: Iterable[Order]) -> None:
        self._take_descriptors()
        for order in orders:
            self._carry_out(order)
        self._mount_root()
        self._name_host()
        self._make_mounts()
        self._set_sysctls()
        score = self.open("openat", sys.AT_FDCWD, "/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC, 0)
        for path in self._cgroup.entrances(self._spec.linux.resources):
            self._write_file(path, "0")
        if "cgroup" in self._asked:
            self.call("unshare", sys.CLONE_NEWCGROUP)
        self._read_users()
        self.call("setsid", accept=ANY)
        self._enter_root()
        self.call("close_range", 3, 0x7FFFFFFF, sys.CLOSE_RANGE_CLOEXEC)
        self._limit()
        self.call("chdir", self._spec.process.cwd or "/")
        self._look_for_program()
        self.call("write", KEPT_GATE, GATE_READY, len(GATE_READY), accept=ANY)
        self.call("read", KEPT_GATE, self.room(WAIT, "word"), WAIT, accept=(1, WAIT))
        self._set_oom_score(score)
        self._drop()
        self._execute()

    # --- namespaces and root ----------------------------------------------------------------------

    def _take_descriptors(self) -> None:
        """Keeps what it is given, and nothing else."""
        self.call("umask", 0, accept=ANY)
        given = [(GATE, KEPT_GATE, os.O_CLOEXEC)]
        if "network" in self._asked:
            given.append((NETNS, KEPT_NETNS, os.O_CLOEXEC))
        for slot, number, flags in (*given, (STDIN, 0, 0), (STDOUT, 1, 0), (STDERR, 2, 0)):
            self.call("dup3", slot, number, flags, accept=(number, number))
            self.taken(number)
        self.call("close_range", 3, KEPT_GATE - 1, 0)
        self.call("close_range", max(number for _, number, _ in given) + 1, 0x7FFFFFFF, 0)
        if "network" in self._asked:
            self.call("setns", KEPT_NETNS, sys.CLONE_NEWNET)
            self.close(KEPT_NETNS)

    def _mount_root(self) -> None:
        shared = ("shared", "rshared")
        if any(word in mount.options for mount in self._spec.mounts for word in shared):
            raise Unusual
        self.call("mount", 0, "/", 0, sys.MS_SLAVE | sys.MS_REC, 0)
        for number, mount in enumerate(self._bundle.rootfs):
            self._mount_snapshot(number, mount)
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        self._root = self.open("openat", sys.AT_FDCWD, self._spec.root.path, flags, 0)

    def _mount_snapshot(self, number: int, mount: Mount) -> None:
        _root_text(mount)
        text = self.room(ROOT_TEXT, _root_place(number))
        place = os.path.abspath(self._spec.root.path)
        options = parse(mount.options)
        if is_bind(mount.type, options):
            target = self.open("openat", sys.AT_FDCWD, place, os.O_PATH | os.O_CLOEXEC, 0)
            self._bind(text, target, options)
            self.close(target)
        else:
            self.call("mount", "overlay", place, "overlay", options.flags, text)

    def _name_host(self) -> None:
        if "uts" in self._asked:
            for call, name in (("sethostname", self._spec.hostname), ("setdomainname", self._spec.domainname)):
                if name:
                    self.call(call, name, len(os.fsencode(name)))

    def _enter_root(self) -> None:
        if self._spec.root.readonly:
            self._set_attributes(self._root, recursive=False, set_=sys.MOUNT_ATTR_RDONLY)
        old = self.open("openat", sys.AT_FDCWD, "/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0)
        self.call("fchdir", self._root)
        self.call("pivot_root", ".", ".")
        self.call("fchdir", old)
        self.call("mount", 0, ".", 0, sys.MS_SLAVE | sys.MS_REC, 0)
        self.call("umount2", ".", sys.MNT_DETACH)
        self.call("chdir", "/")
        self.close(old)
        self.close(self._root)

    # --- rights -----------------------------------------------------------------------------------

    def _set_sysctls(self) -> None:
        for key, value in self._spec.linux.sysctl.items():
            self._write_file("/proc/sys/" + (key if "/" in key else key.replace(".", "/")), value)

    def _read_users(self) -> None:
        """What the identity of the program is found out from while it waits at the gate."""
        how = self.block(OPEN_HOW.pack(os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, 0, sys.RESOLVE_IN_ROOT))
        for name in (PASSWD, GROUP):
            fd = self.open("openat2", self._root, f"/etc/{name}", how, 24, other=-errno.ENOENT)
            with self.unless_other(self.size - 1):
                self.call("read", fd, self.room(FILE_SIZE, name), FILE_SIZE, accept=(0, FILE_SIZE - 1), mark=name)
                self.close(fd)

    def _limit(self) -> None:
        for limit in self._spec.process.rlimits:
            number = getattr(resource, limit.type, None)
            if number is None:
                raise Unusual
            both = struct.pack("@QQ", limit.soft & (1 << 64) - 1, limit.hard & (1 << 64) - 1)
            self.call("prlimit64", 0, number, self.block(both), 0)
        profile = self._spec.process.apparmor_profile
        if profile:
            path = next((file for file in _APPARMOR_FILES if os.path.exists(file)), _APPARMOR_FILES[-1])
            self._write_file(path, f"exec {profile}")

    def _set_oom_score(self, fd: int) -> None:
        """Late: whoever shares the memory, which is the monitor, gets the same score, until it takes its own again."""
        text = str(oom_score(self._bundle))
        self.call("write", fd, text, len(text), accept=ANY, other=-errno.EACCES)
        self.close(fd)

    def _prctl(self, *arguments: int | Pointer) -> None:
        self.call("prctl", *arguments, *(0,) * (5 - len(arguments)), accept=ANY)

    def _drop(self) -> None:
        """As `credentials.drop`. After it, only calls are made that every filter has to allow anyway."""
        process = self._spec.process
        profile = self._spec.linux.seccomp
        filter_ = seccomp.compile_filter(profile) if profile else None
        if process.no_new_privileges:
            self._prctl(sys.PR_SET_NO_NEW_PRIVS, 1)
        elif filter_:
            self._install(filter_)
        caps = process.capabilities
        if caps is not None:
            keep = capabilities.mask(caps.bounding)
            for number in range(self._last + 1):
                if not keep >> number & 1:
                    self._prctl(sys.PR_CAPBSET_DROP, number)
            self._prctl(sys.PR_SET_KEEPCAPS, 1)
        groups = self.block(bytes(MOST_GROUPS * 4), GROUP_LIST)
        self.call("setgroups", GROUPS, groups)
        self.call("setresgid", GID, GID, GID)
        self.call("setresuid", UID, UID, UID)
        if caps is not None:
            self._set_capabilities(caps)
        if process.no_new_privileges and filter_:
            self._install(filter_)
        self._prctl(sys.PR_SET_DUMPABLE, 0)
        self.call("umask", 0o022, accept=ANY)

    def _install(self, filter_: seccomp.Filter) -> None:
        code = self.block(filter_.program)
        head = self.block(struct.pack("@HQ", filter_.length, code))
        self.points(Pointer(head + 8))
        self._prctl(sys.PR_SET_SECCOMP, seccomp.MODE_FILTER, head)

    def _set_capabilities(self, caps: oci.Capabilities) -> None:
        self._prctl(sys.PR_SET_KEEPCAPS, 0)
        known = (1 << self._last + 1) - 1
        inheritable = capabilities.mask(caps.inheritable) | capabilities.mask(caps.ambient)
        header, sets = sys.capability_sets(
            capabilities.mask(caps.effective) & known, capabilities.mask(caps.permitted) & known, inheritable & known
        )
        self.call("capset", self.block(header), self.block(sets))
        if caps.ambient:
            self._prctl(sys.PR_CAP_AMBIENT, sys.PR_CAP_AMBIENT_CLEAR_ALL)
            for number in range(self._last + 1):
                if capabilities.mask(caps.ambient) & known & 1 << number:
                    self._prctl(sys.PR_CAP_AMBIENT, sys.PR_CAP_AMBIENT_RAISE, number)

    # --- the program ------------------------------------------------------------------------------

    def _look_for_program(self) -> None:
        """Before any right is given up: a filter need not allow to look. The monitor takes the first that is there."""
        name = self._spec.process.args[0]
        path = _variables(self._spec.process.env).get("PATH", "")
        found = []
        for number, directory in enumerate(path.split(":") if "/" not in name else ()):
            mark = candidate(number)
            place = self.text(os.path.join(directory or ".", name), mark)
            found.append(self.call("faccessat", sys.AT_FDCWD, place, os.X_OK, other=-errno.ENOENT, mark=mark))
        for step in found:
            self.skip(step, other=False)

    def _execute(self) -> None:
        default = self.block(bytes(64))  # more than any struct sigaction
        for number in _SIGNALS:
            self.call("rt_sigaction", number, default, 0, 8)
        self.call("rt_sigprocmask", 2, default, 0, 8, mark=LAST)
        process = self._spec.process
        args = self.vector([self.text(each) for each in process.args])
        variables = _variables(process.env)
        texts = [self.text(f"{name}={value}") for name, value in variables.items()]
        if not variables.get("HOME"):
            texts.append(self.block(bytes(LONGEST_HOME + 8), HOME))
        name = process.args[0]
        self.call("execve", name if "/" in name else PROGRAM, args, self.vector(texts), accept=NEVER)


def _variables(env: Sequence[str]) -> dict[str, str]:
    """As `program.environment` has them, but for a HOME that is missing, which depends on the user."""
    found = {name: value for name, given, value in (item.partition("=") for item in env) if given and name}
    if not found.get("HOME"):
        found.pop("HOME", None)
    return found
