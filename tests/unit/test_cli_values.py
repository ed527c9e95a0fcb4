"""The parsers of flags: ports, mounts, sizes, durations, environments, limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hooper.cli import humanise, mounts, ports, units, values
from hooper.cli.errors import BadFlag, start_failure_code
from hooper.cli.terminal import DetachKeys, parse_keys


@pytest.mark.parametrize(
    ("text", "expected"),
    [("42", 42), ("1k", 1024), ("512m", 512 << 20), ("1.5GiB", 3 << 29), ("2 MB", 2 << 20), ("1t", 1 << 40)],
)
def test_sizes(text: str, expected: int) -> None:
    assert units.parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "4q", "-1", "m", "1.2.3k"])
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="suffixes"):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10s", 10 * 10**9), ("1h30m", 5400 * 10**9), ("1.5s", 1500 * 10**6), ("300ms", 3 * 10**8), ("0", 0)],
)
def test_durations(text: str, expected: int) -> None:
    assert units.parse_duration(text) == expected


@pytest.mark.parametrize("text", ["3", "s", "1d", "1s2", ""])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        units.parse_duration(text)


def test_processors() -> None:
    assert units.parse_cpus("1.5") == 1_500_000_000
    assert units.parse_cpus(".25") == 250_000_000
    with pytest.raises(ValueError, match="processors"):
        units.parse_cpus("x")


def test_moments() -> None:
    assert units.parse_moment("1700000000.5") == "1700000000.5"
    assert units.parse_moment("10m", now=1000.0) == "400.000000000"
    assert units.parse_moment("2023-11-14T22:13:20.123456789Z") == "1700000000.123456789"
    with pytest.raises(ValueError, match="time stamp"):
        units.parse_moment("yesterday")


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("80", {"80/tcp": [("", "")]}),
        ("8080:80", {"80/tcp": [("", "8080")]}),
        ("127.0.0.1:8080:80/udp", {"80/udp": [("127.0.0.1", "8080")]}),
        ("127.0.0.1::80", {"80/tcp": [("127.0.0.1", "")]}),
        ("[::1]:8080:80", {"80/tcp": [("::1", "8080")]}),
        ("8000-8001:80-81", {"80/tcp": [("", "8000")], "81/tcp": [("", "8001")]}),
        ("8000-8010:80", {"80/tcp": [("", "8000-8010")]}),
        ("target=80,published=8080,protocol=udp", {"80/udp": [("", "8080")]}),
    ],
)
def test_published_ports(item: str, expected: dict[str, Any]) -> None:
    found = ports.published([item])
    assert {key: [(b["HostIp"], b["HostPort"]) for b in value] for key, value in found.items()} == expected


@pytest.mark.parametrize(
    "item",
    ["abc", "99999:80", "80:", "8000-8002:80-81", "81-80", "80/icmp", "nohost:80:80", "[::1:80:80", "published=1"],
)
def test_published_ports_that_are_none(item: str) -> None:
    with pytest.raises(BadFlag) as caught:
        ports.published([item])
    assert item in str(caught.value)
    assert "--publish" in str(caught.value)


def test_exposed_ports() -> None:
    assert ports.exposed(["80", "53-54/udp"]) == ["80/tcp", "53/udp", "54/udp"]


def test_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    binds, anonymous = mounts.volumes(["/a:/b:ro", "data:/c", "./x:/d", "/only"])
    assert binds == ["/a:/b:ro", "data:/c", f"{tmp_path}/x:/d"]
    assert anonymous == {"/only": {}}


@pytest.mark.parametrize("item", ["", ":/a", "/a:", "a:b", "/a:/b:ro:z"])
def test_volumes_that_are_none(item: str) -> None:
    with pytest.raises(BadFlag, match="--volume"):
        mounts.volumes([item])


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (
            "type=bind,src=/a,dst=/b,ro,bind-propagation=rslave",
            {
                "Type": "bind",
                "Source": "/a",
                "Target": "/b",
                "ReadOnly": True,
                "BindOptions": {"Propagation": "rslave"},
            },
        ),
        ("source=v,target=/b", {"Type": "volume", "Source": "v", "Target": "/b"}),
        (
            "type=volume,target=/b,volume-opt=a=1,volume-opt=b=2,volume-nocopy",
            {
                "Type": "volume",
                "Target": "/b",
                "VolumeOptions": {"NoCopy": True, "DriverConfig": {"Name": "local", "Options": {"a": "1", "b": "2"}}},
            },
        ),
        (
            "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770",
            {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1770}},
        ),
    ],
)
def test_mounts(item: str, expected: dict[str, Any]) -> None:
    assert mounts.mounts([item]) == [expected]


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ("type=zz,target=/a", "zz"),
        ("foo=1", "foo"),
        ("type=bind,target=/a", "source"),
        ("type=bind,source=/a", "target"),
        ("type=bind,source=/a,target=/b,tmpfs-size=1", "tmpfs-size"),
        ("target=/a,readonly=perhaps", "perhaps"),
        ("type=tmpfs,target=/a,tmpfs-mode=9", "octal"),
    ],
)
def test_mounts_that_are_none(item: str, why: str) -> None:
    with pytest.raises(BadFlag) as caught:
        mounts.mounts([item])
    assert why in str(caught.value)


def test_environment_of_files_flags_and_the_client(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\n\nA=from file\nB\nMISSING\n")
    found = values.environment(["C=1", "D", "E"], [str(file)], {"B": "inherited", "D": "also"})
    assert found == ["A=from file", "B=inherited", "C=1", "D=also"]


def test_environment_files_that_are_wrong(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("two words=1\n")
    for path in (str(file), str(tmp_path / "nosuch")):
        with pytest.raises(BadFlag, match="--env-file"):
            values.environment([], [path], {})


def test_ulimits() -> None:
    assert values.ulimits(["nofile=1:2", "core=-1"]) == [
        {"Name": "nofile", "Soft": 1, "Hard": 2},
        {"Name": "core", "Soft": -1, "Hard": -1},
    ]
    for wrong in ("nofile", "nofile=", "nofile=x", "nofile=3:2", "=1"):
        with pytest.raises(BadFlag, match="--ulimit"):
            values.ulimits([wrong])


def test_devices() -> None:
    assert [tuple(device.values()) for device in values.devices(["/a", "/a:/b", "/a:r", "/a:/b:rw"])] == [
        ("/a", "/a", "rwm"),
        ("/a", "/b", "rwm"),
        ("/a", "/a", "r"),
        ("/a", "/b", "rw"),
    ]
    for wrong in ("a", "/a:x", "/a:/b:/c:r", "/a:/b:q"):
        with pytest.raises(BadFlag, match="--device"):
            values.devices([wrong])


def test_restart_policies() -> None:
    assert values.restart_policy("on-failure:3") == {"Name": "on-failure", "MaximumRetryCount": 3}
    for wrong in ("sometimes", "always:3", "on-failure:x"):
        with pytest.raises(BadFlag, match="--restart"):
            values.restart_policy(wrong)


def test_hosts_take_both_signs_and_ipv6() -> None:
    assert values.hosts(["a:1.2.3.4", "b=[::1]", "c:::1"]) == ["a:1.2.3.4", "b:::1", "c:::1"]
    with pytest.raises(BadFlag, match="--add-host"):
        values.hosts(["nothing"])


def test_detach_keys() -> None:
    keys = DetachKeys(parse_keys("ctrl-p,ctrl-q"))
    assert keys.feed(b"ab\x10") == (b"ab", False)
    assert keys.feed(b"c") == (b"\x10c", False)
    assert keys.feed(b"x\x10\x11y") == (b"x", True)
    assert parse_keys("ctrl-a,d,ctrl-[") == b"\x01d\x1b"
    with pytest.raises(BadFlag, match="--detach-keys"):
        parse_keys("ctrl-1")


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.5, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (61, "About a minute"),
        (180, "3 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (3 * 86400, "3 days"),
        (21 * 86400, "3 weeks"),
        (90 * 86400, "3 months"),
        (3 * 365 * 86400, "3 years"),
    ],
)
def test_lengths_of_time(seconds: float, expected: str) -> None:
    assert humanise.duration(seconds) == expected


def test_sizes_for_people() -> None:
    assert humanise.size(1_984_000) == "1.984MB"
    assert humanise.size(1_984_000, 3) == "1.98MB"
    assert humanise.binary_size(600 << 10) == "600KiB"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('exec: "nosuch": executable file not found in $PATH', 127),
        ("stat /x: no such file or directory", 127),
        ('exec: "/etc": permission denied', 126),
        ("No such image: x", 125),
    ],
)
def test_start_failures_have_the_shells_code(text: str, code: int) -> None:
    assert start_failure_code(text) == code
