"""The bridge driver on a real kernel, in a namespace that plays the host."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import structlog

from hooper.api.errors import Conflict, InvalidArgument, Unsupported
from hooper.api.network import Network, Pool, PortBinding, Sandbox
from hooper.linux import netlink_route as route
from hooper.linux.netlink import NETLINK_ROUTE, NetlinkSocket, entered
from hooper.testing.network import Harness, MemoryState, Namespace, bare, make_context, playing_host
from hooper_net_bridge import naming
from hooper_net_bridge.config import BridgeConfig
from hooper_net_bridge.driver import BridgeDriver

pytestmark = [pytest.mark.root, pytest.mark.anyio]

UPLINK, OUTSIDE = "203.0.113.1", "203.0.113.2"


@pytest.fixture(params=["bridged packets filtered", "bridged packets not filtered"])
def host(request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """Both with and without br_netfilter, which dockerd switches on for the whole host."""
    with playing_host() as host:
        for name in ("iptables", "ip6tables"):
            switch = Path(f"/proc/sys/net/bridge/bridge-nf-call-{name}")
            if switch.exists():
                switch.write_text("0" if "not" in request.param else "1")
        yield host


async def opened(root: Path, state: MemoryState | None = None, config: BridgeConfig | None = None) -> BridgeDriver:
    driver = BridgeDriver(make_context(root, "bridge", config, state))
    await driver.probe()
    await driver.open()
    return driver


@pytest.fixture
async def harness(host: Namespace, tmp_path: Path) -> AsyncIterator[Harness]:
    harness = Harness(await opened(tmp_path), host)
    yield harness
    await harness.aclose()


@pytest.fixture
def outside(host: Namespace) -> Iterator[Namespace]:
    """A machine on the host's uplink that has no route to containers."""
    other = Namespace()
    with NetlinkSocket(NETLINK_ROUTE) as here, NetlinkSocket(NETLINK_ROUTE, other.fd) as there:
        here.request([route.new_veth("up0", 0, "eth0", other.fd)])
        for sock, name, address in ((here, "up0", UPLINK), (there, "eth0", OUTSIDE)):
            link = route.find_link(sock, name)
            assert link
            sock.request([route.add_address(link.index, f"{address}/24"), route.set_up(link.index)])
    yield other
    other.close()


def tables() -> dict[str, list[dict[str, object]]]:
    listed = json.loads(subprocess.run(["nft", "-j", "list", "ruleset"], check=True, capture_output=True).stdout)
    found: dict[str, list[dict[str, object]]] = {}
    for item in listed["nftables"]:
        for kind in ("map", "set"):
            if kind in item and item[kind].get("elem"):
                found.setdefault(item[kind]["table"], []).append(item[kind])
        if "table" in item:
            found.setdefault(item["table"]["name"], [])
    return found


async def test_containers_reach_the_outside_with_the_hosts_address(harness: Harness, outside: Namespace) -> None:
    harness.serve(outside, 80, "out")
    harness.serve(outside, 53, "dns", udp=True)
    network = await harness.network()
    _, sandbox, _ = await harness.join(network)
    assert await harness.ask(sandbox, OUTSIDE, 80) == f"out {UPLINK}"
    assert await harness.ask(sandbox, OUTSIDE, 53, udp=True) == f"dns {UPLINK}"


async def test_without_masquerading_packets_keep_their_source(harness: Harness, outside: Namespace) -> None:
    network = await harness.network(options={"com.docker.network.bridge.enable_ip_masquerade": "false"})
    endpoint, sandbox, _ = await harness.join(network)
    with NetlinkSocket(NETLINK_ROUTE, outside.fd) as there:
        link = route.find_link(there, "eth0")
        assert link
        there.request([route.add_default_route(link.index, UPLINK)])
    harness.serve(outside, 80, "out")
    assert await harness.ask(sandbox, OUTSIDE, 80) == f"out {bare(endpoint.address)}"


