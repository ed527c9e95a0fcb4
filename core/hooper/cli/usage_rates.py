"""What containers use per second, told from two looks at them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from hooper.cli import humanise, stats
from hooper.client.api import ApiClient
from hooper.client.errors import ApiError

Figures = Mapping[str, Any]


class Usage(NamedTuple):
    """One container: CPU in percent of one processor, memory in bytes, the rest in bytes per second."""

    name: str
    cpu: float = 0.0
    memory: int = 0
    limit: int = 0
    received: float = 0.0
    sent: float = 0.0
    read: float = 0.0
    written: float = 0.0
    pids: int = 0
    status: str = ""

    @property
    def cells(self) -> list[str]:
        """The columns of TITLES."""
        share = self.memory * 100 / self.limit if self.limit else 0.0
        rates = (f"{humanise.size(rate, 3)}/s" for rate in (self.received, self.sent, self.read, self.written))
        memory = humanise.binary_size(self.memory)
        return [self.name, f"{self.cpu:.1f}", memory, f"{share:.1f}", *rates, str(self.pids), self.status]


TITLES = ("NAME", "CPU %", "MEMORY", "MEM %", "NET IN", "NET OUT", "DISK READ", "DISK WRITE", "PIDS", "STATUS")
ORDERS: dict[str, Callable[[Usage], Any]] = {
    "cpu": lambda one: -one.cpu,
    "memory": lambda one: -one.memory,
    "net": lambda one: -(one.received + one.sent),
    "io": lambda one: -(one.read + one.written),
    "pids": lambda one: -one.pids,
    "name": lambda one: one.name,
}


class Sampler:
    """Looks at all running containers, one after the other on one connection."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._before: dict[str, Figures] = {}

    def sample(self) -> list[Usage]:
        """The containers that run, with their rates since the last call; zero the first time. ApiError."""
        listed = self._client.get("/containers/json")
        latest = {one["Id"]: figures for one in listed if (figures := self._figures(one["Id"]))}
        found = [self._usage(one, latest.get(one["Id"])) for one in listed]
        self._before = latest
        return found

    def _figures(self, identifier: str) -> Figures | None:
        query = {"stream": False, "one-shot": True}
        try:
            return self._client.get(f"/containers/{identifier}/stats", query)  # type: ignore[no-any-return]
        except ApiError as error:
            # It ended since it was listed.
            if error.status in (404, 409):
                return None
            raise

    def _usage(self, listed: Mapping[str, Any], now: Figures | None) -> Usage:
        name = next(iter(listed.get("Names") or ()), listed["Id"][:12]).removeprefix("/")
        usage = Usage(name, status=listed["Status"])
        if not now or not now.get("read") or now["read"].startswith("0001-"):
            return usage
        memory, limit = stats.memory(now["memory_stats"])
        pids = int((now.get("pids_stats") or {}).get("current") or 0)
        usage = usage._replace(memory=memory, limit=limit, pids=pids)
        before = self._before.get(listed["Id"])
        if not before or not (found := rates(before, now)):
            return usage
        cpu, received, sent, read, written = found
        return usage._replace(cpu=cpu / 1e9 * 100, received=received, sent=sent, read=read, written=written)


def rates(before: Figures, now: Figures) -> list[float]:
    """What is used per second between two readings of GET /containers/{id}/stats; empty if no time passed.

    In order: nanoseconds of CPU, bytes received, sent, read and written.
    """
    passed = humanise.timestamp(now["read"]) - humanise.timestamp(before["read"])
    if passed <= 0:
        return []
    first, second = list(_counters(before)), list(_counters(now))
    # A counter that went back is that of another start of the container.
    return [max(last - earlier, 0) / passed for earlier, last in zip(first, second, strict=True)]


def _counters(figures: Figures) -> Iterable[int]:
    yield figures["cpu_stats"]["cpu_usage"]["total_usage"]
    yield from stats.network_io(figures.get("networks") or {})
    yield from stats.block_io(figures.get("blkio_stats") or {})
