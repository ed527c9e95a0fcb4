"""macvlan and ipvlan on a real kernel, in a namespace that plays the host. The parents are bridges and veths."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from hooper.api.errors import Conflict, InvalidArgument, Unavailable, Unsupported
from hooper.api.network import Endpoint, Network, NetworkDriver, Pool, PortBinding, Sandbox
from hooper.linux import netlink_route as route
from hooper.linux.netlink import NETLINK_ROUTE, NetlinkSocket, entered
from hooper.testing.network import Harness, MemoryState, Namespace, bare, default_interface, make_context, playing_host
from hooper_net_macvlan.driver import IpvlanDriver, MacvlanDriver

pytestmark = [pytest.mark.root, pytest.mark.anyio]


def kernel_has(kind: str) -> bool:
    """The kernel has such links; it says so when it is asked for one without a parent."""
    try:
        with NetlinkSocket(NETLINK_ROUTE) as sock:
            sock.request([route.new_child_of_nothing(kind)])
    except OSError as error:
        return error.errno != errno.EOPNOTSUPP
    return True


needs_ipvlan = pytest.mark.skipif(not kernel_has("ipvlan"), reason="this kernel has no ipvlan")
needs_vlan = pytest.mark.skipif(not kernel_has("vlan"), reason="this kernel has no VLANs")


@pytest.fixture
def host() -> Iterator[Namespace]:
    with playing_host() as host:
        yield host


@pytest.fixture
def outside(host: Namespace) -> Iterator[Namespace]:
    """A machine on the network that the host's interface up0 leads to."""
    other = Namespace()
    with NetlinkSocket(NETLINK_ROUTE) as here, NetlinkSocket(NETLINK_ROUTE, other.fd) as there:
        here.request([route.new_veth("up0", 0, "eth0", other.fd)])
        link = route.find_link(there, "eth0")
        assert link
        there.request([route.add_address(link.index, "172.31.7.1/24"), route.set_up(link.index)])
    yield other
    other.close()


async def opened(root: Path, kind: type[NetworkDriver], state: MemoryState | None = None) -> NetworkDriver:
    driver = kind(make_context(root, "macvlan" if kind is MacvlanDriver else "ipvlan", None, state))
    await driver.probe()
    await driver.open()
    return driver


@pytest.fixture
async def macvlan(host: Namespace, tmp_path: Path) -> AsyncIterator[Harness]:
    harness = Harness(await opened(tmp_path, MacvlanDriver), host)
    yield harness
    await harness.aclose()


@pytest.fixture
async def ipvlan(host: Namespace, tmp_path: Path) -> AsyncIterator[Harness]:
    harness = Harness(await opened(tmp_path, IpvlanDriver), host)
    yield harness
    await harness.aclose()


async def pair(harness: Harness, **options: str) -> tuple[Network, Endpoint, Namespace, Namespace]:
    """A network with a server at port 8000 and another container."""
    network = await harness.network(options={"parent": "up0", **options})
    server, inside, _ = await harness.join(network)
    _, neighbour, _ = await harness.join(network)
    harness.serve(inside, 8000)
    return network, server, inside, neighbour


async def test_containers_are_on_the_parents_network(macvlan: Harness, outside: Namespace) -> None:
    network, server, inside, neighbour = await pair(macvlan)
    macvlan.serve(outside, 80, "out")
    assert network.bridge_name == "up0" and not network.internal
    assert await macvlan.ask(inside, "172.31.7.1", 80) == f"out {bare(server.address)}"
    assert await macvlan.ask(outside, bare(server.address), 8000) == "web 172.31.7.1"
    assert (await macvlan.ask(neighbour, bare(server.address), 8000)).startswith("web ")
    assert default_interface(inside) == "eth0"
    assert await macvlan.is_refused(macvlan.host, bare(server.address), 8000)


@pytest.mark.parametrize("mode", ["private", "vepa"])
async def test_modes_in_which_neighbours_do_not_reach_each_other(
    macvlan: Harness, outside: Namespace, mode: str
) -> None:
    _, server, _, neighbour = await pair(macvlan, macvlan_mode=mode)
    assert await macvlan.is_refused(neighbour, bare(server.address), 8000)
    assert (await macvlan.ask(outside, bare(server.address), 8000)).startswith("web ")


