"""GET /containers/{id}/stats."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio

from hooper.api.engine import Engine
from hooper.api.errors import InvalidArgument, NotFound
from hooper.api.isolation import Stats
from hooper.api.model import Container
from hooper_api_docker.http import Request
from hooper_api_docker.streams import JsonLines
from hooper_api_docker.times import ZERO, rfc3339

INTERVAL = 1.0
"""Seconds between two samples, as dockerd has it."""
NANOSECONDS_PER_TICK = 10**9 // os.sysconf("SC_CLK_TCK")
Json = dict[str, Any]
EMPTY_CPU: Json = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}
_BLOCK_TIMES = ("queue", "service_time", "wait_time", "merged", "time")
_NETWORK_FIELDS = ((0, "rx_bytes"), (1, "rx_packets"), (2, "rx_errors"), (3, "rx_dropped"),
                   (8, "tx_bytes"), (9, "tx_packets"), (10, "tx_errors"), (11, "tx_dropped"))  # fmt: skip


async def stats(engine: Engine, request: Request, name: str) -> None:
    container = await engine.containers.get(name)
    stream = request.query.flag("stream", default=True)
    one_shot = request.query.flag("one-shot") and request.version >= (1, 41)
    if stream and one_shot:
        raise InvalidArgument("cannot have stream=true and one-shot=true", "", "Choose one of them.")
    lines = JsonLines(request)

    async def run() -> None:
        previous: Json | None = None
        if not stream and not one_shot and container.state.running:
            previous = await _sample(engine, container, None)
            await anyio.sleep(INTERVAL)
        while True:
            try:
                sample = await _sample(engine, container, previous)
            except NotFound:
                return  # it was removed: the stream ends
            await lines.send(sample)
            if not stream:
                return
            previous = sample
            await anyio.sleep(INTERVAL)

    await lines.run(run)


async def _sample(engine: Engine, container: Container, previous: Json | None) -> Json:
    current = await engine.containers.stats(container.id)
    pid = (await engine.containers.get(container.id)).state.pid if current else 0
    now = rfc3339(time.time_ns()) if current else ZERO
    return shape(container, current, previous, now=now, system=_system_ticks(), networks=_networks(pid))


def shape(
    container: Container, current: Stats | None, previous: Json | None, *, now: str, system: int, networks: Json
) -> Json:
    """Docker's object. `system` is the host's CPU time in nanoseconds; `current` None: it does not run."""
    shown: Json = {
        "id": container.id,
        "name": f"/{container.name}",
        "read": now,
        "preread": previous["read"] if previous else ZERO,
        "num_procs": 0,
        "storage_stats": {},
        "precpu_stats": previous["cpu_stats"] if previous else EMPTY_CPU,
    }
    if current is None:
        return shown | {"pids_stats": {}, "blkio_stats": _block_io(None), "cpu_stats": EMPTY_CPU, "memory_stats": {}}
    return shown | {
        "pids_stats": {"current": current.pids} | ({"limit": current.pids_limit} if current.pids_limit else {}),
        "blkio_stats": _block_io(current),
        "cpu_stats": _cpu(current, system),
        "memory_stats": _memory(current),
        "networks": networks,
    }


def _cpu(current: Stats, system: int) -> Json:
    return {
        "cpu_usage": {
            "total_usage": current.cpu_usage,
            **({"percpu_usage": current.cpu_each} if current.cpu_each else {}),
            "usage_in_kernelmode": current.cpu_system,
            "usage_in_usermode": current.cpu_user,
        },
        "system_cpu_usage": system,
        "online_cpus": os.cpu_count() or 1,
        "throttling_data": {
            "periods": current.periods,
            "throttled_periods": current.throttled_periods,
            "throttled_time": current.throttled_time,
        },
    }


def _memory(current: Stats) -> Json:
    return {
        "usage": current.memory_usage,
        **({"max_usage": current.memory_peak} if current.memory_peak is not None else {}),
        "stats": current.memory_stat,
        "limit": current.memory_limit or _total_memory(),
    }


def _block_io(current: Stats | None) -> Json:
    """Cgroup v1 fills two of the lists and has the others empty; with v2, which counts bytes alone, those are null."""
    operations = current.block_operations if current else None
    empty: list[Json] | None = None if operations is None else []
    found: Json = {f"io_{name}_recursive": empty for name in _BLOCK_TIMES}
    found["sectors_recursive"] = empty
    found["io_service_bytes_recursive"] = _entries(current.block_io, operations is not None) if current else None
    found["io_serviced_recursive"] = None if operations is None else _entries(operations, True)
    return found


def _entries(counters: Sequence[tuple[int, int, str, int]], v1: bool) -> list[Json]:
    return [
        {"major": major, "minor": minor, "op": name.capitalize() if v1 else name, "value": value}
        for major, minor, name, value in counters
    ]


def _total_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _system_ticks() -> int:
    """proc_stat(5): user, nice, system, idle, iowait, irq, softirq and steal of all CPUs, in nanoseconds."""
    line = Path("/proc/stat").read_text().partition("\n")[0]
    return sum(int(ticks) for ticks in line.split()[1:9]) * NANOSECONDS_PER_TICK


def _networks(pid: int) -> Json:
    """proc_net_dev(5) of the container's network namespace; nothing if it ended meanwhile."""
    try:
        lines = Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:] if pid else []
    except OSError:
        return {}
    found: Json = {}
    for line in lines:
        interface, _, numbers = line.partition(":")
        values = numbers.split()
        if interface.strip() != "lo":
            found[interface.strip()] = {field: int(values[index]) for index, field in _NETWORK_FIELDS}
    return found
