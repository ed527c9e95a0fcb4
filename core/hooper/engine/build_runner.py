"""Runs a build's commands in containers that no list shows."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Awaitable, Callable, Sequence

import anyio
import msgspec

from hooper.api.builder import BuildRequest, RunStep
from hooper.api.model import Container, ContainerConfig, EndpointSettings, HostConfig, ImageConfig
from hooper.api.network import SandboxMode
from hooper.api.storage import Mount
from hooper.engine.clock import rfc3339
from hooper.engine.core import Core
from hooper.engine.frames import frames
from hooper.engine.init_layer import InitLayers
from hooper.engine.launch import Starter
from hooper.engine.names import new_id
from hooper.runtime.protocol import Attach, Exited

Output = Callable[[str, bytes], Awaitable[None]]


class BuildRunner:
    def __init__(self, core: Core, init_layers: InitLayers) -> None:
        self._core, self._init_layers = core, init_layers
        self._starter = Starter(core)

    async def init_layer(self, chain: str) -> str:
        """The committed snapshot to prepare a step's own on: the image plus the engine's mount points."""
        return await self._init_layers.parent(chain)

    async def run_step(
        self,
        mounts: Sequence[Mount],
        step: RunStep,
        image_config: ImageConfig,
        *,
        network_mode: str,
        request: BuildRequest,
        output: Output,
    ) -> int:
        """Runs the command on those mounts until it ends and returns its exit code.

        Cancelling kills it. Nothing of the container is left in either case.
        """
        container = self._container(step, image_config, network_mode, request)
        ours, theirs = socket.socketpair()
        self._core.data_dir(container.id).mkdir(mode=0o710, parents=True)
        try:
            exited = await self._run(container, mounts, ours, theirs, output)
        finally:
            ours.close()
            theirs.close()
            with anyio.CancelScope(shield=True):
                await self._core.networks.leave(container.id, None)
                self._core.networks.release(container.id)
            self._starter.clean(container.id)
            shutil.rmtree(self._core.data_dir(container.id), ignore_errors=True)
        return exited.exit_code

    async def _run(
        self, container: Container, mounts: Sequence[Mount], ours: socket.socket, theirs: socket.socket, output: Output
    ) -> Exited:
        attached = [(Attach(stdout=True, stderr=True), theirs)]
        live, _ = await self._starter.launch(container, attached, {}, rootfs=mounts)
        theirs.close()
        ended = anyio.Event()
        result: list[Exited] = []

        def record(exited: Exited) -> None:
            result.append(exited)
            ended.set()

        live.monitor.on_exit(record)
        live.monitor.on_lost(ended.set)
        try:
            async for stream, data in frames(ours):
                await output(stream, data)
            await ended.wait()
        except BaseException:
            with anyio.CancelScope(shield=True), anyio.move_on_after(10):
                await live.monitor.signal(9)
                await ended.wait()
            raise
        finally:
            live.monitor.release()
        return result[0] if result else Exited(exit_code=255, oom_killed=False, time_ns=0)

    def _container(
        self, step: RunStep, image_config: ImageConfig, network_mode: str, request: BuildRequest
    ) -> Container:
        container_id = new_id()
        mode = network_mode if network_mode not in ("", "default") else "bridge"
        config = ContainerConfig(
            **{
                **msgspec.structs.asdict(image_config),
                "env": list(step.env),
                "user": step.user,
                "working_dir": step.cwd,
            },
            hostname=step.hostname or container_id[:12],
            image="build",
        )
        host = HostConfig(
            network_mode=mode,
            extra_hosts=request.extra_hosts,
            memory=request.memory,
            cpu_shares=request.cpu_shares,
            cpu_quota=request.cpu_quota,
            cpu_period=request.cpu_period,
            cpuset_cpus=request.cpuset_cpus,
            shm_size=request.shm_size,
            ulimits=request.ulimits,
        )
        own = self._core.networks.sandbox_mode(mode) is SandboxMode.NEW
        return Container(
            id=container_id,
            name=f"build-{container_id[:12]}",
            created=rfc3339(),
            config=config,
            host_config=host,
            path=step.args[0],
            args=list(step.args[1:]),
            networks={self._core.networks.lookup(mode).name: EndpointSettings()} if own else {},
            runtime=self._core.default_runtime,
            log_driver="none",
        )
