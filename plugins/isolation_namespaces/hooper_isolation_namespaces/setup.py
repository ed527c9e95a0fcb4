"""What the first process of a container does, between its fork and its program."""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import Iterable
from typing import NamedTuple, NoReturn

from hooper.api import oci
from hooper.api.errors import HooperError
from hooper.api.isolation import Bundle, Gate, Stdio
from hooper.linux import mounts, pty
from hooper.linux import syscalls as sys
from hooper.linux.cgroups import Cgroup
from hooper.linux.seccomp import Filter
from hooper.linux.users import Identity
from hooper_isolation_namespaces import credentials, init, program, rootfs
from hooper_isolation_namespaces.channel import MAP, PID, Channel, explained, failure

FLAGS = {
    "mount": sys.CLONE_NEWNS,
    "uts": sys.CLONE_NEWUTS,
    "ipc": sys.CLONE_NEWIPC,
    "network": sys.CLONE_NEWNET,
    "cgroup": sys.CLONE_NEWCGROUP,
    "pid": sys.CLONE_NEWPID,
    "user": sys.CLONE_NEWUSER,
}


class Start(NamedTuple):
    """All that a process needs."""

    bundle: Bundle
    process: oci.Process
    stdio: Stdio
    gate: Gate
    cgroup: Cgroup
    filter: Filter | None
    last_capability: int


def new_namespaces(spec: oci.Spec) -> dict[str, str]:
    """Path by type: empty for one to make."""
    return {namespace.type: namespace.path for namespace in spec.linux.namespaces}


def first_process(start: Start, channel: Channel | None = None) -> NoReturn:
    """Becomes the program, or raises why not; `channel` leads to who maps a new user namespace."""
    _close_others(start)
    root = _enter_namespaces(start, channel)
    who, master = _set_up(start, root)
    _drop(start, who, make_directory=True)
    start.gate.ready(master)
    if master is not None:
        os.close(master)
    _run(start, who)


def exit_code(error: HooperError) -> int:
    """What a process ends with that could not become its program."""
    return getattr(error, "exit_code", 128)


def _close_others(start: Start) -> None:
    """Closes what the monitor had open."""
    gc.disable()  # a collection would touch, and so copy, the pages of all objects
    os.umask(0)
    netns = () if start.bundle.netns is None else (start.bundle.netns,)
    close_all_but([*descriptors(start.stdio), *netns, start.gate.fileno()])


def descriptors(stdio: Stdio) -> list[int]:
    """Those that are given."""
    return [fd for fd in (stdio.stdin, stdio.stdout, stdio.stderr) if fd is not None]


def close_all_but(keep: Iterable[int]) -> None:
    """Closes all descriptors from 3 on, except these."""
    signal.set_wakeup_fd(-1)  # the next to be opened would get its number
    first = 3
    for fd in sorted(set(keep)):
        if fd > first:
            sys.close_range(first, fd - 1)
        first = max(first, fd + 1)
    sys.close_range(first)


# --- namespaces and root --------------------------------------------------------------------------


