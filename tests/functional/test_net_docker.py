"""`docker network` and the networks of containers, on hooper and on a real dockerd."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

import support

pytestmark = pytest.mark.root

SERVE = "echo $HOSTNAME > /tmp/index.html; exec httpd -f -p 80 -h /tmp"


@pytest.fixture
def engine_(either: support.Engine) -> Iterator[support.Engine]:
    """Either engine; the test's containers and networks are removed after it."""
    yield either
    either.clear()
    # One network may be the template of another.
    for _ in range(2):
        status, text = either.request("POST", "/networks/prune")
        assert status == 200, text


def refused(engine: support.Engine, *words: str, code: int = 1) -> str:
    """What the command says, which must fail."""
    done = engine.docker(*words, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr


def create(engine: support.Engine, name: str, *words: str) -> str:
    return engine.docker("network", "create", *words, name).stdout.strip()


def run(engine: support.Engine, name: str, *words: str, command: str = "sleep 1000") -> str:
    return engine.docker("run", "-d", "--name", name, *words, "busybox", "sh", "-c", command).stdout.strip()


def network(engine: support.Engine, name: str) -> dict[str, Any]:
    status, found = engine.request("GET", f"/networks/{name}")
    assert status == 200, found
    return dict(found)


def place(engine: support.Engine, container: str, name: str) -> dict[str, Any]:
    return dict(engine.inspect(container)["NetworkSettings"]["Networks"][name])


def default_route(engine: support.Engine, container: str) -> str:
    """The gateway of the container's default route, or ""."""
    found = re.search(r"default via (\S+)", engine.docker("exec", container, "ip", "route").stdout)
    return found[1] if found else ""


def fetch(address: str, port: int | str) -> str:
    with urllib.request.urlopen(f"http://{address}:{port}/", timeout=5) as answer:
        return str(answer.read().decode().strip())


def served(address: str, port: int | str) -> str:
    found: list[str] = []

    def answers() -> bool:
        try:
            found.append(fetch(address, port))
        except OSError:
            return False
        return True

    support.until(answers, 10, f"an answer from {address}:{port}")
    return found[0]


def free_range(count: int) -> int:
    """The first of so many ports in a row that nobody has now."""
    while True:
        first = support.free_port()
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            for number in range(first, first + count):
                stack.enter_context(socket.socket()).bind(("", number))
            return first


def port_of(engine: support.Engine, container: str, port: str) -> str:
    return engine.docker("port", container, port).stdout.split()[0].rpartition(":")[2]


# --- networks -------------------------------------------------------------------------------------


def test_a_network_from_creation_to_removal(engine_: support.Engine) -> None:
    words = "--subnet 10.61.0.0/16 --ip-range 10.61.5.0/24 --gateway 10.61.0.254 --aux-address spare=10.61.5.1".split()
    made = create(engine_, "full", *words, "--label", "tier=web", "--label", "bare", "--attachable")
    assert re.fullmatch("[0-9a-f]{64}", made)
    found = network(engine_, "full")
    assert found == found | {
        "Name": "full", "Id": made, "Scope": "local", "Driver": "bridge", "EnableIPv6": False, "Internal": False,
        "Attachable": True, "Ingress": False, "ConfigFrom": {"Network": ""}, "ConfigOnly": False, "Containers": {},
        "Options": {}, "Labels": {"tier": "web", "bare": ""},
    }  # fmt: skip
    assert found["IPAM"] == {
        "Driver": "default",
        "Options": {},
        "Config": [
            {
                "Subnet": "10.61.0.0/16",
                "IPRange": "10.61.5.0/24",
                "Gateway": "10.61.0.254",
                "AuxiliaryAddresses": {"spare": "10.61.5.1"},
            }
        ],
    }
    run(engine_, "one", "--network", made[:12])
    endpoint, own = network(engine_, "full")["Containers"][engine_.inspect("one")["Id"]], place(engine_, "one", "full")
    assert endpoint == {
        "Name": "one",
        "EndpointID": own["EndpointID"],
        "MacAddress": own["MacAddress"],
        "IPv4Address": f"{own['IPAddress']}/16",
        "IPv6Address": "",
    }
    assert own["IPAddress"].startswith("10.61.5.") and own["IPAddress"] != "10.61.5.1"
    assert (own["Gateway"], own["IPPrefixLen"], own["NetworkID"]) == ("10.61.0.254", 16, made)
    assert default_route(engine_, "one") == "10.61.0.254"
    assert "has active endpoints" in refused(engine_, "network", "rm", "full")
    engine_.docker("rm", "-f", "one")
    assert engine_.docker("network", "rm", "full").stdout == "full\n"
    assert "network full not found" in refused(engine_, "network", "rm", "full")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--subnet 10.62.5.0/24 other", "Pool overlaps with other one on this address space"),
        ("taken", "network with name taken already exists"),
        ("bridge", "operation is not permitted on predefined bridge network"),
        ("-d host other", 'only one instance of "host" network is allowed'),
        ("-d null other", 'only one instance of "null" network is allowed'),
        ("--subnet 10.63.0.0/33 other", "(?i)invalid subnet"),
        ("--ingress other", "Ingress network can only be global scope network"),
        ("--scope swarm other", "cannot create a swarm scoped network when swarm is not active"),
        (
            "-o com.docker.network.bridge.enable_icc=x other",
            r"failed to parse com\.docker\.network\.bridge\.enable_icc",
        ),
        ("-o com.docker.network.driver.mtu=big other", r"failed to parse com\.docker\.network\.driver\.mtu value: big"),
        ("-d macvlan -o parent=lo other", "loopback interface is not a valid macvlan parent link"),
        ("-d macvlan -o parent=nosuch other", "invalid subinterface vlan name nosuch, example formatting is eth0.10"),
        (
            "-d macvlan -o macvlan_mode=odd other",
            "requested macvlan mode 'odd' is not valid, 'bridge' mode is the macvlan",
        ),
        ("--config-from taken other", 'configuration network "taken" does not exist'),
        ("--config-from nosuch other", 'configuration network "nosuch" does not exist'),
    ],
)
def test_networks_that_cannot_be(engine_: support.Engine, words: str, text: str) -> None:
    create(engine_, "taken", "--subnet", "10.62.0.0/16")
    before = engine_.docker("network", "ls", "-q").stdout
    assert re.search(text, refused(engine_, "network", "create", *words.split()))
    assert engine_.docker("network", "ls", "-q").stdout == before


