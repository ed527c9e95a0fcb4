"""The resolver and the daemon's side of it, without a daemon."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
import structlog
from dnslib import DNSRecord

from dns_support import resolvers
from hooper.api.errors import InvalidArgument
from hooper.dns import client as module
from hooper.dns import protocol
from hooper.dns.client import ResolverClient
from hooper.dns.protocol import Place, Served
from hooper.linux.netlink import entered
from hooper.runtime import sandbox
from hooper.runtime.protocol import NewNetns

pytestmark = [pytest.mark.root, pytest.mark.anyio]


@pytest.fixture
def netns() -> Iterator[int]:
    made = sandbox.make(NewNetns(disable_ipv6=True))
    yield made
    os.close(made)


@asynccontextmanager
async def connected(path: Path, known: list[str]) -> AsyncIterator[tuple[ResolverClient, list[str]]]:
    """A daemon's side, and what it was told of losses."""
    lost: list[str] = []
    client = ResolverClient(path, structlog.get_logger(), lambda: known, lambda: lost.append("lost"))
    try:
        yield client, lost
    finally:
        client.aclose()


def ask(netns: int, name: str, seconds: float = 5) -> list[str] | None:
    """None if nobody answers."""
    with entered(netns):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.settimeout(seconds)
        sock.connect((protocol.ADDRESS, 53))
        try:
            sock.send(bytes(DNSRecord.question(name).pack()))
            return [str(rr.rdata) for rr in DNSRecord.parse(sock.recv(65535)).rr]
        except OSError:
            return None


def web(address: str = "10.0.0.2", name: str = "web") -> Served:
    return Served(id="a", places=[Place("n", "net", [name], [address])])


def pid_of(path: Path) -> int:
    (pid,) = resolvers(path)
    return pid


async def test_the_next_daemon_finds_the_resolver_and_what_it_serves(tmp_path: Path, netns: int) -> None:
    async with connected(tmp_path, ["a"]) as (first, lost):
        assert await first.serve(web(), netns)
        assert ask(netns, "web") == ["10.0.0.2"]
    assert lost == []
    assert ask(netns, "web") == ["10.0.0.2"]
    async with connected(tmp_path, ["a"]) as (second, _):
        assert await second.serve(web("10.0.0.3", "new"), None)
        assert ask(netns, "new") == ["10.0.0.3"]
        assert await second.serve(web(), netns)
        assert ask(netns, "web") == ["10.0.0.2"]
    async with connected(tmp_path, []) as (third, _):
        await third.start()
        assert ask(netns, "web", 0.2) is None
        assert not await third.serve(web(), None)


async def test_it_ends_with_its_daemon_when_it_serves_nobody(tmp_path: Path, netns: int) -> None:
    async with connected(tmp_path, ["a"]) as (client, _):
        await client.serve(web(), netns)
        pid = pid_of(tmp_path)
        await client.drop("a")
        await client.drop("a")
        assert ask(netns, "web", 0.2) is None
    with anyio.fail_after(10):
        while Path(f"/proc/{pid}/exe").exists():
            await anyio.sleep(0.02)


async def test_only_one_process_serves_an_exec_root(tmp_path: Path) -> None:
    async with connected(tmp_path, []) as (client, _):
        await client.start()
        pid = pid_of(tmp_path)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            command = [sys.executable, "-m", "hooper.dns.process", str(theirs.fileno()), str(tmp_path)]
            await anyio.run_process(command, pass_fds=[theirs.fileno()])
        assert pid_of(tmp_path) == pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_one_that_died_or_hangs_is_replaced(
    tmp_path: Path, netns: int, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 2.0)
    async with connected(tmp_path, ["a"]) as (client, lost):
        await client.serve(web(), netns)
        pid = pid_of(tmp_path)
        os.kill(pid, number)
        assert await client.serve(web("10.0.0.3"), netns)
        assert lost == ["lost"]
        assert ask(netns, "web") == ["10.0.0.3"]
        assert pid_of(tmp_path) != pid


async def test_one_of_another_version_makes_room(tmp_path: Path, netns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(tmp_path, ["a"]) as (client, _):
        await client.serve(web(), netns)
        pid = pid_of(tmp_path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(str(tmp_path / protocol.SOCKET))
            sock.send(module._encode(protocol.Hello(protocol.VERSION + 1, 1)))
            assert sock.recv(100) == b""
        assert await client.serve(web("10.0.0.3"), netns)
        assert ask(netns, "web") == ["10.0.0.3"] and pid_of(tmp_path) != pid


async def test_rubbish_from_a_daemon_harms_nobody(tmp_path: Path, netns: int) -> None:
    async with connected(tmp_path, ["a"]) as (client, _):
        await client.serve(web(), netns)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(str(tmp_path / protocol.SOCKET))
            for rubbish in (b"\xff", b"{}", os.urandom(100)):
                sock.send(rubbish)
        assert await client.serve(web("10.0.0.3"), netns)
        assert ask(netns, "web") == ["10.0.0.3"]


async def test_more_names_than_a_message_takes_are_refused(tmp_path: Path, netns: int) -> None:
    async with connected(tmp_path, []) as (client, _):
        many = Served(id="a", places=[Place("n", "net", [f"name-{n:060}" for n in range(3000)])])
        with pytest.raises(InvalidArgument, match="too many names"):
            await client.serve(many, netns)
        assert await client.serve(web(), netns)


async def test_a_socket_path_may_be_long(tmp_path: Path, netns: int) -> None:
    path = tmp_path / ("d" * 120)
    path.mkdir()
    async with connected(path, []) as (client, _):
        assert await client.serve(web(), netns)
        assert ask(netns, "web") == ["10.0.0.2"]
