"""The limits that a container asks for at its creation. Rules and words are Docker's."""

from __future__ import annotations

from typing import Any

import msgspec

from hooper.api.errors import InvalidArgument, Unsupported
from hooper.api.model import HostConfig
from hooper.engine import updates
from hooper.linux.cgroup_abilities import Abilities

HIGHEST_CPU_SHARES = 262144
_DEVICES = (
    ("blkio_device_read_bps", "BPS Block I/O read limit", "Block I/O BPS read limit"),
    ("blkio_device_write_bps", "BPS Block I/O write limit", "Block I/O BPS write limit"),
    ("blkio_device_read_iops", "IOPS Block read limit", "Block I/O IOPS read limit"),
    ("blkio_device_write_iops", "IOPS Block write limit", "Block I/O IOPS write limit"),
)


def check(host: HostConfig) -> None:
    """InvalidArgument for values that no host accepts."""
    _check_memory(host)
    _check_cpu(host)
    if host.blkio_weight and not 10 <= host.blkio_weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000", remedy=f"{host.blkio_weight} is not in it.")
    for device in host.blkio_weight_device or ():
        if device.weight and not 10 <= device.weight <= 1000:
            raise InvalidArgument(
                "Range of blkio weight is from 10 to 1000", remedy=f"{device.weight} for {device.path} is not in it."
            )
    if host.io_maximum_iops or host.io_maximum_bandwidth:
        what = "IOPs" if host.io_maximum_iops else "bandwidth"
        raise InvalidArgument(
            f"Invalid QoS settings: linux does not support configuration of maximum {what}",
            remedy="Limit single devices: --device-read-bps, --device-write-iops and the like.",
        )


def _check_memory(host: HostConfig) -> None:
    if host.memory < 0:
        raise InvalidArgument(
            "Minimum memory limit allowed is 6MB", f"{host.memory} bytes were asked for", "0 is no limit."
        )
    updates.check_memory(host)
    if host.memory_swap > 0 and not host.memory:
        raise InvalidArgument(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
            remedy="--memory-swap counts memory and swap together.",
        )
    swappiness = host.memory_swappiness
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise InvalidArgument(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")
    if 0 < host.kernel_memory < updates.LOWEST_MEMORY:
        raise InvalidArgument("Minimum kernel memory limit allowed is 6MB")


def _check_cpu(host: HostConfig) -> None:
    if host.nano_cpus > 0:
        for value, name in ((host.cpu_quota, "Quota"), (host.cpu_period, "Period")):
            if value:
                raise InvalidArgument(
                    f"Conflicting options: Nano CPUs and CPU {name} cannot both be set", remedy="--cpus sets both."
                )
    if host.cpu_shares < 0:
        raise InvalidArgument(f"invalid CPU shares ({host.cpu_shares}): value must be a positive integer")
    updates.check_cpu(host)
    updates.check_sets(host)
    period, runtime = host.cpu_realtime_period, host.cpu_realtime_runtime
    if 0 < period < runtime:
        raise InvalidArgument(
            "cpu real-time runtime cannot be higher than cpu real-time period", remedy=f"{runtime} > {period}"
        )


def settled(host: HostConfig, can: Abilities) -> tuple[HostConfig, list[str]]:
    """The limits that this host can keep, and a warning for each that is left away or has no effect.

    Unsupported for one whose absence would change what the program may do.
    """
    changed: dict[str, Any] = {}
    warnings: list[str] = []

    def drop(ability: bool, names: tuple[str, ...], warning: str) -> None:
        empty = HostConfig()
        present = [name for name in names if getattr(host, name) != getattr(empty, name)]
        if present and not ability:
            changed.update({name: getattr(empty, name) for name in present})
            warnings.append(f"Your kernel does not support {warning}")

    missing = "or the cgroup is not mounted."
    drop(can.memory, ("memory",), f"memory limit capabilities {missing} Limitation discarded.")
    if host.memory > 0:
        drop(can.swap, ("memory_swap",), f"swap limit capabilities {missing} Memory limited without swap.")
    drop(can.reservation, ("memory_reservation",), f"memory soft limit capabilities {missing} Limitation discarded.")
    what = f"memory swappiness capabilities, {missing} Memory swappiness discarded."
    drop(can.swappiness, ("memory_swappiness",), what)
    _oom(host, can, changed, warnings)
    _without_effect(host, changed, warnings)
    drop(can.cpu_shares, ("cpu_shares",), f"CPU shares {missing} Shares discarded.")
    drop(can.cpu_quota, ("cpu_period", "cpu_quota", "nano_cpus"), "CPU CFS scheduler. CPU period/quota discarded.")
    drop(can.cpuset, ("cpuset_cpus", "cpuset_mems"), f"cpuset {missing} Cpuset discarded.")
    drop(can.pids, ("pids_limit",), f"PIDs limit capabilities {missing} PIDs limit discarded.")
    drop(can.io_weight, ("blkio_weight",), f"Block I/O weight {missing} Weight discarded.")
    what = f"Block I/O weight_device {missing} Weight-device discarded."
    drop(can.io_weight_device, ("blkio_weight_device",), what)
    for name, ability, left_out in _DEVICES:
        drop(can.io_limits, (name,), f"{ability} {missing} {left_out} discarded.")
    if (host.cpu_realtime_period or host.cpu_realtime_runtime) and not can.realtime:
        raise Unsupported(
            "kernel does not support CPU real-time scheduler",
            remedy="Leave --cpu-rt-period and --cpu-rt-runtime away; cgroup v2 has no such limits.",
        )
    return (msgspec.structs.replace(host, **changed) if changed else host), warnings


def _oom(host: HostConfig, can: Abilities, changed: dict[str, Any], warnings: list[str]) -> None:
    if not host.oom_kill_disable:
        return
    if not can.oom_kill_disable:
        changed["oom_kill_disable"] = None
        warnings.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
    elif not host.memory:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, "
            "this can result in the system running out of resources."
        )


def _without_effect(host: HostConfig, changed: dict[str, Any], warnings: list[str]) -> None:
    if host.kernel_memory or host.kernel_memory_tcp:
        changed.update(kernel_memory=0, kernel_memory_tcp=0)
        warnings.append(
            "Specifying a kernel memory limit is deprecated: Linux no longer keeps it. Limitation discarded."
        )
    if host.cpu_percent:
        changed["cpu_percent"] = 0
        warnings.append("linux does not support CPU percent. Percent discarded.")
    if host.cpu_shares > HIGHEST_CPU_SHARES:
        warnings.append(f"CPU shares above {HIGHEST_CPU_SHARES} are lowered to it by the kernel.")
