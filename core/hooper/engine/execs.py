"""Further processes in running containers."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import anyio
import msgspec

from hooper.api import oci
from hooper.api.detach_keys import parse as parse_detach_keys
from hooper.api.engine import ExecCreate
from hooper.api.errors import Conflict, NotFound, StartFailed
from hooper.api.model import Container, Exec
from hooper.engine import spec
from hooper.engine.core import Core
from hooper.engine.launch import Live
from hooper.engine.lifecycle import Lifecycle
from hooper.engine.merge import merged_env
from hooper.engine.names import new_id
from hooper.linux.apparmor import UNCONFINED
from hooper.runtime.protocol import Attach, ExecExited

REMEMBERED = 256
"""Execs that have ended: the oldest are forgotten first."""
RECORD = "exec."
"""Begins the names of the files, in a container's run directory, that tell the next daemon of running execs."""
KILLED = 137
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Exec)


class Execs:
    """They are remembered until their container is removed; those that have ended, until many others have."""

    def __init__(self, core: Core, lifecycle: Lifecycle) -> None:
        self._core, self._lifecycle = core, lifecycle
        self._execs: dict[str, Exec] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._ended: dict[str, anyio.Event] = {}
        self._finished: deque[str] = deque()
        lifecycle.execs = self

    def create(self, container: Container, request: ExecCreate) -> str:
        live = self._thawed(container)
        parse_detach_keys(request.detach_keys)
        # After the answer: the monitor would be woken up on the client's time.
        asyncio.get_running_loop().call_soon(live.monitor.expect_exec)
        made = Exec(
            id=new_id(),
            container_id=container.id,
            args=request.cmd,
            user=request.user or container.config.user,
            env=request.env,
            working_dir=request.working_dir,
            tty=request.tty,
            privileged=request.privileged,
            attach_stdin=request.attach_stdin,
            attach_stdout=request.attach_stdout,
            attach_stderr=request.attach_stderr,
            detach_keys=request.detach_keys,
        )
        self._execs[made.id] = made
        if request.console_size:
            self._sizes[made.id] = request.console_size
        self._core.emit(container, f"exec_create: {_shown(request.cmd)}", execID=made.id)
        return made.id

    def _thawed(self, container: Container) -> Live:
        """Conflict if nothing can run in the container."""
        live = self._lifecycle.running(container)
        if container.state.status == "paused":
            raise Conflict(
                f"Container {container.name} is paused", "", "Unpause the container before exec: nothing runs in it."
            )
        return live

    def get(self, exec_id: str) -> Exec:
        found = self._execs.get(exec_id)
        if found is None:
            raise NotFound(f"No such exec instance: {exec_id}")
        return found

    async def start(
        self, exec_id: str, connection: socket.socket | None, received: bytes, size: tuple[int, int] | None
    ) -> None:
        process = self.get(exec_id)
        if process.running or process.exit_code is not None:
            raise Conflict(f"exec {exec_id} has already run", remedy="Make another one.")
        container = self._core.store.get(process.container_id)
        live = self._thawed(container)
        attach = None
        if connection is not None:
            attach = Attach(
                stdin=process.attach_stdin,
                stdout=process.attach_stdout,
                stderr=process.attach_stderr,
                detach_keys=parse_detach_keys(process.detach_keys),
                received=received,
                exec_id=exec_id,
                follows_head=True,
            )
        self._core.emit(container, f"exec_start: {_shown(process.args)}", execID=exec_id)
        process.running = True
        self._write(process)
        try:
            process.pid = await live.monitor.exec(
                exec_id,
                self._process(container, process, size or self._sizes.get(exec_id)),
                attach,
                connection.fileno() if connection is not None else None,
                stdin=process.attach_stdin,
            )
        except BaseException as error:
            self._finish(process, 127 if isinstance(error, StartFailed) and error.exit_code == 127 else 126)
            raise
        if connection is not None:
            connection.close()

    def _process(self, container: Container, process: Exec, size: tuple[int, int] | None) -> oci.Process:
        host = container.host_config
        caps = spec.capability_set(host)
        if process.privileged:
            from hooper.linux import capabilities

            caps = list(capabilities.available())
        env, profile = spec.environment(container), container.apparmor_profile
        if process.tty and not any(item.startswith("TERM=") for item in env):
            env.append("TERM=xterm")
        return oci.Process(
            args=process.args,
            cwd=process.working_dir or container.config.working_dir or "/",
            env=merged_env(env, process.env),
            terminal=process.tty,
            console_size=spec.console(size),
            user=oci.User(username=process.user or container.config.user, group_names=host.group_add or []),
            capabilities=oci.Capabilities(bounding=caps, effective=caps, permitted=caps),
            rlimits=[spec.rlimit(limit) for limit in host.ulimits or ()],
            no_new_privileges="no-new-privileges" in spec.security_options(host),
            apparmor_profile=UNCONFINED if process.privileged and profile else profile,
        )

    async def resize(self, exec_id: str, height: int, width: int) -> None:
        process = self.get(exec_id)
        live = self._lifecycle.running(self._core.store.get(process.container_id))
        await live.monitor.resize(height, width, exec_id)

    def exited(self, exited: ExecExited) -> None:
        """Takes a monitor's report; one that is told again changes nothing."""
        process = self._execs.get(exited.exec_id)
        if process is None or not process.running:
            return
        self._finish(process, exited.exit_code)
        container = self._core.store.by_id(process.container_id)
        if container:
            self._core.emit(container, "exec_die", execID=exited.exec_id, exitCode=str(exited.exit_code))

    def _finish(self, process: Exec, exit_code: int) -> None:
        process.running, process.exit_code, process.pid = False, exit_code, 0
        self._unlink(process)
        if event := self._ended.get(process.id):
            event.set()
        if process.probe:
            if event is None:  # an earlier daemon's: nobody waits for it
                self.drop(process.id)
            return
        self._finished.append(process.id)
        while len(self._finished) > REMEMBERED:
            self.drop(self._finished.popleft())

    # --- what a health check needs ---

    def add_probe(self, container: Container, command: list[str]) -> Exec:
        """An exec with the container's own user and directory, for `start`; `drop` it in the end."""
        made = Exec(
            id=new_id(), container_id=container.id, args=command, attach_stdout=True, attach_stderr=True, probe=True
        )
        self._execs[made.id] = made
        self._ended[made.id] = anyio.Event()
        self._core.emit(container, f"exec_create: {_shown(command)}", execID=made.id)
        return made

    def ended(self, exec_id: str) -> anyio.Event:
        """Set when the probe has ended and its exit code is known."""
        return self._ended[exec_id]

    def drop(self, exec_id: str) -> None:
        """Forgets it, whatever it is at."""
        if process := self._execs.pop(exec_id, None):
            self._unlink(process)
        self._sizes.pop(exec_id, None)
        self._ended.pop(exec_id, None)

    # --- across daemons ---

    def _write(self, process: Exec) -> None:
        try:
            self._record(process).write_bytes(_encoder.encode(process))
        except OSError as error:
            # Only a daemon that takes over would miss it.
            self._core.log.warning("no record of an exec", exec=process.id, error=str(error))

    def _unlink(self, process: Exec) -> None:
        self._record(process).unlink(missing_ok=True)

    def _record(self, process: Exec) -> Path:
        return self._core.run_dir(process.container_id) / f"{RECORD}{process.id}"

    def recover(self, container: Container, running: Mapping[str, int]) -> list[Exec]:
        """Takes over what an earlier daemon started, and returns it. `running` are the pids of those that still run."""
        found = []
        for file in self._core.run_dir(container.id).glob(f"{RECORD}*"):
            try:
                process = _decoder.decode(file.read_bytes())
            except msgspec.DecodeError:
                file.unlink()  # half-written: it was not started yet
                continue
            process.pid = running.get(process.id, 0)
            self._execs[process.id] = process
            found.append(process)
        return found

    def container_ended(self, container_id: str, codes: Mapping[str, int]) -> None:
        """No exec outlives its container. `codes` are the exit codes that are known."""
        for process in [e for e in self._execs.values() if e.container_id == container_id and e.running]:
            self.exited(ExecExited(exec_id=process.id, exit_code=codes.get(process.id, KILLED), time_ns=time.time_ns()))

    def forget(self, container_id: str) -> None:
        """Drops the execs of a container that is removed."""
        for exec_id in [e.id for e in self._execs.values() if e.container_id == container_id]:
            self.drop(exec_id)

    def ids(self, container_id: str) -> list[str]:
        """The execs that run."""
        return [e.id for e in self._execs.values() if e.container_id == container_id and e.running]


def _shown(words: list[str]) -> str:
    """As dockerd has a command in an event: also one without arguments ends in a space."""
    return f"{words[0]} {' '.join(words[1:])}"
