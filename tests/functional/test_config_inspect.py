"""The whole of inspect, key by key, against a real dockerd: what differs is listed here, with the reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from support import Engine, Hooper

pytestmark = [pytest.mark.root, pytest.mark.dockerd]

INTENDED = {
    # Of this engine, this machine or this moment.
    r"Id|Created|Image|Driver|GraphDriver\..*|(Resolv|Host|Log)\w*Path|Config\.Hostname|HostConfig\.Runtime",
    r"State\.(Pid|StartedAt|FinishedAt)|Mounts\[\d+\]\.(Name|Source)",
    r"NetworkSettings\.(Networks\.\w+\.)?(EndpointID|Gateway|IPAddress|IPPrefixLen|MacAddress|NetworkID)",
    r"NetworkSettings\.(Networks\.\w+\.)?(IPv6Gateway|GlobalIPv6\w+)|NetworkSettings\.Sandbox(ID|Key)",
    # Newer Docker shows these; 20.10 does not have them.
    r"NetworkSettings\.Networks\.\w+\.(DNSNames|GwPriority)",
    # Newer Docker hides more, says "bridge" for "default", and shows the address in Config up to API 1.43.
    r"HostConfig\.MaskedPaths|HostConfig\.NetworkMode|Config\.MacAddress",
    # Docker's is "host" on cgroup v1; a container of hooper's sees its own cgroup alone.
    r"HostConfig\.CgroupnsMode",
    # An option of SELinux, which Docker adds itself for privileged containers, and where pid or ipc are the host's.
    r"HostConfig\.SecurityOpt",
    # dockerd 20.10 publishes on :: too where the host has IPv6.
    r"NetworkSettings\.Ports\.\d+/tcp\[\d\]\.Host\w+",
}
_intended = re.compile("|".join(f"(?:{each})" for each in INTENDED))


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from flat(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, item in enumerate(value):
            yield from flat(item, f"{path}[{number}]")
    else:
        yield path, value


def facts(engine: Engine) -> dict[str, Any]:
    status, found = engine.request("GET", "/v1.41/containers/c1/json")
    assert status == 200, found
    found["Mounts"].sort(key=lambda mount: mount["Destination"])
    for key in ("Binds",):  # dockerd's are in no order
        found["HostConfig"][key] = sorted(found["HostConfig"][key] or ()) or None
    return dict(flat(found))


def differences(first: dict[str, Any], second: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    missing = "(missing)"
    return {
        key: (first.get(key, missing), second.get(key, missing))
        for key in sorted(first.keys() | second.keys())
        if not _intended.fullmatch(key)
        and (first.get(key, missing) != second.get(key, missing) or type(first.get(key)) is not type(second.get(key)))
    }


CASES = {
    "created": ["create", "--name", "c1", "busybox", "true"],
    "running": ["run", "-d", "--name", "c1", "busybox", "sleep", "60"],
    "terminal": ["run", "-itd", "--name", "c1", "--entrypoint", "sleep", "busybox", "60"],
    "program": [
        "run", "-d", "--name", "c1", "-u", "1:2", "--group-add", "5", "-w", "/w", "-e", "A=b", "-l", "x=y", "-h", "h",
        "--domainname", "d", "--stop-signal", "INT", "--stop-timeout", "3", "--init", "--cap-add", "SYS_TIME",
        "--cap-drop", "MKNOD", "--ulimit", "nofile=100:200", "--oom-score-adj", "100", "--sysctl",
        "net.core.somaxconn=9", "--restart", "on-failure:3", "--log-opt", "max-size=1m", "--read-only", "busybox",
        "sleep", "60",
    ],
    "health": [
        "create", "--name", "c1", "--health-cmd", "true", "--health-interval", "3s", "--health-retries", "2", "busybox",
    ],
    "mounts": [
        "run", "-d", "--name", "c1", "-v", "/etc:/m:ro", "-v", "inspected:/v", "-v", "/anonymous", "--tmpfs",
        "/t:size=1m", "--mount", "type=tmpfs,dst=/t2,tmpfs-size=4k", "--mount", "type=volume,dst=/v2,volume-nocopy",
        "--mount", "type=volume,src=inspected,dst=/v3,readonly", "--mount", "type=bind,src=/usr,dst=/b,readonly",
        "--shm-size", "1m", "--device", "/dev/null:/dev/x:r", "--device-cgroup-rule", "c 1:11 r", "busybox", "sleep",
        "60",
    ],
    "limits": [
        "run", "-d", "--name", "c1", "--cpus", "1", "-m", "64m", "--memory-swap", "128m", "--memory-reservation", "32m",
        "--pids-limit", "100", "--cpu-shares", "100", "--cpuset-cpus", "0", "busybox", "sleep", "60",
    ],
    "network": [
        "run", "-d", "--name", "c1", "-p", "127.0.0.1:18099:80", "--expose", "90", "--dns", "1.1.1.1", "--dns-search",
        "a.b", "--dns-option", "ndots:2", "--add-host", "a:1.2.3.4", "busybox", "sleep", "60",
    ],
    "no network": ["run", "-d", "--name", "c1", "--network", "none", "--ipc", "shareable", "busybox", "sleep", "60"],
    "the host's": [
        "run", "-d", "--name", "c1", "--network", "host", "--pid", "host", "--ipc", "host", "--uts", "host",
        "--cgroupns", "host", "busybox", "sleep", "60",
    ],
    "privileged": ["create", "--name", "c1", "--privileged", "busybox"],
    "unconfined": [
        "create", "--name", "c1", "--security-opt", "systempaths=unconfined", "--security-opt", "no-new-privileges",
        "busybox",
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_inspect_is_as_of_dockerd(clean: Hooper, peer: Engine, case: str) -> None:
    found = []
    for engine in (peer, clean):
        try:
            engine.docker(*CASES[case])
            found.append(facts(engine))
        finally:
            engine.clear()
            engine.request("DELETE", "/volumes/inspected")
    assert differences(*found) == {}


def test_a_request_that_says_nothing_as_of_dockerd(clean: Hooper, peer: Engine) -> None:
    """As programs send it: nothing is there that the client's command line would have filled in."""
    found = []
    for engine in (peer, clean):
        try:
            status, answer = engine.request("POST", "/v1.41/containers/create?name=c1", {"Image": "busybox"})
            assert status == 201 and answer["Warnings"] == []
            found.append(facts(engine))
        finally:
            engine.clear()
    assert differences(*found) == {}
