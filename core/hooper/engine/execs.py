"""Further processes in running containers."""

from __future__ import annotations

import socket

from hooper.api import oci
from hooper.api.engine import ExecCreate
from hooper.api.errors import Conflict, NotFound, StartFailed
from hooper.api.model import Container, Exec
from hooper.engine import spec
from hooper.engine.core import Core
from hooper.engine.detach_keys import parse as parse_detach_keys
from hooper.engine.lifecycle import Lifecycle
from hooper.engine.merge import merged_env
from hooper.engine.names import new_id
from hooper.runtime.protocol import Attach, ExecExited


class Execs:
    """They are remembered until their container is removed or the daemon ends."""

    def __init__(self, core: Core, lifecycle: Lifecycle) -> None:
        self._core, self._lifecycle = core, lifecycle
        self._execs: dict[str, Exec] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        lifecycle.on_exec_exit = self._exited

    def create(self, container: Container, request: ExecCreate) -> str:
        self._lifecycle.running(container)
        if container.state.status == "paused":
            raise Conflict(
                f"container {container.name} is paused", "nothing runs in it", "Unpause the container before exec."
            )
        made = Exec(
            id=new_id(),
            container_id=container.id,
            args=request.cmd,
            user=request.user,
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
        self._core.emit(container, f"exec_create: {' '.join(request.cmd)}", execID=made.id)
        return made.id

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
        live = self._lifecycle.running(container)
        attach = None
        if connection is not None:
            attach = Attach(
                stdin=process.attach_stdin,
                stdout=process.attach_stdout,
                stderr=process.attach_stderr,
                detach_keys=parse_detach_keys(process.detach_keys),
                received=received,
                exec_id=exec_id,
            )
        self._core.emit(container, f"exec_start: {' '.join(process.args)}", execID=exec_id)
        process.running = True
        try:
            process.pid = await live.monitor.exec(
                exec_id,
                self._process(container, process, size or self._sizes.get(exec_id)),
                attach,
                connection.fileno() if connection is not None else None,
                stdin=process.attach_stdin,
            )
        except BaseException as error:
            process.running = False
            process.exit_code = error.exit_code if isinstance(error, StartFailed) else 126
            raise
        if connection is not None:
            connection.close()

    def _process(self, container: Container, process: Exec, size: tuple[int, int] | None) -> oci.Process:
        host = container.host_config
        caps = spec.capability_set(host)
        if process.privileged:
            from hooper.linux import capabilities

            caps = list(capabilities.available())
        env = spec.environment(container)
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
        )

    async def resize(self, exec_id: str, height: int, width: int) -> None:
        process = self.get(exec_id)
        live = self._lifecycle.running(self._core.store.get(process.container_id))
        await live.monitor.resize(height, width, exec_id)

    def _exited(self, exited: ExecExited) -> None:
        process = self._execs.get(exited.exec_id)
        if process is None:
            return
        process.running, process.exit_code, process.pid = False, exited.exit_code, 0
        container = self._core.store.by_id(process.container_id)
        if container:
            self._core.emit(container, "exec_die", execID=exited.exec_id, exitCode=str(exited.exit_code))

    def forget(self, container_id: str) -> None:
        """Drops the execs of a container that is removed."""
        for exec_id in [e.id for e in self._execs.values() if e.container_id == container_id]:
            del self._execs[exec_id]
            self._sizes.pop(exec_id, None)

    def ids(self, container_id: str) -> list[str]:
        """The execs that run."""
        return [e.id for e in self._execs.values() if e.container_id == container_id and e.running]
