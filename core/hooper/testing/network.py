"""The kit for network drivers: real namespaces, programs that talk across them, and `NetworkConformance`.

Everything happens in a fresh network namespace that plays the host, so that the real one is left alone.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import anyio.to_thread
import pytest

from hooper.api.driver import DriverContext, HostInfo, Workers
from hooper.api.errors import Conflict
from hooper.api.network import Endpoint, JoinResult, Network, NetworkDriver, Pool, PortBinding, Sandbox, SandboxMode
from hooper.linux import netlink_route as route
from hooper.linux.netlink import NETLINK_ROUTE, NetlinkSocket, entered

PATIENCE = 3.0
"""Seconds after which an answer is not expected any more."""
REFUSAL = 0.4
"""Seconds in which an answer that must not come would have come."""


class Namespace:
    """A network namespace with lo up. Sockets made in it stay in it, whatever thread uses them."""

    def __init__(self) -> None:
        made: list[int] = []
        thread = threading.Thread(target=lambda: made.append(_new_namespace()))
        thread.start()
        thread.join()
        (self.fd,) = made
        with NetlinkSocket(NETLINK_ROUTE, self.fd) as sock:
            sock.request([route.set_up(1)])

    def socket(self, kind: int = socket.SOCK_STREAM, family: int = socket.AF_INET) -> socket.socket:
        """The caller closes it."""
        with entered(self.fd):
            return socket.socket(family, kind)

    def links(self) -> list[str]:
        with NetlinkSocket(NETLINK_ROUTE, self.fd) as sock:
            return [link.name for link in route.links(sock)]

    def close(self) -> None:
        os.close(self.fd)


def _new_namespace() -> int:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x40000000):
        code = ctypes.get_errno()
        raise OSError(code, f"unshare: {os.strerror(code)}")
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def playing_host() -> Iterator[Namespace]:
    """This thread, and those that it starts, live in a fresh namespace within."""
    host = Namespace()
    try:
        with entered(host.fd):
            yield host
    finally:
        host.close()


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Server:
    """Answers each connection (or datagram) with `name` and the asker's address: b"web 172.18.0.3"."""

    def __init__(self, where: Namespace, port: int, name: str = "web", *, udp: bool = False, address: str = "") -> None:
        self._name, self._udp = name, udp
        family = _family(address)
        self._socket = where.socket(socket.SOCK_DGRAM if udp else socket.SOCK_STREAM, family)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((address, port))
        if not udp:
            self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                self._answer()
            except OSError:
                return

    def _answer(self) -> None:
        if self._udp:
            _, peer = self._socket.recvfrom(100)
            self._socket.sendto(f"{self._name} {peer[0]}".encode(), peer)
            return
        connection, peer = self._socket.accept()
        with connection:
            connection.sendall(f"{self._name} {peer[0]}".encode())

    def close(self) -> None:
        if not self._udp:
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def ask(where: Namespace, address: str, port: int, *, udp: bool = False, wait: float = PATIENCE) -> str:
    """What the server there answers; raises OSError (TimeoutError too) if none does within `wait` seconds."""
    with where.socket(socket.SOCK_DGRAM if udp else socket.SOCK_STREAM, _family(address)) as sock:
        sock.settimeout(wait)
        sock.connect((address, port))
        if udp:
            sock.send(b"?")
        return sock.recv(100).decode()


def is_refused(where: Namespace, address: str, port: int) -> bool:
    """Nobody answers there: packets are dropped or rejected."""
    try:
        ask(where, address, port, wait=REFUSAL)
    except OSError:
        return True
    return False


