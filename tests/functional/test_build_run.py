"""Commands of builds in their containers: networks, limits, and what is left of them."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest
from build_run_support import (
    CGROUP,
    HIDDEN,
    PATH,
    Client,
    Ran,
    cache,
    cgroups,
    opened,
)

import support
from hooper.api.build_graph import BindMount, SecretMount, SshMount
from hooper.api.builder import BuildRequest
from hooper.api.engine import ContainerCreate
from hooper.api.errors import Forbidden, HooperError, Internal, InvalidArgument, NotFound
from hooper.api.model import ContainerConfig, HostConfig, Ulimit
from hooper.api.network import Network

pytestmark = pytest.mark.root

LONG = f"sleep {1_000_000 + os.getpid()}"
"""What nobody else runs on this host."""


# --- commands -------------------------------------------------------------------------------------


def test_a_command(builds):
    ran = builds.run(
        "echo out; echo err >&2; hostname; pwd; id -un; echo $X-$P-$Q; echo new > /tmp/f; exit 7",
        env=(PATH, "X=x", "P=own"),
        hidden_env=("P=hidden", "Q=hidden"),
        cwd="/home",
        user="user",
    )
    assert ran.code == 7
    assert ran.out.split() == ["out", "buildkitsandbox", "/home", "user", "x-own-hidden"]
    assert ran.err == "err\n"
    assert "tmp/f" in ran.layer


def test_the_engines_own_files_are_no_part_of_the_layer(builds):
    ran = builds.ok("cat /etc/hosts /etc/resolv.conf /etc/hostname", hostname="named", request=BuildRequest(
        extra_hosts=["db:10.1.2.3"]))  # fmt: skip
    assert "10.1.2.3\tdb" in ran.out
    assert "named" in ran.out
    assert ran.layer == {}


@pytest.mark.parametrize("network", ["bridge", "host", "none"])
def test_a_command_finds_its_own_name(builds, network):
    request = BuildRequest(network_mode=network)
    found = builds.ok("grep -w $(hostname) /etc/hosts", request=request).out.split()
    assert found[1:] == ["buildkitsandbox"] and (network == "bridge" or found[0] == "127.0.0.1")


def test_a_program_that_is_not_there(builds):
    with pytest.raises(HooperError, match="executable file not found"):
        builds.call(lambda: _step(builds.bench, "nonsense"))


async def _step(bench, program):
    from hooper.api.build_graph import Run, Scratch

    root = await bench.core.storage.prepare("build-x", await bench.runner.init_layer(bench.busybox))

    async def output(stream, data):
        raise AssertionError

    try:
        run = Run(base=Scratch(), args=(program,), env=(PATH,))
        await bench.runner.run_step(
            root, run, request=BuildRequest(), session=Client(), sources={}, output=output
        )  # fmt: skip
    finally:
        await bench.core.storage.remove("build-x")


# --- networks -------------------------------------------------------------------------------------


def test_networks(builds):
    show = "ls /sys/class/net"
    assert builds.ok(show, network="none").out.split() == ["lo"]
    for network in ("", "default", "bridge"):
        assert builds.ok(show, network=network).out.split() == ["eth0", "lo"]
    assert builds.ok(show, request=BuildRequest(network_mode="none")).out.split() == ["lo"]
    assert builds.ok(show, network="none", request=BuildRequest(network_mode="bridge")).out.split() == ["lo"]
    for request in (BuildRequest(network_mode="host"), BuildRequest(allow=["network.host"])):
        ran = builds.ok("readlink /proc/self/ns/net", network="host", request=request)
        assert ran.out.strip() == os.readlink("/proc/self/ns/net")


def test_what_needs_to_be_allowed(builds):
    with pytest.raises(Forbidden, match=r"network\.host is not allowed"):
        builds.run("true", network="host")
    with pytest.raises(Forbidden, match=r"security\.insecure is not allowed") as raised:
        builds.run("true", insecure=True)
    assert "--allow security.insecure" in raised.value.remedy
    show = "grep CapEff /proc/self/status"
    plain = builds.ok(show).out
    everything = builds.ok(f"{show}; mount -t tmpfs none /tmp", insecure=True, request=BuildRequest(
        allow=["security.insecure"])).out  # fmt: skip
    assert int(everything.split()[1], 16) > int(plain.split()[1], 16)


def test_an_unknown_network(builds):
    with pytest.raises(NotFound) as raised:
        builds.run("true", network="nosuch")
    assert "There are: bridge, host, none" in raised.value.remedy


def test_names_of_a_users_network(builds):
    async def scene() -> Ran:
        engine, networks = builds.bench.engine, builds.bench.core.networks
        network, _ = await networks.create(Network(id="", name="mine", driver="", created=0.0))
        request = ContainerCreate(
            config=ContainerConfig(image="busybox", cmd=["sleep", "60"]), host_config=HostConfig(network_mode="mine"),
            name="peer",
        )  # fmt: skip
        created = await engine.containers.create(request)
        try:
            await engine.containers.start(created.id)
            by_name = await builds.bench.run("ping -c 1 -W 5 peer", network="mine")
            by_id = await builds.bench.run("nslookup peer; ls /sys/class/net", network=network.id[:12])
            shared = await builds.bench.run("hostname -i || true; ls /sys/class/net", network="container:peer")
            assert (by_name.code, by_id.code, shared.code) == (0, 0, 0), (by_name, by_id, shared)
            return by_name
        finally:
            await engine.containers.remove(created.id, force=True)
            await networks.remove("mine")

    assert "1 packets received" in builds.call(scene).out


def test_no_event_tells_of_it(builds):
    async def scene() -> list[str]:
        since = time.time_ns()
        await builds.bench.run("true")
        with pytest.raises(HooperError):
            await builds.bench.run("true", BindMount(target="/etc/passwd", source=builds.bench.image()))
        found = []
        async with builds.bench.engine.events.subscribe(since) as events:
            with anyio.move_on_after(0.1):
                async for event in events:
                    found.append(f"{event.type} {event.action}")
        return found

    assert builds.call(scene) == []


# --- limits ---------------------------------------------------------------------------------------


def test_limits(builds):
    request = BuildRequest(
        memory=64 << 20, memory_swap=64 << 20, cpu_shares=300, cpu_period=50000, cpu_quota=20000, cpuset_cpus="0",
        shm_size=2 << 20, ulimits=[Ulimit(name="nofile", soft=77, hard=88)], cgroup_parent=f"/{CGROUP}/below",
        security_opt=["no-new-privileges"],
    )  # fmt: skip
    seen: list[Path] = []

    async def heard(stream: int, data: bytes) -> None:
        seen.extend(cgroups(f"{CGROUP}/below/*"))

    ran = builds.ok(
        "ulimit -n; grep ' /dev/shm ' /proc/mounts; grep NoNewPrivs /proc/self/status;"
        "grep Cpus_allowed_list /proc/self/status;"
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true",
        request=request,
        output=heard,
    )
    assert seen
    for path in cgroups(f"{CGROUP}/below"):
        path.rmdir()
    lines = ran.out.splitlines()
    assert lines[0] == "77"
    assert "size=2048k" in lines[1]
    assert lines[2].split() == ["NoNewPrivs:", "1"]
    assert lines[3].split() == ["Cpus_allowed_list:", "0"]
    assert lines[4] == str(64 << 20)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"memory": 1000}, "Minimum memory limit"),
        ({"memory": 64 << 20, "memory_swap": 1 << 20}, "Minimum memoryswap"),
        ({"cpuset_cpus": "x"}, "cpuset"),
        ({"extra_hosts": ["x"]}, "bad format for add-host"),
        ({"security_opt": ["nonsense=1"]}, "invalid --security-opt"),
        ({"ulimits": [Ulimit(name="none", soft=1, hard=1)]}, "invalid ulimit type"),
    ],
)
def test_wrong_limits(builds, wrong, says):
    with pytest.raises(InvalidArgument, match=says):
        builds.run("true", request=BuildRequest(**wrong))


# --- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.1, "running"])
def test_cancelling_leaves_nothing(builds, moment, agent):
    mounts = (cache("cancelled"), BindMount(target="/b", source=builds.bench.image(), read_only=False),
              SecretMount(id="s", target="/s"), SshMount())  # fmt: skip
    client = Client({"s": HIDDEN}, {"default": agent})

    async def scene() -> None:
        with anyio.CancelScope() as scope:

            async def heard(stream: int, data: bytes) -> None:
                scope.cancel()

            if not isinstance(moment, str):
                scope.deadline = anyio.current_time() + moment
            await builds.bench.run(f"echo running; {LONG}", *mounts, client=client, output=heard)
        assert scope.cancelled_caught

    started = time.monotonic()
    builds.call(scene)
    assert time.monotonic() - started < 30
    assert not any(entry.in_use for entry in builds.caches().values())
    assert processes(LONG) == []


def processes(command: str) -> list[str]:
    """The pids of those with this command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().split(b"\0")[:-1] == command.encode().split():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_a_client_that_is_gone_ends_the_command(builds):
    async def broken(stream: int, data: bytes) -> None:
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        builds.run(f"echo x; {LONG}", output=broken)