@pytest.mark.parametrize("mtu", ["1000", "1279", "1280", "1500"])
async def test_the_hosts_end_of_a_link_has_no_address(harness: Harness, mtu: str) -> None:
    """With less than 1280 it has no IPv6 at all."""
    network = await harness.network(options={"com.docker.network.driver.mtu": mtu})
    endpoint, sandbox, _ = await harness.join(network)
    harness.serve(sandbox, 80)
    assert await harness.ask(harness.host, bare(endpoint.address), 80)  # it is up
    with NetlinkSocket(NETLINK_ROUTE) as here:
        link = route.find_link(here, naming.veth(endpoint))
        assert link and link.up
        assert [found for found in route.addresses(here) if found.index == link.index] == []


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
async def test_a_published_port_is_reached_from_everywhere(harness: Harness, outside: Namespace, udp: bool) -> None:
    network, other = await harness.network(), await harness.network("other", "172.31.8.0/24")
    ports = [PortBinding("udp" if udp else "tcp", 8000, "", 18080)]
    server, inside, _ = await harness.join(network, ports)
    neighbour, stranger = (await harness.join(network))[1], (await harness.join(other))[1]
    harness.serve(inside, 8000, udp=udp)
    gateway = network.pools[0].gateway
    expected = f"web {gateway}"
    assert await harness.ask(harness.host, "127.0.0.1", 18080, udp=udp) == expected
    assert (await harness.ask(harness.host, UPLINK, 18080, udp=udp)).startswith("web ")
    assert await harness.ask(outside, UPLINK, 18080, udp=udp) == f"web {OUTSIDE}"
    assert (await harness.ask(neighbour, gateway, 18080, udp=udp)).startswith("web ")
    assert (await harness.ask(inside, gateway, 18080, udp=udp)).startswith("web ")
    assert (await harness.ask(stranger, UPLINK, 18080, udp=udp)).startswith("web ")
    assert server.ports == [PortBinding(ports[0].protocol, 8000, "0.0.0.0", 18080)]


async def test_a_udp_client_that_goes_on_sending_follows_the_port(harness: Harness, outside: Namespace) -> None:
    network = await harness.network()
    with outside.socket(socket.SOCK_DGRAM) as client:
        client.settimeout(3)
        client.connect((UPLINK, 18053))
        client.send(b"too early")
        for name in ("first", "second"):
            endpoint, inside, _ = await harness.join(network, [PortBinding("udp", 53, "", 18053)])
            harness.serve(inside, 53, name, udp=True)
            with contextlib.suppress(ConnectionRefusedError):
                client.send(b"?")
            client.send(b"?")
            assert (await anyio.to_thread.run_sync(client.recv, 100)).startswith(name.encode())
            await harness.driver.leave(network, endpoint, None)
            harness.release()
            with contextlib.suppress(TimeoutError):
                client.settimeout(0.3)
                while client.recv(100):
                    continue
            client.settimeout(3)


async def test_a_port_on_one_address_is_not_reached_on_others(harness: Harness, outside: Namespace) -> None:
    network = await harness.network()
    bindings = [PortBinding("tcp", 8000, "127.0.0.1", 18080), PortBinding("tcp", 8000, UPLINK, 18081)]
    _, inside, _ = await harness.join(network, bindings)
    harness.serve(inside, 8000)
    assert (await harness.ask(harness.host, "127.0.0.1", 18080)).startswith("web ")
    assert (await harness.ask(outside, UPLINK, 18081)).startswith("web ")
    assert await harness.is_refused(outside, UPLINK, 18080)
    assert await harness.is_refused(harness.host, "127.0.0.1", 18081)


async def test_unpublished_ports_are_not_reached_from_outside(harness: Harness, outside: Namespace) -> None:
    network = await harness.network()
    endpoint, inside, _ = await harness.join(network)
    harness.serve(inside, 8000)
    with NetlinkSocket(NETLINK_ROUTE, outside.fd) as there:
        link = route.find_link(there, "eth0")
        assert link
        there.request([route.add_default_route(link.index, UPLINK)])
    assert await harness.is_refused(outside, bare(endpoint.address), 8000)
    assert await harness.ask(harness.host, bare(endpoint.address), 8000)


async def test_networks_are_isolated_from_each_other(harness: Harness) -> None:
    first, second = await harness.network(), await harness.network("other", "172.31.8.0/24")
    server, inside, _ = await harness.join(first)
    _, stranger, _ = await harness.join(second)
    harness.serve(inside, 8000)
    assert await harness.is_refused(stranger, bare(server.address), 8000)


