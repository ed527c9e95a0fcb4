"""Names at 127.0.0.11 on users' networks."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from dnslib import RCODE, DNSRecord

import dns_support
import support
from conftest import import_busybox
from dns_support import ask, exchange, exchange_beside, found, resolvers, server, within
from support import Engine, Hooper

pytestmark = pytest.mark.root

PREFIX = f"10.{os.getpid() % 60 + 130}"
OUTSIDE = f"{PREFIX}.2.1"
"""The gateway of the network back, where `networks` runs a server."""


@pytest.fixture
def names(either: Engine) -> Iterator[Engine]:
    """An engine with the networks front (PREFIX.1.0/24) and back, without containers."""
    with networks(either):
        yield either


@contextlib.contextmanager
def networks(engine: Engine) -> Iterator[None]:
    for number, name in enumerate(("front", "back"), 1):
        engine.docker("network", "create", "--subnet", f"{PREFIX}.{number}.0/24", name)
    try:
        with server(OUTSIDE):
            yield
    finally:
        engine.clear()
        engine.docker("network", "rm", "front", "back")


def run(engine: Engine, name: str, *flags: str) -> str:
    """Starts a container that sleeps; its id. It asks the tests' own server outside, not the host's."""
    if "--dns" not in flags:
        flags = *flags, "--dns", OUTSIDE
    done = engine.docker("run", "-d", "--name", name, *flags, "busybox", "sleep", "1000")
    return done.stdout.strip()


def address(engine: Engine, container: str, network: str = "front") -> str:
    return str(engine.inspect(container)["NetworkSettings"]["Networks"][network]["IPAddress"])


def pid(engine: Engine, container: str) -> int:
    return int(engine.inspect(container)["State"]["Pid"])


# --- names ----------------------------------------------------------------------------------------


def test_a_container_is_found_by_name_alias_and_id(names: Engine) -> None:
    web = run(names, "Web", "--network", "front", "--network-alias", "www", "--network-alias", "site")
    run(names, "c1", "--network", "front")
    for name in ("Web", "web", "WWW", "site", web[:12], "web.front", "www.front"):
        assert found(names, "c1", name) == [address(names, "Web")], name
        assert found(names, "c1", name, tcp=True) == [address(names, "Web")], name
    assert found(names, "Web", "web") == [address(names, "Web")]
    assert found(names, "c1", "nobody") == []
    assert names.docker("exec", "c1", "ping", "-c1", "-W5", "www").returncode == 0
    assert address(names, "Web") in names.docker("exec", "c1", "nslookup", "web").stdout


def test_a_known_name_without_such_an_address_has_an_empty_answer(names: Engine) -> None:
    run(names, "c1", "--network", "front")
    for kind in ("AAAA", "MX"):
        answer = ask(names, "c1", "c1", kind)
        assert (answer.header.rcode, answer.rr) == (RCODE.NOERROR, [])


def test_an_address_leads_to_the_name(names: Engine) -> None:
    run(names, "c1", "--network", "front", "--network-alias", "other")
    pointer = ".".join(reversed(address(names, "c1").split("."))) + ".in-addr.arpa"
    assert found(names, "c1", pointer, "PTR") == ["c1.front."]


def test_only_those_of_a_common_network_are_found(names: Engine) -> None:
    run(names, "fr", "--network", "front")
    run(names, "ba", "--network", "back")
    run(names, "both", "--network", "front")
    names.docker("network", "connect", "--alias", "two", "back", "both")
    assert found(names, "fr", "ba") == found(names, "ba", "fr") == found(names, "fr", "two") == []
    assert found(names, "both", "ba") == [address(names, "ba", "back")]
    assert found(names, "fr", "both") == [address(names, "both")]
    assert found(names, "ba", "both") == found(names, "ba", "two") == [address(names, "both", "back")]
    assert found(names, "both", "both.back") == [address(names, "both", "back")]


def test_an_alias_of_several_has_the_addresses_of_all_and_each_comes_first_at_times(names: Engine) -> None:
    for name in ("c1", "c2", "c3"):
        run(names, name, "--network", "front", "--network-alias", "web")
    assert found(names, "c1", "web") == sorted(address(names, name) for name in ("c1", "c2", "c3"))
    firsts = {str(ask(names, "c1", "web").rr[0].rdata) for _ in range(60)}
    assert len(firsts) == 3
    names.docker("rm", "-f", "c3")
    assert found(names, "c1", "web") == sorted(address(names, name) for name in ("c1", "c2"))


def test_a_link_is_an_alias_for_its_container_alone(names: Engine) -> None:
    run(names, "db", "--network", "front")
    run(names, "app", "--network", "front", "--link", "db:mysql")
    run(names, "other", "--network", "front")
    assert found(names, "app", "mysql") == [address(names, "db")]
    assert found(names, "other", "mysql") == []
    names.docker("network", "connect", "--link", "other:friend", "back", "app")
    names.docker("network", "connect", "back", "other")
    assert found(names, "app", "friend") == [address(names, "other", "back")]


def test_names_follow_connect_disconnect_rename_and_stop(names: Engine) -> None:
    run(names, "c1", "--network", "front")
    run(names, "c2", "--network", "front")
    names.docker("network", "disconnect", "front", "c2")
    assert found(names, "c1", "c2") == []
    names.docker("network", "connect", "--alias", "again", "front", "c2")
    assert found(names, "c1", "c2") == found(names, "c1", "again") == [address(names, "c2")]
    names.docker("rename", "c2", "c3")
    assert found(names, "c1", "c3") == [address(names, "c3")]
    assert found(names, "c1", "c2") == []
    names.docker("stop", "-t", "0", "c3")
    assert found(names, "c1", "c3") == found(names, "c1", "again") == []


def test_a_container_that_is_started_again_is_found_at_its_new_address(names: Engine) -> None:
    run(names, "c1", "--network", "front")
    run(names, "c2", "--network", "front")
    before = address(names, "c2")
    names.docker("stop", "-t", "0", "c2")
    run(names, "taker", "--network", "front", "--ip", before)
    names.docker("start", "c2")
    after = address(names, "c2")
    assert after != before and found(names, "c1", "c2") == [after]
    assert found(names, "c2", "c1") == [address(names, "c1")]


def test_a_container_of_the_default_bridge_gets_names_when_it_is_connected(names: Engine) -> None:
    run(names, "plain")
    run(names, "c1", "--network", "front")
    assert "127.0.0.11" not in names.docker("exec", "plain", "cat", "/etc/resolv.conf").stdout
    names.docker("network", "connect", "front", "plain")
    assert "nameserver 127.0.0.11\n" in names.docker("exec", "plain", "cat", "/etc/resolv.conf").stdout
    assert found(names, "plain", "c1") == [address(names, "c1")]
    assert found(names, "c1", "plain") == [address(names, "plain")]
    hosts = names.docker("exec", "plain", "cat", "/etc/hosts").stdout
    assert address(names, "plain") in hosts
    names.docker("network", "disconnect", "front", "plain")
    assert found(names, "plain", "c1") == []
    assert "nameserver 127.0.0.11\n" in names.docker("exec", "plain", "cat", "/etc/resolv.conf").stdout


def test_who_shares_the_network_of_a_container_shares_its_names(names: Engine) -> None:
    run(names, "c1", "--network", "front", "--dns-option", "timeout:3")
    shared = names.docker("run", "--rm", "--network", "container:c1", "busybox", "cat", "/etc/resolv.conf").stdout
    assert shared == names.docker("exec", "c1", "cat", "/etc/resolv.conf").stdout
    told = names.docker("run", "--rm", "--network", "container:c1", "busybox", "nslookup", "c1").stdout
    assert address(names, "c1") in told


# --- resolv.conf ----------------------------------------------------------------------------------


def lines(engine: Engine, *flags: str) -> list[str]:
    done = engine.docker("run", "--rm", *flags, "busybox", "cat", "/etc/resolv.conf")
    return sorted(line for line in done.stdout.splitlines() if line and not line.startswith("#"))


def test_resolv_conf_of_a_users_network(names: Engine) -> None:
    flags = ["--network", "front", "--dns", "192.0.2.1", "--dns-search", "a.example", "--dns-search", "b.example"]
    assert lines(names, *flags) == ["nameserver 127.0.0.11", "options ndots:0", "search a.example b.example"]
    options = ["--dns-option", "ndots:2", "--dns-option", "timeout:1"]
    assert lines(names, *flags, *options)[1] == "options ndots:2 timeout:1"
    assert not [line for line in lines(names, "--network", "front", "--dns-search", ".") if "search" in line]


def test_resolv_conf_of_the_default_bridge(either: Engine) -> None:
    flags = ["--dns", "192.0.2.1", "--dns", "192.0.2.2", "--dns-search", "a.example", "--dns-option", "timeout:1"]
    expected = ["nameserver 192.0.2.1", "nameserver 192.0.2.2", "options timeout:1", "search a.example"]
    assert lines(either, *flags) == expected


# --- forwarding -----------------------------------------------------------------------------------


def test_other_names_are_asked_for_outside(names: Engine) -> None:
    gateway = f"{PREFIX}.1.1"
    run(names, "c1", "--network", "front", "--dns", gateway)
    with server(gateway) as outside:
        assert found(names, "c1", "small.example") == ["192.0.2.7"]
        assert found(names, "c1", "small.example", tcp=True) == ["192.0.2.7"]
        assert ask(names, "c1", "missing.example").header.rcode == RCODE.NXDOMAIN
        asked = len(outside.asked)
        assert found(names, "c1", "c1") == [address(names, "c1")]
        assert len(outside.asked) == asked
        assert ask(names, "c1", "large.example", "TXT").header.tc == 1
        assert len(found(names, "c1", "large.example", "TXT", tcp=True)) == 40
        ask(names, "c1", "small.example", edns=4096)
        assert [rr.rclass for rr in outside.asked[-1].ar] == [4096]


def test_servers_that_cannot_be_asked_are_passed_over(names: Engine) -> None:
    """127.0.0.1 is the container's own, where nobody listens."""
    gateway = f"{PREFIX}.1.1"
    run(names, "c1", "--network", "front", "--dns", "127.0.0.1", "--dns", gateway)
    with server(gateway):
        assert found(names, "c1", "small.example") == ["192.0.2.7"]