def _enter_namespaces(start: Start, channel: Channel | None) -> int:
    """Enters all namespaces but the cgroup's and the pid's, with the root file system mounted; its descriptor."""
    bundle, spec = start.bundle, start.bundle.spec
    asked = new_namespaces(spec)
    if bundle.netns is not None:
        sys.setns(bundle.netns, sys.CLONE_NEWNET)
        os.close(bundle.netns)
    flags = 0
    for kind, path in asked.items():
        if kind in ("pid", "user", "cgroup") or (kind == "network" and bundle.netns is not None):
            continue
        if path:
            _join(path, FLAGS[kind])
        else:
            flags |= FLAGS[kind]
    if channel is not None and "user" in asked:
        return _enter_user_namespace(start, channel, flags | sys.CLONE_NEWNS)
    sys.unshare(flags | sys.CLONE_NEWNS)
    mount_root(bundle)
    return os.open(spec.root.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _join(path: str, flag: int) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sys.setns(fd, flag)
    finally:
        os.close(fd)


def mount_root(bundle: Bundle) -> None:
    """Makes the root file system in this new mount namespace."""
    try:
        rootfs.isolate_propagation(bundle.spec)
        mounts.mount_snapshot(bundle.rootfs, bundle.spec.root.path)
        if not bundle.rootfs:
            os.chdir(bundle.spec.root.path)
            os.close(rootfs.bind_root_on_itself())
    except OSError as error:
        raise failure("error mounting the root file system", error) from error


def _enter_user_namespace(start: Start, channel: Channel, flags: int) -> int:
    """As root of the host mounts the root file system, then goes on as root of a new user namespace.

    The pid namespace must belong to the user namespace (for /proc), so the process forks once more; the
    one that goes on is the other one's child, and the monitor, a subreaper, inherits it.
    """
    sys.unshare(sys.CLONE_NEWNS)
    mount_root(start.bundle)
    os.chdir(start.bundle.spec.root.path)
    start.cgroup.enter()
    sys.unshare(sys.CLONE_NEWUSER)
    channel.send(MAP)
    channel.wait_for_go()
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    if new_namespaces(start.bundle.spec).get("pid") == "":
        sys.unshare(sys.CLONE_NEWPID)
    child = os.fork()
    if child:
        channel.send(PID, str(child).encode())
        os._exit(0)
    sys.prctl(sys.PR_SET_DUMPABLE, 0)
    sys.unshare(flags)
    return rootfs.bind_root_on_itself()


def _set_up(start: Start, root: int) -> tuple[Identity, int | None]:
    """The rest of what needs root's rights: who to become, and the master of the pty if there is one."""
    spec, stdio = start.bundle.spec, start.stdio
    _name_host(spec)
    rootfs.make_mounts(root, spec, start.cgroup)
    _write_sysctls(spec.linux.sysctl)
    credentials.set_oom_score(start.process.oom_score_adj)
    start.cgroup.enter()  # late, so that the limits count little of this interpreter
    if "cgroup" in new_namespaces(spec):
        path = new_namespaces(spec)["cgroup"]
        _join(path, sys.CLONE_NEWCGROUP) if path else sys.unshare(sys.CLONE_NEWCGROUP)
    who = credentials.identity(root, start.process.user)
    os.setsid()
    master = None
    if stdio.terminal:
        master, slave = rootfs.open_console(root)
        stdio = take_terminal(start.process, master, slave)
    rootfs.enter(root, spec)
    os.close(root)
    set_stdio(stdio)
    return who, master


def _name_host(spec: oci.Spec) -> None:
    if "uts" in new_namespaces(spec):
        if spec.hostname:
            socket.sethostname(spec.hostname)
        if spec.domainname:
            sys.setdomainname(spec.domainname)


def _write_sysctls(sysctls: dict[str, str]) -> None:
    """Through the host's /proc: what it shows of these keys is of the process's own namespaces."""
    for key, value in sysctls.items():
        path = "/proc/sys/" + (key if "/" in key else key.replace(".", "/"))
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, value.encode())
            finally:
                os.close(fd)
        except OSError as error:
            raise failure(f"error setting the sysctl {key}", error) from error


# --- shared with exec -----------------------------------------------------------------------------


def take_terminal(process: oci.Process, master: int, slave: int) -> Stdio:
    """Makes a pty the controlling terminal; the result names its slave three times."""
    if process.console_size:
        pty.set_size(master, process.console_size.height, process.console_size.width)
    pty.make_controlling(slave)
    return Stdio(slave, slave, slave)


def set_stdio(stdio: Stdio) -> None:
    """Puts the three descriptors in their places."""
    given = (stdio.stdin, stdio.stdout, stdio.stderr)
    # Copies above 2 first: one of them may sit in the place of another.
    copies = [None if fd is None else os.dup(fd) for fd in given]
    for number, fd in enumerate(copies):
        if fd is not None:
            os.dup2(fd, number)
            os.close(fd)
    for fd in {fd for fd in descriptors(stdio) if fd > 2}:
        os.close(fd)


def become(start: Start, who: Identity) -> NoReturn:
    """Gives up rights and executes the program of an exec."""
    _drop(start, who, make_directory=False)
    _execute(start, who)


def _execute(start: Start, who: Identity) -> NoReturn:
    program.execute(start.process.args, program.environment(start.process.env, who.home))


def _drop(start: Start, who: Identity, *, make_directory: bool) -> None:
    """Gives up rights. After it, only calls are made that every filter has to allow anyway."""
    sys.close_range(3, flags=sys.CLOSE_RANGE_CLOEXEC)
    credentials.set_rlimits(start.process.rlimits)
    if start.process.apparmor_profile:
        credentials.set_apparmor(start.process.apparmor_profile)
    credentials.drop(start.process, who, start.filter, start.last_capability, make_directory=make_directory)
    sys.prctl(sys.PR_SET_DUMPABLE, 0)  # a change of user may have reset it
    os.umask(0o022)
    program.reset_signals()


def _run(start: Start, who: Identity) -> NoReturn:
    if not start.bundle.init:
        _execute(start, who)
    init.run(lambda: _execute_below_init(start, who), [start.gate.fileno()])


def _execute_below_init(start: Start, who: Identity) -> NoReturn:
    try:
        program.reset_signals()
        _execute(start, who)
    except BaseException as error:
        told = explained(error)
        start.gate.fail(told)
        os._exit(exit_code(told))
