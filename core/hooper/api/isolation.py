"""Isolation backends: how the processes of a container are made and held apart.

A backend runs *in the container's monitor*, a single-threaded process that was forked from the
launcher and outlives the daemon. Its methods are therefore plain functions that may block for a
moment; the launcher imported its module beforehand, so they must import nothing. The monitor
is a child subreaper: it reaps every process whose pid a method returned. It may have further containers,
one after the other, of any backend: after `delete` the process is as it was before.

The engine describes the container as an OCI runtime spec (`hooper.api.oci`) plus the mounts of its
root file system; the network namespace exists before `create`.
(After the OCI runtime CLI: create, start, state, kill, delete.)
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NoReturn, Protocol

import msgspec

from hooper.api import oci
from hooper.api.driver import HostInfo
from hooper.api.errors import HooperError
from hooper.api.storage import Mount


class Bundle(msgspec.Struct):
    """A container as a backend sees it.

    `directory` is volatile, the container's own, and the backend may keep files in it (their names
    begin with the backend's). `spec.root.path` is the empty directory `directory/rootfs`, on which the
    backend makes the `rootfs` mounts, in a mount namespace of the monitor's or the container's.
    `netns` is a descriptor of the network namespace to enter, None to stay in the host's.
    """

    id: str
    directory: Path
    spec: oci.Spec
    rootfs: tuple[Mount, ...]
    netns: int | None = None
    init: bool = False
    """Run a small init as pid 1 that forwards signals and reaps (docker run --init)."""


class Outline(msgspec.Struct):
    """What of a container has to be known before its first process exists."""

    id: str
    cgroups_path: str = ""
    """As in the spec."""
    namespaces: dict[str, str] = {}
    """Those of the spec that a process is born into, `pid` and `user`: their path, or "" for a new one."""
    draft: bytes = b""
    """What `outline` has prepared for `attempt`, in the backend's own form; empty for nothing."""


class Gate(Protocol):
    """How a process that makes its own container speaks with the monitor."""

    def fileno(self) -> int:
        """The descriptor to keep open until the program is executed, which closes it: that tells the monitor."""

    def ready(self, console: int | None) -> None:
        """All is made, with this master of its pty: returns when the program may be executed.

        Ends the process if that is not to happen.
        """

    def fail(self, error: HooperError) -> None:
        """Tells why the program is not executed; the process is to end then with the error's exit code."""


GATE_READY = b"ready"
"""What the process of an `Attempt` sends on its gate when all is made; then it waits for a message."""


class Attempt(Protocol):
    """A container that is being made by a process of its own, which `IsolationBackend.attempt` has begun.

    The process speaks with the monitor through its gate: it sends GATE_READY, waits for a message, and executes the
    program, which closes the gate. It ends without having done so if anything goes wrong, or the gate is closed.
    """

    @property
    def pid(self) -> int:
        """The container's first process. The monitor waits for it."""

    def complete(self) -> None:
        """Called between GATE_READY and the message: what had to be known of the container that was made.

        Any error means that the attempt has failed; the process is ended.
        """

    def succeeded(self) -> bool:
        """Asked once the gate is closed: whether the program was executed."""

    def close(self) -> None:
        """Gives back what the attempt took of the monitor; the process has ended or executed its program."""


class Stdio(msgspec.Struct):
    """The descriptors that become 0, 1 and 2 of a process. The monitor closes its copies.

    With a `terminal` all three are None: the backend makes a pty in the container's own devpts, with
    the slave as controlling terminal, and returns its master.
    """

    stdin: int | None = None
    stdout: int | None = None
    stderr: int | None = None
    terminal: bool = False


class Process(msgspec.Struct):
    """A process that a backend made. The monitor waits for `pid`, in the host's pid namespace."""

    pid: int
    console: int | None = None
    """Master of its pty; the monitor owns it from now on."""


class Stats(msgspec.Struct):
    """Counters and gauges of a container's cgroups; nanoseconds and bytes. None: not known."""

    cpu_usage: int = 0
    cpu_user: int = 0
    cpu_system: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0
    periods: int = 0
    memory_usage: int = 0
    memory_limit: int | None = None
    memory_stat: dict[str, int] = {}
    oom_kills: int = 0
    pids: int = 0
    pids_limit: int | None = None
    block_io: list[tuple[int, int, str, int]] = []
    """(major, minor, "read" or "write", bytes)"""
    block_operations: list[tuple[int, int, str, int]] | None = None
    """The same, counting requests; cgroup v1 alone."""
    cpu_each: list[int] | None = None
    """`cpu_usage` by CPU; cgroup v1 alone."""
    memory_peak: int | None = None
    """The highest `memory_usage`; cgroup v1 alone."""


