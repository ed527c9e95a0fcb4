"""Limits on memory, processors, processes and disks: what the container's cgroup has, on both engines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hooper.linux.cgroups import layout
from support import Engine, Hooper

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(layout().unified), reason="asserts files of cgroup v1; v2 has unit tests"),
]


def cgroup(engine: Engine, name: str, controller: str) -> Path:
    """The directory of a running container's cgroup."""
    pid = engine.inspect(name)["State"]["Pid"]
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return Path(layout().v1[controller] + path)
    raise AssertionError(f"no {controller} cgroup of {name}")


def start(engine: Engine, *flags: str) -> dict[str, Any]:
    """HostConfig of a running container c1 with these flags."""
    engine.docker("run", "-d", "--name", "c1", *flags, "busybox", "sleep", "60")
    return dict(engine.inspect("c1")["HostConfig"])


def read(engine: Engine, file: str) -> str:
    controller = file.partition(".")[0]
    return (cgroup(engine, "c1", controller) / file).read_text().strip()


def test_memory(either: Engine) -> None:
    flags = ["-m", "64m", "--memory-reservation", "32m", "--memory-swap", "96m", "--memory-swappiness", "33"]
    host = start(either, *flags, "--oom-kill-disable")
    assert (host["Memory"], host["MemoryReservation"], host["MemorySwap"]) == (64 << 20, 32 << 20, 96 << 20)
    assert (host["MemorySwappiness"], host["OomKillDisable"]) == (33, True)
    assert read(either, "memory.limit_in_bytes") == str(64 << 20)
    assert read(either, "memory.soft_limit_in_bytes") == str(32 << 20)
    assert read(either, "memory.memsw.limit_in_bytes") == str(96 << 20)
    assert read(either, "memory.swappiness") == "33"
    assert "oom_kill_disable 1" in read(either, "memory.oom_control")


def test_memory_alone_takes_as_much_swap_again(either: Engine) -> None:
    host = start(either, "-m", "64m")
    assert host["MemorySwap"] in (0, 128 << 20)
    assert read(either, "memory.memsw.limit_in_bytes") == str(128 << 20)
    either.clear()
    start(either, "-m", "64m", "--memory-swap", "-1")
    assert int(read(either, "memory.memsw.limit_in_bytes")) > 1 << 60


def test_processors(either: Engine) -> None:
    host = start(either, "--cpus", "0.5", "--cpu-shares", "123", "--cpuset-cpus", "0", "--cpuset-mems", "0")
    assert (host["NanoCpus"], host["CpuShares"], host["CpusetCpus"], host["CpusetMems"]) == (500_000_000, 123, "0", "0")
    assert (read(either, "cpu.cfs_quota_us"), read(either, "cpu.cfs_period_us")) == ("50000", "100000")
    assert read(either, "cpu.shares") == "123"
    assert (read(either, "cpuset.cpus"), read(either, "cpuset.mems")) == ("0", "0")
    assert either.docker("exec", "c1", "grep", "Cpus_allowed_list", "/proc/1/status").stdout.split()[1] == "0"


def test_period_and_quota(either: Engine) -> None:
    start(either, "--cpu-period", "50000", "--cpu-quota", "20000")
    assert (read(either, "cpu.cfs_quota_us"), read(either, "cpu.cfs_period_us")) == ("20000", "50000")


def test_processes(either: Engine) -> None:
    assert start(either, "--pids-limit", "20")["PidsLimit"] == 20
    assert read(either, "pids.max") == "20"
    either.clear()
    assert start(either, "--pids-limit", "-1")["PidsLimit"] is None
    assert read(either, "pids.max") == "max"


def _disk() -> tuple[str, str]:
    """A whole disk of this host: its node and its numbers."""
    for name in sorted(os.listdir("/sys/block")):
        if Path(f"/dev/{name}").is_block_device():
            return f"/dev/{name}", Path(f"/sys/block/{name}/dev").read_text().strip()
    pytest.skip("no block device")


def test_disk_rates(either: Engine) -> None:
    disk, numbers = _disk()
    flags = ["--device-read-bps", f"{disk}:1mb", "--device-write-bps", f"{disk}:2mb",
             "--device-read-iops", f"{disk}:300", "--device-write-iops", f"{disk}:400"]  # fmt: skip
    host = start(either, *flags)
    assert host["BlkioDeviceReadBps"] == [{"Path": disk, "Rate": 1 << 20}]
    assert host["BlkioDeviceWriteIOps"] == [{"Path": disk, "Rate": 400}]
    for file, rate in (("read_bps", 1 << 20), ("write_bps", 2 << 20), ("read_iops", 300), ("write_iops", 400)):
        assert read(either, f"blkio.throttle.{file}_device") == f"{numbers} {rate}"
    either.clear()
    done = either.docker("run", "--rm", "--device-read-bps", "/dev/nope:1mb", "busybox", check=False)
    assert done.returncode == 127 and "/dev/nope: no such file or directory" in done.stderr


def test_disk_weight(clean: Hooper) -> None:
    """Docker 20.10 does not know the file that kernels have for it now."""
    if not Path(layout().v1["blkio"], "hooper", "blkio.bfq.weight").exists():
        pytest.skip("no weights in this kernel")
    assert start(clean, "--blkio-weight", "321")["BlkioWeight"] == 321
    assert read(clean, "blkio.bfq.weight") == "321"


def test_parent_of_the_cgroup(either: Engine) -> None:
    for asked, place in (("/one/two", "/one/two"), ("three", "/three"), ("/../../four", "/four")):
        try:
            start(either, "--cgroup-parent", asked)
            path = str(cgroup(either, "c1", "memory")).removeprefix(layout().v1["memory"])
            # A daemon that is in a cgroup itself may keep its containers below it.
            assert os.path.dirname(path).endswith(place)
        finally:
            either.clear()
            for point in set(layout().v1.values()):
                for each in (place, os.path.dirname(place)):
                    if each != "/" and os.path.isdir(f"{point}{each}"):
                        os.rmdir(f"{point}{each}")


def test_warnings(either: Engine) -> None:
    done = either.docker("create", "--oom-kill-disable", "busybox")
    assert "OOM killer is disabled for the container, but no memory limit is set" in done.stderr
    done = either.docker("create", "--network", "host", "-p", "80:80", "busybox")
    assert "Published ports are discarded when using host network mode" in done.stderr
    status, answer = either.request(
        "POST", "/v1.41/containers/create", {"Image": "busybox", "HostConfig": {"CpuPercent": 5}}
    )
    assert status == 201 and answer["Warnings"] == ["linux does not support CPU percent. Percent discarded."]
