"""How the bridge driver brings a network and the outside together: gateway modes, IPv6 on loopback, SCTP."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest

from hooper.api.errors import Conflict, InvalidArgument, Unsupported
from hooper.api.network import Endpoint, Pool, PortBinding, Sandbox
from hooper.linux import netlink_route as route
from hooper.linux.netlink import NETLINK_ROUTE, NetlinkSocket, entered
from hooper.testing.network import Harness, Namespace, bare, make_context, playing_host
from hooper_net_bridge.driver import BridgeDriver

pytestmark = [pytest.mark.root, pytest.mark.anyio]

UPLINK, OUTSIDE = "203.0.113.1", "203.0.113.2"
MODE = "com.docker.network.bridge.gateway_mode_ipv4"
SIX = {"ipv6": True, "more_pools": [Pool("fd00:7::/64", "fd00:7::1")]}
INSIDE6 = {"address6": "fd00:7::2/64", "gateway6": "fd00:7::1"}


@pytest.fixture
def host() -> Iterator[Namespace]:
    with playing_host() as host:
        yield host


@pytest.fixture
async def harness(host: Namespace, tmp_path: Path) -> AsyncIterator[Harness]:
    driver = BridgeDriver(make_context(tmp_path, "bridge"))
    await driver.probe()
    await driver.open()
    harness = Harness(driver, host)
    yield harness
    await harness.aclose()


@pytest.fixture
def outside(host: Namespace) -> Iterator[Namespace]:
    """A machine on the host's uplink that sends through the host what is not its own."""
    other = Namespace()
    with NetlinkSocket(NETLINK_ROUTE) as here, NetlinkSocket(NETLINK_ROUTE, other.fd) as there:
        here.request([route.new_veth("up0", 0, "eth0", other.fd)])
        for sock, name, address in ((here, "up0", UPLINK), (there, "eth0", OUTSIDE)):
            link = route.find_link(sock, name)
            assert link
            sock.request([route.add_address(link.index, f"{address}/24"), route.set_up(link.index)])
        there.request([route.add_default_route(link.index, UPLINK)])
    yield other
    other.close()


async def served(harness: Harness, ports: list[PortBinding], **options: str) -> tuple[Endpoint, Namespace]:
    network = await harness.network(options=options)
    endpoint, inside, _ = await harness.join(network, ports)
    for port in (8000, 9000):
        harness.serve(inside, port)
    return endpoint, inside


async def test_routed_networks_are_reached_at_published_ports_on_their_own_addresses(
    harness: Harness, outside: Namespace
) -> None:
    endpoint, inside = await served(harness, [PortBinding("tcp", 8000, "", 18080)], **{MODE: "routed"})
    assert endpoint.ports == [PortBinding("tcp", 8000, "0.0.0.0")]
    harness.serve(outside, 80, "out")
    assert await harness.ask(outside, bare(endpoint.address), 8000) == f"web {OUTSIDE}"
    assert await harness.is_refused(outside, bare(endpoint.address), 9000)
    assert await harness.is_refused(outside, UPLINK, 18080)
    assert await harness.ask(inside, OUTSIDE, 80) == f"out {bare(endpoint.address)}"
    stranger = (await harness.join(await harness.network("other", "172.31.8.0/24")))[1]
    assert (await harness.ask(stranger, bare(endpoint.address), 8000)).startswith("web ")
    assert await harness.is_refused(stranger, bare(endpoint.address), 9000)
    await harness.driver.leave(harness.networks[0], endpoint, None)
    assert await harness.is_refused(outside, bare(endpoint.address), 8000)


async def test_unprotected_networks_are_open_and_translated(harness: Harness, outside: Namespace) -> None:
    endpoint, inside = await served(harness, [PortBinding("tcp", 8000, "", 18080)], **{MODE: "nat-unprotected"})
    harness.serve(outside, 80, "out")
    assert await harness.ask(outside, bare(endpoint.address), 9000) == f"web {OUTSIDE}"
    assert await harness.ask(outside, UPLINK, 18080) == f"web {OUTSIDE}"
    assert await harness.ask(inside, OUTSIDE, 80) == f"out {UPLINK}"


