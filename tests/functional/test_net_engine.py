"""Networks of containers on hooper alone: what newer Dockers have, configuration, a killed daemon, and leaks."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

import support
from conftest import import_busybox
from hooper_net_bridge.naming import table

pytestmark = pytest.mark.root

SERVE = "echo $HOSTNAME > /tmp/index.html; exec httpd -f -p 80 -h /tmp"
ENDPOINT = "com.docker.network.endpoint."


@pytest.fixture
def tidy(clean: support.Hooper) -> Iterator[support.Hooper]:
    """The shared daemon; the test's networks are removed too."""
    yield clean
    clean.clear()
    assert clean.request("POST", "/networks/prune")[0] == 200


def run(engine: support.Engine, name: str, *words: str, command: str = "sleep 1000") -> None:
    engine.docker("run", "-d", "--name", name, *words, "busybox", "sh", "-c", command)


def routes(engine: support.Engine, name: str, *options: str) -> list[str]:
    return engine.docker("exec", name, "ip", *options, "route").stdout.splitlines()


def default_interface(engine: support.Engine, name: str, *options: str) -> str:
    found = [line.split() for line in routes(engine, name, *options) if line.startswith("default")]
    return found[0][found[0].index("dev") + 1] if found else ""


def served(address: str, port: int) -> None:
    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://{address}:{port}/", timeout=5) as answer:
                return bool(answer.read())
        except OSError:
            return False

    support.until(answers, 10, f"an answer from {address}:{port}")


def test_the_gateway_priority_decides_at_start_and_live(tidy: support.Hooper) -> None:
    for name in ("alpha", "beta", "gamma"):
        tidy.docker("network", "create", name)
    run(tidy, "one", "--network", "name=beta,gw-priority=1", "--network", "alpha")
    assert default_interface(tidy, "one") == "eth0"
    tidy.docker("network", "connect", "--gw-priority", "2", "gamma", "one")
    assert default_interface(tidy, "one") == "eth2"
    assert tidy.inspect("one")["NetworkSettings"]["Networks"]["gamma"]["GwPriority"] == 2
    tidy.docker("network", "disconnect", "gamma", "one")
    assert default_interface(tidy, "one") == "eth0"
    tidy.docker("network", "connect", "--gw-priority", "-1", "gamma", "one")
    tidy.docker("network", "disconnect", "beta", "one")
    assert default_interface(tidy, "one") == "eth1"


def test_each_ip_version_has_its_own_default_route(tidy: support.Hooper) -> None:
    tidy.docker("network", "create", "four")
    tidy.docker("network", "create", "--ipv4=false", "--ipv6", "six")
    run(tidy, "one", "--network", "four")
    tidy.docker("network", "connect", "six", "one")
    assert (default_interface(tidy, "one"), default_interface(tidy, "one", "-6")) == ("eth0", "eth1")
    place = tidy.inspect("one")["NetworkSettings"]["Networks"]["six"]
    assert place["IPAddress"] == "" and place["GlobalIPv6Address"].startswith("fd")
    tidy.docker("network", "disconnect", "six", "one")
    assert default_interface(tidy, "one", "-6") == ""


def test_options_of_an_endpoint(tidy: support.Hooper) -> None:
    tidy.docker("network", "create", "--subnet", "10.61.0.0/24", "net")
    sysctls = "net.ipv4.conf.IFNAME.log_martians=1"
    addresses = "ip=10.61.0.7,mac-address=02:42:00:00:00:07,link-local-ip=169.254.7.7"
    options = f"driver-opt={ENDPOINT}ifname=wan0,driver-opt={ENDPOINT}sysctls={sysctls}"
    run(tidy, "one", "--network", f"name=net,{addresses},{options}")
    shown = tidy.docker("exec", "one", "ip", "address", "show", "wan0").stdout
    for text in ("02:42:00:00:00:07", "inet 10.61.0.7/24", "inet 169.254.7.7/16 scope link"):
        assert text in shown
    assert tidy.docker("exec", "one", "cat", "/proc/sys/net/ipv4/conf/wan0/log_martians").stdout == "1\n"
    tidy.docker("network", "connect", "bridge", "one")
    assert "eth0" in tidy.docker("exec", "one", "ip", "address").stdout
    tidy.docker("network", "create", "net2")
    for option, wrong in (("ifname", "eth0"), ("ifname", "a/b"), ("sysctls", "net.ipv4.ip_forward=1")):
        words = f"network connect --driver-opt {ENDPOINT}{option}={wrong} net2 one"
        assert tidy.docker(*words.split(), check=False).returncode == 1
    assert sorted(tidy.inspect("one")["NetworkSettings"]["Networks"]) == ["bridge", "net"]


