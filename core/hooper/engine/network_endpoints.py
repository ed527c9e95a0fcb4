"""The endpoints of containers before and between joins: their addresses, and which has routes and ports."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hooper.api.errors import HooperError, InvalidArgument
from hooper.api.model import EndpointIPAM, EndpointSettings
from hooper.api.network import Endpoint, Network, NetworkDriver, PortBinding
from hooper.engine import gateways, ipam, network_settings, network_templates
from hooper.engine.names import new_id
from hooper.engine.network_store import EndpointStore, NetworkStore


class Allocator:
    """Makes records; nothing of it touches the host."""

    def __init__(
        self,
        networks: NetworkStore,
        endpoints: EndpointStore,
        driver: Callable[[Network], NetworkDriver],
        predefined: Callable[[Network], bool],
        foretell: Callable[[Network], None],
    ) -> None:
        """`foretell` is told of each network that a container will be in soon."""
        self._networks, self._endpoints = networks, endpoints
        self._driver, self._predefined, self._foretell = driver, predefined, foretell

    def allocate(
        self,
        network: Network,
        *,
        container_id: str,
        container_name: str,
        settings: EndpointSettings | None = None,
        ports: Sequence[PortBinding] = (),
        aliases: Sequence[str] = (),
        interface: str = "",
    ) -> Endpoint:
        """Chooses the addresses of an endpoint and records it; nothing is made yet.

        What an earlier run of the same container has left in this network is forgotten. `ports` are those of
        the container, which may go to another endpoint of it, as the default routes may: see `gateways`.
        """
        settings = settings or EndpointSettings()
        network_templates.check_connectable(network)
        if left := self._endpoints.find(network.id, container_id):
            self._endpoints.delete(left)
        others = self._endpoints.of_container(container_id)
        endpoint = Endpoint(
            id=new_id(),
            network_id=network.id,
            container_id=container_id,
            container_name=container_name,
            aliases=[*(settings.aliases or ()), *aliases],
            links=[*(settings.links or ())],
            mac=network_settings.check_mac(settings.mac_address),
            interface=interface,
            gw_priority=settings.gw_priority,
            ports=[] if any(other.ports for other in others) else [*ports],
        )
        network_settings.apply_options(network, endpoint, settings, {other.interface for other in others})
        self._foretell(network)
        if self._driver(network).addresses:
            self._address(network, endpoint, settings.ipam_config or EndpointIPAM())
        try:
            self._elect(network, endpoint, others)
            self._endpoints.add(endpoint)
        except BaseException:
            self._endpoints.addresses(network).release(endpoint.address, endpoint.address6)
            raise
        return endpoint

    def _elect(self, network: Network, endpoint: Endpoint, others: Sequence[Endpoint]) -> None:
        if not others:
            endpoint.default_route = not network.internal and bool(endpoint.address)
            endpoint.default_route6 = not network.internal and bool(endpoint.address6)
            return
        for changed in gateways.elect([*self.places(endpoint.container_id), (network, endpoint)]):
            if changed is not endpoint:
                self._endpoints.save(changed)

    def places(self, container_id: str) -> Sequence[gateways.Place]:
        """Where a container is connected now."""
        return [(self._networks.get(e.network_id), e) for e in self._endpoints.of_container(container_id)]

    def _address(self, network: Network, endpoint: Endpoint, asked: EndpointIPAM) -> None:
        if self._predefined(network) and (asked.ipv4_address or asked.ipv6_address):
            raise InvalidArgument(
                "user specified IP address is supported on user defined networks only",
                f"{network.name} is a predefined one",
                "Make a network with a --subnet and connect to that.",
            )
        endpoint.link_local = network_settings.link_local(asked.link_local_ips or ())
        own_mac = self._driver(network).hardware_addresses
        if not own_mac:
            network_settings.refuse_mac(network, endpoint.mac)
        addresses = self._endpoints.addresses(network)
        endpoint.address, endpoint.gateway = addresses.take(4, asked.ipv4_address)
        try:
            endpoint.address6, endpoint.gateway6 = addresses.take(6, asked.ipv6_address)
        except HooperError:
            addresses.release(endpoint.address)
            raise
        if network.internal:
            endpoint.gateway = endpoint.gateway6 = ""
        if own_mac:
            endpoint.mac = endpoint.mac or ipam.mac_address(endpoint.address, endpoint.id)

    def check_settings(self, network: Network, settings: EndpointSettings) -> None:
        """Raises for what is wrong with an endpoint's settings, whatever else there is in the network."""
        asked = settings.ipam_config or EndpointIPAM()
        network_settings.check_mac(settings.mac_address)
        network_settings.link_local(asked.link_local_ips or ())
        network_settings.apply_options(
            network, Endpoint(id="", network_id="", container_id="", container_name="", interface=""), settings, ()
        )

    def settle(self, container_id: str, ports: Sequence[PortBinding] = ()) -> Sequence[Endpoint]:
        """After an endpoint has gone whose ports, which are held, these were: elects anew.

        Returns the endpoints whose routes or ports have changed.
        """
        places = self.places(container_id)
        changed = gateways.elect(places)
        heir = next((e for _, e in places if e.default_route), next((e for _, e in places if e.default_route6), None))
        if ports and heir is not None:
            heir.ports, heir.held = [*ports], True
            changed = [*(e for e in changed if e is not heir), heir]
        for endpoint in changed:
            self._endpoints.save(endpoint)
        return changed