async def test_isolated_networks_have_no_address_on_the_host(harness: Harness) -> None:
    with pytest.raises(InvalidArgument, match="internal network"):
        await harness.network("open", options={MODE: "isolated"})
    network = await harness.network(internal=True, options={MODE: "isolated"})
    server, inside, _ = await harness.join(network)
    _, neighbour, _ = await harness.join(network)
    harness.serve(inside, 8000)
    assert (await harness.ask(neighbour, bare(server.address), 8000)).startswith("web ")
    assert await harness.is_refused(harness.host, bare(server.address), 8000)


async def test_a_bridge_without_an_ipv4_address(harness: Harness) -> None:
    network = await harness.network(options={"com.docker.network.bridge.inhibit_ipv4": "true"})
    with NetlinkSocket(NETLINK_ROUTE) as sock:
        assert not [a for a in route.addresses(sock) if a.address.startswith("172.31.7.")]
    assert (await harness.join(network))[0].gateway == "172.31.7.1"


async def test_trusted_interfaces_reach_containers_directly(harness: Harness, outside: Namespace) -> None:
    trusted = {"com.docker.network.bridge.trusted_host_interfaces": "up0"}
    endpoint, _ = await served(harness, [], **trusted)
    assert await harness.ask(outside, bare(endpoint.address), 9000) == f"web {OUTSIDE}"


async def test_a_fixed_source_address(harness: Harness, outside: Namespace) -> None:
    with NetlinkSocket(NETLINK_ROUTE) as sock:
        link = route.find_link(sock, "up0")
        assert link
        sock.request([route.add_address(link.index, "203.0.113.77/24")])
    _, inside = await served(harness, [], **{"com.docker.network.host_ipv4": "203.0.113.77"})
    harness.serve(outside, 80, "out")
    assert await harness.ask(inside, OUTSIDE, 80) == "out 203.0.113.77"


# --- IPv6 on the host -----------------------------------------------------------------------------


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
@pytest.mark.parametrize("six", [False, True], ids=["container with IPv4", "container with both"])
@pytest.mark.parametrize("host_ip", ["::1", "::"])
async def test_ports_on_ipv6_loopback(harness: Harness, host_ip: str, six: bool, udp: bool) -> None:
    network = await harness.network(**(SIX if six else {}))
    ports = [PortBinding("udp" if udp else "tcp", 8000, host_ip, 18080)]
    endpoint, inside, result = await harness.join(network, ports, **(INSIDE6 if six else {}))
    harness.serve(inside, 8000, udp=udp, address="::" if six else "")
    assert result.ports == ports
    for _ in range(2):
        assert (await harness.ask(harness.host, "::1", 18080, udp=udp)).startswith("web ")
    await harness.driver.leave(network, endpoint, None)
    harness.release()
    with anyio.fail_after(5):
        while not await harness.is_refused(harness.host, "::1", 18080):
            await anyio.sleep(0.02)


async def test_ports_without_an_address_are_on_ipv6_loopback_too(harness: Harness) -> None:
    network = await harness.network(**SIX)
    _, inside, result = await harness.join(network, [PortBinding("tcp", 8000)], **INSIDE6)
    harness.serve(inside, 8000, address="::")
    for address in ("127.0.0.1", "::1", "fd00:7::1"):
        assert (await harness.ask(harness.host, address, result.ports[0].host_port)).startswith("web ")


async def test_a_relay_ends_with_its_container_or_its_endpoint(harness: Harness, tmp_path: Path) -> None:
    network = await harness.network()
    for by_leaving in (True, False):
        endpoint, inside, _ = await harness.join(network, [PortBinding("tcp", 8000, "::1", 18080)])
        harness.serve(inside, 8000)
        assert (await harness.ask(harness.host, "::1", 18080)).startswith("web ")
        if by_leaving:
            await harness.driver.leave(network, endpoint, Sandbox(endpoint.container_id, inside.fd))
        harness.release()
        with anyio.fail_after(5):
            while not await harness.is_refused(harness.host, "::1", 18080):
                await anyio.sleep(0.02)
        await harness.driver.reconcile(network, [])
        assert not list((tmp_path / "run" / "bridge").iterdir())


