"""Namespaces of the host and of other containers, names in /etc, links: on both engines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import support
from support import Engine, Hooper

pytestmark = pytest.mark.root

KINDS = ("ipc", "pid", "uts", "net")


def inside(engine: Engine, *flags: str, script: str) -> list[str]:
    return engine.docker("run", "--rm", *flags, "busybox", "sh", "-c", f"{script}\ntrue").stdout.splitlines()


def namespaces(engine: Engine, *flags: str) -> dict[str, str]:
    script = "; ".join(f"readlink /proc/self/ns/{kind}" for kind in (*KINDS, "cgroup"))
    return dict(zip((*KINDS, "cgroup"), inside(engine, *flags, script=script), strict=True))


def own(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{kind}")


def test_namespaces_are_new_or_the_hosts(either: Engine) -> None:
    new = namespaces(either)
    flags = ["--ipc", "host", "--pid", "host", "--uts", "host", "--network", "host", "--cgroupns", "host"]
    shared = namespaces(either, *flags, "--userns", "host")
    for kind in KINDS:
        assert new[kind] != own(kind) and shared[kind] == own(kind)
    assert shared["cgroup"] == own("cgroup")
    assert namespaces(either, "--cgroupns", "private")["cgroup"] != own("cgroup")


def test_names_with_the_hosts_namespaces(either: Engine) -> None:
    assert inside(either, "--uts", "host", script="hostname") == [os.uname().nodename]
    assert inside(either, "--network", "host", script="cat /etc/hostname") == [os.uname().nodename]
    assert inside(either, "--pid", "host", script="test -d /proc/$PPID && cat /proc/1/comm") == [
        Path("/proc/1/comm").read_text().strip()
    ]


def test_namespaces_of_another_container(either: Engine) -> None:
    either.docker("run", "-d", "--name", "c1", "--ipc", "shareable", "busybox", "sh", "-c",
                  "echo x >/dev/shm/f; sleep 60 & wait")  # fmt: skip
    support.until(lambda: either.docker("exec", "c1", "ls", "/dev/shm").stdout, what="the file")
    flags = ["--ipc", "container:c1", "--pid", "container:c1", "--network", "container:c1"]
    script = "cat /dev/shm/f; echo y >/dev/shm/g; cat /proc/1/cmdline | tr '\\0' ' '; hostname"
    shown = inside(either, *flags, script=script)
    assert shown[0] == "x" and shown[1].startswith("sh -c echo x")
    assert either.docker("exec", "c1", "cat", "/dev/shm/g").stdout == "y\n"
    pid = either.inspect("c1")["State"]["Pid"]
    joined = namespaces(either, *flags)
    for kind in ("ipc", "pid", "net"):
        assert joined[kind] == os.readlink(f"/proc/{pid}/ns/{kind}")
    assert joined["uts"] != os.readlink(f"/proc/{pid}/ns/uts")


def test_ipc_that_is_not_shared(either: Engine) -> None:
    either.docker("run", "-d", "--name", "c1", "busybox", "sleep", "60")
    assert either.inspect("c1")["HostConfig"]["IpcMode"] == "private"
    done = either.docker("run", "--rm", "--ipc", "container:c1", "busybox", "true", check=False)
    assert done.returncode == 125 and "non-shareable IPC" in done.stderr
    assert inside(either, "--ipc", "none", script="mount | grep -c ' /dev/shm '; ls -d /dev/mqueue") == [
        "0",
        "/dev/mqueue",
    ]


@pytest.mark.parametrize("kind", ["ipc", "pid", "network"])
def test_a_container_that_rests_lends_nothing(either: Engine, kind: str) -> None:
    either.docker("create", "--name", "c1", "--ipc", "shareable", "busybox")
    done = either.docker("run", "--name", "c2", f"--{kind}", "container:c1", "busybox", check=False)
    assert done.returncode == 125 and "non running container" in done.stderr.replace(
        "is not running", "non running container"
    )
    assert either.inspect("c2")["State"]["Status"] == "created"


def test_added_hosts(either: Engine) -> None:
    flags = ["--add-host", "one:10.1.2.3", "--add-host", "six:fd00::1", "--add-host", "here:host-gateway"]
    lines = [line.split() for line in inside(either, *flags, script="cat /etc/hosts; ip route | grep default")]
    assert ["10.1.2.3", "one"] in lines and ["fd00::1", "six"] in lines
    gateway = next(line[2] for line in lines if line[0] == "default")
    assert [gateway, "here"] in lines


def test_resolvers(either: Engine) -> None:
    flags = ["--dns", "10.9.9.9", "--dns", "10.8.8.8", "--dns-search", "a.example", "--dns-search", "b.example",
             "--dns-option", "ndots:3", "--dns-option", "rotate"]  # fmt: skip
    shown = inside(either, *flags, script="grep -v ^# /etc/resolv.conf")
    assert [line for line in shown if line.startswith("nameserver")] == ["nameserver 10.9.9.9", "nameserver 10.8.8.8"]
    assert {"search a.example b.example", "options ndots:3 rotate"} <= set(shown)
    assert inside(either, "--dns", "10.9.9.9", "--dns-search", ".", script="grep ^search /etc/resolv.conf") == []
    host = [line for line in Path("/etc/resolv.conf").read_text().splitlines() if line.startswith("nameserver")]
    seen = inside(either, "--network", "host", script="grep ^nameserver /etc/resolv.conf")
    assert seen == host


def test_links_on_the_default_bridge(either: Engine) -> None:
    either.docker(
        "run",
        "-d",
        "--name",
        "server",
        "-h",
        "serverhost",
        "--expose",
        "80",
        "-e",
        "KEY=value",
        "busybox",
        "sleep",
        "60",
    )
    address = either.inspect("server")["NetworkSettings"]["IPAddress"]
    flags = ["--name", "client", "--link", "server:db-1"]
    lines = inside(either, *flags, script="cat /etc/hosts; env")
    names = next(
        line.split()[1:] for line in lines if line.startswith(f"{address}\t") or line.startswith(f"{address} ")
    )
    assert {"db-1", "serverhost", "server"} <= set(names)
    for line in (
        "DB_1_NAME=/client/db-1", f"DB_1_PORT=tcp://{address}:80", f"DB_1_PORT_80_TCP=tcp://{address}:80",
        f"DB_1_PORT_80_TCP_ADDR={address}", "DB_1_PORT_80_TCP_PORT=80", "DB_1_PORT_80_TCP_PROTO=tcp",
        "DB_1_ENV_KEY=value",
    ):  # fmt: skip
        assert line in lines
    either.docker("create", "--name", "c3", "--link", "server", "busybox")
    assert either.inspect("c3")["HostConfig"]["Links"] == ["/server:/c3/server"]
    either.docker("stop", "-t", "0", "server")
    done = either.docker("start", "c3", check=False)
    assert done.returncode == 1 and "Cannot link to a non running container: /server AS /c3/server" in done.stderr


def test_a_network_that_is_not_there(either: Engine) -> None:
    done = either.docker("run", "--name", "c1", "--network", "nope", "busybox", check=False)
    assert done.returncode == 125 and "network nope not found" in done.stderr
    assert either.inspect("c1")["State"]["Status"] == "created"
    done = either.docker("run", "--name", "c2", "--network", "container:nope", "busybox", check=False)
    assert done.returncode == 125 and "No such container: nope" in done.stderr


def test_shared_memory_survives_the_daemon(short_tmp: Path) -> None:
    from conftest import import_busybox

    with support.hooper(short_tmp / "shm") as daemon:
        import_busybox(daemon)
        daemon.docker("run", "-d", "--name", "c1", "--ipc", "shareable", "busybox", "sleep", "600")
        daemon.docker("exec", "c1", "touch", "/dev/shm/kept")
        daemon.kill()
        daemon.start()
        assert inside(daemon, "--ipc", "container:c1", script="ls /dev/shm") == ["kept"]
        daemon.docker("rm", "-f", "c1")
        assert str(daemon.exec_root) not in Path("/proc/self/mounts").read_text()


def test_a_hardware_address(clean: Hooper) -> None:
    script = "cat /sys/class/net/eth0/address"
    assert inside(clean, "--mac-address", "02:00:00:00:12:34", script=script) == ["02:00:00:00:12:34"]