def test_templates(engine_: support.Engine) -> None:
    create(engine_, "cfg", "--config-only", "--subnet", "10.65.0.0/24", "--label", "a=b")
    found = network(engine_, "cfg")
    assert (found["ConfigOnly"], found["Driver"], found["IPAM"]["Config"]) == (
        True,
        "null",
        [{"Subnet": "10.65.0.0/24"}],
    )
    create(engine_, "made", "--config-from", "cfg")
    made = network(engine_, "made")
    assert (made["ConfigFrom"], made["Driver"]) == ({"Network": "cfg"}, "bridge")
    assert made["IPAM"]["Config"][0]["Subnet"] == "10.65.0.0/24"
    assert "in use" in refused(engine_, "network", "rm", "cfg")
    words = ("run", "--rm", "--network", "cfg", "busybox", "true")
    assert "cannot create endpoint on configuration-only network" in refused(engine_, *words, code=125)
    engine_.clear()
    engine_.docker("network", "rm", "made")
    engine_.docker("network", "rm", "cfg")


def test_lists_and_filters(engine_: support.Engine) -> None:
    create(engine_, "front", "--label", "tier=web", "--label", "bare")
    create(engine_, "back", "--internal")
    run(engine_, "one", "--network", "front")

    def names(*filters: str) -> list[str]:
        words = [word for text in filters for word in ("--filter", text)]
        return engine_.docker("network", "ls", "--format", "{{.Name}}", *words).stdout.split()

    assert names() == ["back", "bridge", "front", "host", "none"]
    assert names("name=ron") == ["front"]
    assert names("name=^back$", "name=fro") == ["back", "front"]
    assert names(f"id={network(engine_, 'front')['Id'][:9]}") == ["front"]
    assert names("driver=null") == ["none"] and names("driver=nul") == []
    assert names("type=builtin") == ["bridge", "host", "none"]
    assert names("type=custom") == ["back", "front"]
    assert names("label=tier=web") == names("label=bare") == ["front"]
    assert names("label=tier=db") == names("scope=swarm") == []
    assert {"back", "front"} >= {*names("dangling=true")} >= {"back"}
    for wrong, text in (("odd=1", "(?i)invalid filter 'odd'"), ("type=odd", "'odd'"), ("dangling=x", "'dangling'")):
        assert re.search(text, refused(engine_, "network", "ls", "--filter", wrong))


