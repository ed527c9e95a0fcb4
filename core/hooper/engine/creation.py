"""Making a container: from a request to a record, a snapshot and a directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from hooper.api.engine import ContainerCreate, Created
from hooper.api.errors import Conflict, HooperError, InvalidArgument, NotFound
from hooper.api.manifests import parse_platform, platform_name
from hooper.api.model import (
    Container,
    ContainerConfig,
    EndpointSettings,
    HostConfig,
    ImageSummary,
    LogConfig,
    MountPoint,
    Volume,
)
from hooper.api.network import SandboxMode
from hooper.engine import log_targets, mounts, spec
from hooper.engine.checks import check_config, check_endpoint, check_request, limited
from hooper.engine.clock import rfc3339
from hooper.engine.core import Core
from hooper.engine.init_layer import InitLayers
from hooper.engine.merge import command, merged
from hooper.engine.mount_sources import check_shares_ipc
from hooper.engine.names import check_name, new_id, random_name
from hooper.engine.store import name_taken


class Creator:
    def __init__(self, core: Core, init_layers: InitLayers) -> None:
        self._core, self._init_layers = core, init_layers

    async def create(self, request: ContainerCreate) -> Created:
        """Checks everything before anything is made; what a failure leaves is removed."""
        core = self._core
        name = check_name(request.name) if request.name else self._free_name()
        if owner := core.store.id_of_name(name):
            raise name_taken(name, owner)
        image = await self._image(request)
        try:
            container, warnings = self._container(name, request, image)
            warnings += platform_warning(image, request.platform, core.host.architecture)
            await self._check_host(container)
            container.mounts = await self._mounts(container)
            await self._make(container, image)
        except NotFound as error:
            # Clients take a missing object to be the image, and pull it.
            raise InvalidArgument(error.what, error.why, error.remedy) from error
        core.emit(container, "create")
        return Created(container.id, warnings)

    async def _image(self, request: ContainerCreate) -> ImageSummary:
        """NotFound if it is not there, or is for another platform than the one asked for."""
        if not request.config.image:
            raise InvalidArgument("config cannot be empty in order to create a container", remedy="Name an image.")
        image = await self._core.images.get(request.config.image)
        if request.platform:
            check_platform(image, request.config.image, request.platform)
        if self._core.images.gate is not None:
            await self._core.images.gate.run(request.config.image, image.id)
        return image

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
        check_request(request.config, host)
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
            log_path=f"{directory}/{container_id}-json.log" if log_driver == "json-file" else "",
            resolv_conf_path=f"{directory}/resolv.conf",
            hostname_path=f"{directory}/hostname",
            hosts_path=f"{directory}/hosts",
        )
        warnings = check_config(container)
        if limited(host):
            from hooper.engine import limits
            from hooper.linux.cgroup_abilities import abilities
            from hooper.linux.cgroups import layout

            container.host_config, more = limits.settled(host, abilities(layout()))
            warnings += more
        return container, warnings

    def _completed(self, host: HostConfig) -> HostConfig:
        """With the host's defaults where the request says nothing."""
        core, log = self._core, host.log_config
        # As Docker: on cgroup v1 a privileged container sees the host's cgroups.
        bare = host.privileged and core.host.cgroup_version == 1
        return msgspec.structs.replace(
            host,
            runtime=host.runtime or core.default_runtime,
            network_mode=host.network_mode if host.network_mode not in ("", "default") else "bridge",
            log_config=self._log_config(log),
            shm_size=host.shm_size or spec.DEFAULT_SHM_SIZE,
            ipc_mode=host.ipc_mode or "private",
            cgroupns_mode=host.cgroupns_mode or ("host" if bare else "private"),
            # How clients say: not set.
            memory_swappiness=None if host.memory_swappiness == -1 else host.memory_swappiness,
            pids_limit=None if host.pids_limit is not None and host.pids_limit <= 0 else host.pids_limit,
        )

    def _log_config(self, asked: LogConfig) -> LogConfig:
        core = self._core
        if asked.type in ("", core.default_log_driver):
            merged = log_targets.merged(asked.config, core.default_log_options)
            return LogConfig(type=core.default_log_driver, config=merged)
        return asked

    def _networks(self, request: ContainerCreate, config: ContainerConfig) -> dict[str, EndpointSettings]:
        mode = request.host_config.network_mode
        mode = "bridge" if mode in ("", "default") else mode
        asked = request.networking.endpoints_config or {}
        with suppress(NotFound):  # as in Docker a network may be missing until the container starts
            if self._core.networks.sandbox_mode(mode) is SandboxMode.SHARED:
                return {}
        found = {mode: asked.get(mode) or asked.get("default") or EndpointSettings()}
        found |= {
            name: settings or EndpointSettings() for name, settings in asked.items() if name not in ("default", mode)
        }
        if config.mac_address and not found[mode].mac_address:
            found[mode].mac_address = config.mac_address
        for settings in found.values():
            check_endpoint(settings)
        return {self._network_name(name): settings for name, settings in found.items()}

    def _network_name(self, name: str) -> str:
        try:
            return self._core.networks.lookup(name).name
        except NotFound:
            return name

    async def _check_host(self, container: Container) -> None:
        """The drivers and other containers that it names are there."""
        core, host = self._core, container.host_config
        if container.runtime not in core.runtimes:
            try:
                await core.selector.choose_isolation(container.runtime)
            except HooperError as error:
                what = f"unknown or invalid runtime name: {container.runtime}"
                raise InvalidArgument(what, error.why or error.what, error.remedy) from error
            core.runtimes.add(container.runtime)
        log_targets.check(core.log_drivers, core.log_cache, container.log_driver, host.log_config.config or {})
        log_targets.check_words(container)
        for mode in (host.pid_mode, host.ipc_mode):
            if mode.startswith("container:"):
                core.store.get(mode.removeprefix("container:"))
        if host.ipc_mode.startswith("container:"):
            check_shares_ipc(core.store.get(host.ipc_mode.removeprefix("container:")))
        if host.links:
            from hooper.engine import links

            links.check(core.store, host.links)

    async def _mounts(self, container: Container) -> list[MountPoint]:
        points = mounts.requested(container.config, container.host_config, self._volumes_from(container))
        for point in points:
            if point.type == "image":
                # From now on it is that image, whatever its name will mean.
                point.source = (await self._core.images.get(point.name)).id
                if self._core.images.gate is not None:
                    await self._core.images.gate.run(point.name, point.source)
        return points

    def _volumes_from(self, container: Container) -> list[MountPoint]:
        found: list[MountPoint] = []
        for item in container.host_config.volumes_from or ():
            name, readonly = mounts.volumes_from(item)
            for point in self._core.store.get(name).mounts:
                found.append(msgspec.structs.replace(point, rw=point.rw and not readonly))
        return found

    async def _make(self, container: Container, image: ImageSummary) -> None:
        core = self._core
        parent = await self._init_layers.parent(image.chain)
        await core.storage.prepare(container.id, parent)
        made: list[str] = []
        try:
            core.data_dir(container.id).mkdir(mode=0o710, parents=True)
            await self._make_volumes(container, made)
            if container.host_config.readonly_rootfs and container.config.working_dir:
                await self._make_working_directory(container)
            core.store.add(container)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._unmake(container, made)
            raise
        for point in container.mounts:
            if point.type == "volume":
                core.volumes.use(point.name, container.id)

    async def _make_working_directory(self, container: Container) -> None:
        snapshot = msgspec.to_builtins(await self._core.storage.mounts(container.id))
        arguments = {"mounts": snapshot, "path": container.config.working_dir}
        await self._core.workers.run("hooper.engine.working_directory:make", arguments)

    async def _unmake(self, container: Container, volumes: Sequence[str]) -> None:
        core = self._core
        shutil.rmtree(core.data_dir(container.id), ignore_errors=True)
        await core.storage.remove(container.id)
        core.volumes.give_up(container.id)
        for name in volumes:
            with suppress(Conflict, NotFound):  # somebody else has taken it into use
                await core.volumes.remove(name)

    async def _make_volumes(self, container: Container, made: list[str]) -> None:
        """`made` is extended by the names of new volumes, as they come to be."""
        asked = _volume_requests(container.host_config)
        to_fill: list[dict[str, str]] = []
        for point in container.mounts:
            if point.type != "volume":
                continue
            options = asked.get(point.destination, {})
            driver = options.get("DriverConfig") or {}
            wish = Volume(
                name=point.name, driver=point.driver, options=driver.get("Options"), labels=options.get("Labels")
            )
            volume, new = await self._core.volumes.obtain(wish, container.id)
            if new:
                made.append(volume.name)
            point.name, point.driver, point.source = volume.name, volume.driver, volume.mountpoint
            if not (options.get("NoCopy") or point.subpath or "nocopy" in point.mode.split(",")):
                to_fill.append({"name": volume.name, "path": point.destination})
        if to_fill:
            await self._populate(container, to_fill)

    async def _populate(self, container: Container, volumes: Sequence[dict[str, str]]) -> None:
        """A volume that is empty begins with what the image has at its place."""
        core = self._core
        jobs = []
        try:
            for each in volumes:
                place = await core.volumes.mount(each["name"], container.id)
                if await anyio.to_thread.run_sync(_is_empty, place):
                    jobs.append({"path": each["path"], "target": str(place)})
            if jobs:
                snapshot = msgspec.to_builtins(await core.storage.mounts(container.id))
                await core.workers.run("hooper.engine.volume_content:populate", {"mounts": snapshot, "volumes": jobs})
        finally:
            for each in volumes:
                await core.volumes.unmount(each["name"], container.id)


