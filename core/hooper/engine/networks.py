"""Networks: what users make, where containers are connected, and how all of it survives a restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import anyio
import msgspec

from hooper.api.engine import Filters, Networks, Pruned, SubnetStatus
from hooper.api.errors import Conflict, Forbidden, HooperError, NotFound
from hooper.api.model import Container, EndpointSettings
from hooper.api.network import Endpoint, JoinResult, Network, NetworkDriver, Sandbox, SandboxMode
from hooper.engine import filters as matching
from hooper.engine import network_settings, network_templates
from hooper.engine.name_service import NameService
from hooper.engine.names import new_id
from hooper.engine.network_connect import Connector, ContainerLookup
from hooper.engine.network_endpoints import Allocator
from hooper.engine.network_pools import PoolChooser, host_lock
from hooper.engine.network_store import EndpointStore, NetworkStore
from hooper.state.database import Database

Publish = Callable[[str, str, str, dict[str, str]], None]
"""Takes an event's type, action, id and attributes."""


class NetworkService(Networks):
    """`containers` is set by the engine before the first connect or disconnect."""

    containers: ContainerLookup
    names: NameService | None = None
    """Set by the engine; None: nobody is told of names."""

    def __init__(
        self,
        database: Database,
        drivers: Mapping[str, NetworkDriver],
        publish: Publish,
        log: Any,
        default_driver: str = "auto",
        address_pools: Sequence[str] = (),
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
        self._pools = PoolChooser(self._networks, address_pools)
        self._allocator = Allocator(self._networks, self._endpoints, self.driver_of, self._predefined, self._foretell)
        self.allocate, self.settle = self._allocator.allocate, self._allocator.settle
        self.check_settings = self._allocator.check_settings
        self._connector = Connector(self, log)

    # --- networks ---------------------------------------------------------------------------------

    async def ensure_defaults(self) -> None:
        """Makes the networks that each driver predefines. Users' networks are made when they are used."""
        for name, driver in self._drivers.items():
            for predefined in driver.predefined:
                network = self._networks.named(predefined)
                if network is None:
                    pools, ipv6 = [*driver.default_pools], driver.default_ipv6
                    await self._create(
                        Network(id="", name=predefined, driver=name, created=0.0, pools=pools, ipv6=ipv6)
                    )
                elif network.driver == name:
                    await self._ensure(await self._reconfigured(network, driver))

    async def _reconfigured(self, network: Network, driver: NetworkDriver) -> Network:
        """A predefined network whose subnets the configuration now has otherwise gets them if it is idle."""
        wanted = await self._pools.reconfigured(network, driver)
        if wanted is None:
            return network
        if self._endpoints.of_network(network.id):
            self._log.warning("a network in use keeps its old subnets", network=network.name)
            return network
        await driver.delete_network(network)
        self._endpoints.forget_network(network.id)
        self._networks.save(wanted)
        return wanted

    def _predefined(self, network: Network) -> bool:
        driver = self._drivers.get(network.driver)
        return driver is not None and network.name in driver.predefined

    def _driver(self, name: str) -> NetworkDriver:
        driver = self._drivers.get(name)
        if driver is None:
            raise NotFound(
                f'plugin "{name}" not found',
                "no active plugin brings a network driver of that name",
                f"There are: {', '.join(self._drivers)}. `hooper plugin ls` tells why others are not active.",
            )
        return driver

    async def create(self, network: Network) -> tuple[Network, Sequence[str]]:
        network_settings.check_name(network.name)
        network = network_templates.applied(network, self._networks.named(network.config_from))
        network = msgspec.structs.replace(network, driver=network.driver or self._default)
        driver = self._driver(network.driver)
        if any(network.name in other.predefined for other in self._drivers.values()):
            raise Forbidden(
                f"operation is not permitted on predefined {network.name} network", remedy="Choose another name."
            )
        if not driver.user_defined and not network.config_only:
            raise Forbidden(
                f'only one instance of "{network.driver}" network is allowed', remedy="Use the predefined network."
            )
        made, warnings = await self._create(network)
        self._foretell(made)
        self._emit("create", made)
        return made, warnings

    async def _create(self, wanted: Network) -> tuple[Network, list[str]]:
        warnings: list[str] = []
        async with self._lock:
            network = msgspec.structs.replace(wanted, id=new_id(), created=time.time(), bridge_name="")
            if self._networks.named(network.name):
                raise Conflict(f"network with name {network.name} already exists", remedy="Choose another name.")
            if network.config_only:
                self._networks.add(network)
                return network, warnings
            if not self._driver(network.driver).addresses:
                return await self._made_of(network), warnings
            async with host_lock():
                network.pools, warnings = await self._pools.choose(network)
                return await self._made_of(network), warnings

    async def _made_of(self, network: Network) -> Network:
        """It is recorded first; on an error neither is left."""
        self._networks.add(network)
        try:
            return await self._ensure(network)
        except BaseException:
            self._networks.delete(network)
            raise

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

    async def status(self, network: Network) -> dict[str, SubnetStatus]:
        found = self._endpoints.addresses(network).status() if not network.config_only else {}
        return {subnet: SubnetStatus(used, free) for subnet, (used, free) in found.items()}

    async def remove(self, name: str) -> None:
        async with self._lock:
            network = self._networks.get(name)
            if self._predefined(network):
                raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
            network_templates.check_unused(network, self._networks.all())
            if used := self._endpoints.of_network(network.id):
                raise Forbidden(
                    f"error while removing network: network {network.name} has active endpoints"
                    f" ({network_settings.active(used)})",
                    remedy="Stop those containers, or disconnect them.",
                )
            if not network.config_only:
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

    def _foretell(self, network: Network) -> None:
        """A container will be in the network soon."""
        if self.names is not None and self.has_names(network):
            self.names.warm()

    def has_names(self, network: Network) -> bool:
        """Its members find each other by name: it is a user's, and they have addresses."""
        return not self._predefined(network) and self._driver(network.driver).addresses

    def endpoints_of(self, container_id: str) -> Sequence[Endpoint]:
        """In order of connection."""
        return self._endpoints.of_container(container_id)

    def connected(self) -> Collection[str]:
        """The ids of the containers that run, or are being started, and are in a network."""
        return [*self._endpoints.containers()]

    def network_of(self, endpoint: Endpoint) -> Network | None:
        return self._networks.by_id(endpoint.network_id)

    async def renamed(self, container: Container) -> None:
        """Others find it by its new name from now on."""
        for endpoint in self._endpoints.of_container(container.id):
            endpoint.container_name = container.name
            self._endpoints.save(endpoint)
            if (network := self.network_of(endpoint)) is not None and network.name in container.networks:
                container.networks[network.name].dns_names = network_settings.names_of(endpoint)
                self.containers.save(container)
        if self.names is not None:
            await self.names.changed(container.id)

    def sandbox_mode(self, network_mode: str) -> SandboxMode:
        """Whose network namespace a container with this HostConfig.NetworkMode lives in. NotFound."""
        if network_mode.startswith("container:"):
            return SandboxMode.SHARED
        return self._driver(self.lookup(network_mode).driver).sandbox

    async def join(self, endpoint: Endpoint, sandbox: int, *, tell: bool = True) -> JoinResult:
        """Connects the namespace (a descriptor, which stays the caller's); `tell`: with an event.

        The endpoint then has its ports' real numbers. On an error the endpoint stays recorded until `leave`.
        """
        network = await self._ensure(self._networks.get(endpoint.network_id))
        driver = self._driver(network.driver)
        joining = driver.join(network, endpoint, Sandbox(endpoint.container_id, sandbox))
        if self.names is not None and self.has_names(network):
            joining = self.names.join(endpoint, joining, sandbox)
        result = await joining
        if endpoint.ports or result.ports:
            endpoint.ports, endpoint.held = result.ports, True
            self._endpoints.save(endpoint)
        if tell:
            self._emit("connect", network, endpoint)
        return result

    async def publish(self, endpoint: Endpoint) -> JoinResult:
        """Tells the driver of a joined endpoint that its ports have changed, and records what it makes of them."""
        network = self._networks.get(endpoint.network_id)
        result = await self._driver(network.driver).publish(network, endpoint)
        endpoint.ports = result.ports
        self._endpoints.save(endpoint)
        return result

    def driver_of(self, network: Network) -> NetworkDriver:
        return self._driver(network.driver)

    def endpoint_of(self, network: Network, container_id: str) -> Endpoint | None:
        return self._endpoints.find(network.id, container_id)

    async def leave(self, container_id: str, sandbox: int | None = None) -> None:
        """Undoes all of a container's endpoints. `sandbox` is None if its namespace is gone or about to go.

        What a driver cannot undo is logged, and left to the next `reconcile`.
        """
        self.tell_left(await self.part(container_id, sandbox))

    async def part(self, container_id: str, sandbox: int | None = None) -> Sequence[tuple[Network, Endpoint]]:
        """As `leave`, without its events: they are `tell_left`'s, once the container's own end was told."""
        if self.names is not None:
            await self.names.left(container_id)
        endpoints = self._endpoints.of_container(container_id)
        return [(network, e) for e in endpoints if (network := await self.leave_one(e, sandbox)) is not None]

    def tell_left(self, left: Sequence[tuple[Network, Endpoint]]) -> None:
        for network, endpoint in left:
            self._emit("disconnect", network, endpoint)

    async def leave_one(self, endpoint: Endpoint, sandbox: int | None) -> Network | None:
        """The network, if there is still one."""
        network = self._networks.by_id(endpoint.network_id)
        live = Sandbox(endpoint.container_id, sandbox) if sandbox is not None else None
        try:
            if network is not None:
                await self._driver(network.driver).leave(network, endpoint, live)
        except (HooperError, OSError) as error:
            self._log.warning("cannot leave a network", container=endpoint.container_id, error=str(error))
        self._endpoints.delete(endpoint)
        if self.names is not None:
            await self.names.changed(endpoint.container_id)
        return network

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
        if self.names is not None:
            self.names.restore(live)

    async def connect(self, name: str, container: str, settings: EndpointSettings) -> None:
        await self._connector.connect(name, container, settings)

    async def disconnect(self, name: str, container: str, *, force: bool = False) -> None:
        await self._connector.disconnect(name, container, force=force)

    def _emit(self, action: str, network: Network, endpoint: Endpoint | None = None) -> None:
        attributes = {"name": network.name, "type": network.driver}
        if endpoint is not None:
            attributes["container"] = endpoint.container_id
        self._publish("network", action, network.id, attributes)
