"""Runs a build's commands in containers that no list shows and no event tells of."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import anyio

from hooper.api.build_graph import Node, Run
from hooper.api.build_session import BuildSession
from hooper.api.builder import BuildRequest
from hooper.api.errors import Forbidden, Internal, NotFound, Unavailable
from hooper.api.model import Container, ContainerConfig, EndpointSettings, HostConfig
from hooper.api.network import SandboxMode
from hooper.api.storage import Mount
from hooper.engine import spec, strays
from hooper.engine.checks import check_config, limited
from hooper.engine.clock import rfc3339
from hooper.engine.core import Core
from hooper.engine.frames import frames
from hooper.engine.init_layer import InitLayers
from hooper.engine.launch import Live, Starter
from hooper.engine.names import new_id
from hooper.runtime.protocol import Attach, Exited

if TYPE_CHECKING:
    from hooper.engine.build_files import Place
    from hooper.engine.cache_mounts import CacheMounts

Output = Callable[[int, bytes], Awaitable[None]]
"""Takes what a command writes: 1 (stdout) or 2 (stderr), and the bytes."""

HOSTNAME = "buildkitsandbox"
"""Of a command that names none: always the same, so that it makes no two results differ. The name is BuildKit's."""

_STREAMS = {"stdout": 1, "stderr": 2}
_KILLED_S = 10.0


class BuildRunner:
    """One an engine. `live` are the containers that run, whose network a step may share."""

    def __init__(self, core: Core, init_layers: InitLayers, live: dict[str, Live] | None = None) -> None:
        self._core, self._init_layers = core, init_layers
        self._live = {} if live is None else live
        self._starter = Starter(core, tells=False)

    @cached_property
    def caches(self) -> CacheMounts:
        """The directories of RUN --mount=type=cache. Made when they are first used."""
        from hooper.engine.cache_mounts import CacheMounts

        return CacheMounts(self._core.host.data_root / "builds" / "caches", self._core.workers)

    async def init_layer(self, chain: str) -> str:
        """The committed snapshot to prepare a step's own on: the image plus the engine's mount points."""
        return await self._init_layers.parent(chain)

    async def run_step(
        self,
        mounts: Sequence[Mount],
        run: Run,
        *,
        request: BuildRequest,
        session: BuildSession,
        sources: Mapping[Node, Place],
        output: Output,
        contents: Mapping[Node, str] | None = None,
    ) -> int:
        """Runs the command until it ends and returns its exit code (128 + n for signal n).

        `mounts` are those of the active snapshot that is its root file system; `sources` says of every node that
        `run.mounts` names where its files are. `contents` may give a digest of what each holds: cache mounts that
        begin with other content are then other directories. What is mounted leaves nothing in the snapshot.

        Cancelling kills the command; nothing of its container is left in either case. NotFound: a network, a secret
        or an agent that it requires. Forbidden: what `request.allow` does not name. InvalidArgument: a wrong option.
        StartFailed: the command cannot be executed.
        """
        container = await self._container(run, request)
        for warning in self._settle_limits(container):
            await output(2, f"WARNING: {warning}\n".encode())
        if not run.mounts:
            return await self._execute(container, mounts, output)
        from hooper.engine import build_mount_points
        from hooper.engine.build_mounts import RunMounts

        made = RunMounts(self._core, self._starter.sources.host, self.caches, container, session, sources, contents)
        places = build_mount_points.present
        async with made.ready(run, output), places(self._core.workers, mounts, container.mounts):
            return await self._execute(container, mounts, output)

    async def _execute(self, container: Container, mounts: Sequence[Mount], output: Output) -> int:
        ours, theirs = socket.socketpair()
        self._core.data_dir(container.id).mkdir(mode=0o710, parents=True)
        try:
            exited = await self._run(container, mounts, ours, theirs, output)
        finally:
            ours.close()
            theirs.close()
            try:
                with anyio.CancelScope(shield=True):
                    # Not `leave`, which would tell of a container that nobody knows.
                    await self._core.networks.part(container.id)
                    self._core.networks.release(container.id)
            finally:
                self._starter.clean(container.id)
                shutil.rmtree(self._core.data_dir(container.id), ignore_errors=True)
        return exited.exit_code

    async def _run(
        self, container: Container, mounts: Sequence[Mount], ours: socket.socket, theirs: socket.socket, output: Output
    ) -> Exited:
        attached = [(Attach(stdout=True, stderr=True), theirs)]
        live, _ = await self._starter.launch(container, attached, self._live, rootfs=mounts)
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
                await output(_STREAMS[stream], data)
            await ended.wait()
        except BaseException:
            with anyio.CancelScope(shield=True), anyio.move_on_after(_KILLED_S), suppress(Unavailable):
                await live.monitor.signal(9)
                await ended.wait()
            raise
        finally:
            live.monitor.release()
            if not result:
                with anyio.CancelScope(shield=True):
                    await strays.destroy_remains(self._core, container)
        if not result:
            raise Internal(
                f'lost the command "{" ".join([container.path, *container.args])}"',
                "its monitor was killed",
                "Build again.",
            )
        return result[0]

    # --- the record -----------------------------------------------------------------------------------

    async def _container(self, run: Run, request: BuildRequest) -> Container:
        _check_allowed(run, request)
        container_id = new_id()
        host = self._host_config(run, request)
        mode = host.network_mode
        own = await self._sandbox_mode(mode) is SandboxMode.NEW
        container = Container(
            id=container_id,
            name=f"build-{container_id[:12]}",
            created=rfc3339(),
            config=ContainerConfig(
                env=environment(run),
                user=run.user,
                working_dir=run.cwd,
                hostname=run.hostname or HOSTNAME,
                image="build",
            ),
            host_config=host,
            path=run.args[0],
            args=list(run.args[1:]),
            networks={self._core.networks.lookup(mode).name: EndpointSettings()} if own else {},
            runtime=self._core.default_runtime,
            log_driver="none",
        )
        check_config(container)
        return container

    def _host_config(self, run: Run, request: BuildRequest) -> HostConfig:
        mode = run.network or request.network_mode
        # As Docker: on cgroup v1 a privileged container sees the host's cgroups.
        bare = run.insecure and self._core.host.cgroup_version == 1
        return HostConfig(
            network_mode="bridge" if mode in ("", "default") else mode,
            extra_hosts=[*request.extra_hosts, *_own_name(run, mode)],
            privileged=run.insecure,
            cgroupns_mode="host" if bare else "private",
            **_settings(request),
        )

    async def _sandbox_mode(self, mode: str) -> SandboxMode:
        networks = self._core.networks
        try:
            return networks.sandbox_mode(mode)
        except NotFound as error:
            there = ", ".join(sorted(network.name for network in await networks.list()))
            raise NotFound(
                f'network "{mode}"',
                "there is none of that name",
                f"There are: {there}. `hooper network create {mode}` makes it.",
            ) from error

    def _settle_limits(self, container: Container) -> list[str]:
        """Leaves limits away that this host cannot keep; says which."""
        if not limited(container.host_config):
            return []
        from hooper.engine import limits
        from hooper.linux.cgroup_abilities import abilities
        from hooper.linux.cgroups import layout

        container.host_config, warnings = limits.settled(container.host_config, abilities(layout()))
        return warnings


