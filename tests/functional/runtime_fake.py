"""An isolation backend that isolates nothing: fork and exec, held back by a pipe until `start`."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import termios
import time
from pathlib import Path
from typing import NoReturn

import msgspec

from hooper.api import oci
from hooper.api.errors import StartFailed
from hooper.api.isolation import GATE_READY, Attempt, Bundle, Gate, IsolationBackend, Outline, Process, Stats, Stdio


class FakeConfig(msgspec.Struct):
    memory: int = 0


class Draft(msgspec.Struct):
    directory: str
    hostname: str
    args: list[str]


def draft_of(bundle: Bundle) -> bytes:
    return msgspec.json.encode(Draft(str(bundle.directory), bundle.spec.hostname, bundle.spec.process.args))


class FakeBackend(IsolationBackend):
    """Leaves marks in the bundle directory: `fake-created`, `fake-deleted`, `fake-expected-PID` (an exec)."""

    def __init__(self, name: str, config: object) -> None:
        super().__init__(name, config)
        self._gates: dict[str, int] = {}

    def create(self, bundle: Bundle, stdio: Stdio) -> Process:
        if bundle.spec.hostname == "fail-create":
            raise StartFailed("cannot create", "asked to fail", exit_code=125)
        (bundle.directory / "fake-created").touch()
        gate_read, self._gates[bundle.id] = os.pipe2(os.O_CLOEXEC)
        return self._fork(bundle.spec.process, stdio, gate_read)

    def start(self, bundle: Bundle, process: Process) -> None:
        if bundle.spec.process.args[0] == "/missing":
            os.kill(process.pid, signal.SIGKILL)
            raise StartFailed("start", 'exec: "/missing": no such file or directory', exit_code=127)
        os.write(self._gates[bundle.id], b"x")
        os.close(self._gates.pop(bundle.id))
        command = Path(f"/proc/{process.pid}/cmdline")
        while b"hooper.runtime.launcher" in command.read_bytes():
            time.sleep(0.001)

    def exec(self, bundle: Bundle, process: oci.Process, stdio: Stdio, init_pid: int) -> Process:
        if process.args[0] == "/missing":
            raise StartFailed("exec", "no such file", exit_code=127)
        return self._fork(process, stdio, None)

    def expect_exec(self, bundle: Bundle, init_pid: int) -> None:
        (bundle.directory / f"fake-expected-{init_pid}").touch()

    def forget_exec(self, bundle: Bundle) -> None:
        for mark in bundle.directory.glob("fake-expected-*"):
            mark.unlink()

    def pause(self, bundle: Bundle) -> None:
        (bundle.directory / "fake-paused").touch()

    def resume(self, bundle: Bundle) -> None:
        (bundle.directory / "fake-paused").unlink()

    def update(self, bundle: Bundle, resources: oci.Resources) -> None:
        raise ValueError("a bug in a backend")

    def stats(self, bundle: Bundle) -> Stats:
        memory = self.config.memory if isinstance(self.config, FakeConfig) else 0
        return Stats(memory_usage=memory, oom_kills=0)

    def processes(self, bundle: Bundle) -> list[int]:
        return [os.getpid()]

    def delete(self, bundle: Bundle) -> None:
        (bundle.directory / "fake-deleted").touch()

    def _fork(self, process: oci.Process, stdio: Stdio, gate: int | None) -> Process:
        master = slave = -1
        if stdio.terminal:
            master, slave = pty.openpty()
            stdio = Stdio(slave, slave, slave)
        pid = os.fork()
        if pid == 0:
            self._child(process, stdio, gate, slave >= 0)
        if gate is not None:
            os.close(gate)
        if slave >= 0:
            os.close(slave)
        return Process(pid, master if master >= 0 else None)

    def _child(self, process: oci.Process, stdio: Stdio, gate: int | None, terminal: bool) -> None:
        try:
            os.setsid()
            if gate is not None:
                os.close(max(self._gates.values()))
                if not os.read(gate, 1):
                    os._exit(1)
            for number, fd in enumerate((stdio.stdin, stdio.stdout, stdio.stderr)):
                assert fd is not None
                os.dup2(fd, number)
            if terminal:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            os.execvpe(process.args[0], process.args, {"PATH": "/usr/bin:/bin"})
        finally:
            os._exit(127)


class FakeWithin(FakeBackend):
    """The same, but its containers make themselves."""

    def fork(self, outline: Outline) -> int | None:
        """The monitor of a container whose id begins with "early" is slower than its first process."""
        pid = os.fork()
        if pid and outline.id.startswith("early"):
            time.sleep(0.2)
        return pid

    def become(self, bundle: Bundle, stdio: Stdio, gate: Gate) -> NoReturn:
        if bundle.spec.hostname == "fail-create":
            raise StartFailed("cannot create", "asked to fail", exit_code=125)
        (bundle.directory / "fake-created").touch()
        os.setsid()
        master = None
        if stdio.terminal:
            master, slave = pty.openpty()
            stdio = Stdio(slave, slave, slave)
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        gate.ready(master)
        if master is not None:
            os.close(master)
        for number, fd in enumerate((stdio.stdin, stdio.stdout, stdio.stderr)):
            assert fd is not None
            os.dup2(fd, number)
        if bundle.spec.process.args[0] == "/missing":
            raise StartFailed("start", 'exec: "/missing": no such file or directory', exit_code=127)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvpe(bundle.spec.process.args[0], bundle.spec.process.args, {"PATH": "/usr/bin:/bin"})


class FakeAttempt(FakeWithin):
    """The same, but it has a quick way for those without a terminal, which fails where the slow one does."""

    def attempt(self, outline: Outline, stdio: Stdio, netns: int | None, gate: int) -> Attempt | None:
        draft = msgspec.json.decode(outline.draft, type=Draft)
        if stdio.terminal:
            return None
        report, theirs = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                self.live(draft, stdio, gate)
            finally:
                os.write(theirs, b"failed")
                os._exit(1)
        os.close(theirs)
        return _Attempt(pid, report, self.may_complete)

    may_complete = True

    def live(self, draft: Draft, stdio: Stdio, gate: int) -> None:
        if draft.hostname == "fail-create":
            return
        (Path(draft.directory) / "fake-created").touch()
        os.closerange(3, min(fd for fd in (gate, stdio.stdin, stdio.stdout, stdio.stderr) if fd is not None))
        os.setsid()
        os.write(gate, GATE_READY)
        if not os.read(gate, 16):
            return
        for number, fd in enumerate((stdio.stdin, stdio.stdout, stdio.stderr)):
            assert fd is not None
            os.dup2(fd, number)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvpe(draft.args[0], draft.args, {"PATH": "/usr/bin:/bin"})


class FailsEarly(FakeAttempt):
    """Its quick way ends before all is made."""

    def live(self, draft: Draft, stdio: Stdio, gate: int) -> None:
        return


class FailsToComplete(FakeAttempt):
    """What is known late does not fit."""

    may_complete = False


class FailsLate(FakeAttempt):
    """Its quick way does not find the program."""

    def live(self, draft: Draft, stdio: Stdio, gate: int) -> None:
        super().live(msgspec.structs.replace(draft, args=["/missing"]), stdio, gate)


class _Attempt:
    def __init__(self, pid: int, report: int, may_complete: bool) -> None:
        self.pid, self._report, self._may_complete = pid, report, may_complete

    def complete(self) -> None:
        if not self._may_complete:
            raise ValueError("asked to fail")

    def succeeded(self) -> bool:
        return not os.read(self._report, 16)

    def close(self) -> None:
        os.close(self._report)
