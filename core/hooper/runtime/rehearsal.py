"""Lets the launcher live through some monitors' lives before the first real one.

The interpreter (3.11 and later, PEP 659) rewrites code that has run a few times: names become places, and to look
something up no longer touches the name's own reference count. A monitor forked from a launcher whose code has run so
copies about half of the pages that it would copy otherwise, which makes it smaller for its whole life, and quicker.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from hooper.api import oci
from hooper.api.errors import Internal
from hooper.api.isolation import GATE_READY, Attempt, Bundle, IsolationBackend, Outline, Process, Stats, Stdio
from hooper.api.logs import LogDriver, LogTarget
from hooper.linux import syscalls
from hooper.runtime import heap, monitor, wire
from hooper.runtime import protocol as p
from hooper.runtime.forking import descriptors

LIVES = 10
"""A function is rewritten after eight calls, and specialised when it then runs; some run once a life."""
_PATIENCE_S = 5
_OUTPUT = b"a line\n"

_COMM = Path("/proc/self/comm")

_heard = wire.decoder(p.FromMonitor)


def rehearse_backend(backend: IsolationBackend) -> None:
    """Goes through what the backend will do in monitors. Any error is the backend's."""
    heap.gather(backend.rehearse)
    for _ in range(LIVES):
        backend.rehearse()


def rehearse(directory: Path, log_drivers: Mapping[str, LogDriver], log_driver: str) -> None:
    """Runs whole lives of containers that are nothing but forks of this process, and leaves no trace of them.

    `directory` is made and removed; `log_driver` is the one to run along, "" for none. Must be called while this
    process has a single thread and ignores SIGCHLD.
    """
    before, name = descriptors(), _COMM.read_text().strip()
    directory.mkdir(mode=0o700)
    try:
        pairs = [wire.pair() for _ in range(LIVES + 1)]
        if os.fork() == 0:
            _play_daemon(pairs)
        for ours, _ in pairs:
            ours.close()
        first, *others = [partial(_live, theirs, directory, log_drivers, log_driver) for _, theirs in pairs]
        heap.gather(first)
        for life in others:
            life()
    finally:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 0)
        wire.name_process(name)
        wire.close_all(sorted(descriptors() - before))
        _remove(directory)


def _remove(directory: Path) -> None:
    """It has no directories below; shutil would bring every compression there is into the launcher."""
    for name in os.listdir(directory):
        os.unlink(directory / name)
    directory.rmdir()


def _live(daemon: socket.socket, directory: Path, log_drivers: Mapping[str, LogDriver], log_driver: str) -> None:
    client, attached = socket.socketpair()
    data = wire.encode(_spawn(directory, log_driver))
    monitor.main(daemon, data, [attached.detach()], {_Player.__name__: _Player("", None)}, log_drivers)
    client.close()


def _spawn(directory: Path, log_driver: str) -> p.Spawn:
    spec = oci.Spec(oci_version="1.0.2", process=oci.Process(args=["rehearsal"]), root=oci.Root(path="/"))
    bundle = Bundle(id="rehearsal", directory=directory, spec=spec, rootfs=())
    target = LogTarget(container_id=bundle.id, container_name=bundle.id, image="", directory=directory)
    return p.Spawn(
        container_id=bundle.id,
        directory=str(directory),
        bundle=wire.pack(bundle),
        outline=Outline(bundle.id),
        backend=_Player.__name__,
        netns="host",
        log_driver=log_driver,
        log=target,
        attached=[p.Attach(stdout=True, stderr=True)],
    )


# --- who plays the others ---


def _live_as_container(stdio: Stdio, gate: int) -> NoReturn:
    try:
        signal.alarm(_PATIENCE_S)
        os.write(gate, GATE_READY)
        if os.read(gate, 16):
            os.write(stdio.stdout or 1, _OUTPUT)
            os.close(gate)
            while True:
                signal.pause()
    finally:
        os._exit(1)


def _play_daemon(pairs: Sequence[tuple[socket.socket, socket.socket]]) -> NoReturn:
    """Starts each container, runs an exec in it, ends it."""
    try:
        for _, theirs in pairs:
            theirs.close()
        for ours, _ in pairs:
            signal.alarm(_PATIENCE_S)
            _play(ours)
            ours.close()
    finally:
        os._exit(0)


def _play(end: socket.socket) -> None:
    _say(end, p.Start(id=1), p.Started)
    process = oci.Process(args=["rehearsal"])
    client, other = socket.socketpair()
    attach = p.Attach(stdout=True, exec_id="exec")
    execute = p.StartExec(id=2, exec_id="exec", process=process, attach=attach)
    _say(end, execute, p.ExecExited, [other.fileno()])
    _say(end, p.GetStats(id=3), p.StatsAnswer)
    _say(end, p.Signal(id=4, signal=signal.SIGKILL), p.Exited)
    wire.send(end, wire.encode(p.Release()))
    client.close()
    other.close()


def _say(end: socket.socket, message: p.Message, until: type[p.Message], fds: Sequence[int] = ()) -> None:
    wire.send(end, wire.encode(message), fds)
    while received := wire.receive(end):
        if isinstance(_heard.decode(received[0]), until):
            return


class _Attempt:
    """`hooper.api.isolation.Attempt`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def complete(self) -> None:
        """Nothing is known late."""

    def succeeded(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing was taken."""


class _Player(IsolationBackend):
    """Its containers are forks that wait for their end."""

    def attempt(self, outline: Outline, stdio: Stdio, netns: int | None, gate: int) -> Attempt | None:
        pid = os.fork()
        if pid == 0:
            _live_as_container(stdio, gate)
        return _Attempt(pid)

    def exec(self, bundle: Bundle, process: oci.Process, stdio: Stdio, init_pid: int) -> Process:
        pid = os.fork()
        if pid == 0:
            os.write(stdio.stdout or 1, _OUTPUT)
            os._exit(0)
        return Process(pid)

    def create(self, bundle: Bundle, stdio: Stdio) -> Process:
        raise Internal("rehearsing", "its containers make themselves")

    def start(self, bundle: Bundle, process: Process) -> None:
        raise Internal("rehearsing", "its containers make themselves")

    def pause(self, bundle: Bundle) -> None:
        """Nothing is frozen."""

    def resume(self, bundle: Bundle) -> None:
        """Nothing was frozen."""

    def update(self, bundle: Bundle, resources: oci.Resources) -> None:
        """There are no limits."""

    def stats(self, bundle: Bundle) -> Stats:
        return Stats()

    def processes(self, bundle: Bundle) -> list[int]:
        return []

    def delete(self, bundle: Bundle) -> None:
        """There is nothing."""
