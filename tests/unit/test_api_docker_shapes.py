"""Docker's shapes of containers, images, networks, events; times, parameters, routes."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hooper.api.errors import (
    Conflict,
    HooperError,
    InvalidArgument,
    NotFound,
    StartFailed,
    StepFailed,
    _kinds,
    from_wire,
    to_wire,
)
from hooper.api.frontend import Listener
from hooper.api.logs import LogEntry
from hooper.api.model import (
    Container,
    ContainerConfig,
    ContainerState,
    EndpointIPAM,
    EndpointSettings,
    Event,
    History,
    HostConfig,
    Image,
    ImageConfig,
    ImageSummary,
    MountPoint,
    RootFS,
)
from hooper_api_docker import bodies, container_shapes, create_body, events, image_shapes, logs, routes, sockets, times
from hooper_api_docker.errors import STATUS, ClientGone, in_band, message_of, status_of, unwrap
from hooper_api_docker.query import Query
from hooper_api_docker.router import Router, _load


def container(**values: Any) -> Container:
    values = {"config": ContainerConfig(image="i"), "host_config": HostConfig(), **values}
    return Container(id="c" * 64, name="one", created="2026-01-02T03:04:05Z", **values)


def image(**values: Any) -> ImageSummary:
    inner = Image(architecture="amd64", os="linux", config=ImageConfig(cmd=["a"]), **values)
    return ImageSummary(id="sha256:x", tags=["a:1"], image=inner, size=5)


# Containers


def test_inspect_has_every_key_of_a_config() -> None:
    shown = container_shapes.inspect(container(), (1, 50))["Config"]
    assert set(container_shapes.CONFIG_DEFAULTS) <= set(shown)
    assert shown["Cmd"] is None and shown["Labels"] == {} and "Healthcheck" not in shown


def test_host_config_shows_dockers_empty_values() -> None:
    shown = container_shapes.host_config(container())
    assert shown["PortBindings"] is None and shown["Dns"] is None and shown["Binds"] is None
    assert shown["LogConfig"] == {"Type": "", "Config": {}} and shown["ConsoleSize"] == [0, 0]
    assert shown["OomKillDisable"] is False and "/proc/kcore" in shown["MaskedPaths"]
    assert "Init" not in shown and "Tmpfs" not in shown and "KernelMemory" not in shown
    assert container_shapes.host_config(container(), (1, 41))["KernelMemoryTCP"] == 0
    given = container(host_config=HostConfig(init=True, tmpfs={"/a": ""}, privileged=True, links=["x:y"]))
    shown = container_shapes.host_config(given)
    assert shown["Tmpfs"] == {"/a": ""} and shown["Init"] is True and shown["MaskedPaths"] is None
    assert shown["Links"] == [f"/x:/{given.name}/y"]


def test_network_settings_repeat_the_bridge() -> None:
    endpoint = EndpointSettings(ip_address="10.0.0.2", ipam_config=EndpointIPAM(ipv4_address="10.0.0.2"))
    shown = container_shapes.network_settings(container(networks={"bridge": endpoint}))
    assert shown["IPAddress"] == "10.0.0.2"
    assert shown["Networks"]["bridge"]["IPAMConfig"] == {"IPv4Address": "10.0.0.2"}


def test_mounts_leave_out_what_does_not_apply() -> None:
    shown = container_shapes.mount(MountPoint(type="bind", source="/a", destination="/b"))
    assert "Name" not in shown and shown["RW"] is True and shown["Source"] == "/a"


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (ContainerState(), "Created"),
        (ContainerState(status="running", started_at="2000-01-01T00:00:00Z"), "Up 2"),
        (ContainerState(status="paused", started_at="2000-01-01T00:00:00Z"), "years (Paused)"),
        (ContainerState(status="exited", exit_code=3, finished_at="2000-01-01T00:00:00Z"), "Exited (3) 2"),
        (ContainerState(status="restarting", exit_code=1), "Restarting (1)"),
        (ContainerState(status="dead"), "Dead"),
    ],
)
def test_status_texts(state: ContainerState, text: str) -> None:
    assert text in container_shapes.status(container(state=state))


def test_a_command_quotes_words_with_blanks() -> None:
    assert container_shapes.command(container(path="sh", args=["-c", "a b"])) == "sh -c 'a b'"


def test_create_takes_the_nulls_of_clients() -> None:
    raw = {
        "Hostname": None, "Image": "i", "Cmd": "true", "ExposedPorts": {"80/tcp": None}, "Healthcheck": None,
        "HostConfig": {"Memory": None, "PortBindings": {"80/tcp": None, "81/tcp": [{"HostPort": "1", "HostIp": None}]},
                       "LogConfig": {"Type": None}},
        "NetworkingConfig": {"EndpointsConfig": {"n": None, "m": {"MacAddress": None, "Aliases": ["a"]}}},
    }  # fmt: skip
    body = create_body._repair_create(raw)
    assert body.cmd == ["true"] and body.hostname == "" and body.exposed_ports == {"80/tcp": {}}
    assert body.host_config and body.host_config.port_bindings
    assert body.host_config.port_bindings["80/tcp"] is None
    assert body.networking_config and body.networking_config.endpoints_config
    assert body.networking_config.endpoints_config["n"] is None
    assert body.networking_config.endpoints_config["m"].aliases == ["a"]  # type: ignore[union-attr]


# Images


def test_legacy_fields_of_images_end_with_their_version() -> None:
    old, new = image_shapes.inspect(image(), (1, 43), "overlay"), image_shapes.inspect(image(), (1, 50), "overlay")
    assert old["VirtualSize"] == 5 and "ContainerConfig" in old and old["Config"]["Env"] is None
    assert "VirtualSize" not in new and "ContainerConfig" not in new and new["Config"] == {"Cmd": ["a"]}
    assert "VirtualSize" not in image_shapes.summary(image(), (1, 44))


def test_history_pairs_layers_with_steps() -> None:
    steps = [History(created_by="a"), History(created_by="b", empty_layer=True), History(created_by="c")]
    shown = image_shapes.history(image(history=steps, rootfs=RootFS(["x", "y"])), [10, 20])
    assert [(step["CreatedBy"], step["Size"]) for step in shown] == [("c", 20), ("b", 0), ("a", 10)]
    assert shown[0]["Id"] == "sha256:x" and shown[1]["Id"] == "<missing>" and shown[0]["Tags"] == ["a:1"]
    assert [step["Size"] for step in image_shapes.history(image(), [1, 2])] == [2, 1]


# Events


EVENT = Event(
    "container", "exec_start: sh", "abc", 1_500_000_000_000_000_001, {"image": "host:5/a:1", "name": "n", "l": "v"}
)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, True),
        ({"event": ["exec_start"]}, True),
        ({"event": ["start"]}, False),
        ({"container": ["ab"], "image": ["nope"]}, False),
        ({"container": ["x"]}, False),
        ({"image": ["host:5/a"]}, True),
        ({"label": ["l"]}, True),
        ({"label": ["l=v", "m"]}, False),
        ({"type": ["network"]}, False),
        ({"network": ["ab"]}, True),
    ],
)
def test_event_filters(filters: dict[str, list[str]], expected: bool) -> None:
    assert events.matches(EVENT, filters) is expected


# Logs


def test_log_entries_on_the_wire() -> None:
    entries = [
        LogEntry("stdout", b"x\n", 1, {"b": "2", "a": "&"}),
        LogEntry("stderr", b"y", 10**9, {}),
        LogEntry("stdout", b"z\n", 2 * 10**9, None),
    ]
    plain = logs.Encoder(tty=False, timestamps=False, details=False).encode(entries)
    assert plain == b"\1\0\0\0\0\0\0\2x\n" + b"\2\0\0\0\0\0\0\1y" + b"\1\0\0\0\0\0\0\2z\n"
    assert logs.Encoder(tty=True, timestamps=False, details=True).encode(entries) == b"a=%26,b=2 x\n y z\n"
    stamped = logs.Encoder(tty=True, timestamps=True, details=True).encode(entries[:2])
    assert stamped == b"1970-01-01T00:00:00.000000001Z a=%26,b=2 x\n1970-01-01T00:00:01.000000000Z  y"


@pytest.mark.parametrize(("tail", "lines"), [("all", None), ("", None), ("0", 0), ("12", 12), ("-1", None)])
def test_tail(tail: str, lines: int | None) -> None:
    assert logs.log_query(Query(b"stdout=1&tail=" + tail.encode())).tail == lines


# Parameters and times


@pytest.mark.parametrize(
    ("text", "ns"),
    [("1.5", 1_500_000_000), ("7", 7_000_000_000), ("1.000000001", 1_000_000_001), ("", 0), ("-5", 0),
     ("1970-01-01T00:00:01Z", 10**9), ("1970-01-01T01:00:00.25%2B01:00", 250_000_000)],
)  # fmt: skip
def test_times_in_parameters(text: str, ns: int) -> None:
    assert Query(f"since={text}".encode()).time_ns("since") == ns


@pytest.mark.parametrize("query", ["since=yesterday", "since=2026-13-01T00:00:00Z"])
def test_times_that_are_none(query: str) -> None:
    with pytest.raises(InvalidArgument, match="since"):
        Query(query.encode()).time_ns("since")


def test_parameters() -> None:
    query = Query(b"a=1&b=false&c=&d&t=x&t=y%2Fz&n=q")
    assert query.flag("a") and not query.flag("b") and not query.flag("c") and not query.flag("d")
    assert query.flag("missing", default=True) and query.all("t") == ["x", "y/z"]
    with pytest.raises(InvalidArgument, match="n=q"):
        query.integer("n")


def test_rfc3339() -> None:
    assert times.rfc3339_fixed(10**9 + 5) == "1970-01-01T00:00:01.000000005Z"
    assert times.rfc3339(1_500_000_000) == "1970-01-01T00:00:01.5Z" and times.rfc3339(10**9) == "1970-01-01T00:00:01Z"
    assert times.parse_ns(times.rfc3339(1_753_000_000_123_456_789)) == 1_753_000_000_123_456_789


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (600, "10 minutes"),
     (3600, "About an hour"), (7200, "2 hours"), (47 * 3600, "47 hours"), (49 * 3600, "2 days"),
     (20 * 86400, "2 weeks"), (90 * 86400, "3 months"), (800 * 86400, "2 years")],
)  # fmt: skip
def test_ages(seconds: float, text: str) -> None:
    assert times.human_duration(seconds) == text


@pytest.mark.parametrize(
    ("server", "host"),
    [("https://index.docker.io/v1/", "docker.io"), ("http://a:5000", "a:5000"), ("b.c/v2/", "b.c"), ("", "docker.io")],
)
def test_registry_hosts(server: str, host: str) -> None:
    assert bodies.registry_host(server) == host


# Errors and routes


def test_every_kind_of_error_has_a_status() -> None:
    assert set(_kinds(HooperError)) <= set(STATUS)
    assert status_of(StartFailed("a")) == 400 and status_of(ValueError()) == 500
    assert message_of(Conflict("a", "b", "c.")) == "a: b\nc."
    assert message_of(NotFound("caf\udce9")) == "caf\\udce9"


@pytest.mark.parametrize("kind", [StartFailed, StepFailed])
def test_an_exit_code_travels_with_its_error(kind: type[StartFailed | StepFailed]) -> None:
    error = from_wire(to_wire(kind("what \udcff", "why", "remedy", exit_code=42)))
    assert type(error) is kind and error.exit_code == 42
    assert (error.what, error.why, error.remedy) == ("what \\udcff", "why", "remedy")


def test_a_subclass_without_a_kind_travels_as_its_base() -> None:
    class Special(InvalidArgument):
        def __init__(self) -> None:
            super().__init__("a", "b")

    error = from_wire(to_wire(Special()))
    assert type(error) is InvalidArgument and str(error) == "a: b"


def test_a_failed_command_tells_its_code_in_band() -> None:
    assert in_band(StepFailed("it failed", exit_code=7)) == {
        "errorDetail": {"code": 7, "message": "it failed"}, "error": "it failed",
    }  # fmt: skip
    assert in_band(Conflict("x")) == {"errorDetail": {"message": "x"}, "error": "x"}


def test_the_error_in_a_group_is_found() -> None:
    error = NotFound("x")
    assert unwrap(ExceptionGroup("", [ClientGone(), ExceptionGroup("", [error])])) is error


def test_every_route_has_a_handler() -> None:
    for method, pattern, target in routes.ROUTES:
        assert asyncio.iscoroutinefunction(_load(target)), (method, pattern)


@pytest.mark.parametrize(
    ("method", "path", "handler", "parameters"),
    [
        ("GET", "/images/host:5000/a/b/json", "inspect", ("host:5000/a/b",)),
        ("GET", "/images/json", "list_images", ()),
        ("GET", "/images/get/get", "save", ("get",)),
        ("DELETE", "/images/a/b", "remove", ("a/b",)),
        ("POST", "/containers/x/start", "start", ("x",)),
        ("GET", "/containers/x/attach/ws", "attach", ("x",)),
    ],
)
def test_routing(method: str, path: str, handler: str, parameters: tuple[str, ...]) -> None:
    found = Router(routes.ROUTES)._methods[method].find(path)
    assert found is not None and (found[0].__name__, found[1]) == (handler, parameters)


# Listeners


@pytest.mark.parametrize("address", ["nonsense", "unix://", "tcp://127.0.0.1", "fd://99", "fd://x", "http://a:1"])
def test_addresses_that_are_none(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_PID", raising=False)
    with pytest.raises(InvalidArgument) as raised:
        sockets.open_listeners([Listener(address)])
    assert address in str(raised.value)


def test_a_port_in_use_is_a_conflict_and_leaves_nothing_open(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = tmp_path / "s"
        with pytest.raises(Conflict, match=str(port)):
            sockets.open_listeners([Listener(f"unix://{path}"), Listener(f"tcp://127.0.0.1:{port}")])
    assert not path.exists()


def test_a_file_in_the_way_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("mine")
    with pytest.raises(Conflict, match="no socket"):
        sockets.open_listeners([Listener(f"unix://{path}")])
    assert path.read_text() == "mine"


def test_sockets_of_systemd_are_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        number = os.dup(passed.fileno())
        monkeypatch.setattr(sockets, "FIRST_INHERITED", number)
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        (listening,) = sockets.open_listeners([Listener("fd://")])
        assert listening.socket.getsockname() == passed.getsockname() and not os.get_inheritable(number)
        listening.close()


def test_a_socket_of_systemd_that_does_not_listen_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a unit with Accept=yes passes it; it would be ready for ever, and nothing could be accepted."""
    with socket.socket(socket.AF_UNIX) as passed:
        monkeypatch.setattr(sockets, "FIRST_INHERITED", os.dup(passed.fileno()))
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        with pytest.raises(InvalidArgument, match="a socket that does not listen"):
            sockets.open_listeners([Listener("fd://")])


def test_malformed_auth_counts_as_none() -> None:
    class Asked:
        headers = {b"x-registry-auth": b"%%%"}

    assert bodies.registry_auth(Asked()) is None  # type: ignore[arg-type]
    assert bodies.login(msgspec.json.encode({"username": "u", "password": "p", "serveraddress": "h:1"}))[0] == "h:1"
