"""`hooper ps`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from hooper.cli import humanise
from hooper.cli.command import command
from hooper.cli.flags import flag
from hooper.cli.listing import list_flags, show_list
from hooper.cli.session import Session
from hooper.cli.values import filters as parse_filters
from hooper.gotemplate.values import Nil

HEADERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "State": "STATE",
    "Ports": "PORTS",
    "Names": "NAMES",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
}
_COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


@command("ps")
@flag("-a", "--all", help="Show all containers (default shows just running)")
@click.option("-n", "--last", type=int, default=-1, help="Show n last created containers (includes all states)")
@flag("-l", "--latest", help="Show the latest created container (includes all states)")
@flag("-s", "--size", help="Display total file sizes")
@list_flags
@click.pass_obj
def ps(
    session: Session,
    all: bool,
    last: int,
    latest: bool,
    size: bool,
    quiet: bool,
    no_trunc: bool,
    format: str,
    filters: tuple[str, ...],
) -> None:
    """List containers."""
    size = size or ".Size" in format
    limit = 1 if latest else last if last > 0 else None
    query = {"all": all or None, "limit": limit, "size": size or None, "filters": parse_filters(filters)}
    found = session.client.get("/containers/json", query)
    columns = (*_COLUMNS, "Size") if size else _COLUMNS
    show_list(
        [row(one, full=no_trunc) for one in found], HEADERS, columns, format=format, quiet=quiet, usual="psFormat"
    )


def row(container: Mapping[str, Any], *, full: bool) -> dict[str, Any]:
    """One container of GET /containers/json as the fields of a template."""
    labels = container.get("Labels") or {}
    mounts = [mount.get("Name") or mount.get("Source", "") for mount in container.get("Mounts") or ()]
    command_line = container["Command"]
    shown = command_line if full else humanise.shorten(command_line, 20)
    image = container["Image"]
    return {
        "ID": container["Id"] if full else humanise.short_id(container["Id"]),
        "Image": image if full or not image.startswith("sha256:") else humanise.short_id(image),
        "Command": f'"{shown}"',
        "CreatedAt": humanise.local_time(container["Created"]),
        "RunningFor": humanise.ago(container["Created"]),
        "Status": container["Status"],
        "State": container["State"],
        "Ports": ports(container.get("Ports") or ()),
        "Names": names(container.get("Names") or (), full=full),
        "Size": _size(container),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "Mounts": ",".join(mount if full else humanise.shorten(mount, 15) for mount in mounts),
        "LocalVolumes": str(sum(mount.get("Driver") == "local" for mount in container.get("Mounts") or ())),
        "Networks": ",".join(sorted((container.get("NetworkSettings") or {}).get("Networks") or ())),
        "Platform": (container.get("ImageManifestDescriptor") or {}).get("platform") or Nil(),
        "Label": lambda name: labels.get(name, ""),
    }


def names(given: Iterable[str], *, full: bool) -> str:
    """The names without their slash; aliases by links ("/web/db") only in full."""
    stripped = [name.removeprefix("/") for name in given]
    return ",".join(name for name in stripped if full or "/" not in name)


def _size(container: Mapping[str, Any]) -> str:
    own, total = container.get("SizeRw") or 0, container.get("SizeRootFs") or 0
    text = humanise.size(own, 3)
    return f"{text} (virtual {humanise.size(total, 3)})" if total > 0 else text


def ports(given: Iterable[Mapping[str, Any]]) -> str:
    """Published and exposed ports; neighbours that are published alike are one range."""
    groups: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for port in given:
        groups.setdefault((port.get("IP") or "", port["Type"]), []).append(
            (port["PrivatePort"], port.get("PublicPort") or 0)
        )
    shown = []
    for (address, protocol), numbers in sorted(groups.items(), key=lambda group: (min(group[1])[0], group[0])):
        for first, last in _ranges(sorted(set(numbers))):
            inside = _span(first[0], last[0])
            host = f"[{address}]" if ":" in address else address
            shown.append(
                f"{host}:{_span(first[1], last[1])}->{inside}/{protocol}" if first[1] else f"{inside}/{protocol}"
            )
    return ", ".join(shown)


def _ranges(numbers: list[tuple[int, int]]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    ranges: list[tuple[tuple[int, int], tuple[int, int]]] = []
    for number in numbers:
        inside, public = number
        if ranges:
            first, last = ranges[-1]
            step = 1 if public else 0
            if (inside, public) == (last[0] + 1, last[1] + step):
                ranges[-1] = (first, number)
                continue
        ranges.append((number, number))
    return ranges


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
