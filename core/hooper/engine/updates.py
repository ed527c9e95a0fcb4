"""`docker update`: which changes of limits a container takes. Rules and words are Docker's."""

from __future__ import annotations

import os

import msgspec

from hooper.api.errors import Conflict, InvalidArgument
from hooper.api.model import Container, HostConfig
from hooper.engine import restarts

LOWEST_MEMORY = 6 << 20
SHORTEST_PERIOD_US, LONGEST_PERIOD_US = 1_000, 1_000_000


def in_force(host: HostConfig, changes: HostConfig) -> HostConfig:
    """The changes as the kernel is to have them: an explicit limit with swap stays when the memory's alone changes."""
    if changes.memory and not changes.memory_swap and host.memory_swap:
        return msgspec.structs.replace(changes, memory_swap=host.memory_swap)
    return changes


def check(container: Container, changes: HostConfig) -> None:
    """InvalidArgument for values that no container takes, Conflict for those that this one cannot take."""
    check_memory(changes)
    check_cpu(changes)
    check_sets(changes)
    if changes.blkio_weight and not 10 <= changes.blkio_weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000", f"{changes.blkio_weight} was asked for")
    _check_policy(changes)
    for why in _conflicts(container.host_config, changes):
        raise Conflict(f"Cannot update container {container.id}", why)


def check_memory(changes: HostConfig) -> None:
    if changes.memory and changes.memory < LOWEST_MEMORY:
        raise InvalidArgument("Minimum memory limit allowed is 6MB", f"{changes.memory} bytes were asked for")
    if changes.memory > 0 and 0 < changes.memory_swap < changes.memory:
        raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
    if changes.memory_swap < -1:
        raise InvalidArgument("invalid memory swap limit", f"{changes.memory_swap} bytes", "-1 is no limit.")
    reservation = changes.memory_reservation
    if reservation and reservation < LOWEST_MEMORY:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB", f"{reservation} bytes were asked for")
    if 0 < changes.memory < reservation:
        raise InvalidArgument("Minimum memory limit can not be less than memory reservation limit, see usage")


def check_cpu(changes: HostConfig) -> None:
    if changes.nano_cpus and (changes.cpu_quota or changes.cpu_period):
        raise InvalidArgument("Conflicting options: Nano CPUs and CPU Quota or Period cannot both be set")
    most = os.cpu_count() or 1
    if not 0 <= changes.nano_cpus <= most * 1_000_000_000:
        raise InvalidArgument(
            f"Range of CPUs is from 0.01 to {most}.00, as there are only {most} CPUs available", remedy="Ask for fewer."
        )
    if changes.cpu_shares < 0:
        raise InvalidArgument("invalid CPU shares", f"{changes.cpu_shares} is below 0", "1024 is the usual share.")
    if changes.cpu_period and not SHORTEST_PERIOD_US <= changes.cpu_period <= LONGEST_PERIOD_US:
        raise InvalidArgument(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
            f"{changes.cpu_period} microseconds were asked for",
        )
    if 0 < changes.cpu_quota < SHORTEST_PERIOD_US:
        raise InvalidArgument(
            "CPU cfs quota can not be less than 1ms (i.e. 1000)", f"{changes.cpu_quota} microseconds were asked for"
        )


def check_sets(changes: HostConfig) -> None:
    for field, text, file, things in (
        ("cpus", changes.cpuset_cpus, "/sys/devices/system/cpu/online", "CPUs"),
        ("mems", changes.cpuset_mems, "/sys/devices/system/node/online", "memory nodes"),
    ):
        if not text:
            continue
        try:
            asked = numbers(text)
        except ValueError:
            raise InvalidArgument(
                f"Invalid value {text} for cpuset {field}", "invalid format", 'Write a list such as "0-2,4".'
            ) from None
        online = _online(file)
        if asked - numbers(online):
            raise InvalidArgument(f"Requested {things} are not available - requested {text}, available: {online}")


def _online(file: str) -> str:
    try:
        with open(file, encoding="ascii") as source:
            return source.read().strip()
    except FileNotFoundError:
        return "0"  # a kernel without NUMA has one node


def numbers(text: str) -> set[int]:
    """ "0-2,4" -> {0, 1, 2, 4}; ValueError for anything else."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(text)
        start, end = int(first), int(last or first)
        if end < start or end > 1 << 16:
            raise ValueError(text)
        found.update(range(start, end + 1))
    return found


def _check_policy(changes: HostConfig) -> None:
    if changes.restart_policy.name:
        restarts.check(changes.restart_policy)


def _conflicts(host: HostConfig, changes: HostConfig) -> list[str]:
    """What stands in the way: --cpus sets period and quota, so that it and they exclude each other."""
    found = []
    if changes.nano_cpus and (host.cpu_period or host.cpu_quota):
        name = "CPU Period" if host.cpu_period else "CPU Quota"
        found.append(f"Conflicting options: Nano CPUs cannot be updated as {name} has already been set")
    if host.nano_cpus and (changes.cpu_period or changes.cpu_quota):
        name = "CPU Period" if changes.cpu_period else "CPU Quota"
        found.append(f"Conflicting options: {name} cannot be updated as NanoCPUs has already been set")
    if changes.memory and not changes.memory_swap and 0 < host.memory_swap < changes.memory:
        found.append(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    if 0 < changes.memory_swap < host.memory and not changes.memory:
        found.append("Memoryswap limit should be larger than already set memory limit, update the memory too")
    if changes.restart_policy.name not in ("", "no") and host.auto_remove:
        found.append("Restart policy cannot be updated because AutoRemove is enabled for the container")
    return found
