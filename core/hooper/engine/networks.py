"""Networks: what users make, where containers are connected, and how all of it survives a restart."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import anyio
import msgspec

from hooper.api.engine import Filters, Networks, Pruned
from hooper.api.errors import Conflict, Forbidden, HooperError, InvalidArgument, NotFound
from hooper.api.model import Container, EndpointIPAM, EndpointSettings
from hooper.api.network import Endpoint, JoinResult, Network, NetworkDriver, Pool, PortBinding, Sandbox, SandboxMode
from hooper.engine import filters as matching
from hooper.engine import ipam, network_settings
from hooper.engine.names import new_id
from hooper.engine.network_store import EndpointStore, NetworkStore
from hooper.linux.netlink_route import host_subnets
from hooper.state.database import Database

Publish = Callable[[str, str, str, dict[str, str]], None]
"""Takes an event's type, action, id and attributes."""


class ContainerLookup(Protocol):
    """What `connect` and `disconnect` need of the engine's containers."""

    def get(self, name: str) -> Container:
        """NotFound if there is none."""

    def save(self, container: Container) -> None: ...

    async def sandbox(self, container_id: str) -> int | None:
        """A descriptor of a running container's network namespace, which the caller closes; else None."""


class NetworkService(Networks):
    """`containers` is set by the engine before the first connect or disconnect."""

    containers: ContainerLookup

    def __init__(
        self,
        database: Database,
        drivers: Mapping[str, NetworkDriver],
        publish: Publish,
        log: Any,
        default_driver: str = "auto",
    ) -> None:
        self._drivers, self._publish, self._log = drivers, publish, log
        makers = [name for name, driver in drivers.items() if driver.user_defined]
        self._default = makers[0] if default_driver == "auto" and makers else default_driver
        if default_driver != "auto":
            self._driver(default_driver)
        self._networks, self._endpoints = NetworkStore(database), EndpointStore(database)
        self._database = database
        self._made: set[str] = set()
        """Ids of networks that this daemon has seen made on the host."""
        self._lock = anyio.Lock()

    # --- networks ---------------------------------------------------------------------------------

    async def ensure_defaults(self) -> None:
        """Makes the networks that each driver predefines. Users' networks are made when they are used."""
        for name, driver in self._drivers.items():
            for predefined in driver.predefined:
                network = self._networks.named(predefined)
                if network is None:
                    pools = [Pool(driver.default_subnet)] if driver.default_subnet else []
                    await self._create(Network(id="", name=predefined, driver=name, created=0.0, pools=pools))
                elif network.driver == name:
                    await self._ensure(network)

    def _predefined(self, network: Network) -> bool:
        driver = self._drivers.get(network.driver)
        return driver is not None and network.name in driver.predefined

    def _driver(self, name: str) -> NetworkDriver:
        driver = self._drivers.get(name)
        if driver is None:
            raise NotFound(
                f'network driver "{name}" not found',
                "no active plugin brings it",
                f"There are: {', '.join(self._drivers)}. `hooper plugin ls` tells why others are not active.",
            )
        return driver

    async def create(self, network: Network) -> tuple[Network, Sequence[str]]:
        network_settings.check_name(network.name)
        network = msgspec.structs.replace(network, driver=network.driver or self._default)
        driver = self._driver(network.driver)
        if any(network.name in other.predefined for other in self._drivers.values()):
            raise Forbidden(
                f"operation is not permitted on predefined {network.name} network", remedy="Choose another name."
            )
        if not driver.user_defined:
            raise Forbidden(
                f'only one instance of "{network.driver}" network is allowed', remedy="Use the predefined network."
            )
        made = await self._create(network)
        self._emit("create", made)
        return made, []

    async def _create(self, wanted: Network) -> Network:
        async with self._lock:
            network = msgspec.structs.replace(wanted, id=new_id(), created=time.time(), bridge_name="")
            if self._networks.named(network.name):
                raise Conflict(f"network with name {network.name} already exists", remedy="Choose another name.")
            if self._driver(network.driver).addresses:
                network.pools = await self._pools(network)
            self._networks.add(network)
            try:
                return await self._ensure(network)
            except BaseException:
                self._networks.delete(network)
                raise

    async def _pools(self, network: Network) -> list[Pool]:
        others = [pool.subnet for other in self._networks.all() for pool in other.pools]
        pools = list(network.pools)
        if not any(":" not in pool.subnet for pool in pools if pool.subnet):
            occupied = await anyio.to_thread.run_sync(host_subnets)
            chosen = Pool(str(ipam.choose_subnet([*others, *occupied])))
            unnamed = next((pool for pool in pools if not pool.subnet), Pool(""))
            pools = [msgspec.structs.replace(unnamed, subnet=chosen.subnet), *(p for p in pools if p.subnet)]
        if network.ipv6 and not any(":" in pool.subnet for pool in pools):
            pools.append(Pool(str(ipam.private_subnet6(network.id))))
        return ipam.complete(pools, others)

    async def _ensure(self, network: Network) -> Network:
        """The network is there on the host: made or completed once in a daemon's life."""
        if network.id not in self._made:
            made = await self._driver(network.driver).create_network(network)
            self._networks.save(made)
            self._made.add(network.id)
            return made
        return network

    def lookup(self, name: str) -> Network:
        """By id, name or unique id prefix; "" and "default" are the network "bridge". NotFound."""
        return self._networks.get("bridge" if name in ("", "default") else name)

    async def get(self, name: str) -> Network:
        return self._networks.get(name)

    async def list(self, filters: Filters | None = None) -> Sequence[Network]:
        wanted = filters or {}
        matching.check(wanted, network_settings.LIST_FILTERS)
        return [
            network
            for network in self._networks.all()
            if network_settings.matches(
                network, wanted, predefined=self._predefined(network), used=bool(self._endpoints.of_network(network.id))
            )
        ]

    async def endpoints(self, network: Network) -> Sequence[Endpoint]:
        return self._endpoints.of_network(network.id)

    async def remove(self, name: str) -> None:
        async with self._lock:
            network = self._networks.get(name)
            if self._predefined(network):
                raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
            if used := self._endpoints.of_network(network.id):
                raise Forbidden(
                    f"error while removing network: network {network.name} has active endpoints"
                    f" ({network_settings.active(used)})",
                    remedy="Stop those containers, or disconnect them.",
                )
            await self._driver(network.driver).delete_network(network)
            self._networks.delete(network)
            self._endpoints.forget_network(network.id)
            self._made.discard(network.id)
        self._emit("destroy", network)

    async def prune(self, filters: Filters) -> Pruned:
        matching.check(filters, ("label", "label!", "until"))
        unwanted, before = filters.get("label!", ()), network_settings.until(filters)
        removed = []
        for network in await self.list({"dangling": ["true"], "label": filters.get("label", ())}):
            if network.created > before or (unwanted and matching.labels_match(network.labels, unwanted)):
                continue
            try:
                await self.remove(network.name)
            except (Forbidden, NotFound):
                continue
            removed.append(network.name)
        self._publish("network", "prune", "", {"reclaimed": "0"})
        return Pruned(removed, 0)

    # --- endpoints of containers ------------------------------------------------------------------

    def sandbox_mode(self, network_mode: str) -> SandboxMode:
        """Whose network namespace a container with this HostConfig.NetworkMode lives in. NotFound."""
        if network_mode.startswith("container:"):
            return SandboxMode.SHARED
        return self._driver(self.lookup(network_mode).driver).sandbox

    def allocate(
        self,
        network: Network,
        *,
        container_id: str,
        container_name: str,
        settings: EndpointSettings | None = None,
        ports: Sequence[PortBinding] = (),
        aliases: Sequence[str] = (),
        interface: str = "eth0",
    ) -> Endpoint:
        """Chooses the addresses of an endpoint and records it; nothing is made yet.

        What an earlier run of the same container has left in this network is forgotten. The first of its
        networks that is not internal has the default route.
        """
        settings = settings or EndpointSettings()
        if left := self._endpoints.find(network.id, container_id):
            self._endpoints.delete(left)
        others = self._endpoints.of_container(container_id)
        endpoint = Endpoint(
            id=new_id(),
            network_id=network.id,
            container_id=container_id,
            container_name=container_name,
            aliases=[*(settings.aliases or ()), *aliases],
            mac=network_settings.check_mac(settings.mac_address),
            interface=interface,
            default_route=not network.internal and not any(e.default_route for e in others),
            ports=[*ports],
        )
        if self._driver(network.driver).addresses:
            self._address(network, endpoint, settings.ipam_config or EndpointIPAM())
        try:
            self._endpoints.add(endpoint)
        except BaseException:
            self._endpoints.addresses(network).release(endpoint.address, endpoint.address6)
            raise
        return endpoint

    def _address(self, network: Network, endpoint: Endpoint, asked: EndpointIPAM) -> None:
        if self._predefined(network) and (asked.ipv4_address or asked.ipv6_address):
            raise InvalidArgument(
                "user specified IP address is supported on user defined networks only",
                f"{network.name} is a predefined one",
                "Make a network with a --subnet and connect to that.",
            )
        addresses = self._endpoints.addresses(network)
        endpoint.address, endpoint.gateway = addresses.take(4, asked.ipv4_address)
        try:
            endpoint.address6, endpoint.gateway6 = addresses.take(6, asked.ipv6_address)
        except HooperError:
            addresses.release(endpoint.address)
            raise
        if network.internal:
            endpoint.gateway = endpoint.gateway6 = ""
        if not endpoint.mac and endpoint.address:
            endpoint.mac = ipam.mac_address(endpoint.address)

    async def join(self, endpoint: Endpoint, sandbox: int) -> JoinResult:
        """Connects the namespace (a descriptor, which stays the caller's).

        The endpoint then has its ports' real numbers. On an error the endpoint stays recorded until `leave`.
        """
        network = await self._ensure(self._networks.get(endpoint.network_id))
        driver = self._driver(network.driver)
        result = await driver.join(network, endpoint, Sandbox(endpoint.container_id, sandbox))
        if endpoint.ports or result.ports:
            endpoint.ports = result.ports
            self._endpoints.save(endpoint)
        self._emit("connect", network, endpoint)
        return result

    async def leave(self, container_id: str, sandbox: int | None = None) -> None:
        """Undoes all of a container's endpoints. `sandbox` is None if its namespace is gone or about to go.

        What a driver cannot undo is logged, and left to the next `reconcile`.
        """
        for endpoint in self._endpoints.of_container(container_id):
            await self._leave(endpoint, sandbox)

    async def _leave(self, endpoint: Endpoint, sandbox: int | None) -> None:
        network = self._networks.by_id(endpoint.network_id)
        live = Sandbox(endpoint.container_id, sandbox) if sandbox is not None else None
        try:
            if network is not None:
                await self._driver(network.driver).leave(network, endpoint, live)
        except (HooperError, OSError) as error:
            self._log.warning("cannot leave a network", container=endpoint.container_id, error=str(error))
        self._endpoints.delete(endpoint)
        if network is not None:
            self._emit("disconnect", network, endpoint)

    def release(self, container_id: str) -> None:
        """Forgets a container's endpoints and gives back their addresses, without a word to the drivers."""
        for endpoint in self._endpoints.of_container(container_id):
            self._endpoints.delete(endpoint)

    def settings_of(self, endpoint: Endpoint, asked: EndpointSettings | None = None) -> EndpointSettings:
        """The endpoint as a container's inspect shows it, with what was asked for."""
        return network_settings.settings_of(endpoint, asked)

    def hosts_entries(self, endpoints: Sequence[Endpoint]) -> Sequence[tuple[str, str]]:
        """(address, names) of the other endpoints in the users' networks of these: what /etc/hosts may say
        of a container's peers when it starts."""
        lines = []
        for endpoint in endpoints:
            network = self._networks.by_id(endpoint.network_id)
            if network is None or self._predefined(network):
                continue
            for peer in self._endpoints.of_network(network.id):
                if peer.container_id != endpoint.container_id and peer.address:
                    lines.append((peer.address.partition("/")[0], " ".join(network_settings.names_of(peer))))
        return lines

    async def reconcile(self, live: Collection[str]) -> None:
        """After a start of the daemon: `live` are the ids of the containers that run.

        Endpoints of others are forgotten, and drivers put the host in step.
        """
        touched = {network.id for network in self._networks.all() if network.id in self._made}
        for container_id in self._endpoints.containers():
            endpoints = self._endpoints.of_container(container_id)
            touched |= {endpoint.network_id for endpoint in endpoints}
            if container_id not in live:
                self.release(container_id)
        for network_id in touched:
            network = self._networks.by_id(network_id)
            try:
                if network is not None:
                    await self._ensure(network)
                    driver = self._driver(network.driver)
                    await driver.reconcile(network, self._endpoints.of_network(network_id))
            except (HooperError, OSError) as error:
                self._log.error("cannot reconcile a network", network=network_id, error=str(error))

    # --- connect and disconnect -------------------------------------------------------------------

    async def connect(self, name: str, container: str, settings: EndpointSettings) -> None:
        network, target = self._networks.get(name), self.containers.get(container)
        if network.name in target.networks:
            raise Forbidden(
                f"endpoint with name {target.name} already exists in network {network.name}",
                remedy="Disconnect it first to change its settings.",
            )
        self._check_connectable(network, target)
        sandbox = await self.containers.sandbox(target.id)
        if sandbox is None:
            target.networks[network.name] = settings
        else:
            try:
                target.networks[network.name] = await self._connect_live(network, target, settings, sandbox)
            finally:
                os.close(sandbox)
        self.containers.save(target)

    def _check_connectable(self, network: Network, target: Container) -> None:
        own = self.sandbox_mode(target.host_config.network_mode) is SandboxMode.NEW
        if not own or self._driver(network.driver).sandbox is not SandboxMode.NEW:
            raise Forbidden(
                "container sharing network namespace with another container or host cannot be connected to any"
                " other network",
                remedy="Make the container anew with --network.",
            )
        if "none" in target.networks or not self._driver(network.driver).addresses:
            raise Forbidden(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
                remedy="Disconnect it from the network none first.",
            )

    async def _connect_live(
        self, network: Network, target: Container, settings: EndpointSettings, sandbox: int
    ) -> EndpointSettings:
        present = {endpoint.interface for endpoint in self._endpoints.of_container(target.id)}
        interface = next(name for number in range(len(present) + 1) if (name := f"eth{number}") not in present)
        endpoint = self.allocate(
            network, container_id=target.id, container_name=target.name, settings=settings, interface=interface
        )
        try:
            await self.join(endpoint, sandbox)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._leave(endpoint, sandbox)
            raise
        return self.settings_of(endpoint, settings)

    async def disconnect(self, name: str, container: str, *, force: bool = False) -> None:
        network = self._networks.get(name)
        try:
            target = self.containers.get(container)
        except NotFound:
            if force and (stray := self._stray(network, container)):
                await self._leave(stray, None)
                return
            raise
        if network.name not in target.networks:
            raise Forbidden(f"container {target.id} is not connected to network {network.name}")
        if self._driver(network.driver).sandbox is SandboxMode.HOST:
            raise Forbidden("container cannot be disconnected from host network or connected to host network")
        if endpoint := self._endpoints.find(network.id, target.id):
            sandbox = await self.containers.sandbox(target.id)
            try:
                await self._leave(endpoint, sandbox)
            finally:
                if sandbox is not None:
                    os.close(sandbox)
        del target.networks[network.name]
        self.containers.save(target)

    def _stray(self, network: Network, container: str) -> Endpoint | None:
        """An endpoint whose container is gone, by its name or id."""
        found = self._endpoints.of_network(network.id)
        return next((e for e in found if container in (e.container_name, e.container_id, e.id)), None)

    def _emit(self, action: str, network: Network, endpoint: Endpoint | None = None) -> None:
        attributes = {"name": network.name, "type": network.driver}
        if endpoint is not None:
            attributes["container"] = endpoint.container_id
        self._publish("network", action, network.id, attributes)