class IsolationBackend(ABC):
    """One instance serves all containers of a launcher; it keeps no state about them in memory
    other than between `create` and `start`, or `fork` and `become`, of the same container."""

    def __init__(self, name: str, config: Any) -> None:
        self.name, self.config = name, config

    def probe(self, host: HostInfo) -> None:
        """Runs in the daemon. Raises SkipDriver with the reason if this host cannot run it."""

    def preload(self, host: HostInfo) -> None:
        """Runs once in the launcher: imports and computes what `create` and `exec` will need."""

    def rehearse(self) -> None:
        """Runs several times in the launcher, after `preload`: goes through what monitors will do for most containers,
        and leaves no trace. The interpreter adapts code that has run a few times, and writes less to it then: monitors
        are smaller and quicker for that. An error costs nothing but this. The default does nothing."""

    def outline(self, bundle: Bundle) -> Outline:
        """Runs in the daemon, on a bundle that has no `netns` yet. A backend that has a quick way to make such a
        container prepares its `draft`."""
        linux = bundle.spec.linux
        born = {each.type: each.path for each in linux.namespaces if each.type in ("pid", "user")}
        return Outline(bundle.id, linux.cgroups_path, born)

    def attempt(self, outline: Outline, stdio: Stdio, netns: int | None, gate: int) -> Attempt | None:
        """Begins to make the container the quick way, from the outline alone; `gate` is the process's end of it.

        None, the default: there is none for such a container, on this host, or just now. An attempt that fails, for
        whatever reason, tells nobody why: the monitor ends its process, and makes the container with `fork`, or
        `create`, which meets the same reason, or finds a way. It leaves behind nothing that would stand in theirs.
        """
        return None

    def fork(self, outline: Outline) -> int | None:
        """Forks the first process of a container that is to make itself: as os.fork(), the pid, and 0 in the process.

        None, the default: `create` and `start` are to make the container. Otherwise they are not called; the process
        goes on with `become`, and the monitor, which never sees the bundle unless it is needed later, stays small.
        """
        return None

    def become(self, bundle: Bundle, stdio: Stdio, gate: Gate) -> NoReturn:
        """In the process that `fork` made: makes all that `create` does, passes the `gate`, executes the program.

        Raises what `create` and `start` raise; `delete` follows then.
        """
        raise NotImplementedError(f"{type(self).__name__} has a fork and no become")

    @abstractmethod
    def create(self, bundle: Bundle, stdio: Stdio) -> Process:
        """Makes namespaces, cgroups, mounts and the first process, which waits for `start`.

        Raises StartFailed or another HooperError and leaves nothing behind if it cannot.
        """

    @abstractmethod
    def start(self, bundle: Bundle, process: Process) -> None:
        """Lets the first process execute its program, and returns when it has.

        StartFailed says in `why` what execve said, in Docker's words: `exec: "x": executable
        file not found in $PATH` (127), `exec: "x": permission denied` (126), `exec: "/x":
        stat /x: no such file or directory` (127). The process is gone then; `delete` follows.
        """

    @abstractmethod
    def exec(self, bundle: Bundle, process: oci.Process, stdio: Stdio, init_pid: int) -> Process:
        """Runs one more process in the running container; returns when it has been executed.

        Errors as `start`.
        """

    def expect_exec(self, bundle: Bundle, init_pid: int) -> None:
        """`exec` will be called within moments: a backend may get a process ready for it. The default does nothing.

        What goes wrong is not told here: `exec` meets it again. `forget_exec` follows if no exec does.
        """

    def forget_exec(self, bundle: Bundle) -> None:
        """Removes what `expect_exec` got ready. Harmless if there is nothing, or `exec` took it."""

    def signal(self, bundle: Bundle, pid: int, signal: int) -> None:
        """Sends a signal to a process that `create` or `exec` returned. A process that is gone is no
        error. The default is kill(2)."""
        try:
            os.kill(pid, signal)
        except ProcessLookupError:
            pass

    @abstractmethod
    def pause(self, bundle: Bundle) -> None:
        """Freezes all processes; returns when they are."""

    @abstractmethod
    def resume(self, bundle: Bundle) -> None: ...

    @abstractmethod
    def update(self, bundle: Bundle, resources: oci.Resources) -> None:
        """Applies the limits that are set in `resources`, and leaves the others."""

    @abstractmethod
    def stats(self, bundle: Bundle) -> Stats: ...

    @abstractmethod
    def processes(self, bundle: Bundle) -> list[int]:
        """The pids, in the host's pid namespace, of all processes of the container."""

    def oom_killed(self, bundle: Bundle) -> bool:
        """The kernel killed a process of the container for memory. Asked before `delete`."""
        return self.stats(bundle).oom_kills > 0

    @abstractmethod
    def delete(self, bundle: Bundle) -> None:
        """Kills what still runs and removes cgroups and whatever `create` made outside `directory`.

        Harmless if there is nothing. Also called for a container of an earlier monitor that died.
        """
