"""One start of a container: everything between its record and its running program."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio

from hooper.api import oci
from hooper.api.errors import Conflict
from hooper.api.isolation import Bundle
from hooper.api.model import Container
from hooper.api.network import Endpoint, SandboxMode
from hooper.api.storage import Mount
from hooper.engine import etc_files, ports, spec, trees
from hooper.engine.core import Core
from hooper.engine.mount_sources import MountSources
from hooper.runtime import wire
from hooper.runtime.client import MonitorClient
from hooper.runtime.protocol import Attach, NewNetns, Spawn, Started

_UNPRIVILEGED = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
"""What Docker sets in a container's own namespace: its users may take any port, and ping."""
USUAL_NETNS = NewNetns(disable_ipv6=True, sysctls=_UNPRIVILEGED)
"""Of a container without IPv6 or sysctls of its own."""


@dataclass
class Live:
    """A container whose monitor is there."""

    container: Container
    monitor: MonitorClient
    inherited: bool = False
    """It was started by an earlier daemon, whose clients may still come and ask for its end."""
    ending: bool = False
    """Its exit is being recorded."""
    ends_for_good: bool = False
    """It was sent a signal that asks it to end: whatever the policy says, it is not started again."""
    starts_again: bool = False
    """It ends for the sake of a restart: neither policy nor --rm apply."""
    ended: anyio.Event = field(default_factory=anyio.Event)
    """Set when its exit has been recorded."""


DEFAULT_NETWORK = "bridge"
"""Where containers find each other by --link alone."""

Pending = Sequence[tuple[Attach, socket.socket]]


