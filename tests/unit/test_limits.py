"""Limits that a host cannot keep, on trees of files as kernels show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hooper.api.errors import InvalidArgument, Unsupported
from hooper.api.model import HostConfig, ThrottleDevice, WeightDevice
from hooper.engine import limits
from hooper.linux.cgroup_abilities import Abilities, abilities
from hooper.linux.cgroups import Layout

NOTHING = Abilities(*[False] * len(Abilities._fields))
ALL = Abilities(*[True] * len(Abilities._fields))


def unified(root: Path, controllers: str, *below: str) -> Layout:
    (root / "cgroup.controllers").write_text(controllers)
    (root / "hooper").mkdir()
    for name in below:
        (root / "hooper" / name).touch()
    return Layout(str(root), {})


def test_abilities_of_the_unified_hierarchy(tmp_path: Path) -> None:
    found = abilities(unified(tmp_path, "cpu cpuset io memory pids", "memory.swap.max", "io.bfq.weight"))
    assert found == ALL._replace(swappiness=False, oom_kill_disable=False, realtime=False)


def test_abilities_of_a_poor_unified_hierarchy(tmp_path: Path) -> None:
    assert abilities(unified(tmp_path, "pids")) == NOTHING._replace(pids=True)


def test_abilities_of_separate_hierarchies(tmp_path: Path) -> None:
    files = {
        "memory": ["memory.limit_in_bytes", "memory.soft_limit_in_bytes", "memory.swappiness", "memory.oom_control"],
        "cpu": ["cpu.shares", "cpu.cfs_quota_us"],
        "blkio": ["blkio.throttle.read_bps_device", "hooper/blkio.bfq.weight"],
        "pids": [],
    }
    for name, contents in files.items():
        (tmp_path / name / "hooper").mkdir(parents=True)
        for file in contents:
            (tmp_path / name / file).touch()
    found = abilities(Layout("", {name: str(tmp_path / name) for name in files}))
    assert found == ALL._replace(swap=False, realtime=False, cpuset=False, io_weight_device=False)


EVERYTHING = HostConfig(
    memory=64 << 20, memory_reservation=32 << 20, memory_swap=96 << 20, memory_swappiness=5, oom_kill_disable=True,
    cpu_shares=5, cpu_period=5000, cpu_quota=5000, cpuset_cpus="0", cpuset_mems="0", pids_limit=5, blkio_weight=50,
    blkio_weight_device=[WeightDevice(path="/dev/x", weight=50)],
    blkio_device_read_bps=[ThrottleDevice(path="/dev/x", rate=5)],
    blkio_device_write_iops=[ThrottleDevice(path="/dev/x", rate=5)],
)  # fmt: skip


def test_what_the_kernel_has_is_kept() -> None:
    assert limits.settled(EVERYTHING, ALL) == (EVERYTHING, [])


def test_what_it_has_not_is_left_away_with_a_warning() -> None:
    settled, warnings = limits.settled(EVERYTHING, NOTHING)
    assert settled == HostConfig()
    assert "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded." in warnings
    assert "Your kernel does not support OomKillDisable. OomKillDisable discarded." in warnings
    assert len(warnings) == 13


def test_swap_without_support_leaves_memory_limited() -> None:
    settled, warnings = limits.settled(HostConfig(memory=64 << 20, memory_swap=-1), ALL._replace(swap=False))
    assert (settled.memory, settled.memory_swap) == (64 << 20, 0)
    assert warnings[0].endswith("Memory limited without swap.")


def test_real_time_that_cannot_be_had_is_refused() -> None:
    host = HostConfig(cpu_realtime_runtime=1000)
    assert limits.settled(host, ALL) == (host, [])
    with pytest.raises(Unsupported, match="real-time"):
        limits.settled(host, NOTHING)


def test_kernel_memory_has_no_effect() -> None:
    settled, (warning,) = limits.settled(HostConfig(kernel_memory=64 << 20), ALL)
    assert settled == HostConfig() and "deprecated" in warning


@pytest.mark.parametrize("weight", [9, 1001])
def test_weights_have_a_range(weight: int) -> None:
    limits.check(HostConfig(blkio_weight=500))
    for host in (
        HostConfig(blkio_weight=weight),
        HostConfig(blkio_weight_device=[WeightDevice(path="/x", weight=weight)]),
    ):
        with pytest.raises(InvalidArgument, match="from 10 to 1000"):
            limits.check(host)