async def test_passthru_takes_all_of_the_parent(macvlan: Harness, outside: Namespace) -> None:
    network = await macvlan.network(options={"parent": "up0", "macvlan_mode": "passthru"})
    server, inside, _ = await macvlan.join(network)
    macvlan.serve(inside, 8000)
    assert (await macvlan.ask(outside, bare(server.address), 8000)).startswith("web ")
    second = macvlan.endpoint(network)
    sandbox = macvlan.sandbox()
    with pytest.raises(Conflict, match="one container has all of up0"):
        await macvlan.driver.join(network, second, Sandbox(second.container_id, sandbox.fd))
    assert sandbox.links() == ["lo"]
    with pytest.raises(Conflict, match="is in use"):
        await macvlan.network("other", "172.31.8.0/24", options={"parent": "up0"})


async def test_networks_share_a_parent(macvlan: Harness, outside: Namespace) -> None:
    for name, subnet in (("one", "172.31.7.0/24"), ("two", "172.31.8.0/24")):
        await macvlan.join(await macvlan.network(name, subnet, options={"parent": "up0"}))
    await macvlan.driver.delete_network(macvlan.networks[0])
    assert "up0" in macvlan.host.links()


async def test_a_mac_address_an_mtu_and_ipv6(macvlan: Harness, outside: Namespace) -> None:
    network = await macvlan.network(
        options={"parent": "up0", "com.docker.network.driver.mtu": "1400"}, ipv6=True, more_pools=[Pool("fd00:7::/64")]
    )
    _, inside, _ = await macvlan.join(network, mac="02:42:00:00:00:07", address6="fd00:7::7/64")
    with NetlinkSocket(NETLINK_ROUTE, inside.fd) as sock:
        link = route.find_link(sock, "eth0")
        assert link and (link.mac, link.kind, link.up) == ("02:42:00:00:00:07", "macvlan", True)
        assert "fd00:7::7/64" in [found.address for found in route.addresses(sock)]
    with entered(inside.fd):
        assert " mtu 1400 " in subprocess.check_output(["ip", "link", "show", "eth0"], text=True)


async def test_a_network_without_a_parent_is_internal_and_leaves_nothing(macvlan: Harness) -> None:
    before = macvlan.host.links()
    network = await macvlan.network()
    assert network.internal
    server, inside, _ = await macvlan.join(network)
    _, neighbour, _ = await macvlan.join(network)
    macvlan.serve(inside, 8000)
    assert (await macvlan.ask(neighbour, bare(server.address), 8000)).startswith("web ")
    assert default_interface(inside) == ""
    assert len(macvlan.host.links()) == len(before) + 1
    await macvlan.driver.delete_network(network)
    assert macvlan.host.links() == before


async def test_published_ports_mean_nothing(macvlan: Harness, outside: Namespace) -> None:
    network = await macvlan.network(options={"parent": "up0"})
    assert (await macvlan.join(network, [PortBinding("tcp", 80, "", 18080)]))[2].ports == []


async def test_a_parent_of_ours_comes_back_and_another_is_missed(
    host: Namespace, outside: Namespace, tmp_path: Path
) -> None:
    state = MemoryState()
    first = Harness(await opened(tmp_path, MacvlanDriver, state), host)
    own, given = await first.network("own"), await first.network("given", "172.31.8.0/24", options={"parent": "up0"})
    await first.driver.aclose()
    with NetlinkSocket(NETLINK_ROUTE) as sock:
        sock.request([route.delete_link(own.bridge_name), route.delete_link("up0")])
    first.driver = await opened(tmp_path, MacvlanDriver, state)
    await first.driver.create_network(own)
    await first.join(own)
    with pytest.raises(InvalidArgument, match="invalid subinterface vlan name up0"):
        await first.driver.create_network(given)
    lost = first.endpoint(given)
    with pytest.raises(Unavailable, match="up0 is gone"):
        await first.driver.join(given, lost, Sandbox(lost.container_id, first.sandbox().fd))
    await first.aclose()
    assert host.links() == ["lo"]
    assert state.items() == []


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"parent": "lo"}, "loopback interface is not a valid macvlan parent link"),
        ({"parent": "nosuch"}, "invalid subinterface vlan name nosuch"),
        ({"parent": "nosuch.7"}, "the host has no interface nosuch"),
        ({"parent": "up0.0"}, "vlan id must be between 1-4094"),
        ({"parent": "a name"}, "invalid parent interface"),
        ({"macvlan_mode": "odd"}, "requested macvlan mode 'odd' is not valid, 'bridge' mode is the macvlan driver"),
        ({"com.docker.network.driver.mtu": "big"}, r"failed to parse com\.docker\.network\.driver\.mtu value: big"),
    ],
)
async def test_wrong_options_leave_nothing(macvlan: Harness, options: dict[str, str], text: str) -> None:
    before = macvlan.host.links()
    with pytest.raises(InvalidArgument, match=text):
        await macvlan.network(options=options)
    assert macvlan.host.links() == before


