"""The isolation backend `namespaces`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from hooper.api import oci
from hooper.api.driver import HostInfo
from hooper.api.errors import Conflict, HooperError, Internal, SkipDriver, StartFailed
from hooper.api.isolation import Attempt, Bundle, Gate, IsolationBackend, Outline, Process, Stats, Stdio
from hooper.linux import capabilities, seccomp
from hooper.linux.cgroups import Cgroup, open_cgroup
from hooper.linux.seccomp_default import packed_profile
from hooper_isolation_namespaces import attempting, joining, setup
from hooper_isolation_namespaces.channel import GO, MAP, PID, READY, Channel, explained
from hooper_isolation_namespaces.setup import Start

_OLDEST_KERNEL = (5, 9)
_PARENT = "/hooper"
PATIENCE_S = 10.0
"""How long an exec is waited for: a process of the container may stop it, or pause freeze it, before it is executed."""


class NamespacesBackend(IsolationBackend):
    """Makes containers with system calls alone; see `setup` for what the first process does."""

    def __init__(self, name: str, config: Any) -> None:
        super().__init__(name, config)
        self._waiting: dict[str, Channel] = {}
        """By container: the way to its first process, from `create` to `start`."""
        self._standing_by: dict[str, joining.Standby] = {}
        """By container: a process that waits for an exec."""
        self._last_capability: int | None = None
        self._born_in: Cgroup | None = None
        """In a process that `fork` made: its cgroup."""

    def probe(self, host: HostInfo) -> None:
        if not host.root:
            raise SkipDriver("namespaces", "hooper does not run as root of the initial user namespace")
        if host.kernel < _OLDEST_KERNEL:
            raise SkipDriver("namespaces", f"Linux {host.kernel[0]}.{host.kernel[1]} lacks close_range(2)", "Use 5.9.")

    def preload(self, host: HostInfo) -> None:
        self._last_capability = capabilities.last_cap()
        open_cgroup(f"{_PARENT}/preload").create_parents()
        profile = packed_profile(tuple(capabilities.DEFAULT_CAPABILITIES), host.architecture, host.kernel)
        seccomp.compile_filter(profile)

    def rehearse(self) -> None:
        from hooper_isolation_namespaces import rehearsing

        rehearsing.rehearse(open_cgroup(f"{_PARENT}/preload"))

    # --- a container that a script makes ---

    def outline(self, bundle: Bundle) -> Outline:
        from hooper_isolation_namespaces import models  # not for the launcher, where it is memory of each monitor

        found = super().outline(bundle)
        found.draft = models.written(bundle, _cgroup(bundle), self._known_capabilities())
        return found

    def attempt(self, outline: Outline, stdio: Stdio, netns: int | None, gate: int) -> Attempt | None:
        if not outline.draft:
            return None
        try:
            return attempting.begun(outline, _outlined(outline), stdio, netns, gate)
        except (OSError, HooperError):
            return None  # the other way meets it again, and has words for it

    def _known_capabilities(self) -> int:
        if self._last_capability is None:
            self._last_capability = capabilities.last_cap()
        return self._last_capability

    # --- a container that makes itself ---

    def fork(self, outline: Outline) -> int | None:
        """A user namespace is mapped from outside, so that one needs `create`."""
        if "user" in outline.namespaces:
            return None
        cgroup = _outlined(outline)
        cgroup.prepare_fork()
        pid = _fork_first(outline.namespaces, cgroup)
        if pid == 0:
            self._born_in = cgroup
        return pid

    def become(self, bundle: Bundle, stdio: Stdio, gate: Gate) -> NoReturn:
        try:
            start = self._start(bundle, bundle.spec.process, stdio, gate, self._born_in)
            resources = bundle.spec.linux.resources
            start.cgroup.create(resources)
            if resources:
                start.cgroup.apply(resources)
            setup.first_process(start)
        except OSError as error:
            raise explained(error) from error

    # --- create and start ---

    def create(self, bundle: Bundle, stdio: Stdio) -> Process:
        ours, theirs = Channel.pair()
        start = self._start(bundle, bundle.spec.process, stdio, theirs)
        try:
            start.cgroup.create(bundle.spec.linux.resources)
            pid = _fork_created(start, ours, theirs)
            theirs.close()
            process = _accompany(start, pid, ours)
        except BaseException:
            ours.close()
            theirs.close()
            start.cgroup.remove()
            raise
        self._waiting[bundle.id] = ours
        return process

    def _start(
        self, bundle: Bundle, process: oci.Process, stdio: Stdio, gate: Gate, cgroup: Cgroup | None = None
    ) -> Start:
        profile = bundle.spec.linux.seccomp
        return Start(
            bundle=bundle,
            process=process,
            stdio=stdio,
            gate=gate,
            cgroup=cgroup or _cgroup(bundle),
            filter=seccomp.compile_filter(profile) if profile else None,
            last_capability=self._known_capabilities(),
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

    def expect_exec(self, bundle: Bundle, init_pid: int) -> None:
        if bundle.id not in self._standing_by and joining.may_stand_by(bundle.spec):
            pid, channel = self._join(joining.stand_by, bundle, oci.Process(args=[]), Stdio(), init_pid)
            self._standing_by[bundle.id] = joining.Standby(pid, channel)

    def forget_exec(self, bundle: Bundle) -> None:
        standby = self._standing_by.pop(bundle.id, None)
        if standby:
            standby.channel.close()  # that ends it

    def exec(self, bundle: Bundle, process: oci.Process, stdio: Stdio, init_pid: int) -> Process:
        standby = self._standing_by.pop(bundle.id, None)
        if standby:
            try:
                if standby.tell(process, stdio):
                    return _follow(standby.pid, standby.channel, terminal=stdio.terminal)
            finally:
                standby.channel.close()
        pid, channel = self._join(joining.further_process, bundle, process, stdio, init_pid)
        try:
            return _follow(pid, channel, terminal=stdio.terminal)
        finally:
            channel.close()

    def _join(
        self,
        live: Callable[[Start, Channel, int], NoReturn],
        bundle: Bundle,
        process: oci.Process,
        stdio: Stdio,
        init_pid: int,
    ) -> tuple[int, Channel]:
        """Forks a process into the container's pid namespace, whose life `live` is; and the channel to it."""
        ours, theirs = Channel.pair()
        ours.set_patience(PATIENCE_S)
        start = self._start(bundle, process, stdio, theirs)
        try:
            with joining.target(init_pid) as pidfd:
                pid = joining.fork_beside(pidfd, start.cgroup)
                if pid == 0:
                    live(start, theirs, pidfd)
                return pid, ours
        except BaseException:
            ours.close()
            raise
        finally:
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
        standby = self._standing_by.get(bundle.id)
        return [pid for pid in _cgroup(bundle).pids() if standby is None or pid != standby.pid]

    def oom_killed(self, bundle: Bundle) -> bool:
        return _cgroup(bundle).oom_kills() > 0

    def delete(self, bundle: Bundle) -> None:
        channel = self._waiting.pop(bundle.id, None)
        if channel:
            channel.close()
        self.forget_exec(bundle)
        _cgroup(bundle).remove()