async def test_a_relay_carries_much_and_half_closed_connections(harness: Harness) -> None:
    network = await harness.network()
    _, inside, _ = await harness.join(network, [PortBinding("tcp", 8000, "::1", 18080)])
    data = bytes(range(256)) * 20000
    with inside.socket() as listening, harness.host.socket(family=socket.AF_INET6) as client:
        listening.bind(("", 8000))
        listening.listen()

        def echo_backwards() -> None:
            connection, _ = listening.accept()
            with connection:
                received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
                connection.sendall(received[::-1])

        def ask() -> bytes:
            client.settimeout(20)
            client.connect(("::1", 18080))
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(1 << 16), b""))

        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, echo_backwards)
            assert await anyio.to_thread.run_sync(ask) == data[::-1]


# --- SCTP -----------------------------------------------------------------------------------------


def sctp_init(destination_port: int) -> bytes:
    """An SCTP packet with an INIT chunk (RFC 9260, 3.3.2)."""
    chunk = struct.pack(">BBHIIHHI", 1, 0, 20, 0x1234, 65536, 1, 1, 1)
    packet = struct.pack(">HHII", 40000, destination_port, 0, 0) + chunk
    return packet[:8] + struct.pack("<I", crc32c(packet)) + packet[12:]


def crc32c(data: bytes) -> int:
    """The checksum of SCTP (RFC 9260, appendix A), bit by bit."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


async def test_sctp_is_translated(harness: Harness, outside: Namespace) -> None:
    if not Path("/proc/sys/net/netfilter/nf_conntrack_sctp_timeout_established").exists():
        pytest.skip("this kernel does not track SCTP")
    network = await harness.network()
    ports = [PortBinding("sctp", 80, "", 18080), PortBinding("sctp", 81, "127.0.0.1", 18080)]
    _, inside, result = await harness.join(network, ports[:1])
    assert result.ports == [PortBinding("sctp", 80, "0.0.0.0", 18080)]
    raw = (socket.SOCK_RAW, socket.IPPROTO_SCTP)

    with entered(inside.fd):
        receiving = socket.socket(socket.AF_INET, *raw)
    with entered(outside.fd):
        sending = socket.socket(socket.AF_INET, *raw)
    with receiving, sending:
        receiving.settimeout(3)
        sending.sendto(sctp_init(18080), (UPLINK, 0))
        packet = await anyio.to_thread.run_sync(receiving.recv, 200)
    inner = packet[20:]
    assert struct.unpack(">H", inner[2:4]) == (80,)
    assert struct.unpack("<I", inner[8:12])[0] == crc32c(inner[:8] + bytes(4) + inner[12:])
    taken = harness.endpoint(network, ports[:1])
    with pytest.raises(Conflict, match="18080 failed: port is already allocated"):
        await harness.driver.join(network, taken, Sandbox(taken.container_id, harness.sandbox().fd))
    assert (await harness.join(network, ports[1:]))[2].ports == ports[1:]


async def test_what_cannot_be_published(harness: Harness) -> None:
    network = await harness.network()
    endpoint = harness.endpoint(network, [PortBinding("sctp", 80, "::", 18080)])
    with pytest.raises(Unsupported, match="SCTP cannot be relayed"):
        await harness.driver.join(network, endpoint, Sandbox(endpoint.container_id, harness.sandbox().fd))


# --- beside another filter ------------------------------------------------------------------------


async def test_the_documented_rules_let_packets_through_a_filter_that_drops(
    harness: Harness, outside: Namespace
) -> None:
    """As dockerd leaves a host: policy drop, and a chain that users may fill."""
    for words in ("-P FORWARD DROP", "-N DOCKER-USER", "-I FORWARD -j DOCKER-USER"):
        subprocess.run(["iptables", *words.split()], check=True)
    endpoint, inside = await served(harness, [PortBinding("tcp", 8000, "", 18080)])
    harness.serve(outside, 80, "out")
    assert await harness.is_refused(inside, OUTSIDE, 80)
    assert await harness.is_refused(outside, UPLINK, 18080)
    assert (await harness.ask(harness.host, "127.0.0.1", 18080)).startswith("web ")
    documented = (Path(__file__).parents[2] / "docs" / "operator.md").read_text()
    rules = re.findall(r"^iptables -I DOCKER-USER .*$", documented, re.MULTILINE)
    assert len(rules) == 4
    for rule in rules:
        subprocess.run(rule.split(), check=True)
    assert await harness.ask(inside, OUTSIDE, 80) == f"out {UPLINK}"
    assert await harness.ask(outside, UPLINK, 18080) == f"web {OUTSIDE}"
    assert await harness.is_refused(outside, bare(endpoint.address), 9000)