def parent(pid: str) -> int:
    return int(re.search(r"PPid:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


def test_a_monitor_that_is_killed(builds):
    async def killing(stream: int, data: bytes) -> None:
        (sleeper,) = processes("sleep 998")
        os.kill(parent(str(parent(sleeper))), signal.SIGKILL)

    with pytest.raises(Internal, match="its monitor was killed"):
        builds.run("sleep 998 & sleep 0.3; echo go; wait", output=killing)
    support.until(lambda: not processes("sleep 998"), what="the command ends")


@pytest.mark.parametrize("both", [False, True])
def test_after_a_crash_the_next_daemon_cleans_up(short_tmp, both):
    """Of the daemon alone, or of the command's monitor too."""
    directory = short_tmp / f"crashed-{both}"
    support_file = Path(__file__).with_name("build_run_support.py")
    command = "echo content > /cache/f; echo x > /b/x; sleep 997 & sleep 0.2; echo go; wait"
    paths = [str(support_file.parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, str(support_file), str(directory), command],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "running\n"
        (identifier,) = os.listdir(directory / "exec" / "containers")
        (sleeper,) = processes("sleep 997")
        monitor = parent(str(parent(sleeper)))
        assert cgroups(f"hooper/{identifier}")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    if both:
        os.kill(monitor, signal.SIGKILL)
    half = directory / "data" / "builds" / "caches" / ".new-x"
    half.mkdir()
    with opened(directory) as (portal, bench):
        support.until(lambda: not processes("sleep 997"), what="the command ends")
        support.until(lambda: not cgroups(f"hooper/{identifier}"), what="its cgroups go")
        support.until(lambda: not any(bench.left().values()), what=f"nothing of {bench.left()}")
        assert not half.exists()
        assert portal.call(lambda: bench.run("cat /c/f", cache("kept"))).out == "content\n"
        walked = portal.call(_snapshots, bench)
        assert [key for key in walked if key.startswith("build-")] == []
    support.forget_network(directory / "exec")


async def _snapshots(bench):
    return [each.key async for each in bench.core.storage.walk()]


def test_modes_of_what_is_made(builds):
    """Nothing of other users' is readable on the host."""
    builds.ok("true", cache("modes"))
    caches = builds.bench.core.host.data_root / "builds" / "caches"
    assert stat.S_IMODE(caches.stat().st_mode) == 0o700