def check_settings(request: BuildRequest) -> None:
    """InvalidArgument for limits and options that no command could run with: a build without any would not notice."""
    host = HostConfig(extra_hosts=request.extra_hosts, **_settings(request))
    check_config(Container(id="", name="build", created="", config=ContainerConfig(), host_config=host))


def _settings(request: BuildRequest) -> dict[str, Any]:
    """What holds for all commands of a build."""
    return {
        "memory": request.memory,
        "memory_swap": request.memory_swap,
        "cpu_shares": request.cpu_shares,
        "cpu_quota": request.cpu_quota,
        "cpu_period": request.cpu_period,
        "cpuset_cpus": request.cpuset_cpus,
        "cpuset_mems": request.cpuset_mems,
        "cgroup_parent": request.cgroup_parent,
        "shm_size": request.shm_size or spec.DEFAULT_SHM_SIZE,
        "ulimits": request.ulimits,
        "security_opt": request.security_opt,
    }


def environment(run: Run) -> list[str]:
    """A command's variables; of the hidden ones those that have no other value."""
    given = {item.partition("=")[0] for item in run.env}
    return [*run.env, *(item for item in run.hidden_env if item.partition("=")[0] not in given)]


def _own_name(run: Run, mode: str) -> list[str]:
    """What finds a command's host name where no endpoint does: programs look it up (sudo, `hostname --fqdn`)."""
    return [f"{run.hostname or HOSTNAME}:127.0.0.1"] if mode in ("host", "none") else []


def _check_allowed(run: Run, request: BuildRequest) -> None:
    """What the recipe may not take for itself."""
    for wanted, entitlement in (
        (run.insecure, "security.insecure"),
        (run.network == "host" and request.network_mode != "host", "network.host"),
    ):
        if wanted and entitlement not in request.allow:
            raise Forbidden(
                f"{entitlement} is not allowed",
                f"the recipe asks for it with --{entitlement.replace('.', '=')}",
                f"If you trust the recipe: --allow {entitlement}",
            )