class Starter:
    """Starts containers; knows nothing of what becomes of them afterwards."""

    def __init__(self, core: Core, *, tells: bool = True) -> None:
        """`tells`: with the events of the networks that are joined and left."""
        self._core, self._tells = core, tells
        self._bases = RunDirectories(core)
        self.sources = MountSources(core)

    async def launch(
        self, container: Container, attached: Pending, live: dict[str, Live], rootfs: Sequence[Mount] | None = None
    ) -> tuple[Live, Started]:
        """Makes sandbox, network, mounts and process, and lets the program run.

        `rootfs` takes the place of the container's own snapshot.
        Whatever was made for a start that fails is undone before the error is raised.
        """
        self._bases.make(container.id)
        endpoints: list[Endpoint] = []
        descriptors: list[int] = []
        monitor: MonitorClient | None = None
        try:
            spawn, endpoints = await self._plan(container, attached, descriptors, live, rootfs)
            monitor = await self._core.launcher.spawn(
                spawn, [*descriptors, *(connection.fileno() for _, connection in attached)]
            )
            held = await self._connect(container, monitor, endpoints)
            try:
                started = await monitor.start(held)
            finally:
                _close(held)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._undo(container, monitor)
            raise
        finally:
            _close(descriptors)
        return Live(container, monitor), started

    async def _connect(self, container: Container, monitor: MonitorClient, endpoints: list[Endpoint]) -> list[int]:
        """Joins the networks while the monitor makes the rest; returns the descriptors it is to keep."""
        if not endpoints:
            container.ports = ports.shown(container, ())
            return []
        held: list[int] = []
        bound = []
        sandbox = await monitor.sandbox()
        try:
            for endpoint in endpoints:
                result = await self._core.networks.join(endpoint, sandbox, tell=self._tells)
                held += result.reservations
                bound += result.ports
        except BaseException:
            _close(held)
            raise
        finally:
            os.close(sandbox)
        container.ports = ports.shown(container, bound)
        return held

    async def _undo(self, container: Container, monitor: MonitorClient | None) -> None:
        if monitor is not None:
            await monitor.aclose()
        left = await self._core.networks.part(container.id)
        if self._tells:
            self._core.networks.tell_left(left)
        await self.release_volumes(container)
        self.clean(container.id)

    def clean(self, container_id: str) -> None:
        """Removes the volatile files of a container that has ended."""
        trees.remove(self._core.run_dir(container_id))

    async def release_volumes(self, container: Container) -> None:
        """Also what else the host has mounted for it."""
        await self.sources.release(container)

    async def _plan(
        self,
        container: Container,
        attached: Pending,
        descriptors: list[int],
        live: dict[str, Live],
        rootfs: Sequence[Mount] | None,
    ) -> tuple[Spawn, list[Endpoint]]:
        core = self._core
        config = container.config
        mode = core.networks.sandbox_mode(container.host_config.network_mode)
        endpoints: list[Endpoint] = []
        if mode is SandboxMode.SHARED:
            descriptors.append(await self._shared_sandbox(container, live))
        elif mode is SandboxMode.NEW:
            endpoints = self._allocate(container)
        netns = {SandboxMode.SHARED: "given", SandboxMode.HOST: "host", SandboxMode.NEW: "new"}[mode]
        logged = container.log_driver not in ("", "none")
        container.apparmor_profile = spec.apparmor_profile(container.host_config)
        bundle = await self.bundle(container, endpoints, live, "host" if netns == "host" else "", rootfs)
        _, backend = await core.selector.choose_isolation(container.runtime)
        spawn = Spawn(
            container_id=container.id,
            directory=str(bundle.directory),
            bundle=wire.pack(bundle),
            outline=backend.outline(bundle),
            backend=container.runtime,
            netns=netns,
            log_driver=container.log_driver,
            log=core.log_target(container) if logged else None,
            stdin=config.open_stdin,
            stdin_once=config.stdin_once,
            tty=config.tty,
            console_size=_size(container),
            attached=[attach for attach, _ in attached],
            new_netns=_new_netns(container, endpoints),
        )
        return spawn, endpoints

    def _allocate(self, container: Container) -> list[Endpoint]:
        """Chooses addresses, and with them which network has the published ports and the default route."""
        networks, made = self._core.networks, []
        published = ports.wanted(container)
        for name, settings in container.networks.items():
            endpoint = networks.allocate(
                networks.lookup(name),
                container_id=container.id,
                container_name=container.name,
                settings=settings,
                ports=published,
            )
            container.networks[name] = networks.settings_of(endpoint, settings)
            made.append(endpoint)
        return made

    async def _shared_sandbox(self, container: Container, live: dict[str, Live]) -> int:
        other = self._core.store.get(container.host_config.network_mode.removeprefix("container:"))
        if other.id not in live:
            raise Conflict(
                f"cannot join network of a non running container: {other.id}",
                remedy=f"Start it first: hooper start {other.name}",
            )
        return await live[other.id].monitor.get_sandbox()

    async def bundle(
        self,
        container: Container,
        endpoints: Sequence[Endpoint],
        live: dict[str, Live],
        network: str = "",
        rootfs: Sequence[Mount] | None = None,
    ) -> Bundle:
        """The container as its isolation backend sees it; the files it needs in /etc are written."""
        core = self._core
        directory = core.run_dir(container.id)
        own = [(e.address.partition("/")[0], _names(container, e)) for e in endpoints]
        gateway = next((e.gateway for e in endpoints if e.gateway), "")
        variables: list[str] = []
        if container.host_config.links and DEFAULT_NETWORK in container.networks:
            from hooper.engine import links

            others = links.linked(core.store, container)
            own += links.hosts(others)
            variables = links.variables(container, others)
        named = any((net := core.networks.network_of(e)) and core.networks.has_names(net) for e in endpoints)
        etc = etc_files.write(core.data_dir(container.id), container, own, gateway, named=named)
        if container.host_config.network_mode.startswith("container:"):
            lender = core.store.get(container.host_config.network_mode.removeprefix("container:"))
            etc = etc_files.lent(core.data_dir(lender.id), container)
        asked = await self.sources.mounts(container)
        taken = {mount.destination for mount in asked}
        document = spec.build(
            container,
            directory / "rootfs",
            [*(mount for mount in etc if mount.destination not in taken), *asked],
            architecture=core.host.architecture,
            namespaces={"network": network, **self._joined(container, live)},
            shm=self.sources.shm(container, live),
        )
        document.process.env += variables
        return Bundle(
            id=container.id,
            directory=directory,
            spec=document,
            rootfs=tuple(await core.storage.mounts(container.id) if rootfs is None else rootfs),
            init=bool(container.host_config.init),
        )

    def remains(self, container: Container) -> Bundle:
        """As much of a container as a backend needs to remove what is left of it."""
        directory = self._core.run_dir(container.id)
        document = oci.Spec(
            oci_version=spec.OCI_VERSION,
            process=oci.Process(args=[container.path, *container.args]),
            root=oci.Root(path=str(directory / "rootfs")),
            linux=oci.Linux(cgroups_path=spec.cgroups_path(container)),
        )
        return Bundle(id=container.id, directory=directory, spec=document, rootfs=())

    def _joined(self, container: Container, live: dict[str, Live]) -> dict[str, str]:
        host = container.host_config
        found = {}
        for kind, mode in (("pid", host.pid_mode), ("ipc", host.ipc_mode), ("uts", host.uts_mode)):
            if mode == "host":
                found[kind] = "host"
            elif mode.startswith("container:"):
                other = self._core.store.get(mode.removeprefix("container:"))
                if other.id not in live:
                    raise Conflict(f"cannot join {kind} namespace of a non running container: {other.id}")
                found[kind] = f"/proc/{other.state.pid}/ns/{kind}"
        if host.cgroupns_mode == "host":
            found["cgroup"] = "host"
        return found


class RunDirectories:
    """Makes `run_dir`s; the directory above them is made once."""

    def __init__(self, core: Core) -> None:
        self._core = core
        (core.host.exec_root / "containers").mkdir(mode=0o700, parents=True, exist_ok=True)

    def make(self, container_id: str) -> None:
        directory = self._core.run_dir(container_id)
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            shutil.rmtree(directory)
            os.mkdir(directory, 0o700)
        os.mkdir(directory / "rootfs", 0o755)


def _new_netns(container: Container, endpoints: Sequence[Endpoint]) -> NewNetns:
    asked = {key: value for key, value in (container.host_config.sysctls or {}).items() if key.startswith("net.")}
    with_ipv6 = any(endpoint.address6 for endpoint in endpoints)
    return NewNetns(disable_ipv6=not with_ipv6, sysctls=_UNPRIVILEGED | asked)


def _names(container: Container, endpoint: Endpoint) -> str:
    hostname, domain = container.config.hostname, container.config.domainname
    full = f"{hostname}.{domain} {hostname}" if domain else hostname
    return full if endpoint.interface == "eth0" else f"{full} {container.name}"


def _size(container: Container) -> tuple[int, int] | None:
    size = spec.console(container.host_config.console_size)
    return (size.height, size.width) if size else None


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
