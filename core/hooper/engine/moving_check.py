"""Whether a container can come here, and how it will be: the target's side before anything is made."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import anyio.to_thread
import msgspec

from hooper.api.errors import Conflict, InvalidArgument, NotFound, Unsupported
from hooper.api.manifests import decode_image, digest_of
from hooper.api.model import Container, ContainerState, EndpointIPAM, EndpointSettings, MountPoint
from hooper.api.moving import Manifest, NetworkPart, Offer, Verdict, VolumePart, Wishes
from hooper.api.network import Endpoint, Network
from hooper.engine import ipam, log_targets, network_settings
from hooper.engine.checks import check_config
from hooper.engine.core import Core
from hooper.engine.layers import chain_ids
from hooper.engine.moving_plan import volume_names
from hooper.engine.names import check_name, new_id
from hooper.engine.store import name_taken
from hooper.linux.netlink_route import host_subnets

_ID = re.compile(r"[0-9a-f]{64}\Z")
_VOLUME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
_MOUNTS = ("bind", "volume", "tmpfs", "image")
SPARE = 64 << 20
"""Bytes of the disk that a container that arrives leaves free."""


def validate(manifest: Manifest) -> None:
    """InvalidArgument for a manifest that no hooper wrote: what it names ends up in paths."""
    container, image = manifest.container, manifest.image
    if not _ID.match(container.id):
        raise _invalid("the container's id is not 64 hexadecimal digits")
    check_name(container.name)
    if digest_of(image.config) != image.id or container.image_id != image.id:
        raise _invalid("the image is not the one that its id says")
    diff_ids = decode_image(image.config, image.id).rootfs.diff_ids
    chains = chain_ids(diff_ids)
    if [(part.diff_id, part.chain_id) for part in image.layers] != list(zip(diff_ids, chains, strict=True)):
        raise _invalid("the layers are not those of the image")
    _validate_mounts(manifest)
    _validate_sections(manifest)
    names = [part.network.name for part in manifest.networks]
    for name in names:
        network_settings.check_name(name)
    if len(set(names)) != len(names) or not set(names) <= set(container.networks):
        raise _invalid("the networks are not those of the container")


def _validate_mounts(manifest: Manifest) -> None:
    for point in manifest.container.mounts:
        place = point.destination
        if point.type not in _MOUNTS or not place.startswith("/") or os.path.normpath(place) in ("/", "//"):
            raise _invalid(f"a mount of type {point.type[:20]!r} on {place[:100]!r}")
    names = [part.volume.name for part in manifest.volumes]
    for name in names:
        if not _VOLUME.match(name) or len(name) > 255:
            raise _invalid(f"the volume name {name[:100]!r}")
    if names != volume_names(manifest.container):
        raise _invalid("the volumes are not those that the container mounts")


def _validate_sections(manifest: Manifest) -> None:
    """Layers come from the lowest on, then the container, then volumes, each once."""
    chains = {part.chain_id: number for number, part in enumerate(manifest.image.layers)}
    volumes = {part.volume.name: number for number, part in enumerate(manifest.volumes)}
    places = []
    for section in manifest.sections:
        if section.kind in ("blob", "layer"):
            number = chains.get(section.chain_id, -1)
            if number < 0 or manifest.image.layers[number].diff_id != section.diff_id:
                raise _invalid(f"a section for a layer {section.chain_id[:80]!r} that is not the image's")
            places.append((0, number))
        elif section.kind == "volume":
            if section.name not in volumes:
                raise _invalid(f"a section for a volume {section.name[:80]!r} that is not the container's")
            places.append((2, volumes[section.name]))
        else:
            places.append((1 if section.kind == "container" else 3, 0))
    if any(one >= other for one, other in pairwise(places)):
        raise _invalid("its sections are out of order")
    if places and (1, 0) not in places:
        raise _invalid("it has no files of the container")


def _invalid(why: str) -> InvalidArgument:
    return InvalidArgument("this is no container that hooper saved", why, "Save or move it again.")


class Checker:
    """`engine` is this engine's id."""

    def __init__(self, core: Core, engine: str) -> None:
        self._core, self._engine = core, engine

    async def check(self, offer: Offer, *, copy: bool = False) -> Verdict:
        """What would be done. Whatever stands in the way is raised. `copy`: it may get an id of its own."""
        manifest, wishes = offer.manifest, offer.wishes
        validate(manifest)
        verdict = Verdict(engine=self._engine)
        self._names(manifest, wishes, copy)
        await self._host(manifest)
        if not wishes.allow_binds:
            _refuse_binds(manifest.container)
        layers = self._core.images.layers
        verdict.layers = [part.chain_id for part in manifest.image.layers if layers.get(part.chain_id) is None]
        for part in manifest.volumes:
            verdict.volumes[part.volume.name] = await self._volume(part, wishes)
        for network in manifest.networks:
            verdict.networks[network.network.name] = await self._network(network, manifest.container, wishes, verdict)
        self._room(offer, verdict)
        return verdict

    def _names(self, manifest: Manifest, wishes: Wishes, copy: bool) -> None:
        store = self._core.store
        name = check_name(wishes.name or manifest.container.name)
        if owner := store.id_of_name(name):
            raise name_taken(name, owner)
        if not copy and store.by_id(manifest.container.id):
            raise Conflict(f"container {manifest.container.id[:12]} is on this engine already")

    async def _host(self, manifest: Manifest) -> None:
        core, container = self._core, manifest.container
        image = decode_image(manifest.image.config, manifest.image.id)
        if image.architecture not in ("", core.host.architecture):
            raise Unsupported(
                f"container {container.name} cannot run here",
                f"its image is for {image.architecture}, this host is {core.host.architecture}",
            )
        if core.images.gate is not None:
            await core.images.gate.run(manifest.image.tag, manifest.image.id)
        check_config(container)
        if container.runtime not in core.runtimes:
            await core.selector.choose_isolation(container.runtime)
            core.runtimes.add(container.runtime)
        host = container.host_config
        log_targets.check(core.log_drivers, core.log_cache, container.log_driver, host.log_config.config or {})
        for point in container.mounts:
            if point.type == "image":
                await self._mounted_image(container, point)
        for mode in (host.network_mode, host.pid_mode, host.ipc_mode):
            if mode.startswith("container:"):
                core.store.get(mode.removeprefix("container:"))

    async def _mounted_image(self, container: Container, point: MountPoint) -> None:
        try:
            await self._core.images.get(point.source)
        except NotFound:
            raise Conflict(
                f"container {container.name} mounts the image {point.name} on {point.destination}",
                "it is not there, and only the image that a container is made of is carried",
                f"Get it there first: hooper save {point.name} | hooper -H ADDRESS load",
            ) from None

    async def _volume(self, part: VolumePart, wishes: Wishes) -> str:
        name = part.volume.name
        try:
            volume = await self._core.volumes.get(name)
        except NotFound:
            return "new"
        if wishes.volumes == "reuse":
            return "reuse"
        if volume.driver != part.volume.driver:
            raise Conflict(
                f"a volume named {name} is here already",
                f"it is of the driver {volume.driver}, not {part.volume.driver}",
            )
        empty = not os.path.isdir(volume.mountpoint) or not os.listdir(volume.mountpoint)
        if not empty and wishes.volumes == "error":
            raise Conflict(
                f"a volume named {name} is here already",
                "it is not empty",
                "Say --volumes=reuse to mount it as it is, --volumes=replace to put the moved content in its place.",
            )
        running = [c.name for c in self._core.store.all() if c.state.running and name in volume_names(c)]
        if running:
            raise Conflict(
                f"the content of volume {name} cannot be replaced",
                f"container {', '.join(running)} runs with it",
                "Stop that first, or say --volumes=reuse.",
            )
        return "empty" if empty else "replace"

    async def _network(self, part: NetworkPart, container: Container, wishes: Wishes, verdict: Verdict) -> str:
        wanted = part.network
        present = {network.name: network for network in await self._core.networks.list()}
        settings = container.networks[wanted.name]
        if here := present.get(wanted.name):
            taken = await self._core.networks.endpoints(here)
            for address in unusable(settings, here, taken):
                verdict.warnings.append(
                    f"The address {address} is not free in the network {wanted.name}: it gets another one."
                )
            return "there"
        if part.predefined or wishes.networks == "require":
            raise NotFound(
                f"network {wanted.name} is not there",
                f"container {container.name} is connected to it",
                "Make it first, or say --networks=create or --networks=skip.",
            )
        if wishes.networks == "create" and not subnets_free(wanted, await occupied(self._core)):
            if static_addresses(settings):
                raise Conflict(
                    f"network {wanted.name} cannot be made as it was",
                    f"its subnet {wanted.pools[0].subnet} is in use here, and the container has a static address in it",
                    "Make the network here with another subnet, or disconnect the container from it first.",
                )
            verdict.warnings.append(
                f"The network {wanted.name} gets another subnet: {wanted.pools[0].subnet} is in use there."
            )
        return "create" if wishes.networks == "create" else "skip"

    def _room(self, offer: Offer, verdict: Verdict) -> None:
        lacking = set(verdict.layers)
        needed = offer.size + sum(part.size for part in offer.manifest.image.layers if part.chain_id in lacking)
        status = os.statvfs(self._core.host.data_root)
        free = status.f_bavail * status.f_frsize - SPARE
        if needed > free:
            raise Conflict(
                f"there is no room for container {offer.manifest.container.name}",
                f"it needs {needed} bytes, and {max(free, 0)} are free",
                "Free some disk space there (hooper system prune).",
            )