def test_names_of_interfaces_begin_as_the_network_says(tidy: support.Hooper) -> None:
    tidy.docker("network", "create", "-o", "com.docker.network.container_iface_prefix=lan", "net")
    tidy.docker("network", "create", "other")
    run(tidy, "one", "--network", "net", "--network", "other")
    assert sorted(line.split(":")[1].split("@")[0].strip() for line in _links(tidy, "one")) == ["eth0", "lan0", "lo"]


def _links(engine: support.Engine, name: str) -> list[str]:
    return engine.docker("exec", name, "ip", "-o", "link").stdout.splitlines()


def test_macvlan_from_the_command_line(tidy: support.Hooper) -> None:
    tidy.docker("network", "create", "-d", "macvlan", "--subnet", "10.66.0.0/24", "lan")
    run(tidy, "server", "--network", "lan", "-p", f"{support.free_port()}:80", command=SERVE)
    address = tidy.inspect("server")["NetworkSettings"]["Networks"]["lan"]["IPAddress"]
    asking = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} 80"
    assert "200 OK" in tidy.docker("run", "--rm", "--network", "lan", "busybox", "sh", "-c", asking).stdout
    assert tidy.docker("port", "server").stdout == ""
    tidy.docker("network", "connect", "bridge", "server")
    assert (default_interface(tidy, "server"), bool(tidy.docker("port", "server").stdout)) == ("eth1", True)
    tidy.docker("network", "disconnect", "lan", "server")
    assert len(_links(tidy, "server")) == 2


def test_how_many_addresses_are_left(tidy: support.Hooper) -> None:
    tidy.docker("network", "create", "--subnet", "10.61.0.0/29", "net")

    def status() -> dict[str, int]:
        return dict(tidy.request("GET", "/networks/net")[1]["Status"]["IPAM"]["Subnets"]["10.61.0.0/29"])

    assert status() == {"IPsInUse": 3, "DynamicIPsAvailable": 5}
    for number in range(5):
        run(tidy, f"c{number}", "--network", "net")
    assert status() == {"IPsInUse": 8, "DynamicIPsAvailable": 0}
    said = tidy.docker("run", "--rm", "--network", "net", "busybox", "true", check=False).stderr
    assert "no available IPv4 addresses on this network's address pools: net" in said


def left_on_host(engine: support.Hooper) -> dict[str, object]:
    """All that networks and their containers make on a host. `links` are counted: others come and go beside us."""
    listed = json.loads(support.run("nft", "-j", "list", "table", "inet", table(engine.exec_root)).stdout)
    elements = [
        (kind, item[kind]["name"], str(item[kind]["elem"]))
        for item in listed["nftables"]
        for kind in ("map", "set")
        if kind in item and item[kind].get("elem")
    ]
    processes = [
        entry
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and str(engine.exec_root).encode() in _command(entry)
    ]
    with sqlite3.connect(engine.data_root / "hooper.db") as database:
        rows = database.execute("SELECT (SELECT count(*) FROM endpoints), (SELECT count(*) FROM networks)").fetchone()
        kept = [row[0] for row in database.execute("SELECT key FROM driver_state WHERE driver LIKE 'network-%'")]
    relays = sorted(path.name for path in engine.exec_root.glob("drivers/network-bridge/*"))
    return {"elements": sorted(elements), "processes": len(processes), "rows": rows, "kept": kept, "relays": relays}


