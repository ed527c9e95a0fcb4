"""`hooper stats`."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

import click

from hooper.api.errors import HooperError
from hooper.cli import humanise
from hooper.cli.command import command
from hooper.cli.flags import flag, text
from hooper.cli.listing import show_list
from hooper.cli.session import Session
from hooper.client.api import ApiClient

_HEADERS = {
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}
_COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
_CLEAR = "\033[H\033[J"
_INTERVAL = 0.5


@command("stats", "[CONTAINER...]")
@flag("-a", "--all", help="Show all containers (default shows just running)")
@text("--format", help="Format output: table, table TEMPLATE, json, or a Go template")
@flag("--no-stream", help="Disable streaming stats and only pull the first result")
@flag("--no-trunc", help="Do not truncate output")
@click.argument("containers", nargs=-1)
@click.pass_obj
def stats(
    session: Session, containers: tuple[str, ...], all: bool, format: str, no_stream: bool, no_trunc: bool
) -> None:
    """Display a live stream of container(s) resource usage statistics."""
    client = session.client
    board = Board(client)
    if no_stream:
        names = containers or _listed(client, all=all)
        board.collect(names)
        _show(board, names, format, full=no_trunc)
        return
    for name in containers:
        client.get(f"/containers/{name}/json")
    while True:
        names = containers or _listed(client, all=all)
        board.follow(names)
        time.sleep(_INTERVAL)
        if sys.stdout.isatty() and not format:
            sys.stdout.write(_CLEAR)
        _show(board, names, format, full=no_trunc)
        sys.stdout.flush()
        if containers and board.failure:
            raise board.failure


def _listed(client: ApiClient, *, all: bool) -> tuple[str, ...]:
    return tuple(one["Id"] for one in client.get("/containers/json", {"all": all or None}))


class Board:
    """The latest figures of containers; every container is read by a thread of its own."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._latest: dict[str, Mapping[str, Any]] = {}
        self._threads: dict[str, threading.Thread] = {}
        self.failure: HooperError | None = None

    def latest(self, name: str) -> Mapping[str, Any] | None:
        """What GET /stats said last; None if nothing has come yet."""
        return self._latest.get(name)

    def collect(self, names: tuple[str, ...]) -> None:
        """One reading of each, all at once; the first failure is raised."""
        threads = [threading.Thread(target=self._read, args=(name, False)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.failure:
            raise self.failure

    def follow(self, names: tuple[str, ...]) -> None:
        """Goes on reading each of `names` from now on."""
        for name in names:
            if name not in self._threads:
                self._threads[name] = threading.Thread(target=self._read, args=(name, True), daemon=True)
                self._threads[name].start()

    def _read(self, name: str, stream: bool) -> None:
        client = self._client.sibling()
        try:
            for figures in client.json_lines("GET", f"/containers/{name}/stats", {"stream": stream}):
                self._latest[name] = figures
        except HooperError as error:
            self.failure = error
        finally:
            self._threads.pop(name, None)


def _show(board: Board, names: tuple[str, ...], format: str, *, full: bool) -> None:
    rows = [row(name, board.latest(name), full=full) for name in names]
    show_list(rows, _HEADERS, _COLUMNS, format=format, quiet=False, usual="statsFormat")


def row(name: str, figures: Mapping[str, Any] | None, *, full: bool) -> dict[str, str]:
    """One container's figures as the fields of a template; dashes where there are none yet."""
    if not figures:
        return dict.fromkeys(_HEADERS, "--") | {"Container": name, "ID": humanise.short_id(name)}
    used, limit = memory(figures["memory_stats"])
    received, sent = network_io(figures.get("networks") or {})
    read, written = block_io(figures.get("blkio_stats") or {})
    identifier = figures.get("id") or name
    return {
        "Container": name,
        "ID": identifier if full else humanise.short_id(identifier),
        "Name": (figures.get("name") or "").removeprefix("/"),
        "CPUPerc": f"{cpu_percent(figures):.2f}%",
        "MemUsage": f"{humanise.binary_size(used)} / {humanise.binary_size(limit)}",
        "MemPerc": f"{used * 100 / limit if limit else 0:.2f}%",
        "NetIO": f"{humanise.size(received, 3)} / {humanise.size(sent, 3)}",
        "BlockIO": f"{humanise.size(read, 3)} / {humanise.size(written, 3)}",
        "PIDs": str((figures.get("pids_stats") or {}).get("current", 0)),
    }


def memory(figures: Mapping[str, Any]) -> tuple[int, int]:
    """(bytes in use without the page cache that can be dropped at once, limit in bytes)."""
    used, details = figures.get("usage") or 0, figures.get("stats") or {}
    inactive = details.get("total_inactive_file", details.get("inactive_file", 0))
    return (used - inactive if inactive < used else used), figures.get("limit") or 0


def cpu_percent(figures: Mapping[str, Any]) -> float:
    """Percent of one processor since the reading before."""
    now, before = figures["cpu_stats"], figures["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    passed = (now.get("system_cpu_usage") or 0) - (before.get("system_cpu_usage") or 0)
    count = now.get("online_cpus") or len(now["cpu_usage"].get("percpu_usage") or ()) or 1
    return used / passed * count * 100 if used > 0 and passed > 0 else 0.0


def network_io(networks: Mapping[str, Mapping[str, int]]) -> tuple[int, int]:
    """(bytes received, bytes sent) over all interfaces."""
    return sum(one["rx_bytes"] for one in networks.values()), sum(one["tx_bytes"] for one in networks.values())


def block_io(figures: Mapping[str, Any]) -> tuple[int, int]:
    """(bytes read, bytes written) over all devices."""
    amounts = {"read": 0, "write": 0}
    for entry in figures.get("io_service_bytes_recursive") or ():
        kind = entry["op"].lower()
        if kind in amounts:
            amounts[kind] += entry["value"]
    return amounts["read"], amounts["write"]