def test_a_server_that_refuses_is_passed_over(names: Engine) -> None:
    gateway = f"{PREFIX}.1.1"
    run(names, "c1", "--network", "front", "--dns", gateway, "--dns", OUTSIDE)
    with server(gateway, dns_support.refuse):
        assert found(names, "c1", "small.example") == ["192.0.2.7"]


def test_a_server_in_the_container_itself_may_be_the_one_to_ask(names: Engine) -> None:
    """--dns is an address as the container sees it."""
    run(names, "c1", "--network", "front", "--dns", "127.0.0.1")
    with within(names, "c1"):
        inside = dns_support.Server("127.0.0.1", dns_support.example)
    with contextlib.closing(inside):
        assert found(names, "c1", "small.example") == ["192.0.2.7"]


def test_with_ndots_a_name_without_dots_is_not_asked_for_outside(names: Engine) -> None:
    gateway = f"{PREFIX}.1.1"
    run(names, "c1", "--network", "front", "--dns", gateway, "--dns-option", "ndots:2")
    with server(gateway) as outside:
        assert found(names, "c1", "bare") == []
        assert found(names, "c1", "small.example") == ["192.0.2.7"]
        assert [str(query.q.qname) for query in outside.asked] == ["small.example."]


# --- what containers do to it ---------------------------------------------------------------------


