"""Every wrong value: Docker's status and words, a remedy, and nothing left behind.

Where the table says so only newer Docker, or hooper, finds the mistake at the creation, and dockerd 20.10 later or
never. For a body of the wrong type it says 500, as newer ones no longer do.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

import support
from hooper_net_bridge.naming import table
from support import Engine, Hooper

pytestmark = pytest.mark.root

Json = dict[str, Any]

HOST: list[tuple[Json, str]] = [
    ({"Memory": 5 << 20}, "Minimum memory limit allowed is 6MB"),
    ({"Memory": -1}, "Minimum memory limit allowed is 6MB"),
    (
        {"Memory": 64 << 20, "MemorySwap": 32 << 20},
        "Minimum memoryswap limit should be larger than memory limit, see usage",
    ),
    ({"MemorySwap": 32 << 20}, "You should always set the Memory limit when using Memoryswap limit, see usage"),
    ({"MemoryReservation": 1 << 20}, "Minimum memory reservation allowed is 6MB"),
    (
        {"Memory": 64 << 20, "MemoryReservation": 128 << 20},
        "Minimum memory limit can not be less than memory reservation limit, see usage",
    ),
    ({"MemorySwappiness": 101}, "Invalid value: 101, valid memory swappiness range is 0-100"),
    ({"MemorySwappiness": -2}, "Invalid value: -2, valid memory swappiness range is 0-100"),
    ({"KernelMemory": 1}, "Minimum kernel memory limit allowed is 6MB"),
    ({"NanoCpus": 10**15}, "Range of CPUs is from 0.01 to"),
    ({"NanoCpus": -1}, "Range of CPUs is from 0.01 to"),
    ({"NanoCpus": 10**9, "CpuQuota": 5000}, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
    ({"NanoCpus": 10**9, "CpuPeriod": 5000}, "Conflicting options: Nano CPUs and CPU Period cannot both be set"),
    ({"CpuPeriod": 10}, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"),
    ({"CpuPeriod": 2_000_000}, "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s"),
    ({"CpuQuota": 10}, "CPU cfs quota can not be less than 1ms (i.e. 1000)"),
    (
        {"CpuRealtimePeriod": 1000, "CpuRealtimeRuntime": 2000},
        "cpu real-time runtime cannot be higher than cpu real-time period",
    ),
    ({"CpusetCpus": "0-4096"}, "Requested CPUs are not available - requested 0-4096, available: "),
    ({"CpusetCpus": "abc"}, "Invalid value abc for cpuset cpus: invalid format"),
    ({"CpusetCpus": "0-"}, "Invalid value 0- for cpuset cpus: invalid format"),
    ({"CpusetMems": "77"}, "Requested memory nodes are not available - requested 77, available: "),
    ({"IOMaximumIOps": 3}, "Invalid QoS settings: linux does not support configuration of maximum IOPs"),
    ({"OomScoreAdj": 1001}, "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
    ({"ShmSize": -1}, "SHM size can not be less than 0"),
    ({"CapAdd": ["nope"]}, 'invalid CapAdd: unknown capability: "CAP_NOPE"'),
    ({"CapDrop": ["CAP_X"]}, 'invalid CapDrop: unknown capability: "CAP_X"'),
    ({"CapAdd": ["CAP_ALL"]}, 'invalid CapAdd: unknown capability: "CAP_ALL"'),
    ({"SecurityOpt": ["foo"]}, 'invalid --security-opt 1: "foo"'),
    ({"SecurityOpt": ["foo=bar"]}, 'invalid --security-opt 2: "foo=bar"'),
    ({"SecurityOpt": ["no-new-privileges=maybe"]}, 'invalid --security-opt 2: "no-new-privileges=maybe"'),
    ({"CgroupnsMode": "bad"}, "invalid cgroup namespace mode: bad"),
    ({"PidMode": "container:nope"}, "No such container: nope"),
    ({"IpcMode": "container:nope"}, "No such container: nope"),
    ({"VolumesFrom": ["nope"]}, "No such container: nope"),
    ({"VolumesFrom": [""]}, "volumes-from specification cannot be an empty string"),
    ({"VolumesFrom": ["nope:zz"]}, "invalid mode: zz"),
    ({"Links": ["nope"]}, "could not get container for nope: No such container: nope"),
    ({"Links": ["a:b:c"]}, "bad format for links: a:b:c"),
    ({"NetworkMode": "host", "Links": ["x"]}, "conflicting options: host type networking can't be used with links"),
    (
        {"NetworkMode": "container:x", "PortBindings": {"80/tcp": [{}]}},
        "conflicting options: port publishing and the container type network mode",
    ),
    ({"NetworkMode": "container:x", "Dns": ["1.1.1.1"]}, "conflicting options: dns and the network mode"),
    (
        {"NetworkMode": "container:x", "ExtraHosts": ["a:1.1.1.1"]},
        "conflicting options: custom host-to-IP mapping and the network mode",
    ),
    ({"ExtraHosts": ["bad"]}, 'bad format for add-host: "bad"'),
    ({"ExtraHosts": ["a:bad"]}, 'invalid IP address in add-host: "bad"'),
    ({"PortBindings": {"bad": [{"HostPort": "80"}]}}, 'invalid port specification: "bad"'),
    ({"RestartPolicy": {"Name": "bad"}}, "invalid restart policy 'bad'"),
    (
        {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}},
        "maximum retry count cannot be used with restart policy 'always'",
    ),
    ({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -3}}, "maximum retry count cannot be negative"),
    (
        {"RestartPolicy": {"Name": "always"}, "AutoRemove": True},
        "can't create 'AutoRemove' container with restart policy",
    ),
    ({"StorageOpt": {"size": "1g"}}, "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"),
    ({"StorageOpt": {"foo": "1"}}, "Unknown option foo"),
    ({"Isolation": "hyperv"}, "Invalid isolation: \"hyperv\" - linux only supports 'default'"),
    ({"LogConfig": {"Type": "json-file", "Config": {"x": "y"}}}, "unknown log opt 'x' for json-file log driver"),
    ({"Binds": ["a"]}, "invalid mount path: 'a' mount path must be absolute"),
    ({"Binds": [""]}, "invalid volume specification: ''"),
    ({"Binds": ["/a:"]}, "invalid volume specification: '/a:'"),
    ({"Binds": ["a:b:c:d"]}, "invalid volume specification: 'a:b:c:d'"),
    (
        {"Binds": ["/a:b"]},
        "invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute",
    ),
    ({"Binds": ["/a:/b/../.."]}, "invalid specification: destination can't be '/'"),
    ({"Binds": ["/a:/b:bad"]}, "invalid mode: bad"),
    ({"Binds": ["/a:/b:ro,rw"]}, "invalid mode: ro,rw"),
    ({"Binds": ["/a:/b:,ro"]}, "invalid mode: ,ro"),
    ({"Binds": ["/a:/b:rshared,rslave"]}, "invalid mode: rshared,rslave"),
    ({"Binds": ["/a:/b:nocopy"]}, 'invalid mount config for type "bind": field VolumeOptions must not be specified'),
    ({"Binds": ["ab:/b:rshared"]}, 'invalid mount config for type "volume": field BindOptions must not be specified'),
    ({"Binds": ["a/b:/b"]}, "includes invalid characters for a local volume name"),
    ({"Binds": ["a:/b"]}, "volume name is too short, names should be at least two alphanumeric characters"),
    ({"Binds": ["/a:/b", "/c:/b/"]}, "Duplicate mount point: /b"),
    ({"Binds": ["/a:/b"], "Tmpfs": {"/b": ""}}, "Duplicate mount point: /b"),
    ({"Tmpfs": {"rel": ""}}, "invalid mount path: 'rel' mount path must be absolute"),
    ({"Tmpfs": {"/": ""}}, "invalid specification: destination can't be '/'"),
]

NEWER: list[tuple[Json, int, str]] = [
    ({"CpuShares": -5}, 400, "invalid CPU shares (-5): value must be a positive integer"),
    ({"BlkioWeight": 5}, 400, "Range of blkio weight is from 10 to 1000"),
    ({"BlkioWeightDevice": [{"Path": "/dev/x", "Weight": 5}]}, 400, "Range of blkio weight is from 10 to 1000"),
    ({"PidMode": "bad"}, 400, "invalid PID mode: bad"),
    ({"PidMode": "container:"}, 400, "invalid PID mode: container:"),
    ({"IpcMode": "bad"}, 400, "invalid IPC mode: bad"),
    ({"UTSMode": "bad"}, 400, "invalid UTS mode: bad"),
    ({"UsernsMode": "bad"}, 400, "invalid user namespace mode: bad"),
    (
        {"DeviceRequests": [{"Driver": "x", "Capabilities": [["gpu"]]}]},
        501,
        'device driver "x" with capabilities: [[gpu]]',
    ),
    ({"LogConfig": {"Type": "nope", "Config": {}}}, 400, 'no log driver named "nope" is registered'),
    ({"DeviceCgroupRules": ["foo"]}, 400, "invalid device cgroup rule format: 'foo'"),
    ({"Devices": [{"PathOnHost": "/dev/null", "CgroupPermissions": "rx"}]}, 400, "invalid device mode: rx"),
    ({"Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "x"}]}, 400, "x is not an absolute path"),
    ({"Sysctls": {"fs.file-max": "1"}}, 400, 'sysctl "fs.file-max" is not in a separate kernel namespace'),
    ({"Sysctls": {"kernel.hostname": "1"}}, 400, "Give the name with --hostname."),
    ({"Sysctls": {"net/../kernel/panic": "1"}}, 400, 'invalid sysctl "net/../kernel/panic"'),
    ({"NetworkMode": "host", "Sysctls": {"net.core.somaxconn": "1"}}, 400, "not allowed in host network namespace"),
    ({"IpcMode": "host", "Sysctls": {"kernel.msgmax": "1"}}, 400, "not allowed in host IPC namespace"),
    ({"Ulimits": [{"Name": "foo", "Soft": 1, "Hard": 1}]}, 400, "invalid ulimit type: foo"),
    (
        {"Ulimits": [{"Name": "nofile", "Soft": 5, "Hard": 1}]},
        400,
        "soft limit must be less than or equal to hard limit",
    ),
    ({"Dns": ["bad"]}, 400, "invalid DNS server: bad"),
    ({"Tmpfs": {"/t": "bad=1"}}, 400, 'invalid tmpfs option ["bad=1"]'),
    ({"Tmpfs": {"/t": "size=abc"}}, 400, 'invalid tmpfs option ["size=abc"]'),
    ({"Runtime": "nope"}, 400, "unknown or invalid runtime name: nope"),
    ({"VolumeDriver": "nope", "Binds": ["ab:/b"]}, 400, 'error looking up volume plugin nope: plugin "nope" not found'),
    ({"Memory": 1 << 70}, 400, "HostConfig.Memory"),
]

MOUNTS: list[tuple[Json, str]] = [
    ({"Type": "bind", "Target": "/x"}, "field Source must not be empty"),
    ({"Type": "bind", "Source": "/tmp"}, "field Target must not be empty"),
    ({"Type": "bind", "Source": "/no/such", "Target": "/x"}, "bind source path does not exist: /no/such"),
    ({"Type": "bind", "Source": "rel", "Target": "/x"}, "invalid mount path: 'rel' mount path must be absolute"),
    ({"Type": "bind", "Source": "/tmp", "Target": "/"}, "invalid specification: destination can't be '/'"),
    ({"Type": "bind", "Source": "/tmp", "Target": "rel"}, "invalid mount path: 'rel' mount path must be absolute"),
    ({"Type": "bind", "Source": "/tmp", "Target": "/x", "BindOptions": {"Propagation": "zz"}}, "propagation mode: zz"),
    (
        {"Type": "bind", "Source": "/tmp", "Target": "/x", "VolumeOptions": {"NoCopy": True}},
        "field VolumeOptions must not be specified",
    ),
    ({"Type": "tmpfs", "Target": "/x", "BindOptions": {}}, "field BindOptions must not be specified"),
    ({"Type": "tmpfs", "Source": "/y", "Target": "/x"}, "field Source must not be specified"),
    ({"Type": "volume", "Target": "/x", "BindOptions": {"Propagation": "private"}}, "field BindOptions must not be"),
    ({"Type": "volume", "Target": "/x", "ReadOnly": True}, "must not set ReadOnly mode when using anonymous volumes"),
    ({"Type": "volume", "Source": "/abs", "Target": "/x"}, "includes invalid characters for a local volume name"),
    (
        {"Type": "volume", "Source": "v8", "Target": "/x", "VolumeOptions": {"DriverConfig": {"Options": {"a": "b"}}}},
        'create v8: invalid option: "a"',
    ),
    ({"Type": "npipe", "Source": "a", "Target": "/x"}, "mount type unknown"),
    ({"Type": "", "Source": "a", "Target": "/x"}, "mount type unknown"),
]

CONFIG: list[tuple[Json, str]] = [
    ({"WorkingDir": "rel"}, "the working directory 'rel' is invalid, it needs to be an absolute path"),
    ({"Env": ["=x"]}, "invalid environment variable: =x"),
    ({"Env": [""]}, "invalid environment variable: "),
    ({"StopSignal": "NOPE"}, "Invalid signal: NOPE"),
    ({"Healthcheck": {"Test": ["CMD"], "Interval": 5}}, "Interval in Healthcheck cannot be less than 1ms"),
    ({"Healthcheck": {"Retries": -1}}, "Retries in Healthcheck cannot be negative"),
    ({"Hostname": "h", "HostConfig": {"UTSMode": "host"}}, "conflicting options: hostname and the UTS mode"),
    (
        {"Hostname": "h", "HostConfig": {"NetworkMode": "container:x"}},
        "conflicting options: hostname and the network mode",
    ),
    (
        {"ExposedPorts": {"80/tcp": {}}, "HostConfig": {"NetworkMode": "container:x"}},
        "conflicting options: port exposing and the container type network mode",
    ),
    (
        {"NetworkingConfig": {"EndpointsConfig": {"bridge": {"IPAMConfig": {"IPv4Address": "x"}}}}},
        "invalid IPv4 address: x",
    ),
    ({"Cmd": [], "Entrypoint": [""]}, "No command specified"),
]

TYPES: list[tuple[Json, str]] = [
    ({"Env": "x"}, "Env"),
    ({"Cmd": [1]}, "Cmd"),
    ({"Labels": ["a"]}, "Labels"),
    ({"Labels": {"a": 1}}, "Labels"),
    ({"User": 5}, "User"),
    ({"Hostname": 5}, "Hostname"),
    ({"Tty": "x"}, "Tty"),
    ({"StopTimeout": "x"}, "StopTimeout"),
    ({"ExposedPorts": ["80"]}, "ExposedPorts"),
    ({"Image": 5}, "Image"),
    ({"HostConfig": "x"}, "HostConfig"),
    ({"HostConfig": []}, "HostConfig"),
    ({"HostConfig": {"Memory": "x"}}, "Memory"),
    ({"HostConfig": {"Memory": 1.5}}, "Memory"),
    ({"HostConfig": {"Devices": "x"}}, "Devices"),
    ({"HostConfig": {"Sysctls": ["a"]}}, "Sysctls"),
    ({"HostConfig": {"Binds": "x"}}, "Binds"),
    ({"HostConfig": {"Tmpfs": ["/t"]}}, "Tmpfs"),
    ({"HostConfig": {"PortBindings": []}}, "PortBindings"),
    ({"HostConfig": {"PortBindings": {"80/tcp": {"HostPort": "1"}}}}, "PortBindings"),
    ({"HostConfig": {"RestartPolicy": "always"}}, "RestartPolicy"),
    ({"HostConfig": {"Mounts": [{"Type": "volume", "Target": "/x", "VolumeOptions": "x"}]}}, "VolumeOptions"),
    ({"HostConfig": {"BlkioWeight": 70000}}, "BlkioWeight"),
    ({"HostConfig": {"BlkioDeviceReadBps": [{"Path": "/x", "Rate": -5}]}}, "Rate"),
    ({"HostConfig": {"Ulimits": [{"Name": "nofile", "Soft": "x"}]}}, "Soft"),
    ({"HostConfig": {"Privileged": "yes"}}, "Privileged"),
    ({"HostConfig": {"Init": "x"}}, "Init"),
    ({"HostConfig": {"ConsoleSize": "x"}}, "ConsoleSize"),
    ({"NetworkingConfig": "x"}, "NetworkingConfig"),
    ({"NetworkingConfig": {"EndpointsConfig": {"bridge": "x"}}}, "EndpointsConfig"),
]


def create(engine: Engine, body: Any) -> tuple[int, str]:
    status, answer = engine.request("POST", "/v1.41/containers/create", body)
    return status, answer.get("message", json.dumps(answer))


@pytest.fixture
def unchanged(request: pytest.FixtureRequest, either: Engine) -> Iterator[Engine]:
    """An engine that must have as much of everything after the test as before."""
    before = traces(either)
    yield either
    support.until(lambda: traces(either) == before, what=f"{traces(either)} like {before}")


def traces(engine: Engine) -> dict[str, Any]:
    """What a container is made of, where a test can see it of this engine alone."""
    found: dict[str, Any] = {
        "containers": len(engine.request("GET", "/containers/json?all=1")[1]),
        "volumes": len(engine.request("GET", "/volumes")[1]["Volumes"] or []),
        "networks": len(engine.request("GET", "/networks")[1]),
    }
    if not isinstance(engine, Hooper):
        return found
    mounts = Path("/proc/self/mounts").read_text()
    rules = support.run("nft", "list", "table", "inet", table(engine.exec_root), check=False).stdout
    return found | {
        "mounts": mounts.count(str(engine.data_root)) + mounts.count(str(engine.exec_root)),
        "volume directories": names(engine.data_root / "drivers" / "volume-local"),
        "directories": names(engine.data_root / "containers"),
        "run directories": names(engine.exec_root / "containers"),
        "processes": processes(engine),
        "rows": rows(engine),
        "nft": rules.count("\n"),
    }


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory)) if directory.is_dir() else []


def processes(engine: Hooper) -> int:
    """Monitors and what runs in containers: descendants of the daemon, or of the launcher once it let them go."""
    root = str(engine.exec_root)
    found = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            found += root in Path(f"/proc/{pid}/mountinfo").read_text() and engine.address not in _words(pid)
        except OSError:
            continue
    return found


def _words(pid: str) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def rows(engine: Engine) -> dict[str, int]:
    import sqlite3

    database = sqlite3.connect(f"file:{engine.data_root}/hooper.db?mode=ro", uri=True)
    try:
        tables = ("containers", "endpoints", "volumes", "volume_users")
        return {name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in tables}
    finally:
        database.close()


def check(engine: Engine, body: Json, status: int, text: str) -> None:
    found, message = create(engine, {"Image": "busybox", "Cmd": ["true"], **body})
    assert found in ((status,) if isinstance(engine, Hooper) else (400, 404, 500)), (body, message)
    words = text.removeprefix("invalid format").lower()
    assert words in message.lower(), (body, message)


def test_wrong_host_configurations(unchanged: Engine) -> None:
    for host, text in HOST:
        check(unchanged, {"HostConfig": host}, 400, text)


def test_wrong_mounts(unchanged: Engine) -> None:
    for mount, text in MOUNTS:
        check(unchanged, {"HostConfig": {"Mounts": [mount]}}, 400, text)


def test_wrong_configurations(unchanged: Engine) -> None:
    for body, text in CONFIG:
        check(unchanged, body, 400, text)


def test_values_of_the_wrong_type(unchanged: Engine) -> None:
    for body, field in TYPES:
        check(unchanged, body, 400, field)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"5", b'"x"', b"{", b"{}", b"\xff\xfe"])
def test_bodies_that_are_none(unchanged: Engine, body: bytes) -> None:
    status, message = create(unchanged, body)
    assert status in ((400,) if isinstance(unchanged, Hooper) else (400, 500)) and message


def test_what_docker_finds_later_or_never(clean: Hooper) -> None:
    before = traces(clean)
    for host, status, text in NEWER:
        check(clean, {"HostConfig": host}, status, text)
    for body in (
        b'{"Image":"busybox","Cmd":["a\\u0000b"]}',
        b'{"Image":"busybox"} {}',
        b'{"Image":"busybox","Cmd":[NaN]}',
    ):
        assert create(clean, body)[0] == 400
    assert traces(clean) == before


def test_errors_come_with_a_remedy(clean: Hooper) -> None:
    """On lines of their own; the few that say it all themselves need none."""
    for host, _ in HOST:
        _, message = create(clean, {"Image": "busybox", "HostConfig": host})
        if message.startswith(
            ("Minimum", "CPU cfs", "Invalid value", "Requested", "maximum retry", "create a:", "create a/b")
        ):
            continue
        if message.startswith(("invalid isolation",)):
            continue
        assert "\n" in message, message


STARTS: list[tuple[list[str], str]] = [
    (["--sysctl", "net.ipv4.nope=1"], "net.ipv4.nope"),
    (["--sysctl", "kernel.shmmax=x"], "kernel"),
    (["-h", "x" * 100], "name"),
    (["--device", "/dev/nope"], "/dev/nope"),
    (["--device-write-bps", "/dev/nope:1mb"], "/dev/nope: no such file or directory"),
    (["-v", "/etc/passwd/x:/x"], "/etc/passwd/x: not a directory"),
    (["-v", "/etc:/etc/passwd"], "not a directory"),
    (["-w", "/etc/passwd"], "not a directory"),
    (["--user", "nobody"], "unable to find user nobody"),
    (["--security-opt", "seccomp=PROFILE"], "seccomp"),
    (["--network", "nope"], "network nope not found"),
    (["--ip", "10.1.2.3"], "user"),
]


def test_starts_that_fail_leave_a_container_at_most(unchanged: Engine, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_NOPE"}')
    for flags, text in STARTS:
        words = [word.replace("PROFILE", str(profile)) for word in flags]
        done = unchanged.docker("run", "--name", "c1", *words, "busybox", "true", check=False)
        assert done.returncode in (125, 126, 127), (flags, done.stderr)
        assert not isinstance(unchanged, Hooper) or text.lower() in done.stderr.lower(), (flags, done.stderr)
        status, facts = unchanged.request("GET", "/containers/c1/json")
        if status == 200:  # it failed at its start, not at its creation
            unchanged.request("DELETE", "/containers/c1?force=1")
            # os.walk passes over what other engines remove meanwhile.
            assert not [place for place, _, _ in os.walk("/sys/fs/cgroup") if facts["Id"] in place]


def test_wrong_states(either: Engine) -> None:
    either.docker("create", "--name", "c1", "busybox", "sleep", "60")
    for verb, status in (("stop", 304), ("kill", 409), ("pause", 409), ("unpause", (409, 500))):
        found = either.request("POST", f"/containers/c1/{verb}")[0]
        assert found in (status if isinstance(status, tuple) else (status,)), verb
    either.docker("start", "c1")
    assert either.request("POST", "/containers/c1/start")[0] == 304
    assert either.request("DELETE", "/containers/c1")[0] == 409
    status, answer = either.request("POST", "/containers/create?name=c1", {"Image": "busybox"})
    assert status == 409 and 'The container name "/c1" is already in use by container' in answer["message"]
    for verb in ("start", "stop", "kill", "pause", "json", "top", "changes"):
        method = "POST" if verb in ("start", "stop", "kill", "pause") else "GET"
        status, answer = either.request(method, f"/containers/nope/{verb}")
        assert status == 404 and "No such container: nope" in answer["message"]


def _tar(fill: Callable[[tarfile.TarFile], None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        fill(archive)
    return buffer.getvalue()


def _entry(archive: tarfile.TarFile, name: str, text: str = "", link: str = "", kind: bytes = tarfile.SYMTYPE) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(text)
    if link:
        entry.type, entry.linkname, entry.size = kind, link, 0
    archive.addfile(entry, io.BytesIO(text.encode()))


def test_copies_do_not_leave_the_container(either: Engine, tmp_path: Path) -> None:
    """Links that the container makes, and archives that name what is outside."""
    target = tmp_path / "outside"
    target.mkdir()
    (target / "secret").write_text("secret\n")
    script = (
        f"ln -s {target} /out; ln -s ../../../../../..{target} /up; ln -s /proc/1/root /proc-root; mkdir /in; sleep 60"
    )
    either.docker("run", "-d", "--name", "c1", "busybox", "sh", "-c", script)
    support.until(
        lambda: either.docker("exec", "c1", "test", "-d", "/in", check=False).returncode == 0, what="the links"
    )
    (tmp_path / "file").write_text("mine\n")
    for link in ("/out", "/up"):
        done = either.docker("cp", f"c1:{link}/secret", str(tmp_path / "got"), check=False)
        assert done.returncode == 1 and not (tmp_path / "got").exists()
        either.docker("cp", str(tmp_path / "file"), f"c1:{link}/new", check=False)
        assert sorted(os.listdir(target)) == ["secret"]

    def hostile(archive: tarfile.TarFile) -> None:
        _entry(archive, "a", link=str(target))
        _entry(archive, "a/through-link", "x")
        _entry(archive, "../../../../../../../.." + str(target / "through-dots"), "x")
        _entry(archive, str(target / "absolute"), "x")
        _entry(archive, "hard", link=str(target / "secret"), kind=tarfile.LNKTYPE)

    kind = {"Content-Type": "application/x-tar"}
    either.request("PUT", "/containers/c1/archive?path=/in", _tar(hostile), kind)
    assert sorted(os.listdir(target)) == ["secret"]
    assert (target / "secret").stat().st_nlink == 1
    status, _ = either.request("PUT", "/containers/c1/archive?path=/none", _tar(hostile), kind)
    assert status == 404
    assert either.request("GET", "/containers/c1/archive?path=/none")[0] == 404
    status, _ = either.request("PUT", "/containers/c1/archive?path=/etc/passwd", b"", kind)
    assert status in ((400,) if isinstance(either, Hooper) else (400, 500))


def test_docker_py_tells_them_apart(either: Engine) -> None:
    client = docker.DockerClient(either.address, version="1.41")
    try:
        with pytest.raises(docker.errors.ImageNotFound):
            client.containers.create("none:1")
        with pytest.raises(docker.errors.NotFound):
            client.containers.get("nope")
        with pytest.raises(docker.errors.APIError) as error:
            client.containers.create("busybox", mem_limit="1m")
        assert error.value.status_code == 400 and "6MB" in error.value.explanation
    finally:
        client.close()