async def test_an_internal_network_reaches_nothing_outside(harness: Harness, outside: Namespace) -> None:
    harness.serve(outside, 80)
    with NetlinkSocket(NETLINK_ROUTE, outside.fd) as there:
        link = route.find_link(there, "eth0")
        assert link
        there.request([route.add_default_route(link.index, UPLINK)])
    network = await harness.network(internal=True)
    endpoint, inside, result = await harness.join(network, [PortBinding("tcp", 8000, "", 18080)])
    _, neighbour, _ = await harness.join(network)
    harness.serve(inside, 8000)
    assert result.ports == []
    assert await harness.is_refused(inside, OUTSIDE, 80)
    with NetlinkSocket(NETLINK_ROUTE, inside.fd) as sock:
        link = route.find_link(sock, "eth0")
        assert link
        sock.request([route.add_default_route(link.index, network.pools[0].gateway)])
    assert await harness.is_refused(inside, OUTSIDE, 80)
    assert (await harness.ask(neighbour, bare(endpoint.address), 8000)).startswith("web ")


async def test_without_icc_containers_do_not_reach_each_other(harness: Harness) -> None:
    network = await harness.network(options={"com.docker.network.bridge.enable_icc": "false"})
    server, inside, _ = await harness.join(network)
    _, neighbour, _ = await harness.join(network)
    harness.serve(inside, 8000)
    assert await harness.is_refused(neighbour, bare(server.address), 8000)
    assert await harness.ask(harness.host, bare(server.address), 8000)


async def test_the_hosts_loopback_is_not_reached_by_containers(harness: Harness) -> None:
    network = await harness.network()
    _, sandbox, _ = await harness.join(network)
    harness.serve(harness.host, 9000, "private", address="127.0.0.1")
    with NetlinkSocket(NETLINK_ROUTE, sandbox.fd) as sock:
        sock.request([route.delete_address(1, "127.0.0.1/8")])
    with entered(sandbox.fd):
        Path("/proc/sys/net/ipv4/conf/eth0/route_localnet").write_text("1")
    assert await harness.is_refused(sandbox, "127.0.0.1", 9000)


async def test_ipv6(harness: Harness) -> None:
    network = await harness.network(ipv6=True, more_pools=[Pool("fd00:7::/64", "fd00:7::1")])
    ports = [PortBinding("tcp", 8000, "", 18080)]
    server, inside, result = await harness.join(network, ports, address6="fd00:7::2/64", gateway6="fd00:7::1")
    _, neighbour, _ = await harness.join(network, address6="fd00:7::3/64", gateway6="fd00:7::1")
    harness.serve(inside, 8000, "six", address="::")
    assert [port.host_ip for port in result.ports] == ["0.0.0.0", "::"]
    assert await harness.ask(neighbour, bare(server.address6), 8000) == "six fd00:7::3"
    assert (await harness.ask(harness.host, "fd00:7::1", 18080)).startswith("six ")


async def test_nothing_is_left_after_all_is_deleted(harness: Harness, tmp_path: Path) -> None:
    table = naming.table(tmp_path / "run")
    assert tables() == {table: []}
    links = harness.host.links()
    network = await harness.network()
    endpoint, sandbox, _ = await harness.join(network, [PortBinding("tcp", 80), PortBinding("udp", 80, "127.0.0.1")])
    assert tables()[table]
    assert len(harness.host.links()) == len(links) + 2
    await harness.driver.leave(network, endpoint, Sandbox(endpoint.container_id, sandbox.fd))
    await harness.driver.delete_network(network)
    assert tables() == {table: []}
    assert harness.host.links() == links