@needs_vlan
async def test_a_vlan_is_made_and_goes_with_its_last_network(macvlan: Harness, outside: Namespace) -> None:
    with NetlinkSocket(NETLINK_ROUTE, outside.fd) as there:
        link = route.find_link(there, "eth0")
        assert link
        there.request([route.new_vlan("eth0.10", link.index, 10)])
        tagged = route.find_link(there, "eth0.10")
        assert tagged
        there.request([route.delete_address(link.index, "172.31.7.1/24")])
        there.request([route.add_address(tagged.index, "172.31.7.1/24")])
    one = await macvlan.network(options={"parent": "up0.10"})
    two = await macvlan.network("two", "172.31.8.0/24", options={"parent": "up0.10"})
    server, inside, _ = await macvlan.join(one)
    macvlan.serve(inside, 8000)
    assert (await macvlan.ask(outside, bare(server.address), 8000)).startswith("web ")
    await macvlan.driver.delete_network(one)
    assert "up0.10" in macvlan.host.links()
    await macvlan.driver.delete_network(two)
    assert "up0.10" not in macvlan.host.links()


@pytest.mark.skipif(kernel_has("vlan"), reason="this kernel has VLANs")
async def test_a_kernel_without_vlans_is_told(macvlan: Harness, outside: Namespace) -> None:
    with pytest.raises(Unsupported, match="this kernel has no VLANs"):
        await macvlan.network(options={"parent": "up0.10"})
    assert macvlan.host.links() == ["lo", "up0"]


@pytest.mark.skipif(kernel_has("ipvlan"), reason="this kernel has ipvlan")
async def test_a_kernel_without_ipvlan_is_told(ipvlan: Harness) -> None:
    with pytest.raises(Unsupported, match="this kernel has no such interfaces"):
        await ipvlan.network()
    assert ipvlan.host.links() == ["lo"]


@needs_ipvlan
async def test_ipvlan_l2(ipvlan: Harness, outside: Namespace) -> None:
    _, server, inside, neighbour = await pair(ipvlan)
    ipvlan.serve(outside, 80, "out")
    assert await ipvlan.ask(inside, "172.31.7.1", 80) == f"out {bare(server.address)}"
    assert (await ipvlan.ask(outside, bare(server.address), 8000)).startswith("web ")
    assert (await ipvlan.ask(neighbour, bare(server.address), 8000)).startswith("web ")


@needs_ipvlan
@pytest.mark.parametrize("mode", ["l3", "l3s"])
async def test_ipvlan_l3_has_no_gateway(ipvlan: Harness, outside: Namespace, mode: str) -> None:
    network = await ipvlan.network(options={"parent": "up0", "ipvlan_mode": mode})
    assert [pool.gateway for pool in network.pools] == [""]
    endpoint, inside, _ = await ipvlan.join(network)
    assert (endpoint.gateway, default_interface(inside)) == ("", "eth0")
    server, elsewhere, _ = await ipvlan.join(
        await ipvlan.network("two", "172.31.8.0/24", options={"parent": "up0", "ipvlan_mode": mode})
    )
    ipvlan.serve(elsewhere, 8000)
    assert await ipvlan.ask(inside, bare(server.address), 8000) == f"web {bare(endpoint.address)}"
