"""The isolation backend `namespaces`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from hooper.api import oci
from hooper.api.driver import HostInfo
from hooper.api.errors import Internal, SkipDriver, StartFailed
from hooper.api.isolation import Bundle, IsolationBackend, Process, Stats, Stdio
from hooper.linux import capabilities, seccomp
from hooper.linux import syscalls as sys
from hooper.linux.cgroups import Cgroup, open_cgroup
from hooper.linux.seccomp_default import default_profile
from hooper_isolation_namespaces import joining, setup
from hooper_isolation_namespaces.channel import GO, MAP, PID, READY, Channel
from hooper_isolation_namespaces.setup import Start

_OLDEST_KERNEL = (5, 9)
_PARENT = "/hooper"


class NamespacesBackend(IsolationBackend):
    """Makes containers with system calls alone; see `setup` for what the first process does."""

    def __init__(self, name: str, config: Any) -> None:
        super().__init__(name, config)
        self._waiting: dict[str, Channel] = {}
        """By container: the way to its first process, from `create` to `start`."""
        self._last_capability: int | None = None

    def probe(self, host: HostInfo) -> None:
        if not host.root:
            raise SkipDriver("namespaces", "hooper does not run as root of the initial user namespace")
        if host.kernel < _OLDEST_KERNEL:
            raise SkipDriver("namespaces", f"Linux {host.kernel[0]}.{host.kernel[1]} lacks close_range(2)", "Use 5.9.")

    def preload(self, host: HostInfo) -> None:
        self._last_capability = capabilities.last_cap()
        open_cgroup(f"{_PARENT}/preload").create_parents()
        profile = default_profile(capabilities.DEFAULT_CAPABILITIES, host.architecture, host.kernel)
        seccomp.compile_filter(profile)

    # --- create and start ---

    def create(self, bundle: Bundle, stdio: Stdio) -> Process:
        ours, theirs = Channel.pair()
        start = self._start(bundle, bundle.spec.process, stdio, theirs)
        try:
            start.cgroup.create(bundle.spec.linux.resources)
            pid = _fork_first(start, ours)
            theirs.close()
            process = _accompany(start, pid, ours)
        except BaseException:
            ours.close()
            theirs.close()
            start.cgroup.remove()
            raise
        self._waiting[bundle.id] = ours
        return process

    def _start(self, bundle: Bundle, process: oci.Process, stdio: Stdio, channel: Channel) -> Start:
        if self._last_capability is None:
            self._last_capability = capabilities.last_cap()
        profile = bundle.spec.linux.seccomp
        return Start(
            bundle=bundle,
            process=process,
            stdio=stdio,
            channel=channel,
            cgroup=_cgroup(bundle),
            filter=seccomp.compile_filter(profile) if profile else None,
            last_capability=self._last_capability,
        )

    def start(self, bundle: Bundle, process: Process) -> None:
        channel = self._waiting.pop(bundle.id, None)
        if channel is None:
            raise Internal(f"starting container {bundle.id}", "it was not created by this monitor, or started before")
        try:
            channel.send(GO)
            answer = channel.receive()
        except StartFailed:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            raise
        finally:
            channel.close()
        if answer.kind:
            raise Internal(f"starting container {bundle.id}", f"unexpected answer {answer.kind!r}")

    # --- exec ---

    def exec(self, bundle: Bundle, process: oci.Process, stdio: Stdio, init_pid: int) -> Process:
        ours, theirs = Channel.pair()
        start = self._start(bundle, process, stdio, theirs)
        try:
            with joining.target(init_pid) as pidfd:
                pid = joining.fork_beside(pidfd, start.cgroup, lambda: joining.further_process(start, pidfd))
                theirs.close()
                return _follow(pid, ours, terminal=stdio.terminal)
        finally:
            ours.close()
            theirs.close()

    # --- the rest is the cgroup's ---

    def pause(self, bundle: Bundle) -> None:
        _cgroup(bundle).freeze()

    def resume(self, bundle: Bundle) -> None:
        _cgroup(bundle).thaw()

    def update(self, bundle: Bundle, resources: oci.Resources) -> None:
        _cgroup(bundle).apply(resources)

    def stats(self, bundle: Bundle) -> Stats:
        return _cgroup(bundle).stats()

    def processes(self, bundle: Bundle) -> list[int]:
        return _cgroup(bundle).pids()

    def oom_killed(self, bundle: Bundle) -> bool:
        return _cgroup(bundle).oom_kills() > 0

    def delete(self, bundle: Bundle) -> None:
        channel = self._waiting.pop(bundle.id, None)
        if channel:
            channel.close()
        _cgroup(bundle).remove()


def _cgroup(bundle: Bundle) -> Cgroup:
    return open_cgroup(bundle.spec.linux.cgroups_path or f"{_PARENT}/{bundle.id}")


# --- the first process, seen from the monitor -----------------------------------------------------


def _fork_first(start: Start, ours: Channel) -> int:
    """Forks into the pid namespace that the spec asks for; this process stays in its own."""
    asked = setup.new_namespaces(start.bundle.spec)

    def child() -> NoReturn:
        setup.first_process(start)

    if "user" in asked:
        return _fork_mapped(start, ours, child)
    if "pid" not in asked:
        return joining.fork(start.cgroup, child)
    with _other_pid_namespace(asked["pid"]):
        return joining.fork(start.cgroup, child)


@contextmanager
def _other_pid_namespace(path: str) -> Iterator[None]:
    """Children that are forked here are in a new pid namespace, or the one at `path`."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if path:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                sys.setns(fd, sys.CLONE_NEWPID)
            finally:
                os.close(fd)
        else:
            sys.unshare(sys.CLONE_NEWPID)
        try:
            yield
        finally:
            sys.setns(own, sys.CLONE_NEWPID)
    finally:
        os.close(own)