def test_what_is_predefined_stays(engine_: support.Engine) -> None:
    for name in ("bridge", "host", "none"):
        said = refused(engine_, "network", "rm", name)
        assert f"{name} is a pre-defined network and cannot be removed" in said


def test_prune_removes_what_no_container_uses(engine_: support.Engine) -> None:
    for name in ("used", "unused", "kept"):
        create(engine_, name, *(["--label", "keep"] if name == "kept" else []))
    run(engine_, "one", "--network", "used")
    assert engine_.docker("network", "prune", "-f", "--filter", "label!=keep").stdout.split()[2:] == ["unused"]
    assert engine_.docker("network", "prune", "-f").stdout.split()[2:] == ["kept"]


# --- connections ----------------------------------------------------------------------------------


def test_the_default_route_follows_connect_and_disconnect(engine_: support.Engine) -> None:
    for name in ("zulu", "alpha"):
        create(engine_, name)
    gateways = {name: network(engine_, name)["IPAM"]["Config"][0]["Gateway"] for name in ("zulu", "alpha")}
    run(engine_, "one", "--network", "zulu")
    assert default_route(engine_, "one") == gateways["zulu"]
    engine_.docker("network", "connect", "alpha", "one")
    assert default_route(engine_, "one") == gateways["alpha"]
    engine_.docker("network", "disconnect", "alpha", "one")
    assert default_route(engine_, "one") == gateways["zulu"]
    engine_.docker("network", "disconnect", "zulu", "one")
    assert default_route(engine_, "one") == ""
    assert engine_.inspect("one")["NetworkSettings"]["Networks"] == {}
    engine_.docker("network", "connect", "zulu", "one")
    assert default_route(engine_, "one") == gateways["zulu"]


def test_published_ports_follow_the_default_route(engine_: support.Engine) -> None:
    for name in ("zulu", "alpha"):
        create(engine_, name)
    port = support.free_port()
    run(engine_, "one", "--network", "zulu", "-p", f"127.0.0.1:{port}:80", command=SERVE)
    steps = [("connect", "alpha"), ("disconnect", "alpha"), ("connect", "alpha"), ("disconnect", "zulu")]
    assert served("127.0.0.1", port)
    for verb, name in steps:
        engine_.docker("network", verb, name, "one")
        assert served("127.0.0.1", port)
    engine_.docker("network", "disconnect", "alpha", "one")
    assert engine_.docker("port", "one").stdout == ""
    assert engine_.inspect("one")["NetworkSettings"]["Ports"] == {}
    with pytest.raises(OSError, match=r"refused|reset"):
        fetch("127.0.0.1", port)
    run(engine_, "two", "-p", f"127.0.0.1:{port}:80")
    engine_.docker("rm", "-f", "two")
    engine_.docker("network", "connect", "zulu", "one")
    assert served("127.0.0.1", port)
    assert engine_.docker("port", "one", "80").stdout.split() == [f"127.0.0.1:{port}"]


