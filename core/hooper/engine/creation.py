"""Making a container: from a request to a record, a snapshot and a directory."""

from __future__ import annotations

import shutil

import msgspec

from hooper.api.engine import ContainerCreate, Created
from hooper.api.errors import Conflict, InvalidArgument, Unsupported
from hooper.api.model import Container, ContainerConfig, EndpointSettings, HostConfig, ImageSummary, MountPoint, Volume
from hooper.api.network import SandboxMode
from hooper.engine import mounts, ports, signals, spec
from hooper.engine.clock import rfc3339
from hooper.engine.core import Core
from hooper.engine.init_layer import InitLayers
from hooper.engine.merge import command, merged
from hooper.engine.names import check_name, new_id, random_name
from hooper.engine.store import name_taken

HIGHEST_CPU_SHARES = 262144
LOWEST_MEMORY = 6 << 20


class Creator:
    def __init__(self, core: Core, init_layers: InitLayers) -> None:
        self._core, self._init_layers = core, init_layers

    async def create(self, request: ContainerCreate) -> Created:
        """Checks everything before anything is made; what a failure leaves is removed."""
        core = self._core
        name = check_name(request.name) if request.name else self._free_name()
        if owner := core.store.id_of_name(name):
            raise name_taken(name, owner)
        image = await core.images.get(request.config.image)
        container, warnings = self._container(name, request, image)
        await self._check_host(container)
        container.mounts = mounts.requested(container.config, container.host_config) + self._volumes_from(container)
        await self._make(container, image)
        core.emit(container, "create")
        return Created(container.id, warnings)

    def _free_name(self) -> str:
        while self._core.store.has_name(name := random_name()):
            continue
        return name

    def _container(self, name: str, request: ContainerCreate, image: ImageSummary) -> tuple[Container, list[str]]:
        core, host = self._core, request.host_config
        container_id = new_id()
        config = merged(request.config, image.image.config)
        if not config.hostname and host.network_mode != "host" and host.uts_mode != "host":
            config.hostname = container_id[:12]
        elif not config.hostname:
            import socket

            config.hostname = socket.gethostname()
        path, args = command(config)
        host = self._completed(host)
        log_driver, directory = host.log_config.type, core.data_dir(container_id)
        container = Container(
            id=container_id,
            name=name,
            created=rfc3339(),
            config=config,
            host_config=host,
            image_id=image.id,
            path=path,
            args=args,
            networks=self._networks(request, config),
            driver=core.storage_name,
            runtime=host.runtime,
            log_driver=log_driver,
            log_path=str(directory / f"{container_id}-json.log") if log_driver == "json-file" else "",
            resolv_conf_path=str(directory / "resolv.conf"),
            hostname_path=str(directory / "hostname"),
            hosts_path=str(directory / "hosts"),
        )
        return container, check_config(container)

    def _completed(self, host: HostConfig) -> HostConfig:
        """With the host's defaults where the request says nothing."""
        core, log = self._core, host.log_config
        # As Docker: on cgroup v1 a privileged container sees the host's cgroups.
        bare = host.privileged and core.host.cgroup_version == 1
        return msgspec.structs.replace(
            host,
            runtime=host.runtime or core.default_runtime,
            network_mode=host.network_mode if host.network_mode not in ("", "default") else "bridge",
            log_config=msgspec.structs.replace(log, type=log.type or core.default_log_driver),
            shm_size=host.shm_size or spec.DEFAULT_SHM_SIZE,
            ipc_mode=host.ipc_mode or "private",
            cgroupns_mode=host.cgroupns_mode or ("host" if bare else "private"),
        )

    def _networks(self, request: ContainerCreate, config: ContainerConfig) -> dict[str, EndpointSettings]:
        mode = request.host_config.network_mode
        mode = "bridge" if mode in ("", "default") else mode
        asked = request.networking.endpoints_config or {}
        if self._core.networks.sandbox_mode(mode) is SandboxMode.SHARED:
            return {}
        found = {mode: asked.get(mode) or asked.get("default") or EndpointSettings()}
        found |= {
            name: settings or EndpointSettings() for name, settings in asked.items() if name not in ("default", mode)
        }
        if config.mac_address and not found[mode].mac_address:
            found[mode].mac_address = config.mac_address
        return {self._core.networks.lookup(name).name: settings for name, settings in found.items()}

    async def _check_host(self, container: Container) -> None:
        """The drivers and other containers that it names are there."""
        core, host = self._core, container.host_config
        if container.runtime not in core.runtimes:
            await core.selector.choose_isolation(container.runtime)
            core.runtimes.add(container.runtime)
        log_driver = core.log_drivers.get(container.log_driver)
        if log_driver is None:
            raise Unsupported(
                f'logger: no log driver named "{container.log_driver}" is registered',
                remedy=f"There are: {', '.join(sorted(core.log_drivers))}.",
            )
        log_driver.check(host.log_config.config or {})
        for mode in (host.network_mode, host.pid_mode, host.ipc_mode):
            if mode.startswith("container:"):
                core.store.get(mode.removeprefix("container:"))

    def _volumes_from(self, container: Container) -> list[MountPoint]:
        found: list[MountPoint] = []
        for item in container.host_config.volumes_from or ():
            name, _, mode = item.partition(":")
            for point in self._core.store.get(name).mounts:
                rw = point.rw and mode != "ro"
                found.append(msgspec.structs.replace(point, rw=rw))
        return found

    async def _make(self, container: Container, image: ImageSummary) -> None:
        core = self._core
        parent = await self._init_layers.parent(image.chain)
        await core.storage.prepare(container.id, parent)
        try:
            core.data_dir(container.id).mkdir(mode=0o710, parents=True)
            await self._make_volumes(container)
            core.store.add(container)
        except BaseException:
            shutil.rmtree(core.data_dir(container.id), ignore_errors=True)
            await core.storage.remove(container.id)
            raise
        for point in container.mounts:
            if point.type == "volume":
                core.volumes.use(point.name, container.id)

    async def _make_volumes(self, container: Container) -> None:
        for point in container.mounts:
            if point.type != "volume":
                continue
            new = not point.name or not await self._exists(point.name)
            volume = await self._core.volumes.create(Volume(name=point.name, driver=point.driver))
            point.name, point.driver, point.source = volume.name, volume.driver, volume.mountpoint
            if new and "nocopy" not in point.mode.split(","):
                await self._populate(container, point)

    async def _exists(self, name: str) -> bool:
        return any(volume.name == name for volume in await self._core.volumes.list({"name": [name]}))

    async def _populate(self, container: Container, point: MountPoint) -> None:
        """A new volume begins with what the image has at its place."""
        source = await self._core.storage.mounts(container.id)
        await self._core.workers.run(
            "hooper.engine.volume_content:populate",
            {
                "mounts": msgspec.to_builtins(source),
                "path": point.destination,
                "target": point.source,
            },
        )