def _fork_mapped(start: Start, ours: Channel, child: Callable[[], NoReturn]) -> int:
    """With a user namespace: writes the mappings of the process in between, and learns of its child."""
    path = setup.new_namespaces(start.bundle.spec).get("pid", "")
    if path:
        with _other_pid_namespace(path):
            between = joining.fork(start.cgroup, child)
    else:
        between = joining.fork(start.cgroup, child)
    try:
        ours.expect(MAP)
        for file, mappings in (
            ("uid_map", start.bundle.spec.linux.uid_mappings),
            ("gid_map", start.bundle.spec.linux.gid_mappings),
        ):
            _write_map(f"/proc/{between}/{file}", mappings)
        ours.send(GO)
        pid = int(ours.expect(PID).payload)
    except BaseException:
        os.kill(between, signal.SIGKILL)
        raise
    finally:
        os.waitpid(between, 0)
    return pid


def _write_map(path: str, mappings: Sequence[oci.IDMapping]) -> None:
    text = "".join(f"{each.container_id} {each.host_id} {each.size}\n" for each in mappings)
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def _accompany(start: Start, pid: int, channel: Channel) -> Process:
    """Sets the limits while the process makes its mounts, and waits until it is set up."""
    try:
        resources = start.bundle.spec.linux.resources
        if resources:
            start.cgroup.apply(resources)
        return Process(pid, channel.expect(READY).fd)
    except BaseException:
        joining.end(pid)
        raise


def _follow(pid: int, channel: Channel, *, terminal: bool) -> Process:
    """Waits until an exec has been executed."""
    console = None
    try:
        if terminal:
            console = channel.expect(READY).fd
        answer = channel.receive()
        if answer.kind:
            raise Internal("starting an exec", f"unexpected answer {answer.kind!r}")
    except BaseException:
        if console is not None:
            os.close(console)
        joining.end(pid)
        raise
    return Process(pid, console)