def _outlined(outline: Outline) -> Cgroup:
    return open_cgroup(outline.cgroups_path or f"{_PARENT}/{outline.id}")


def _cgroup(bundle: Bundle) -> Cgroup:
    return open_cgroup(bundle.spec.linux.cgroups_path or f"{_PARENT}/{bundle.id}")


# --- the first process, seen from who forks it ----------------------------------------------------


def _fork_first(asked: Mapping[str, str], cgroup: Cgroup) -> int:
    """As os.fork(), into the pid namespace that is asked for."""
    path = asked.get("pid")
    if path is None:
        return joining.fork(cgroup)
    if not path:
        return joining.fork_in_pid_namespace(None, cgroup)
    namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return joining.fork_in_pid_namespace(namespace, cgroup)
    finally:
        os.close(namespace)


def _fork_created(start: Start, ours: Channel, theirs: Channel) -> int:
    asked = setup.new_namespaces(start.bundle.spec)
    mapped = "user" in asked
    if mapped and not asked.get("pid"):
        asked = {}  # a new pid namespace is to belong to the user namespace
    pid = _fork_first(asked, start.cgroup)
    if pid == 0:
        _become_first(start, theirs)
    return _map(start, pid, ours) if mapped else pid


def _become_first(start: Start, channel: Channel) -> NoReturn:
    try:
        setup.first_process(start, channel)
    except BaseException as error:
        told = explained(error)
        channel.fail(told)
        os._exit(setup.exit_code(told))


def _map(start: Start, between: int, ours: Channel) -> int:
    """With a user namespace: writes the mappings of the process in between, and learns of its child."""
    try:
        ours.expect(MAP)
        for file, mappings in (
            ("uid_map", start.bundle.spec.linux.uid_mappings),
            ("gid_map", start.bundle.spec.linux.gid_mappings),
        ):
            _write_map(f"/proc/{between}/{file}", mappings)
        ours.send(GO)
        return int(ours.expect(PID).payload)
    except BaseException:
        os.kill(between, signal.SIGKILL)
        raise
    finally:
        os.waitpid(between, 0)


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
    except BaseException as error:
        if console is not None:
            os.close(console)
        if isinstance(error, TimeoutError):
            os.kill(pid, signal.SIGKILL)  # and no waiting for it: what is frozen dies later
            raise Conflict(
                "unable to start container process",
                f"it did not come to run in {PATIENCE_S:.0f} s",
                "A process of the container may have stopped it, or the container was paused: try again.",
            ) from error
        joining.end(pid)
        raise
    return Process(pid, console)