def _command(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def own_links(before: set[str]) -> list[str]:
    """Links of ours that were not there before."""
    names = {path.name for path in Path("/sys/class/net").iterdir()} - before
    return sorted(name for name in names if name.startswith(("hp-", "hpv", "hpm-")))


def test_nothing_is_left(short_tmp: Path) -> None:
    with support.hooper(short_tmp / "leaks") as engine:
        import_busybox(engine)
        # What is made once in the life of a daemon is there: its resolver, its first bridge.
        engine.docker("network", "create", "first")
        run(engine, "first", "--network", "first")
        engine.docker("rm", "-f", "first")
        engine.docker("network", "rm", "first")
        links = {path.name for path in Path("/sys/class/net").iterdir()}
        descriptors = len(os.listdir(f"/proc/{engine.process.pid}/fd")) if engine.process else 0
        before = left_on_host(engine)
        _use_everything(engine)
        support.until(lambda: left_on_host(engine) == before, 10, f"{before} again")
        support.until(lambda: not own_links(links) or _of_others(engine, own_links(links)), 10, "no links of ours")
        assert engine.process
        support.until(
            lambda: len(os.listdir(f"/proc/{engine.process.pid}/fd")) <= descriptors + 3, 10, "no descriptors"
        )


def _of_others(engine: support.Hooper, names: list[str]) -> bool:
    """The links belong to other daemons: this one has no bridges but its first."""
    own = engine.request("GET", "/networks")[1]
    return not any(name.startswith(f"hp-{network['Id'][:12]}") for name in names for network in own)


def _use_everything(engine: support.Hooper) -> None:
    engine.docker("network", "create", "--ipv6", "-o", "com.docker.network.bridge.gateway_mode_ipv4=routed", "six")
    engine.docker("network", "create", "-d", "macvlan", "lan")
    engine.docker("network", "create", "net")
    ports = ("-p", "[::1]::80", "-p", "81/udp", "-p", "82/sctp", "-p", "127.0.0.1::83")
    run(engine, "one", *ports, "--network", "six", "--network", "lan", "--network", "net")
    for verb in ("disconnect", "connect", "disconnect"):
        for name in ("six", "net"):
            engine.docker("network", verb, name, "one")
    failed = engine.docker("run", "-d", "--name", "two", "-p", "198.51.100.7:80:80", "busybox", "true", check=False)
    assert failed.returncode == 125
    engine.docker("rm", "-f", "one", "two")
    for name in ("six", "lan", "net"):
        engine.docker("network", "rm", name)


def test_a_killed_daemon_finds_its_networks_again(short_tmp: Path) -> None:
    with support.hooper(short_tmp / "again") as engine:
        import_busybox(engine)
        for name in ("alpha", "beta"):
            engine.docker("network", "create", *(["--ipv6"] if name == "beta" else []), name)
        port = support.free_port()
        run(engine, "one", "--network", "beta", "-p", f"{port}:80", command=SERVE)
        for address in ("127.0.0.1", "[::1]"):
            served(address, port)
        engine.docker("network", "connect", "alpha", "one")
        engine.kill()
        served("127.0.0.1", port)
        engine.start()
        served("127.0.0.1", port)
        engine.docker("network", "disconnect", "alpha", "one")
        assert default_interface(engine, "one") == "eth0"
        served("127.0.0.1", port)
        engine.docker("network", "disconnect", "beta", "one")
        run(engine, "two", "-p", f"{port}:80", command=SERVE)
        served("127.0.0.1", port)
        engine.docker("rm", "-f", "one", "two")


CONFIGURATION = """
[network]
default_address_pools = ["10.201.0.0/23:24", "fd00:201::/32:64"]
[network.bridge]
bip = "10.202.0.7/24"
fixed_cidr = "10.202.0.128/25"
icc = false
"""


def test_configured_addresses(short_tmp: Path) -> None:
    with support.hooper(short_tmp / "pools", CONFIGURATION) as engine:
        import_busybox(engine)
        pools = engine.request("GET", "/networks/bridge")[1]["IPAM"]["Config"]
        assert pools == [{"Subnet": "10.202.0.0/24", "Gateway": "10.202.0.7", "IPRange": "10.202.0.128/25"}]
        run(engine, "one")
        assert engine.inspect("one")["NetworkSettings"]["IPAddress"] == "10.202.0.128"
        made = []
        for name in ("a", "b"):
            engine.docker("network", "create", *(["--ipv6"] if name == "a" else []), name)
            made += [pool["Subnet"] for pool in engine.request("GET", f"/networks/{name}")[1]["IPAM"]["Config"]]
        assert made == ["10.201.0.0/24", "fd00:201::/64", "10.201.1.0/24"]
        said = engine.docker("network", "create", "c", check=False).stderr
        assert "could not find an available, non-overlapping IPv4 address pool" in said
        engine.stop()
        assert engine.config
        engine.config.write_text(CONFIGURATION.replace("10.202.0", "10.203.0"))
        engine.start()
        assert engine.request("GET", "/networks/bridge")[1]["IPAM"]["Config"][0]["Subnet"] == "10.202.0.0/24"
        engine.docker("rm", "-f", "one")
        engine.stop()
        engine.start()
        assert engine.request("GET", "/networks/bridge")[1]["IPAM"]["Config"][0]["Subnet"] == "10.203.0.0/24"
        run(engine, "one")
        assert default_interface(engine, "one") == "eth0"
        assert "via 10.203.0.7 " in routes(engine, "one")[0]


def test_subnets_of_the_host_are_avoided(tidy: support.Hooper) -> None:
    tidy.docker("network", "create", "probe")
    subnet = tidy.request("GET", "/networks/probe")[1]["IPAM"]["Config"][0]["Subnet"]
    tidy.docker("network", "rm", "probe")
    link = f"hpx{os.getpid() % 100000}"
    subprocess.run(["ip", "link", "add", link, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "link", "set", link, "up"], check=True)
        subprocess.run(["ip", "route", "replace", subnet, "dev", link], check=True)
        tidy.docker("network", "create", "probe")
        assert tidy.request("GET", "/networks/probe")[1]["IPAM"]["Config"][0]["Subnet"] != subnet
    finally:
        subprocess.run(["ip", "link", "delete", link], check=True)


def test_many_connections_at_once(tidy: support.Hooper) -> None:
    for number in range(4):
        tidy.docker("network", "create", f"net{number}")
    run(tidy, "one")
    clients = [
        subprocess.Popen(["docker", "-H", tidy.address, "network", "connect", f"net{number}", "one"])
        for number in range(4)
    ]
    assert [client.wait(30) for client in clients] == [0] * 4
    links = [line.split(":")[1].split("@")[0].strip() for line in _links(tidy, "one")]
    assert sorted(links) == ["eth0", "eth1", "eth2", "eth3", "eth4", "lo"]


def test_daemons_that_choose_at_the_same_time_choose_apart(short_tmp: Path) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(4) as pool:
        daemons = [
            stack.enter_context(support.hooper(short_tmp / f"apart{number}", config="[network]\n"))
            for number in range(2)
        ]
        jobs = [(daemon, f"net{number}") for number in range(6) for daemon in daemons]
        made = list(pool.map(lambda job: job[0].request("POST", "/networks/create", {"Name": job[1]}), jobs))
        assert {status for status, _ in made} == {201}
        subnets = [
            network["IPAM"]["Config"][0]["Subnet"]
            for daemon in daemons
            for network in daemon.request("GET", "/networks")[1]
            if network["IPAM"]["Config"]
        ]
        assert len(subnets) == len(set(subnets)) == 14
        for daemon, name in jobs:
            daemon.request("DELETE", f"/networks/{name}")
