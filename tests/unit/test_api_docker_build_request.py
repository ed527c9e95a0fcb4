"""The parameters of POST /build."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlencode

import pytest

from hooper.api.builder import BuildRequest, CacheSpec, NamedContext, OutputSpec
from hooper.api.errors import InvalidArgument, Unsupported
from hooper.api.model import Ulimit
from hooper.api.registry import Credentials
from hooper_api_docker import bodies
from hooper_api_docker.build_request import Asked, parse, read_request
from hooper_api_docker.http import Request
from hooper_api_docker.incoming import Head
from hooper_api_docker.query import Query

NONE: Any = None


def asked(*pairs: tuple[str, object], **more: object) -> Asked:
    return parse(Query(urlencode([*pairs, *more.items()]).encode()))


def request(*pairs: tuple[str, object], **more: object) -> BuildRequest:
    return asked(*pairs, **more).request


def test_nothing_said_is_one_image_of_the_usual_recipe() -> None:
    found = asked()
    assert found == Asked(
        request=BuildRequest(), remote="", session="", build_id="", quiet=False, events=False, check=False
    )
    assert found.request.remove and found.request.recipe == ""


def test_what_the_docker_cli_sends() -> None:
    found = asked(
        ("t", "h:1/a"), ("t", "b:2"), ("t", "h:1/a:latest"), ("extrahosts", "a:10.0.0.1"), ("extrahosts", "b:::1"),
        q=1, nocache=1, pull=1, rm=0, squash=1, memory=67108864, memswap=-1, cpushares=5, cpuquota=50000,
        cpuperiod=100000, cpusetcpus="0-1", cpusetmems="0", cgroupparent="/p", shmsize=1024, dockerfile="D/f",
        target="build", networkmode="default", platform="Linux/ARM64", buildid="abc", version=1,
        ulimits=json.dumps([{"Name": "nofile", "Soft": 1, "Hard": 2}]), buildargs='{"A":"1","B":null}',
        labels='{"l":"v"}', cachefrom='["cache:1","r.example/x"]', outputs='[{"Type":"local","Attrs":null}]',
    )  # fmt: skip
    assert found.quiet and found.build_id == "abc" and not found.events
    assert found.request == BuildRequest(
        recipe="D/f", tags=["h:1/a:latest", "b:2"], extra_hosts=["a:10.0.0.1", "b:::1"], no_cache=True, pull=True,
        remove=False, squash=True, memory=67108864, memory_swap=-1, cpu_shares=5, cpu_quota=50000, cpu_period=100000,
        cpuset_cpus="0-1", cpuset_mems="0", cgroup_parent="/p", shm_size=1024, target="build", network_mode="",
        platform="linux/arm64", ulimits=[Ulimit(name="nofile", soft=1, hard=2)],
        build_args={"A": "1", "B": None}, labels={"l": "v"}, outputs=[OutputSpec("local")],
        cache_from=[CacheSpec("registry", {"ref": "cache:1"}), CacheSpec("registry", {"ref": "r.example/x"})],
    )  # fmt: skip


def test_what_docker_py_sends() -> None:
    found = asked(
        ("dockerfile", ".dockerfile.1"), ("dockerfile", "FROM scratch"), ("t", ""), q="False", nocache="False",
        rm="False", forcerm="True", pull="False", networkmode="host", extrahosts="a:10.0.0.1,b:host-gateway",
    )  # fmt: skip
    assert not found.quiet and found.request.remove and not found.request.pull and found.request.tags == []
    assert found.request.recipe == ".dockerfile.1" and found.request.network_mode == "host"
    assert found.request.extra_hosts == ["a:10.0.0.1", "b:host-gateway"]
    assert request(extrahosts='["a=10.0.0.1"]').extra_hosts == ["a:10.0.0.1"]


def test_what_hooper_sends() -> None:
    own = {
        "builder": "toml", "check": True, "no_cache_stages": ["a"], "contexts": {"x": {"kind": "local"}},
        "cache_from": [{"Type": "local", "Attrs": {"src": "0"}}], "cache_to": [{"Type": "inline"}],
        "allow": ["network.host"], "annotations": {"k": "v"}, "debug": True, "source_date_epoch": 0,
    }  # fmt: skip
    found = asked(
        hooper=json.dumps(own), session="0" * 32, remote="hooper-session", progress="events", cachefrom='["a"]',
        securityopt='["label:disable"]',
    )  # fmt: skip
    assert (found.remote, found.session, found.events, found.check) == ("hooper-session", "0" * 32, True, True)
    assert found.request == BuildRequest(
        builder="toml", no_cache_stages=["a"], contexts={"x": NamedContext("local")}, allow=["network.host"],
        cache_from=[CacheSpec("registry", {"ref": "a"}), CacheSpec("local", {"src": "0"})],
        cache_to=[CacheSpec("inline")], annotations={"k": "v"}, debug=True, source_date_epoch=0,
        security_opt=["label:disable"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [("t", "UPPER"), ("t", "a:b:c"), ("t", "a@sha256:" + "0" * 64), ("buildargs", "["), ("buildargs", '{"A":1}'),
     ("labels", '["a"]'), ("cachefrom", '{"a":1}'), ("cachefrom", '["A B"]'), ("ulimits", '[{"Name":1}]'),
     ("ulimits", '[{"Soft":1}]'), ("memory", "lots"), ("memory", "-1"), ("memswap", "-2"), ("shmsize", "1g"),
     ("cpushares", "x"), ("cpuquota", "-9"), ("cpuperiod", str(1 << 63)), ("extrahosts", "host"),
     ("extrahosts", "host:here"), ("extrahosts", "[1]"), ("platform", "linux/"), ("platform", "a/b/c/d"),
     ("platform", "nope"),
     ("outputs", "{}"), ("outputs", '[{"Attrs":{}}]'), ("isolation", "hyperv"), ("version", "3"),
     ("progress", "fancy"), ("hooper", "{"), ("hooper", '{"contexst":{}}'), ("hooper", '{"debug":"yes"}'),
     ("hooper", '{"contexts":{"x":{"kind":"tape"}}}'), ("remote", "hooper-session")],
)  # fmt: skip
def test_a_wrong_parameter_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidArgument, match=f"parameter {name}"):
        asked((name, value))


def test_buildkit_is_another_door() -> None:
    for parameter in ({"version": "2"}, {"remote": "client-session"}):
        with pytest.raises(Unsupported, match="DOCKER_BUILDKIT=0"):
            asked(**parameter)


def head(query: bytes = b"", **headers: bytes) -> Request:
    fields = {name.replace("_", "-").lower().encode(): value for name, value in headers.items()}
    return Request(NONE, Head("POST", b"/build?" + query, {b"host": b"h", **fields}))


@pytest.mark.parametrize("kind", [b"application/x-tar", b"application/tar", b"", b"application/gzip"])
def test_a_tar_goes_by_many_names(kind: bytes) -> None:
    assert read_request(head(content_type=kind)).remote == ""


def test_a_form_is_no_context() -> None:
    for kind in (
        b"text/plain; charset=utf-8",
        b"multipart/form-data; boundary=x",
        b"application/x-www-form-urlencoded",
    ):
        with pytest.raises(InvalidArgument, match="application/x-tar"):
            read_request(head(content_type=kind))
    assert read_request(head(b"remote=http%3A%2F%2Fx%2Fy", content_type=b"text/plain")).remote == "http://x/y"


def encoded(value: object) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode())


def test_credentials_of_all_registries_and_of_one() -> None:
    everything = {"https://index.docker.io/v1/": {"username": "u", "password": "p"}, "r.example": {"auth": "dTpx"}}
    one = {"username": "a", "password": "b", "serveraddress": "https://other.example/v2/"}
    found = bodies.build_credentials(head(x_registry_config=encoded(everything), x_registry_auth=encoded(one)))
    assert found == {
        "docker.io": Credentials("u", "p"), "r.example": Credentials("u", "q"), "other.example": Credentials("a", "b"),
    }  # fmt: skip
    assert bodies.build_credentials(head(x_registry_config=b"%%", x_registry_auth=b"e30=")) == {}