async def test_two_daemons_keep_apart(harness: Harness, tmp_path: Path) -> None:
    second = Harness(await opened(tmp_path / "second"), harness.host)
    mine, theirs = await harness.network(), await second.network("net", "172.31.9.0/24")
    port = [PortBinding("tcp", 8000, "", 18080)]
    _, inside, _ = await harness.join(mine, port)
    harness.serve(inside, 8000, "mine")
    refused = second.endpoint(theirs, port)
    with pytest.raises(Conflict, match="port is already allocated"):
        await second.driver.join(theirs, refused, Sandbox(refused.container_id, second.sandbox().fd))
    endpoint, elsewhere, _ = await second.join(theirs, [PortBinding("tcp", 8000, "", 18081)])
    second.serve(elsewhere, 8000, "theirs")
    assert len(tables()) == 2
    assert (await harness.ask(harness.host, "127.0.0.1", 18080)).startswith("mine ")
    assert (await harness.ask(harness.host, "127.0.0.1", 18081)).startswith("theirs ")
    assert await harness.is_refused(inside, bare(endpoint.address), 8000)
    await second.aclose()
    assert (await harness.ask(harness.host, "127.0.0.1", 18080)).startswith("mine ")


async def test_published_ports_survive_a_restart_and_strays_are_removed(host: Namespace, tmp_path: Path) -> None:
    state = MemoryState()
    before = Harness(await opened(tmp_path, state), host)
    network = await before.network()
    kept, inside, _ = await before.join(network, [PortBinding("tcp", 8000, "", 18080)])
    stray, _, _ = await before.join(network, [PortBinding("tcp", 8000, "", 18081)])
    before.serve(inside, 8000)
    await before.driver.aclose()

    after = await opened(tmp_path, state)
    assert (await before.ask(host, "127.0.0.1", 18080)).startswith("web ")
    again = await after.create_network(network)
    await after.reconcile(again, [kept])
    assert (await before.ask(host, "127.0.0.1", 18080)).startswith("web ")
    assert naming.veth(kept) in host.links()
    assert naming.veth(stray) not in host.links()
    assert await before.is_refused(host, "127.0.0.1", 18081)
    await after.leave(network, kept, None)
    assert await before.is_refused(host, "127.0.0.1", 18080)
    before.driver = after
    await before.aclose()
    assert tables() == {}


async def test_an_idle_driver_leaves_nothing_and_starts_again(host: Namespace, tmp_path: Path) -> None:
    state, links = MemoryState(), host.links()
    first = Harness(await opened(tmp_path, state), host)
    network = await first.network()
    await first.driver.aclose()
    assert host.links() == links
    assert tables() == {}
    first.driver = await opened(tmp_path, state)
    network = await first.driver.create_network(network)
    _, inside, _ = await first.join(network, [PortBinding("tcp", 8000, "", 18080)])
    first.serve(inside, 8000)
    assert (await first.ask(host, "127.0.0.1", 18080)).startswith("web ")
    await first.aclose()


async def test_links_that_the_kernel_removes_late_are_waited_for(host: Namespace, tmp_path: Path) -> None:
    links = host.links()
    harness = Harness(await opened(tmp_path), host)
    network = await harness.network()
    endpoint, inside, _ = await harness.join(network)
    await harness.driver.leave(network, endpoint, None)
    assert naming.veth(endpoint) in host.links()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(harness.driver.aclose)
        await anyio.sleep(0.3)
        inside.close()
    assert host.links() == links
    assert tables() == {}


async def test_an_emptied_packet_filter_is_filled_again(harness: Harness) -> None:
    network = await harness.network()
    _, inside, _ = await harness.join(network, [PortBinding("tcp", 8000, "", 18080)])
    harness.serve(inside, 8000)
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    await harness.join(network, [PortBinding("tcp", 8000, "", 18081)])
    assert (await harness.ask(harness.host, "127.0.0.1", 18080)).startswith("web ")


async def test_many_joins_at_once(harness: Harness) -> None:
    network = await harness.network()
    made = []

    async def one(number: int) -> None:
        made.append(await harness.join(network, [PortBinding("tcp", 8000)]))

    async with anyio.create_task_group() as group:
        for number in range(16):
            group.start_soon(one, number)
    assert len({result.ports[0].host_port for _, _, result in made}) == 16
    _, inside, result = made[-1]
    harness.serve(inside, 8000, "last")
    assert (await harness.ask(harness.host, "127.0.0.1", result.ports[0].host_port)).startswith("last ")