def _refuse_binds(container: Container) -> None:
    for point in container.mounts:
        if point.type == "bind":
            raise Conflict(
                f"container {container.name} mounts {point.source} of its host on {point.destination}",
                "files of the host are not carried",
                "Put them there, and say --allow-binds.",
            )


async def occupied(core: Core) -> list[str]:
    """Subnets of this engine's networks and of the host."""
    own = [pool.subnet for network in await core.networks.list() for pool in network.pools]
    return own + await anyio.to_thread.run_sync(host_subnets)


def subnets_free(network: Network, taken: Sequence[str]) -> bool:
    """Whether none of the network's subnets overlaps with what is taken. InvalidArgument for what is no subnet."""
    others = [ipam.subnet_of(text) for text in taken]
    for pool in network.pools:
        subnet = ipam.subnet_of(pool.subnet)
        if any(subnet.version == other.version and subnet.overlaps(other) for other in others):
            return False
    return True


def static_addresses(settings: EndpointSettings) -> list[str]:
    asked = settings.ipam_config or EndpointIPAM()
    return [address for address in (asked.ipv4_address, asked.ipv6_address) if address]


def unusable(settings: EndpointSettings, network: Network, endpoints: Sequence[Endpoint]) -> list[str]:
    """The static addresses that the container cannot have in this network: taken, or not of its subnets."""
    taken = {address.partition("/")[0] for e in endpoints for address in (e.address, e.address6)}
    subnets = [ipam.subnet_of(pool.subnet) for pool in network.pools]
    bad = []
    for address in static_addresses(settings):
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            bad.append(address)
            continue
        inside = any(found.version == subnet.version and found in subnet for subnet in subnets)
        if address in taken or not inside:
            bad.append(address)
    return bad