def test_a_container_may_have_port_53_itself(names: Engine) -> None:
    run(names, "c1", "--network", "front")
    run(names, "c2", "--network", "front")
    with within(names, "c1"):
        udp, tcp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket()
    with udp, tcp:
        udp.bind(("0.0.0.0", 53))
        tcp.bind(("0.0.0.0", 53))
        tcp.listen()
        assert found(names, "c1", "c2") == [address(names, "c2")]
        assert found(names, "c1", "c2", tcp=True) == [address(names, "c2")]
        with within(names, "c2"):
            client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with client:
            client.sendto(b"hello", (address(names, "c1"), 53))
            udp.settimeout(10)
            assert udp.recv(100) == b"hello"


@pytest.mark.parametrize("tcp", [False, True])
def test_rubbish_harms_nobody(names: Engine, tcp: bool) -> None:
    run(names, "c1", "--network", "front")
    for rubbish in (b"", b"\0", b"\0" * 12, os.urandom(200), b"\xff" * 600, b"\0\1\1\0\0\1" + bytes(6) + b"\xc0\x0c"):
        exchange(names, "c1", rubbish, tcp=tcp, seconds=0.05)
    assert found(names, "c1", "c1", tcp=tcp) == [address(names, "c1")]


# --- hooper alone ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(short_tmp: Path) -> Iterator[Hooper]:
    """A daemon that these tests may kill, and start again."""
    with support.hooper(short_tmp / "dns") as daemon:
        import_busybox(daemon)
        yield daemon