def check_config(container: Container) -> list[str]:
    """Raises for values that no host accepts; returns warnings about those that are changed."""
    host = container.host_config
    warnings: list[str] = []
    ports.check(container)
    spec.capability_set(host)
    spec.security_options(host)
    for limit in host.ulimits or ():
        spec.rlimit(limit)
    if container.config.stop_signal:
        signals.number(container.config.stop_signal)
    if 0 < host.memory < LOWEST_MEMORY:
        raise InvalidArgument("Minimum memory limit allowed is 6MB", f"{host.memory} bytes were asked for")
    if host.memory_swap > 0 and not host.memory:
        raise InvalidArgument("You should always set the Memory limit when using Memoryswap limit")
    if 0 < host.memory_swap < host.memory:
        raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
    if host.nano_cpus and (host.cpu_quota or host.cpu_period):
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Quota or Period cannot both be set")
    _check_cpus(host)
    if host.cpu_shares > HIGHEST_CPU_SHARES:
        warnings.append(f"CPU shares above {HIGHEST_CPU_SHARES} are lowered to it by the kernel.")
    _check_policy(container)
    if not container.config.working_dir.startswith("/") and container.config.working_dir:
        raise InvalidArgument(
            f"the working directory '{container.config.working_dir}' is invalid", "it needs to be an absolute path"
        )
    return warnings


def _check_cpus(host: HostConfig) -> None:
    import os

    most = os.cpu_count() or 1
    if host.nano_cpus < 0 or host.nano_cpus > most * 1_000_000_000:
        raise InvalidArgument(
            f"range of CPUs is from 0.01 to {most}.00", f"as there are only {most} CPUs available", "Ask for fewer."
        )


def _check_policy(container: Container) -> None:
    policy = container.host_config.restart_policy
    if policy.name not in ("", "no", "always", "unless-stopped", "on-failure"):
        raise InvalidArgument(
            f"invalid restart policy '{policy.name}'", remedy="There are no, always, unless-stopped, on-failure[:N]."
        )
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidArgument("maximum retry count can only be used with 'on-failure'")
    if container.host_config.auto_remove and policy.name not in ("", "no"):
        raise Conflict("can't create 'AutoRemove' container with restart policy")