def adopted(core: Core, manifest: Manifest, wishes: Wishes, verdict: Verdict) -> Container:
    """The container as this engine will have it."""
    container: Container = msgspec.convert(msgspec.to_builtins(manifest.container), Container)
    if core.store.by_id(container.id):
        container.id = new_id()
    directory = core.data_dir(container.id)
    container.name = check_name(wishes.name or container.name)
    container.moving = None
    container.state = _at_rest(container.state)
    container.ports, container.sandbox_id, container.driver = {}, "", core.storage_name
    container.log_path = _moved(container.log_path, manifest.container.id, container.id, directory)
    container.resolv_conf_path = str(directory / "resolv.conf")
    container.hostname_path, container.hosts_path = str(directory / "hostname"), str(directory / "hosts")
    _adopt_networks(container, verdict)
    return container


def _at_rest(state: ContainerState) -> ContainerState:
    status = "created" if state.status == "created" else "exited"
    return msgspec.structs.replace(state, status=status, pid=0)


def _moved(path: str, old: str, new: str, directory: Path) -> str:
    return str(directory / os.path.basename(path).replace(old, new)) if path else ""


def _adopt_networks(container: Container, verdict: Verdict) -> None:
    mode = container.host_config.network_mode
    skipped = {name for name, what in verdict.networks.items() if what == "skip"}
    by_id = {settings.network_id: name for name, settings in container.networks.items() if settings.network_id}
    mode = by_id.get(mode, mode)
    container.networks = {
        name: _asked(settings) for name, settings in container.networks.items() if name not in skipped
    }
    if mode in skipped:
        mode = next(iter(container.networks), "none")
        container.networks = container.networks or {"none": EndpointSettings()}
    container.host_config.network_mode = mode


def _asked(settings: EndpointSettings) -> EndpointSettings:
    """What was asked for, without what the other engine chose. A MAC that follows from the address was not asked."""
    mac = settings.mac_address
    try:
        chosen = ipam.mac_address(settings.ip_address, settings.endpoint_id) if settings.endpoint_id else ""
    except ValueError:
        chosen = ""
    return EndpointSettings(
        ipam_config=settings.ipam_config,
        links=settings.links,
        aliases=settings.aliases,
        mac_address="" if mac == chosen else mac,
        driver_opts=settings.driver_opts,
        gw_priority=settings.gw_priority,
    )