@pytest.fixture
def own(alone: Hooper) -> Iterator[Hooper]:
    with networks(alone):
        yield alone


def test_names_outlive_the_daemon_and_the_next_daemon_takes_them_over(own: Hooper) -> None:
    for name in ("c1", "c2", "c3"):
        run(own, name, "--network", "front")
    (resolver,) = resolvers(own.exec_root)
    pids = {name: pid(own, name) for name in ("c1", "c3")}
    addresses = {name: address(own, name) for name in ("c1", "c2", "c3")}
    own.kill()
    assert answers(pids["c1"], "c2") == [addresses["c2"]]
    os.kill(pids["c3"], signal.SIGKILL)
    support.until(lambda: answers(pids["c1"], "c3") == [], what="the end of a name whose container ended")
    own.start()
    support.until(lambda: own.inspect("c3")["State"]["Status"] == "exited")
    assert resolvers(own.exec_root) == [resolver]
    assert found(own, "c1", "c2") == [addresses["c2"]]
    run(own, "c4", "--network", "front")
    assert found(own, "c1", "c4") == [address(own, "c4")]
    own.docker("rm", "-f", "c2")
    assert found(own, "c1", "c2") == []
    own.docker("start", "c3")
    assert found(own, "c1", "c3") == [address(own, "c3")]


def test_what_happened_while_no_daemon_ran_is_made_up_for(own: Hooper) -> None:
    """Also when the resolver has died meanwhile, and for a container that was connected once and is no more."""
    run(own, "c1", "--network", "front")
    run(own, "plain", "--dns", f"{PREFIX}.1.1")
    own.docker("network", "connect", "front", "plain")
    own.docker("network", "disconnect", "front", "plain")
    (resolver,) = resolvers(own.exec_root)
    own.kill()
    os.kill(resolver, signal.SIGKILL)
    support.until(lambda: not resolvers(own.exec_root), what="its end")
    own.start()
    support.until(lambda: len(resolvers(own.exec_root)) == 1, what="another resolver")
    support.until(lambda: answers(pid(own, "c1"), "c1") == [address(own, "c1")], what="names")
    with server(f"{PREFIX}.1.1"):
        support.until(lambda: answers(pid(own, "plain"), "small.example") == ["192.0.2.7"], what="names outside")


def answers(pid: int, name: str) -> list[str] | None:
    """As `found`, beside that process; None if nobody answers."""
    query = bytes(DNSRecord.question(name).pack())
    try:
        data = exchange_beside(pid, query, seconds=0.5)
    except OSError:
        return None
    return sorted(str(rr.rdata) for rr in DNSRecord.parse(data).rr) if data else None


def test_a_resolver_that_dies_is_replaced(own: Hooper) -> None:
    run(own, "c1", "--network", "front")
    run(own, "c2", "--network", "front")
    (resolver,) = resolvers(own.exec_root)
    os.kill(resolver, signal.SIGKILL)
    support.until(lambda: answers(pid(own, "c1"), "c2") == [address(own, "c2")], what="names")
    assert resolver not in resolvers(own.exec_root)
    run(own, "c3", "--network", "front")
    assert found(own, "c1", "c3") == [address(own, "c3")]


