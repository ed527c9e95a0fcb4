"""The network service with drivers that only remember what they were asked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog

from hooper.api.errors import Conflict, Forbidden, Internal, InvalidArgument, NotFound
from hooper.api.model import Container, ContainerConfig, EndpointIPAM, EndpointSettings, HostConfig
from hooper.api.network import Endpoint, JoinResult, Network, NetworkDriver, Pool, PortBinding, Sandbox, SandboxMode
from hooper.engine import network_pools
from hooper.engine.networks import NetworkService
from hooper.state.database import Database

pytestmark = pytest.mark.anyio


class Fake(NetworkDriver):
    def __init__(self, name: str) -> None:
        self.calls: list[tuple[str, str]] = []
        self.failing: set[str] = set()
        self.predefined = (name,)

    def _called(self, verb: str, what: str) -> None:
        self.calls.append((verb, what))
        if verb in self.failing:
            raise Internal(f"{verb} fails")

    async def create_network(self, network: Network) -> Network:
        self._called("create", network.name)
        network.bridge_name = f"br-{network.name}"
        return network

    async def delete_network(self, network: Network) -> None:
        self._called("delete", network.name)

    async def join(self, network: Network, endpoint: Endpoint, sandbox: Sandbox) -> JoinResult:
        self._called("join", endpoint.container_name)
        return JoinResult([PortBinding(p.protocol, p.container_port, "0.0.0.0", 40000) for p in endpoint.ports])

    async def leave(self, network: Network, endpoint: Endpoint, sandbox: Sandbox | None) -> None:
        self._called("leave live" if sandbox else "leave", endpoint.container_name)

    async def reconcile(self, network: Network, endpoints: Sequence[Endpoint]) -> None:
        self._called("reconcile", f"{network.name}: {' '.join(e.container_name for e in endpoints)}")


class HostFake(Fake):
    addresses = False
    user_defined = False
    sandbox = SandboxMode.HOST


class Containers:
    """One container, running or not."""

    def __init__(self, running: bool) -> None:
        self.running, self.saved, self.held = running, 0, 0
        self.one = Container(
            id="c" * 64, name="web", created="", config=ContainerConfig(),
            host_config=HostConfig(network_mode="bridge"), networks={"bridge": EndpointSettings()},
        )  # fmt: skip

    def get(self, name: str) -> Container:
        if name not in (self.one.name, self.one.id):
            raise NotFound(f"No such container: {name}")
        return self.one

    def save(self, container: Container) -> None:
        self.saved += 1

    async def sandbox(self, container_id: str) -> int | None:
        return os.open("/dev/null", os.O_RDONLY) if self.running else None

    async def hold(self, container_id: str, descriptors: Sequence[int]) -> None:
        self.held += len(descriptors)

    async def release_ports(self, container_id: str) -> None:
        self.held = 0


class Setup:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[tuple[str, str, dict[str, str]]] = []
        self.bridge, self.host = Fake("bridge"), HostFake("host")
        self.open()

    def open(self) -> None:
        """Also again: a daemon that was restarted."""
        self.database = Database(self.path)
        drivers = {"bridge": self.bridge, "host": self.host}
        self.service = NetworkService(self.database, drivers, self._publish, structlog.get_logger())

    def _publish(self, type: str, action: str, id: str, attributes: dict[str, str]) -> None:
        self.events.append((type, action, attributes))

    async def make(self, name: str = "net", **fields: Any) -> Network:
        wanted = Network(id="", name=name, driver=fields.pop("driver", "bridge"), created=0.0, **fields)
        return (await self.service.create(wanted))[0]

    def allocate(self, network: Network, number: int = 1, **fields: Any) -> Endpoint:
        return self.service.allocate(
            network, container_id=f"{number:064x}", container_name=fields.pop("name", f"c{number}"), **fields
        )


@pytest.fixture
async def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setattr(network_pools, "host_subnets", lambda: ["172.17.0.0/16"])
    made = Setup(tmp_path / "db")
    await made.service.ensure_defaults()
    return made


async def test_defaults_are_made_once_and_users_networks_when_they_are_used(setup: Setup) -> None:
    assert [n.name for n in await setup.service.list()] == ["bridge", "host"]
    assert setup.service.lookup("bridge").pools == [Pool("172.18.0.0/16", "172.18.0.1", automatic=True)]
    network = await setup.make()
    setup.bridge.calls.clear()
    setup.open()
    await setup.service.ensure_defaults()
    assert setup.bridge.calls == [("create", "bridge")]
    await setup.service.join(setup.allocate(setup.service.lookup(network.id)), 0)
    assert setup.bridge.calls[1:] == [("create", "net"), ("join", "c1")]


async def test_a_driver_may_choose_the_subnet_of_its_defaults(setup: Setup, tmp_path: Path) -> None:
    other = Setup(tmp_path / "other")
    other.bridge.default_pools = [Pool("10.9.0.0/24")]
    await other.service.ensure_defaults()
    assert other.service.lookup("").pools == [Pool("10.9.0.0/24", "10.9.0.1")]


async def test_created_networks_are_complete_and_found(setup: Setup) -> None:
    network = await setup.make(labels={"a": "b"}, ipv6=True)
    assert len(network.id) == 64
    assert network.bridge_name == "br-net"
    assert [":" in pool.subnet for pool in network.pools] == [False, True]
    assert all(pool.gateway for pool in network.pools)
    for name in (network.id, network.id[:12], "net"):
        assert await setup.service.get(name) == network
    assert setup.events[-1] == ("network", "create", {"name": "net", "type": "bridge"})


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"name": "bridge"}, Forbidden, "operation is not permitted on predefined bridge network"),
        ({"name": "taken"}, Conflict, "network with name taken already exists"),
        ({"name": "a b"}, InvalidArgument, "invalid network name"),
        ({"driver": "host"}, Forbidden, 'only one instance of "host" network is allowed'),
        ({"driver": "macvlan"}, NotFound, 'plugin "macvlan" not found'),
        ({"pools": [Pool("10.7.0.0/16")]}, Forbidden, "Pool overlaps"),
        ({"pools": [Pool("10.x")]}, InvalidArgument, "invalid subnet"),
    ],
)
async def test_networks_that_cannot_be(setup: Setup, fields: Any, error: type[Exception], text: str) -> None:
    await setup.make("taken", pools=[Pool("10.7.1.0/24")])
    before = await setup.service.list()
    with pytest.raises(error, match=text):
        await setup.make(**fields)
    assert await setup.service.list() == before


async def test_a_network_that_cannot_be_made_is_forgotten(setup: Setup) -> None:
    setup.bridge.failing = {"create"}
    with pytest.raises(Internal):
        await setup.make()
    setup.open()
    with pytest.raises(NotFound, match="network net not found"):
        setup.service.lookup("net")


async def test_an_ambiguous_prefix(setup: Setup) -> None:
    for number in range(17):
        await setup.make(f"n{number}", pools=[Pool(f"10.{number}.0.0/24")])
    first = {}
    for network in await setup.service.list():
        if network.id[0] in first:
            with pytest.raises(InvalidArgument, match="is ambiguous"):
                await setup.service.get(network.id[0])
            return
        first[network.id[0]] = network


async def test_filters(setup: Setup) -> None:
    network = await setup.make("front", labels={"tier": "web"})
    await setup.make("back")
    setup.allocate(network)

    async def names(**filters: list[str]) -> list[str]:
        return [found.name for found in await setup.service.list(filters)]

    assert await names(name=["ron"]) == ["front"]
    assert await names(id=[network.id[:6]]) == ["front"]
    assert await names(driver=["host"]) == ["host"]
    assert await names(type=["builtin"]) == ["bridge", "host"]
    assert await names(type=["custom"]) == ["front", "back"]
    assert await names(label=["tier=web"]) == ["front"]
    assert await names(scope=["swarm"]) == []
    assert await names(dangling=["true"]) == ["back"]
    assert await names(dangling=["false"]) == ["bridge", "host", "front"]
    for wrong in ({"colour": ["red"]}, {"type": ["odd"]}):
        with pytest.raises(InvalidArgument, match="invalid filter"):
            await setup.service.list(wrong)


async def test_removal(setup: Setup) -> None:
    network = await setup.make()
    setup.allocate(network)
    with pytest.raises(Forbidden, match=r'network net has active endpoints \(name:"c1"'):
        await setup.service.remove("net")
    with pytest.raises(Forbidden, match="bridge is a pre-defined network and cannot be removed"):
        await setup.service.remove("bridge")
    await setup.service.leave(f"{1:064x}")
    await setup.service.remove("net")
    assert setup.bridge.calls[-1] == ("delete", "net")
    with pytest.raises(NotFound):
        await setup.service.remove("net")


async def test_prune_removes_what_nobody_uses(setup: Setup) -> None:
    used, _ = await setup.make("used"), await setup.make("kept", labels={"keep": ""})
    await setup.make("unused")
    setup.allocate(used)
    assert (await setup.service.prune({"until": ["1h"]})).items == []
    assert (await setup.service.prune({"label!": ["keep"]})).items == ["unused"]
    with pytest.raises(InvalidArgument, match="until"):
        await setup.service.prune({"until": ["soon"]})


async def test_an_endpoint_from_allocation_to_leaving(setup: Setup) -> None:
    network = await setup.make(pools=[Pool("10.0.0.0/24")])
    asked = EndpointSettings(aliases=["db"])
    endpoint = setup.allocate(network, settings=asked, ports=[PortBinding("tcp", 80)])
    assert (endpoint.address, endpoint.gateway, endpoint.mac) == ("10.0.0.2/24", "10.0.0.1", "02:42:0a:00:00:02")
    await setup.service.join(endpoint, 0)
    assert endpoint.ports == [PortBinding("tcp", 80, "0.0.0.0", 40000)]
    shown = setup.service.settings_of(endpoint, asked)
    assert (shown.ip_address, shown.ip_prefix_len, shown.network_id) == ("10.0.0.2", 24, network.id)
    assert shown.dns_names == ["c1", "db", endpoint.container_id[:12]]
    assert setup.events[-1][1:] == ("connect", {"name": "net", "type": "bridge", "container": endpoint.container_id})

    setup.open()
    assert await setup.service.endpoints(network) == [endpoint]
    await setup.service.leave(endpoint.container_id, None)
    assert setup.bridge.calls[-1] == ("leave", "c1")
    assert await setup.service.endpoints(network) == []
    assert setup.events[-1][1] == "disconnect"


async def test_a_driver_that_cannot_undo_does_not_keep_the_address(setup: Setup) -> None:
    network = await setup.make(pools=[Pool("10.0.0.0/30")])
    setup.bridge.failing = {"leave"}
    for _ in range(3):
        endpoint = setup.allocate(network)
        assert endpoint.address == "10.0.0.2/30"
        await setup.service.leave(endpoint.container_id)


async def test_allocating_again_replaces_what_an_earlier_run_left(setup: Setup) -> None:
    network = await setup.make()
    first, second = setup.allocate(network), setup.allocate(network)
    assert [e.id for e in await setup.service.endpoints(network)] == [second.id] != [first.id]


async def test_static_addresses_and_macs(setup: Setup) -> None:
    network = await setup.make(pools=[Pool("10.0.0.0/24")])
    static = EndpointSettings(ipam_config=EndpointIPAM(ipv4_address="10.0.0.77"), mac_address="02-42-AA-00-00-01")
    endpoint = setup.allocate(network, settings=static)
    assert (endpoint.address, endpoint.mac) == ("10.0.0.77/24", "02:42:aa:00:00:01")
    with pytest.raises(Conflict, match="Address already in use"):
        setup.allocate(network, 2, settings=static)
    with pytest.raises(InvalidArgument, match="supported on user defined networks only"):
        setup.allocate(setup.service.lookup("bridge"), 2, settings=static)
    with pytest.raises(InvalidArgument, match="invalid MAC address"):
        setup.allocate(network, 2, settings=EndpointSettings(mac_address="01:00:00:00:00:01"))
    assert len(await setup.service.endpoints(network)) == 1


async def test_the_first_network_that_is_not_internal_has_the_default_route(setup: Setup) -> None:
    internal, outer = await setup.make("internal", internal=True), await setup.make("outer")
    first = setup.allocate(internal)
    assert (first.default_route, first.gateway) == (False, "")
    assert setup.allocate(outer, interface="eth1").default_route
    assert not setup.allocate(await setup.make("third"), interface="eth2").default_route


async def test_sandbox_modes(setup: Setup) -> None:
    mode = setup.service.sandbox_mode
    assert [mode(name) for name in ("", "default", "bridge")] == [SandboxMode.NEW] * 3
    assert mode("host") is SandboxMode.HOST
    assert mode("container:web") is SandboxMode.SHARED
    with pytest.raises(NotFound, match="network nowhere not found"):
        mode("nowhere")


async def test_peers_for_etc_hosts(setup: Setup) -> None:
    network = await setup.make(pools=[Pool("10.0.0.0/24")])
    setup.allocate(network, 1, name="db", aliases=["sql"])
    own = setup.allocate(network, 2)
    assert setup.service.hosts_entries([own]) == [("10.0.0.2", f"db sql {1:064x}"[:-52])]
    assert setup.service.hosts_entries([setup.allocate(setup.service.lookup("bridge"), 2)]) == []


async def test_reconcile_forgets_the_dead_and_tells_the_driver(setup: Setup) -> None:
    network = await setup.make()
    for number in (1, 2):
        await setup.service.join(setup.allocate(network, number), 0)
    await setup.make("idle")
    setup.open()
    setup.bridge.calls.clear()
    await setup.service.ensure_defaults()
    await setup.service.reconcile({f"{2:064x}"})
    assert ("reconcile", "net: c2") in setup.bridge.calls
    assert ("create", "idle") not in setup.bridge.calls
    assert [e.container_name for e in await setup.service.endpoints(network)] == ["c2"]


@pytest.fixture
def containers(setup: Setup) -> Containers:
    setup.service.containers = found = Containers(running=True)
    setup.service.allocate(setup.service.lookup("bridge"), container_id=found.one.id, container_name="web")
    return found


async def test_connect_and_disconnect_of_a_running_container(setup: Setup, containers: Containers) -> None:
    network = await setup.make()
    await setup.service.connect("net", "web", EndpointSettings(aliases=["w"]))
    (endpoint,) = await setup.service.endpoints(network)
    assert endpoint.interface == "eth1"
    assert containers.one.networks["net"].ip_address == endpoint.address.partition("/")[0]
    with pytest.raises(Forbidden, match="already exists in network net"):
        await setup.service.connect("net", "web", EndpointSettings())
    await setup.service.disconnect("net", "web")
    assert setup.bridge.calls[-1] == ("leave live", "web")
    assert "net" not in containers.one.networks
    assert containers.saved == 2
    with pytest.raises(Forbidden, match="is not connected to network net"):
        await setup.service.disconnect("net", "web")


async def test_connect_of_a_stopped_container_is_remembered(setup: Setup, containers: Containers) -> None:
    await setup.make()
    containers.running = False
    await setup.service.connect("net", "web", EndpointSettings(aliases=["w"]))
    assert containers.one.networks["net"].aliases == ["w"]
    assert ("join", "web") not in setup.bridge.calls
    await setup.service.disconnect("net", "web")
    assert list(containers.one.networks) == ["bridge"]


async def test_a_failed_connect_leaves_nothing(setup: Setup, containers: Containers) -> None:
    network = await setup.make()
    setup.bridge.failing = {"join"}
    with pytest.raises(Internal):
        await setup.service.connect("net", "web", EndpointSettings())
    assert await setup.service.endpoints(network) == []
    assert list(containers.one.networks) == ["bridge"]


async def test_who_has_no_namespace_of_its_own_cannot_be_connected(setup: Setup, containers: Containers) -> None:
    await setup.make()
    containers.one.host_config.network_mode = "host"
    with pytest.raises(Forbidden, match="sharing network namespace"):
        await setup.service.connect("net", "web", EndpointSettings())


async def test_force_disconnects_a_container_that_is_gone(setup: Setup, containers: Containers) -> None:
    network = await setup.make()
    setup.allocate(network, 5, name="ghost")
    with pytest.raises(NotFound):
        await setup.service.disconnect("net", "ghost")
    await setup.service.disconnect("net", "ghost", force=True)
    assert await setup.service.endpoints(network) == []