async def test_a_gone_namespace_takes_its_link_along(harness: Harness) -> None:
    network = await harness.network()
    endpoint, sandbox = harness.endpoint(network), Namespace()
    await harness.driver.join(network, endpoint, Sandbox(endpoint.container_id, sandbox.fd))
    await harness.driver.leave(network, endpoint, None)
    assert naming.veth(endpoint) in harness.host.links()
    sandbox.close()
    with anyio.move_on_after(10):
        while naming.veth(endpoint) in harness.host.links():
            await anyio.sleep(0.02)
    assert naming.veth(endpoint) not in harness.host.links()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"com.docker.network.bridge.enable_icc": "perhaps"}, InvalidArgument),
        ({"com.docker.network.driver.mtu": "big"}, InvalidArgument),
        ({"com.docker.network.bridge.host_binding_ipv4": "x"}, InvalidArgument),
        ({"com.docker.network.bridge.name": "a-name-that-is-too-long"}, InvalidArgument),
        ({"com.docker.network.bridge.name": "lo"}, Conflict),
    ],
)
async def test_bad_options(harness: Harness, options: dict[str, str], error: type[Exception]) -> None:
    before = harness.host.links()
    with pytest.raises(error):
        await harness.network(options=options)
    assert harness.host.links() == before


async def test_options_are_obeyed(harness: Harness, outside: Namespace) -> None:
    network = await harness.network(
        options={
            "com.docker.network.bridge.name": "mybridge",
            "com.docker.network.driver.mtu": "1400",
            "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
            "com.example.unknown": "ignored",
        }
    )
    _, inside, result = await harness.join(network, [PortBinding("tcp", 8000, "", 18080)])
    assert network.bridge_name == "mybridge"
    assert "mybridge" in harness.host.links()
    assert result.ports == [PortBinding("tcp", 8000, "127.0.0.1", 18080)]
    with entered(inside.fd):
        assert " mtu 1400 " in subprocess.check_output(["ip", "link", "show", "eth0"], text=True)
    with pytest.raises(Conflict, match="networks have same bridge name"):
        await harness.network("two", "172.31.8.0/24", options={"com.docker.network.bridge.name": "mybridge"})


async def test_a_bridge_that_was_there_stays(harness: Harness) -> None:
    with NetlinkSocket(NETLINK_ROUTE) as sock:
        sock.request([route.new_bridge("theirs")])
    network = await harness.network(options={"com.docker.network.bridge.name": "theirs"})
    await harness.driver.delete_network(network)
    assert "theirs" in harness.host.links()


async def test_what_cannot_be_published_is_refused(harness: Harness) -> None:
    network = await harness.network()
    for binding, error in (
        (PortBinding("dccp", 80, "", 18080), Unsupported),
        (PortBinding("sctp", 80, "::1", 18080), Unsupported),
        (PortBinding("tcp", 80, "198.51.100.7", 18080), InvalidArgument),
    ):
        endpoint = harness.endpoint(network, [binding])
        with pytest.raises(error):
            await harness.driver.join(network, endpoint, Sandbox(endpoint.container_id, harness.sandbox().fd))


async def test_the_default_network(harness: Harness, tmp_path: Path) -> None:
    network = await harness.network("bridge")
    assert network.bridge_name == naming.default_bridge(tmp_path / "run")


def test_names_of_the_default_daemon() -> None:
    assert naming.table(Path("/run/hooper")) == "hooper"
    assert naming.default_bridge(Path("/run/hooper")) == "hooper0"
    assert naming.table(Path("/run/other")).startswith("hooper_")


async def test_configured_names(host: Namespace, tmp_path: Path) -> None:
    harness = Harness(await opened(tmp_path, config=BridgeConfig(bridge_name="br-mine", table="mine")), host)
    network: Network = await harness.network("bridge")
    assert network.bridge_name == "br-mine"
    assert "mine" in tables()
    await harness.aclose()


async def test_forwarding_is_switched_on_and_a_foreign_drop_policy_is_told(host: Namespace, tmp_path: Path) -> None:
    forward = Path("/proc/sys/net/ipv4/ip_forward")
    forward.write_text("0")
    rules = "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }"
    subprocess.run(["nft", rules], check=True)
    with structlog.testing.capture_logs() as logged:
        harness = Harness(await opened(tmp_path), host)
        await harness.network()
        await harness.network("two", "172.31.8.0/24")
    assert forward.read_text() == "1\n"
    assert [entry["chain"] for entry in logged if entry["log_level"] == "warning"] == ["filter FORWARD"]
    await harness.aclose()