def test_the_default_bridge_needs_no_resolver(alone: Hooper) -> None:
    alone.kill()
    support.until(lambda: resolvers(alone.exec_root) == [], what="the end of the resolver")
    alone.start()
    run(alone, "c1")
    assert resolvers(alone.exec_root) == []
    alone.clear()


def test_a_resolver_that_serves_nobody_ends_with_its_daemon(own: Hooper) -> None:
    run(own, "c1", "--network", "front")
    own.docker("rm", "-f", "c1")
    assert len(resolvers(own.exec_root)) == 1
    own.kill()
    support.until(lambda: resolvers(own.exec_root) == [], what="the end of the resolver")
    own.start()
    run(own, "c1", "--network", "front")
    assert found(own, "c1", "c1") == [address(own, "c1")]


def test_nothing_holds_the_namespace_of_a_container_that_has_ended(own: Hooper) -> None:
    run(own, "c1", "--network", "front")
    inode = os.stat(f"/proc/{pid(own, 'c1')}/ns/net").st_ino
    (resolver,) = resolvers(own.exec_root)

    def held() -> bool:
        folder = Path(f"/proc/{resolver}/fd")
        return any(os.readlink(entry) == f"net:[{inode}]" for entry in folder.iterdir() if entry.is_symlink())

    assert held()
    own.docker("rm", "-f", "c1")
    assert not held()


def test_an_edited_resolv_conf_is_left_alone(clean: Hooper) -> None:
    """As newer dockerds leave it; 20.10 does not."""
    with networks(clean):
        run(clean, "plain")
        clean.docker("exec", "plain", "sh", "-c", "echo nameserver 192.0.2.99 >/etc/resolv.conf")
        clean.docker("network", "connect", "front", "plain")
        assert clean.docker("exec", "plain", "cat", "/etc/resolv.conf").stdout == "nameserver 192.0.2.99\n"


def test_a_failure_is_told_when_no_server_answers(clean: Hooper) -> None:
    """Newer dockerds tell it too; 20.10 says nothing."""
    with networks(clean):
        run(clean, "c1", "--network", "front", "--dns", "127.0.0.1", "--dns", f"{PREFIX}.1.1")
        assert ask(clean, "c1", "small.example").header.rcode == RCODE.SERVFAIL
        assert ask(clean, "c1", "small.example", tcp=True).header.rcode == RCODE.SERVFAIL


def test_an_internal_network_asks_nobody_outside(clean: Hooper) -> None:
    clean.docker("network", "create", "--internal", "--subnet", f"{PREFIX}.3.0/24", "inside")
    try:
        clean.docker("run", "-d", "--name", "c1", "--network", "inside", "busybox", "sleep", "1000")
        run(clean, "c2", "--network", "inside", "--dns", f"{PREFIX}.3.9")
        assert found(clean, "c1", "c2") == [address(clean, "c2", "inside")]
        assert ask(clean, "c1", "small.example").header.rcode == RCODE.SERVFAIL
        run(clean, "server", "--network", "inside", "--ip", f"{PREFIX}.3.9")
        with within(clean, "server"):
            inside = dns_support.Server(f"{PREFIX}.3.9", dns_support.example)
        with contextlib.closing(inside):
            assert found(clean, "c2", "small.example") == ["192.0.2.7"]
    finally:
        clean.clear()
        clean.docker("network", "rm", "inside")


def test_ipv6_addresses_have_names_both_ways(clean: Hooper) -> None:
    clean.docker("network", "create", "--ipv6", "--subnet", "fd5a:5a5a::/64", "six")
    try:
        run(clean, "c1", "--network", "six", "--ip6", "fd5a:5a5a::77")
        assert found(clean, "c1", "c1", "AAAA") == ["fd5a:5a5a::77"]
        pointer = ".".join(reversed("fd5a5a5a" + "0" * 22 + "77")) + ".ip6.arpa"
        assert found(clean, "c1", pointer, "PTR") == ["c1.six."]
    finally:
        clean.clear()
        clean.docker("network", "rm", "six")
