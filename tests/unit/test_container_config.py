"""What a container's configuration becomes: merging, mounts, ports, signals, detach keys."""

from __future__ import annotations

import pytest

from hooper.api import detach_keys
from hooper.api.errors import InvalidArgument
from hooper.api.model import (
    Container,
    ContainerConfig,
    HostConfig,
    ImageConfig,
    MountRequest,
    PortMapping,
)
from hooper.api.network import PortBinding
from hooper.engine import mounts, ports, signals
from hooper.engine.merge import command, merged, merged_env


def config(**fields: object) -> ContainerConfig:
    return ContainerConfig(**fields)  # type: ignore[arg-type]


IMAGE = ImageConfig(entrypoint=["/entry"], cmd=["serve"], env=["A=1", "B=2"], labels={"l": "1"}, working_dir="/w")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, ["/entry", "serve"]),
        ({"cmd": ["x"]}, ["/entry", "x"]),
        ({"entrypoint": ["/other"]}, ["/other"]),
        ({"entrypoint": ["/other"], "cmd": ["x"]}, ["/other", "x"]),
        ({"entrypoint": [""], "cmd": ["x"]}, ["x"]),
    ],
)
def test_entrypoint_and_command(asked: dict[str, list[str]], words: list[str]) -> None:
    path, args = command(merged(config(**asked), IMAGE))
    assert [path, *args] == words


def test_nothing_to_run_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="no command specified"):
        merged(config(), ImageConfig())


def test_environment_and_labels_merge_key_by_key() -> None:
    result = merged(config(env=["B=3", "C=4"], labels={"m": "2"}), IMAGE)
    assert result.env == ["B=3", "C=4", "A=1"]
    assert result.labels == {"l": "1", "m": "2"}
    assert merged_env(["A=1", "B=2"], ["A"]) == ["B=2"]


def requested(host: HostConfig, **fields: object) -> list[tuple[str, str, str, bool]]:
    return [(p.type, p.name or p.source, p.destination, p.rw) for p in mounts.requested(config(**fields), host)]


def test_binds_mounts_and_image_volumes() -> None:
    host = HostConfig(
        binds=["/src:/dst:ro", "named:/data", "/anonymous/"],
        mounts=[MountRequest(type="tmpfs", target="/t", tmpfs_options={"SizeBytes": 1024})],
    )
    assert requested(host, volumes={"/data": {}, "/v": {}}) == [
        ("bind", "/src", "/dst", False),
        ("volume", "named", "/data", True),
        ("volume", "", "/anonymous", True),
        ("tmpfs", "", "/t", True),
        ("volume", "", "/v", True),
    ]


@pytest.mark.parametrize(
    ("host", "text"),
    [
        (HostConfig(binds=["/a:b"]), "must be absolute"),
        (HostConfig(binds=["/a:/"]), "destination can't be '/'"),
        (HostConfig(binds=["/a:/b:rx"]), "invalid mode: rx"),
        (HostConfig(binds=["/a:/b:ro:x"]), "invalid volume specification"),
        (HostConfig(binds=["/a:/b", "/c:/b/"]), "Duplicate mount point: /b"),
        (HostConfig(mounts=[MountRequest(type="bind", source="/no/such", target="/b")]), "does not exist: /no/such"),
        (HostConfig(mounts=[MountRequest(type="odd", target="/b")]), 'type "odd": mount type unknown'),
    ],
)
def test_wrong_mounts_are_refused(host: HostConfig, text: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        mounts.requested(config(), host)
    assert text in str(error.value)


def test_runtime_mounts_come_parents_first() -> None:
    points = mounts.requested(config(), HostConfig(binds=["/x:/a/b/c", "/y:/a"]))
    result = mounts.runtime_mounts(points, {"/run": "size=1m"})
    assert [mount.destination for mount in result] == ["/a", "/run", "/a/b/c"]
    assert result[1].options == ["nosuid", "nodev", "noexec", "size=1m"]


def container(**fields: object) -> Container:
    return Container(id="0" * 64, name="c", created="", **{"config": config(), "host_config": HostConfig(), **fields})  # type: ignore[arg-type]


def test_published_ports() -> None:
    asked = container(
        config=config(exposed_ports={"80/tcp": {}, "53/udp": {}}),
        host_config=HostConfig(
            publish_all_ports=True,
            port_bindings={
                "80": [PortMapping(host_ip="127.0.0.1", host_port="8080")],
                "90/tcp": [PortMapping(host_port="5-9")],
            },
        ),
    )
    assert ports.wanted(asked) == [
        PortBinding("tcp", 80, "127.0.0.1", 8080, 0),
        PortBinding("tcp", 90, "", 5, 9),
        PortBinding("udp", 53),
    ]


@pytest.mark.parametrize("text", ["", "x", "0", "65536", "80/icmp", "-1"])
def test_wrong_ports_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid port"):
        ports.parse_port(text)


@pytest.mark.parametrize("text", ["9-5", "x", "70000", "1-70000"])
def test_wrong_host_ports_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid host port"):
        ports.wanted(container(host_config=HostConfig(port_bindings={"80/tcp": [PortMapping(host_port=text)]})))


@pytest.mark.parametrize(("text", "number"), [("SIGTERM", 15), ("kill", 9), ("1", 1), ("SIGRTMIN+3", 37)])
def test_signals(text: str, number: int) -> None:
    assert signals.number(text) == number


def test_an_unknown_signal_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="invalid signal: SIGNOPE"):
        signals.number("SIGNOPE")


@pytest.mark.parametrize(("text", "keys"), [("", b"\x10\x11"), ("ctrl-a,b", b"\x01b"), ("ctrl-@,ctrl-_", b"\x00\x1f")])
def test_detach_keys(text: str, keys: bytes) -> None:
    assert detach_keys.parse(text) == keys


def test_wrong_detach_keys_are_refused() -> None:
    with pytest.raises(InvalidArgument, match='"ctrl-1" is not a key'):
        detach_keys.parse("a,ctrl-1")