def test_connections_that_cannot_be(engine_: support.Engine) -> None:
    create(engine_, "net", "--subnet", "10.62.0.0/24")
    create(engine_, "automatic")
    run(engine_, "one", "--network", "net")
    run(engine_, "hosted", "--network", "host")
    for words, text in (
        ("connect net one", "endpoint with name one already exists in network net"),
        ("connect nosuch one", "network nosuch not found"),
        ("connect net nosuch", "No such container: nosuch"),
        ("connect host one", "container cannot be disconnected from host network or connected to host network"),
        ("connect none one", "container cannot be connected to multiple networks with one of the networks in private"),
        ("connect net hosted", "cannot be connected|host network"),
        ("connect --ip 10.62.0.7 bridge one", "user specified IP address is supported on user defined networks only"),
        ("connect --ip 10.62.0.7 automatic one", "only when connecting to networks with user configured subnets"),
        ("disconnect nosuch one", "network nosuch not found"),
        ("disconnect net nosuch", "No such container: nosuch"),
        ("disconnect automatic one", "is not connected to (the )?network automatic"),
    ):
        assert re.search(text, refused(engine_, "network", *words.split())), words
    assert list(engine_.inspect("one")["NetworkSettings"]["Networks"]) == ["net"]


def test_static_addresses(engine_: support.Engine) -> None:
    create(engine_, "net", "--subnet", "10.62.0.0/24")
    run(engine_, "one", "--network", "net", "--ip", "10.62.0.77")
    assert place(engine_, "one", "net")["IPAddress"] == "10.62.0.77"
    assert place(engine_, "one", "net")["IPAMConfig"] == {"IPv4Address": "10.62.0.77"}
    start = ("run", "-d", "--network", "net", "--ip")
    assert "Address already in use" in refused(engine_, *start, "10.62.0.77", "busybox", "true", code=125)
    assert refused(engine_, *start, "10.63.0.77", "busybox", "true", code=125)
    engine_.docker("restart", "-t", "0", "one")
    assert place(engine_, "one", "net")["IPAddress"] == "10.62.0.77"
    engine_.docker("rm", "-f", "one")
    run(engine_, "two", "--network", "net", "--ip", "10.62.0.77")


def test_a_stopped_container_is_connected_when_it_starts(engine_: support.Engine) -> None:
    for name in ("first", "second"):
        create(engine_, name)
    engine_.docker("create", "--name", "one", "--network", "first", "busybox", "sleep", "1000")
    engine_.docker("network", "connect", "--alias", "nick", "second", "one")
    engine_.docker("network", "connect", "--alias", "nick", "second", "one")
    assert place(engine_, "one", "second")["IPAddress"] == ""
    engine_.docker("start", "one")
    assert place(engine_, "one", "second")["IPAddress"] != ""
    assert "nick" in place(engine_, "one", "second")["Aliases"]
    engine_.docker("stop", "-t", "0", "one")
    engine_.docker("network", "disconnect", "first", "one")
    engine_.docker("start", "one")
    assert list(engine_.inspect("one")["NetworkSettings"]["Networks"]) == ["second"]


def test_networks_are_isolated_and_ports_are_not(engine_: support.Engine) -> None:
    create(engine_, "other")
    port = support.free_port()
    run(engine_, "server", "-p", f"{port}:80", command=SERVE)
    served("127.0.0.1", port)
    address = place(engine_, "server", "bridge")["IPAddress"]
    gateway = network(engine_, "other")["IPAM"]["Config"][0].get("Gateway")
    for name, words in (("near", []), ("far", ["--network", "other"])):
        run(engine_, name, *words)
    own = default_route(engine_, "server")

    def reaches(name: str, target: str, port: int) -> bool:
        asking = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 1 {target} {port}"
        return "200 OK" in engine_.docker("exec", name, "sh", "-c", asking, check=False).stdout

    assert reaches("near", address, 80)
    # Daemons of Docker share the chains of the host's filter, and undo each other's isolation.
    if isinstance(engine_, support.Hooper):
        assert not reaches("far", address, 80)
    assert reaches("far", gateway, port)
    assert reaches("server", own, port)


