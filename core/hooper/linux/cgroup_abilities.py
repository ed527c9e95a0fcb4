"""Which limits this kernel's cgroups know: what cannot be had is left away with a warning, as Docker has it.

(Kernel: Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst.)
"""

from __future__ import annotations

import os
from typing import NamedTuple

from hooper.linux.cgroups import Layout, read_if_there

_BELOW = "hooper"
"""Some files exist in no root cgroup; this one is made when the daemon starts."""


class Abilities(NamedTuple):
    """One field a kind of limit."""

    memory: bool
    swap: bool
    reservation: bool
    swappiness: bool
    oom_kill_disable: bool
    cpu_shares: bool
    cpu_quota: bool
    realtime: bool
    cpuset: bool
    pids: bool
    io_weight: bool
    io_weight_device: bool
    io_limits: bool
    """Bytes and operations a second."""


def abilities(layout: Layout) -> Abilities:
    """Looks at the files that the hierarchies of `layout` have."""
    return _unified(layout.unified) if layout.unified else _legacy(layout)


def _legacy(layout: Layout) -> Abilities:
    def has(controller: str, *names: str) -> bool:
        point = layout.v1.get(controller)
        return point is not None and any(
            os.path.exists(f"{place}/{name}") for place in (point, f"{point}/{_BELOW}") for name in names
        )

    return Abilities(
        memory=has("memory", "memory.limit_in_bytes"),
        swap=has("memory", "memory.memsw.limit_in_bytes"),
        reservation=has("memory", "memory.soft_limit_in_bytes"),
        swappiness=has("memory", "memory.swappiness"),
        oom_kill_disable=has("memory", "memory.oom_control"),
        cpu_shares=has("cpu", "cpu.shares"),
        cpu_quota=has("cpu", "cpu.cfs_quota_us"),
        realtime=has("cpu", "cpu.rt_runtime_us"),
        cpuset=has("cpuset", "cpuset.cpus"),
        pids="pids" in layout.v1,
        io_weight=has("blkio", "blkio.weight", "blkio.bfq.weight"),
        io_weight_device=has("blkio", "blkio.weight_device", "blkio.bfq.weight_device"),
        io_limits=has("blkio", "blkio.throttle.read_bps_device"),
    )


def _unified(point: str) -> Abilities:
    controllers = read_if_there(f"{point}/cgroup.controllers").split()
    weight = any(os.path.exists(f"{point}/{_BELOW}/{name}") for name in ("io.weight", "io.bfq.weight"))
    return Abilities(
        memory="memory" in controllers,
        swap=os.path.exists(f"{point}/{_BELOW}/memory.swap.max"),
        reservation="memory" in controllers,
        swappiness=False,
        oom_kill_disable=False,
        cpu_shares="cpu" in controllers,
        cpu_quota="cpu" in controllers,
        realtime=False,
        cpuset="cpuset" in controllers,
        pids="pids" in controllers,
        io_weight=weight,
        io_weight_device=weight,
        io_limits="io" in controllers,
    )