class MemoryState:
    """A driver's `KeyValueStore`, without a database."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self._values.get(key)

    def put(self, key: str, value: bytes) -> None:
        self._values[key] = value

    def delete(self, key: str) -> None:
        self._values.pop(key, None)

    def items(self, prefix: str = "") -> Sequence[tuple[str, bytes]]:
        return sorted(item for item in self._values.items() if item[0].startswith(prefix))


def make_context(root: Path, name: str, config: Any = None, state: MemoryState | None = None) -> DriverContext:
    """What a driver is given; its directories are below `root`."""
    import structlog

    host = HostInfo(True, 2, (6, 1), "amd64", root / "data", root / "run")
    own = {"data_dir": root / "data" / name, "exec_dir": root / "run" / name}
    for directory in own.values():
        directory.mkdir(parents=True, exist_ok=True)
    return DriverContext(
        name, config, host, **own, state=state or MemoryState(), workers=cast(Workers, None), log=structlog.get_logger()
    )


class Harness:
    """A driver with its networks and sandboxes. Everything is undone by `aclose`."""

    def __init__(self, driver: NetworkDriver, host: Namespace) -> None:
        self.driver, self.host = driver, host
        self.networks: list[Network] = []
        """Those that were made, in order."""
        self._sandboxes: list[Namespace] = []
        self._servers: list[Server] = []
        self._held: list[int] = []
        self._count = 1

    async def network(self, name: str = "net", subnet: str = "172.31.7.0/24", **fields: Any) -> Network:
        base = subnet.rpartition(".")[0]
        pools = [Pool(subnet, f"{base}.1")] if self.driver.addresses else []
        wanted = Network(
            id=os.urandom(32).hex(), name=name, driver=self.driver.context.name, created=0.0,
            pools=pools + fields.pop("more_pools", []), **fields,
        )  # fmt: skip
        made = await self.driver.create_network(wanted)
        self.networks.append(made)
        return made

    def sandbox(self) -> Namespace:
        self._sandboxes.append(Namespace())
        return self._sandboxes[-1]

    def endpoint(self, network: Network, ports: Sequence[PortBinding] = (), **fields: Any) -> Endpoint:
        self._count += 1
        if network.pools:
            pool = network.pools[0]
            base, length = pool.subnet.rpartition(".")[0], pool.subnet.partition("/")[2]
            fields = {"address": f"{base}.{self._count}/{length}", "gateway": pool.gateway} | fields
        fields = {"default_route": not network.internal} | fields
        return Endpoint(
            id=os.urandom(32).hex(), network_id=network.id, container_id=os.urandom(32).hex(),
            container_name=f"c{self._count}", ports=list(ports), **fields,
        )  # fmt: skip

    async def join(
        self, network: Network, ports: Sequence[PortBinding] = (), **fields: Any
    ) -> tuple[Endpoint, Namespace, JoinResult]:
        """A new endpoint in a new sandbox."""
        endpoint, sandbox = self.endpoint(network, ports, **fields), self.sandbox()
        result = await self.driver.join(network, endpoint, Sandbox(endpoint.container_id, sandbox.fd))
        self._held += result.reservations
        endpoint.ports = result.ports
        return endpoint, sandbox, result

    def serve(self, where: Namespace, port: int, name: str = "web", *, udp: bool = False, address: str = "") -> None:
        self._servers.append(Server(where, port, name, udp=udp, address=address))

    async def ask(self, where: Namespace, address: str, port: int, *, udp: bool = False) -> str:
        return await anyio.to_thread.run_sync(lambda: ask(where, address, port, udp=udp))

    async def is_refused(self, where: Namespace, address: str, port: int) -> bool:
        return await anyio.to_thread.run_sync(is_refused, where, address, port)

    def release(self) -> None:
        """Closes what holds the published ports, as the end of the containers does."""
        while self._held:
            os.close(self._held.pop())

    async def aclose(self) -> None:
        for server in self._servers:
            server.close()
        self.release()
        for sandbox in self._sandboxes:
            sandbox.close()
        for network in self.networks:
            await self.driver.delete_network(network)
        await self.driver.aclose()


def default_interface(where: Namespace) -> str:
    """The interface that IPv4's default route leads to; "" if there is none."""
    with NetlinkSocket(NETLINK_ROUTE, where.fd) as sock:
        indices = [found.index for found in route.routes(sock) if found.destination == "0.0.0.0/0"]
        return next((link.name for link in route.links(sock) if link.index in indices), "")


def bare(address: str) -> str:
    """An address without the length of its prefix."""
    return address.partition("/")[0]