def test_shared_and_missing_networks(engine_: support.Engine) -> None:
    run(engine_, "one")
    run(engine_, "guest", "--network", "container:one")
    inside = ("ip", "-o", "-4", "addr")
    assert engine_.docker("exec", "guest", *inside).stdout == engine_.docker("exec", "one", *inside).stdout
    assert engine_.inspect("guest")["NetworkSettings"]["Networks"] == {}
    run(engine_, "alone", "--network", "none", "-p", f"{support.free_port()}:80")
    assert [line.split()[1] for line in engine_.docker("exec", "alone", *inside).stdout.splitlines()] == ["lo"]
    assert engine_.inspect("alone")["NetworkSettings"]["Ports"] == {}
    run(engine_, "hosted", "--network", "host")
    here = support.run("ip", "-o", "link").stdout.count("\n")
    assert abs(engine_.docker("exec", "hosted", "ip", "-o", "link").stdout.count("\n") - here) < 20
    assert "No such container" in refused(engine_, "run", "--network", "container:nosuch", "busybox", "true", code=125)
    assert "network nosuch not found" in refused(engine_, "run", "--network", "nosuch", "busybox", "true", code=125)


# --- ports ----------------------------------------------------------------------------------------


def test_ranges_addresses_and_protocols(engine_: support.Engine) -> None:
    first = free_range(6)
    fixed, several = f"127.0.0.1:{first}", f"{first + 1}-{first + 5}"
    words = ["-p", f"{fixed}:80", "-p", f"{several}:81", "-p", "82/udp", "-p", "127.0.0.1::83", "-p", "0:84"]
    run(engine_, "one", *words, command=SERVE)
    run(engine_, "two", "-p", f"{several}:81")
    ports = engine_.inspect("one")["NetworkSettings"]["Ports"]
    four = {port: [b for b in bound if ":" not in b["HostIp"]] for port, bound in ports.items()}
    assert four["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": str(first)}]
    assert four["81/tcp"] == [{"HostIp": "0.0.0.0", "HostPort": str(first + 1)}]
    assert four["83/tcp"][0]["HostIp"] == "127.0.0.1"
    assert all(int(four[port][0]["HostPort"]) >= 1024 for port in ("82/udp", "83/tcp", "84/tcp"))
    assert port_of(engine_, "two", "81") == str(first + 2)
    assert served("127.0.0.1", first)
    said = refused(engine_, "run", "-d", "-p", f"{fixed}:80", "busybox", "true", code=125)
    assert "driver failed programming external connectivity on endpoint" in said
    assert f"Bind for {fixed} failed: port is already allocated" in said


def test_all_exposed_ports(engine_: support.Engine) -> None:
    run(engine_, "one", "-P", "--expose", "100-102", "--expose", "7/udp", "--expose", "9")
    ports = engine_.inspect("one")["NetworkSettings"]["Ports"]
    assert sorted(ports) == ["100/tcp", "101/tcp", "102/tcp", "7/udp", "9/tcp"]
    assert all(bound and int(bound[0]["HostPort"]) >= 32768 for bound in ports.values())
    run(engine_, "two", "--expose", "100")
    assert engine_.inspect("two")["NetworkSettings"]["Ports"] == {"100/tcp": None}


def test_an_internal_network_publishes_nothing(engine_: support.Engine) -> None:
    create(engine_, "inner", "--internal")
    run(engine_, "one", "--network", "inner", "-p", f"{support.free_port()}:80")
    assert engine_.docker("port", "one").stdout == ""


def test_events(engine_: support.Engine) -> None:
    since = str(time.time())
    made = create(engine_, "net")
    run(engine_, "one", "--network", "net")
    engine_.docker("network", "disconnect", "net", "one")
    engine_.docker("network", "connect", "net", "one")
    identity = engine_.inspect("one")["Id"]
    engine_.docker("rm", "-f", "one")
    engine_.docker("network", "rm", "net")
    words = ("events", "--since", since, "--until", str(time.time() + 1), "--filter", "type=network")
    seen = [json.loads(line) for line in engine_.docker(*words, "--format", "{{json .}}").stdout.splitlines()]
    actions = ["create", "connect", "disconnect", "connect", "disconnect", "destroy"]
    # Docker 20.10 tells a disconnection twice.
    assert [action for action, _ in itertools.groupby(event["Action"] for event in seen)] == actions
    for event in seen:
        attributes = {"name": "net", "type": "bridge"}
        if event["Action"] in ("connect", "disconnect"):
            attributes["container"] = identity
        assert event["Actor"] == {"ID": made, "Attributes": attributes}