def _volume_requests(host: HostConfig) -> dict[str, dict[str, Any]]:
    """VolumeOptions by destination."""
    return {
        os.path.normpath(request.target): request.volume_options
        for request in host.mounts or ()
        if request.volume_options
    }


def _is_empty(directory: Path) -> bool:
    with os.scandir(directory) as entries:
        return next(entries, None) is None


def check_platform(image: ImageSummary, name: str, platform: str) -> None:
    """NotFound, so that clients pull it, if the image is for another platform; InvalidArgument for none."""
    wanted = parse_platform(platform)
    found = image.image
    matches = (found.os or "linux", found.architecture) == (wanted.os, wanted.architecture)
    if not matches or (wanted.variant and found.variant and wanted.variant != found.variant):
        raise NotFound(
            f"image with reference {name} was found but its platform ({found.os or 'linux'}/{found.architecture}) "
            f"does not match the specified platform ({platform_name(wanted)})",
            remedy=f"Pull it for that platform: hooper pull --platform {platform} {name}",
        )


def platform_warning(image: ImageSummary, asked: str, architecture: str) -> list[str]:
    """For an image that only an emulator can run here, if nobody asked for it."""
    found = image.image
    if asked or found.architecture in ("", architecture):
        return []
    return [
        f"The requested image's platform ({found.os or 'linux'}/{found.architecture}) does not match the detected "
        f"host platform (linux/{architecture}) and no specific platform was requested"
    ]