@pytest.mark.root
@pytest.mark.anyio
class NetworkConformance:
    """Subclass it and say how to make the driver:

    class TestMine(NetworkConformance):
        def make(self, root):
            return MyDriver(make_context(root, "mine"))
    """

    def make(self, root: Path) -> NetworkDriver:
        """A driver, not yet open; `root` is an empty directory."""
        raise NotImplementedError

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def host(self) -> Iterator[Namespace]:
        with playing_host() as host:
            yield host

    @pytest.fixture
    async def harness(self, host: Namespace, tmp_path: Path) -> AsyncIterator[Harness]:
        driver = self.make(tmp_path)
        await driver.probe()
        await driver.open()
        harness = Harness(driver, host)
        yield harness
        await harness.aclose()

    @pytest.fixture
    def connected(self, harness: Harness) -> Harness:
        """The harness of a driver that gives its endpoints addresses in sandboxes of their own."""
        if not harness.driver.addresses or harness.driver.sandbox is not SandboxMode.NEW:
            pytest.skip("the driver has no addresses")
        return harness

    @pytest.fixture
    def publishing(self, connected: Harness) -> Harness:
        """The harness of a driver that publishes ports."""
        if not connected.driver.publishes_ports:
            pytest.skip("the driver publishes no ports")
        return connected

    async def test_a_network_can_be_made_again_and_deleted_twice(self, harness: Harness) -> None:
        before = harness.host.links()
        network = await harness.network()
        again = await harness.driver.create_network(network)
        assert again.bridge_name == network.bridge_name
        await harness.driver.delete_network(network)
        await harness.driver.delete_network(network)
        assert harness.host.links() == before

    async def test_closing_twice_is_harmless(self, harness: Harness) -> None:
        await harness.driver.aclose()
        await harness.driver.aclose()
        await harness.driver.open()

    async def test_leaving_twice_is_harmless(self, harness: Harness) -> None:
        network = await harness.network()
        endpoint, sandbox, _ = await harness.join(network)
        live = Sandbox(endpoint.container_id, sandbox.fd)
        await harness.driver.leave(network, endpoint, live)
        assert sandbox.links() == ["lo"]
        await harness.driver.leave(network, endpoint, live)
        await harness.driver.leave(network, endpoint, None)

    async def test_sandboxes_of_a_network_reach_each_other(self, connected: Harness) -> None:
        network = await connected.network()
        server, inside, _ = await connected.join(network)
        client, elsewhere, _ = await connected.join(network)
        connected.serve(inside, 8000)
        assert await connected.ask(elsewhere, bare(server.address), 8000) == f"web {bare(client.address)}"

    async def test_the_interface_has_the_name_asked_for(self, connected: Harness) -> None:
        network = await connected.network()
        _, sandbox, result = await connected.join(network, interface="eth7")
        assert result.interface == "eth7"
        assert sorted(sandbox.links()) == ["eth7", "lo"]

    async def test_a_published_port_is_reached_until_its_endpoint_leaves(self, publishing: Harness) -> None:
        network = await publishing.network()
        endpoint, sandbox, result = await publishing.join(network, [PortBinding("tcp", 8000, "", 18080)])
        publishing.serve(sandbox, 8000)
        assert [port.host_port for port in result.ports if port.host_ip == "0.0.0.0"] == [18080]
        assert (await publishing.ask(publishing.host, "127.0.0.1", 18080)).startswith("web ")
        await publishing.driver.leave(network, endpoint, None)
        assert await publishing.is_refused(publishing.host, "127.0.0.1", 18080)

    async def test_a_reserved_port_is_taken(self, publishing: Harness) -> None:
        network = await publishing.network()
        await publishing.join(network, [PortBinding("tcp", 8000, "", 18080)])
        with publishing.host.socket() as sock, pytest.raises(OSError, match="in use"):
            sock.bind(("0.0.0.0", 18080))
        publishing.release()
        with publishing.host.socket() as sock:
            sock.bind(("0.0.0.0", 18080))

    async def test_a_port_in_use_is_a_conflict_that_leaves_nothing(self, publishing: Harness) -> None:
        network = await publishing.network()
        _, first, _ = await publishing.join(network, [PortBinding("tcp", 8000, "", 18080)])
        publishing.serve(first, 8000, "first")
        second, sandbox = publishing.endpoint(network, [PortBinding("tcp", 8000, "", 18080)]), publishing.sandbox()
        before = publishing.host.links()
        with pytest.raises(Conflict, match=r"18080 failed: port is already allocated"):
            await publishing.driver.join(network, second, Sandbox(second.container_id, sandbox.fd))
        assert sandbox.links() == ["lo"]
        assert publishing.host.links() == before
        await publishing.driver.leave(network, second, None)
        assert (await publishing.ask(publishing.host, "127.0.0.1", 18080)).startswith("first ")

    async def test_any_free_port_and_ranges(self, publishing: Harness) -> None:
        network = await publishing.network()
        wanted = [
            PortBinding("tcp", 80),
            PortBinding("udp", 80),
            PortBinding("tcp", 81, "", 18100, 18101),
            PortBinding("tcp", 82, "", 18100, 18101),
        ]
        _, _, result = await publishing.join(network, wanted)
        ports = [port.host_port for port in result.ports if port.host_ip == "0.0.0.0"]
        assert all(port >= 32768 for port in ports[:2])
        assert ports[2:] == [18100, 18101]

    async def test_ports_move_to_another_network_and_back(self, publishing: Harness) -> None:
        first, second = await publishing.network(), await publishing.network("other", "172.31.8.0/24")
        endpoint, sandbox, result = await publishing.join(first, [PortBinding("tcp", 8000, "", 18080)])
        other = publishing.endpoint(second, interface="eth1", default_route=False)
        live = Sandbox(endpoint.container_id, sandbox.fd)
        await publishing.driver.join(second, other, live)
        publishing.serve(sandbox, 8000)
        places = [(first, endpoint), (second, other)]
        for source, target in (places, places[::-1]):
            target[1].ports, source[1].ports, target[1].held = source[1].ports, [], True
            for where, one in (source, target):
                made = await publishing.driver.publish(where, one)
                assert (made.ports, made.reservations) == (one.ports, [])
            answer = await publishing.ask(publishing.host, "127.0.0.1", 18080)
            assert answer == f"web {target[0].pools[0].gateway}"
        await publishing.driver.leave(second, other, live)
        assert (await publishing.ask(publishing.host, "127.0.0.1", result.ports[0].host_port)).startswith("web ")

    async def test_the_default_route_is_where_it_should_be(self, connected: Harness) -> None:
        first, second = await connected.network(), await connected.network("other", "172.31.8.0/24")
        endpoint, sandbox, _ = await connected.join(first)
        other = connected.endpoint(second, interface="eth1", default_route=False)
        live = Sandbox(endpoint.container_id, sandbox.fd)
        await connected.driver.join(second, other, live)
        assert default_interface(sandbox) == ("eth0" if not first.internal else "")
        await connected.driver.leave(first, endpoint, live)
        assert default_interface(sandbox) == ""
        again = connected.endpoint(first)
        await connected.driver.join(first, again, live)
        assert sorted(sandbox.links()) == ["eth0", "eth1", "lo"]
