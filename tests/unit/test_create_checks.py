"""What is refused before anything is made; devices, sysctls, links and paths of cgroups."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hooper.api.errors import InvalidArgument
from hooper.api.model import (
    Container,
    ContainerConfig,
    DeviceMapping,
    EndpointSettings,
    HostConfig,
    MountPoint,
    MountRequest,
)
from hooper.engine import checks, devices, links, mounts, spec, sysctls
from hooper.engine.seccomp_profile import parse as parse_profile
from hooper.linux import apparmor


def container(host: HostConfig, **fields: object) -> Container:
    config = ContainerConfig(**fields)  # type: ignore[arg-type]
    return Container(id="1" * 64, name="c", created="", config=config, host_config=host)


@pytest.mark.parametrize("key", ["net.ipv4.ip_forward", "net/core/somaxconn", "kernel.sem", "fs.mqueue.msg_max"])
def test_settings_of_namespaces_are_taken(key: str) -> None:
    sysctls.check(HostConfig(sysctls={key: "1"}))


@pytest.mark.parametrize(
    "key",
    [
        "kernel.panic",
        "fs.file-max",
        "vm.swappiness",
        "net/../kernel/panic",
        "/net/x",
        "..",
        "",
        "network.x",
        "kernel.shm",
    ],
)
def test_settings_of_the_host_are_refused(key: str) -> None:
    with pytest.raises(InvalidArgument, match="sysctl"):
        sysctls.check(HostConfig(sysctls={key: "1"}))


@pytest.mark.parametrize(
    ("parent", "path"),
    [
        ("", "/hooper"), ("/a/b", "/a/b"), ("a", "/a"), ("../../x", "/x"), ("/a/../../..", ""), ("//x//y/", "/x/y"),
    ],
)  # fmt: skip
def test_a_cgroups_parent_stays_below_the_root(parent: str, path: str) -> None:
    assert spec.cgroups_path(container(HostConfig(cgroup_parent=parent))) == f"{path}/{'1' * 64}"


@pytest.mark.parametrize(
    ("privileged", "options", "profile"),
    [
        (False, [], "usual"),
        (False, ["apparmor=mine"], "mine"),
        (False, ["apparmor=unconfined"], "unconfined"),
        (True, [], "unconfined"),
        (True, ["apparmor=mine"], "mine"),
    ],
)
def test_apparmor_profiles(monkeypatch: pytest.MonkeyPatch, privileged: bool, options: list[str], profile: str) -> None:
    host = HostConfig(privileged=privileged, security_opt=options)
    monkeypatch.setattr(apparmor, "default", lambda: "usual")
    for present in (True, False):
        monkeypatch.setattr(apparmor, "is_enabled", lambda: present)  # noqa: B023  called in this turn
        assert spec.apparmor_profile(host) == (profile if present else "")


@pytest.mark.parametrize(
    "profile",
    [
        "", "[]", "{}", '{"defaultAction": "SCMP_ACT_NOPE"}', '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{}]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "x"}]}',
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG", '
        '"args": [{"index": 0, "value": 1, "op": "x"}]}]}',
    ],
)  # fmt: skip
def test_profiles_that_are_none(profile: str) -> None:
    with pytest.raises(InvalidArgument, match="decoding the seccomp profile failed"):
        parse_profile(profile, [], "amd64", (6, 1))


def test_devices_that_are_no_devices(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument, match="not a device node"):
        devices.nodes(HostConfig(devices=[DeviceMapping(path_on_host=str(tmp_path / "file"))]))
    assert devices.nodes(HostConfig(devices=[DeviceMapping(path_on_host=str(tmp_path))])) == []


def test_the_null_device() -> None:
    host = HostConfig(devices=[DeviceMapping(path_on_host="/dev/null", path_in_container="/x", cgroup_permissions="r")])
    (node,) = devices.nodes(host)
    assert (node.path, node.type, node.major, node.minor) == ("/x", "c", 1, 3)
    assert node.file_mode == stat.S_IMODE(os.stat("/dev/null").st_mode)
    rule = devices.rules(host)[-1]
    assert (rule.allow, rule.type, rule.major, rule.minor, rule.access) == (True, "c", 1, 3, "r")


def test_only_addresses_are_addresses() -> None:
    checks.check_config(container(HostConfig(extra_hosts=["a:1.2.3.4", "b=[::1]", "c:host-gateway"], dns=["::1"])))
    for host in (HostConfig(extra_hosts=["a:x"]), HostConfig(extra_hosts=[":1.2.3.4"]), HostConfig(dns=["x"])):
        with pytest.raises(InvalidArgument):
            checks.check_config(container(host))


def test_names_are_as_long_as_the_kernel_takes() -> None:
    checks.check_request(ContainerConfig(hostname="x" * 64), HostConfig())
    with pytest.raises(InvalidArgument, match="64 bytes"):
        checks.check_request(ContainerConfig(hostname="x" * 65), HostConfig())


@pytest.mark.parametrize("text", ["", ":", "a:", "a:b:c", ":b"])
def test_malformed_links(text: str) -> None:
    with pytest.raises(InvalidArgument, match="bad format for links"):
        links.parse(text)


def test_variables_of_a_link() -> None:
    assert links.parse("db") == ("db", "db") and links.parse("/db:/x/alias") == ("/db", "alias")
    other = container(HostConfig(), exposed_ports={"53/udp": {}, "90/tcp": {}, "80/tcp": {}}, env=["A=b", "PATH=x"])
    other.networks = {"bridge": EndpointSettings(ip_address="10.0.0.2")}
    assert links.variables(container(HostConfig()), [("my-db", other)]) == [
        "MY_DB_NAME=/c/my-db",
        "MY_DB_PORT=tcp://10.0.0.2:80",
        *(
            f"MY_DB_PORT_{port}_{protocol.upper()}{rest}"
            for port, protocol in ((80, "tcp"), (90, "tcp"), (53, "udp"))
            for rest in (
                f"={protocol}://10.0.0.2:{port}", "_ADDR=10.0.0.2", f"_PORT={port}", f"_PROTO={protocol}",
            )
        ),
        "MY_DB_ENV_A=b",
    ]  # fmt: skip


def test_volumes_of_others_stand_back() -> None:
    lent = [MountPoint(type="volume", name="theirs", destination=place) for place in ("/a", "/b", "/t", "/v")]
    host = HostConfig(binds=["/mine:/a"], tmpfs={"/t": ""})
    found = mounts.requested(ContainerConfig(volumes={"/v": {}, "/w": {}}), host, lent)
    shown = {point.destination: (point.type, point.name, point.anonymous) for point in found}
    assert shown == {
        "/a": ("bind", "", False), "/b": ("volume", "theirs", False), "/v": ("volume", "theirs", False),
        "/w": ("volume", "", True),
    }  # fmt: skip


def test_read_only_binds_are_so_to_the_depth(tmp_path: Path) -> None:
    def options(**bind: bool) -> list[str]:
        request = MountRequest(type="bind", source=str(tmp_path), target="/x", read_only=True, bind_options={**bind})
        (mount,) = mounts.runtime_mounts(mounts.requested(ContainerConfig(), HostConfig(mounts=[request])), None)
        return mount.options

    assert options() == ["rbind", "rprivate", "ro", "rro"]
    assert options(ReadOnlyNonRecursive=True) == ["rbind", "rprivate", "ro"]
    assert options(NonRecursive=True) == ["bind", "rprivate", "ro"]
    with pytest.raises(InvalidArgument, match="conflicts"):
        options(ReadOnlyNonRecursive=True, ReadOnlyForceRecursive=True)


def test_options_of_a_tmpfs() -> None:
    mounts.check_tmpfs({"/x": "size=1m,mode=1777,uid=0,exec,nr_inodes=4k,noatime,size=50%", "/y": ""})
    for text in ("bad", "size=", "size=1x", "mode=9", "uid=me", "size"):
        with pytest.raises(InvalidArgument, match="invalid tmpfs option"):
            mounts.check_tmpfs({"/x": text})
