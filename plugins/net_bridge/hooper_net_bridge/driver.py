"""The driver "bridge": a Linux bridge a network, a veth pair an endpoint, nftables for everything else."""

from __future__ import annotations

import ipaddress
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from socket import IPPROTO_UDP
from typing import TYPE_CHECKING

import anyio.to_thread

from hooper.api.driver import DriverContext
from hooper.api.errors import Conflict, Internal, SkipDriver
from hooper.api.network import Endpoint, JoinResult, Network, NetworkDriver, PortBinding, Sandbox
from hooper.linux import conntrack
from hooper_net_bridge import naming, options, ruleset
from hooper_net_bridge.config import BridgeConfig, default_pools
from hooper_net_bridge.filter import Filter
from hooper_net_bridge.links import Links, switch_on
from hooper_net_bridge.ports import PortReserver, Reserved

if TYPE_CHECKING:
    from hooper_net_bridge.relays import Relays

_STATE = "bridge/"
_DISMANTLING_S = 2.0
"""How long the kernel may take to remove the links of namespaces that have ended."""
_LEFT = 1024


class BridgeDriver(NetworkDriver):
    """Verbs run in a worker thread: netlink takes the kernel's rtnl lock, which a namespace that is being
    dismantled can hold for tens of milliseconds."""

    predefined = ("bridge",)

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self._config: BridgeConfig = context.config or BridgeConfig()
        self._root = context.host.exec_root
        self._reserver = PortReserver(self._is_published)
        self._links: Links | None = None
        self._filter: Filter | None = None
        self._forwarding = False
        self._left: deque[str] = deque(maxlen=_LEFT)
        """The last links that were left to the kernel to remove."""
        self.default_pools, self.default_ipv6 = default_pools(self._config), self._config.ipv6

    async def probe(self) -> None:
        if not self.context.host.root:
            raise SkipDriver("bridges and veth pairs cannot be made", "that needs root", "Start hooper as root.")

    async def open(self) -> None:
        self._links = Links()
        self._filter = Filter(self._config.table or naming.table(self._root))
        try:
            self._filter.open()
        except OSError as error:
            raise Internal(
                f"cannot load the nftables table {self._filter.table}",
                error.strerror or str(error),
                "The kernel needs nf_tables with the inet family and nft_nat, nft_fib_inet and nft_masq.",
            ) from error

    async def aclose(self) -> None:
        """Containers outlive the daemon: while a link is on one of its bridges all stays as it is. Otherwise
        bridges and table go; `create_network` makes them again."""
        if self._links is None or self._filter is None:
            return
        links, rules = self._links, self._filter
        self._links = self._filter = None
        try:
            await anyio.to_thread.run_sync(self._tidy, links, rules)
        finally:
            links.close()
            rules.close()

    def _tidy(self, links: Links, rules: Filter) -> None:
        bridges = [key.removeprefix(_STATE) for key, _ in self.context.state.items(_STATE)]
        try:
            if self._is_idle(links, bridges):
                for bridge in bridges:
                    links.delete(bridge)
                rules.delete()
        except OSError as error:
            self.context.log.warning("cannot remove idle bridges", bridges=bridges, error=str(error))

    def _is_idle(self, links: Links, bridges: Sequence[str]) -> bool:
        """No link is on the bridges. Those that were left to the kernel get a moment to go."""
        deadline = time.monotonic() + _DISMANTLING_S
        while found := links.on(bridges):
            if not found <= set(self._left) or time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    @property
    def _parts(self) -> tuple[Links, Filter]:
        if self._links is None or self._filter is None:
            raise Internal("the bridge driver", "it is not open")
        return self._links, self._filter

    def _is_published(self, protocol: str, address: str, port: int) -> bool:
        return self._parts[1].is_published(protocol, address, port)

    # --- networks ---------------------------------------------------------------------------------

    async def create_network(self, network: Network) -> Network:
        return await anyio.to_thread.run_sync(self._create, network)

    def _create(self, network: Network) -> Network:
        links, rules = self._parts
        settings = options.parse(network, self._config)
        bridge = network.bridge_name or settings.bridge_name or self._bridge_name(network)
        made = self._claim(bridge, network)
        try:
            links.ensure_bridge(bridge, network, settings)
            rules.add(network.id, ruleset.network_entries(network, bridge, settings))
        except OSError as error:
            self._abandon(bridge, made=made)
            raise Internal(f"cannot make the network {network.name}", error.strerror or str(error)) from error
        except BaseException:
            self._abandon(bridge, made=made)
            raise
        self._switch_forwarding_on(network)
        network.bridge_name = bridge
        return network

    def _bridge_name(self, network: Network) -> str:
        if network.name in self.predefined:
            return self._config.bridge_name or naming.default_bridge(self._root)
        return naming.bridge(network)

    def _claim(self, bridge: str, network: Network) -> bool:
        """Records who owns the interface, before it is made. False if it was there, and is not ours."""
        state, key = self.context.state, _STATE + bridge
        owner = state.get(key)
        if owner is not None and owner.decode() != network.id:
            raise Conflict(
                f"cannot create network {network.id} ({bridge})",
                f"conflicts with network {owner.decode()} ({bridge}): networks have same bridge name",
                "Give another name with the option com.docker.network.bridge.name.",
            )
        if owner is None and self._parts[0].has(bridge):
            return False
        if owner is None:
            state.put(key, network.id.encode())
        return owner is None

    def _abandon(self, bridge: str, *, made: bool) -> None:
        if made:
            with suppress(OSError):
                self._parts[0].delete(bridge)
            self.context.state.delete(_STATE + bridge)

    def _switch_forwarding_on(self, network: Network) -> None:
        if network.ipv6 and not network.internal and switch_on("ipv6/conf/all/forwarding"):
            self.context.log.info("turned IPv6 forwarding on", network=network.name)
        if self._forwarding:
            return
        self._forwarding = True
        if switch_on("ipv4/ip_forward"):
            self.context.log.info("turned IPv4 forwarding on (net.ipv4.ip_forward)")
        if chain := self._parts[1].forward_is_dropped_by():
            self.context.log.warning(
                "another packet filter drops forwarded packets: containers may reach nothing outside",
                chain=chain,
                remedy="Let it accept what comes from and goes to hooper's bridges, or: iptables -P FORWARD ACCEPT",
            )

    async def delete_network(self, network: Network) -> None:
        await anyio.to_thread.run_sync(self._delete, network)

    def _delete(self, network: Network) -> None:
        links, rules = self._parts
        bridge = network.bridge_name or self._bridge_name(network)
        rules.remove(network.id, ruleset.network_entries(network, bridge, options.parse(network, self._config)))
        rules.delete_published(self._published_in(network))
        if self.context.state.get(_STATE + bridge) == network.id.encode():
            links.delete(bridge)
            self.context.state.delete(_STATE + bridge)

    # --- endpoints --------------------------------------------------------------------------------

    async def join(self, network: Network, endpoint: Endpoint, sandbox: Sandbox) -> JoinResult:
        return await anyio.to_thread.run_sync(self._join, network, endpoint, sandbox.netns)

    def _join(self, network: Network, endpoint: Endpoint, netns: int) -> JoinResult:
        links, rules = self._parts
        settings = options.parse(network, self._config)
        published = Reserved() if network.internal else self._reserver.reserve(endpoint, settings)
        try:
            links.connect(
                network.bridge_name, network, endpoint, netns, settings.mtu, isolated=not settings.inter_container
            )
            relays = self._publish(rules, network, endpoint, published)
        except BaseException:
            published.close()
            with suppress(OSError):
                links.delete(naming.veth(endpoint))
            raise
        reservations = [*published.detach(), *relays]
        return JoinResult(ports=published.ports, reservations=reservations, interface=endpoint.interface)

    def _publish(self, rules: Filter, network: Network, endpoint: Endpoint, published: Reserved) -> list[int]:
        """Returns what keeps relays alive. On an error nothing is published."""
        try:
            rules.add(endpoint.id, ruleset.port_entries(endpoint, published.ports))
            self._forget_flows(endpoint, published.ports)
            return [self._relays.start(network, endpoint, published.relayed)] if published.relayed else []
        except OSError as error:
            rules.remove(endpoint.id)
            raise Internal(
                f"cannot publish the ports of {endpoint.container_name}", error.strerror or str(error)
            ) from error

    @property
    def _relays(self) -> Relays:
        from hooper_net_bridge.relays import Relays

        return Relays(self.context.exec_dir)

    async def publish(self, network: Network, endpoint: Endpoint) -> JoinResult:
        return await anyio.to_thread.run_sync(self._republish, network, endpoint)

    def _republish(self, network: Network, endpoint: Endpoint) -> JoinResult:
        links, rules = self._parts
        settings = options.parse(network, self._config)
        rules.remove(endpoint.id)
        self._relays.stop(network, endpoint)
        published = Reserved() if network.internal else self._reserver.reserve(endpoint, settings)
        try:
            links.set_hairpin(endpoint, isolated=not settings.inter_container)
            relays = self._publish(rules, network, endpoint, published)
        except BaseException:
            published.close()
            raise
        return JoinResult(published.ports, [*published.detach(), *relays], endpoint.interface)

    async def leave(self, network: Network, endpoint: Endpoint, sandbox: Sandbox | None) -> None:
        """The veth pair of a sandbox that is gone or about to go is left to the kernel, which removes it
        with the namespace: to delete one takes an RCU grace period."""
        if sandbox is None:
            self._left.append(naming.veth(endpoint))
        if sandbox is not None or endpoint.ports:
            await anyio.to_thread.run_sync(self._leave, network, endpoint, sandbox is not None)

    def _leave(self, network: Network, endpoint: Endpoint, live: bool) -> None:
        links, rules = self._parts
        rules.remove(endpoint.id)
        if any(":" in port.host_ip for port in endpoint.ports):
            self._relays.stop(network, endpoint)
        self._forget_flows(endpoint, endpoint.ports, left=True)
        if live:
            links.delete(naming.veth(endpoint))

    def _forget_flows(self, endpoint: Endpoint, ports: Iterable[PortBinding], *, left: bool = False) -> None:
        """UDP clients that go on sending shall reach who has the port now."""
        numbers = {port.host_port for port in ports if port.protocol == "udp"}
        own = {address.partition("/")[0] for address in (endpoint.address, endpoint.address6) if address}

        def is_stale(flow: conntrack.Flow) -> bool:
            return flow.protocol == IPPROTO_UDP and flow.port in numbers and (flow.answered_by in own) is left

        if numbers:
            try:
                conntrack.forget(is_stale)
            except OSError as error:
                self.context.log.warning("cannot forget old UDP flows", ports=sorted(numbers), error=str(error))

    async def reconcile(self, network: Network, endpoints: Sequence[Endpoint]) -> None:
        await anyio.to_thread.run_sync(self._reconcile, network, endpoints)

    def _reconcile(self, network: Network, endpoints: Sequence[Endpoint]) -> None:
        links, rules = self._parts
        wanted = {endpoint.id: ruleset.port_entries(endpoint, endpoint.ports) for endpoint in endpoints}
        known = {entry for entries in wanted.values() for entry in entries}
        rules.delete_published([entry for entry in self._published_in(network) if entry not in known])
        for endpoint_id, entries in wanted.items():
            rules.add(endpoint_id, entries)
        self._relays.stop_others(network, endpoints)
        gone = links.remove_strangers(network.bridge_name, {naming.veth(endpoint) for endpoint in endpoints})
        if gone:
            self.context.log.info("removed left-over links", network=network.name, links=gone)

    def _published_in(self, network: Network) -> list[ruleset.Entry]:
        subnets = [ipaddress.ip_network(pool.subnet) for pool in network.pools]

        def inside(entry: ruleset.Entry) -> bool:
            address = ruleset.target_address(*entry)
            return any(address in subnet for subnet in subnets if subnet.version == address.version)

        return [entry for entry in self._parts[1].published() if inside(entry)]
