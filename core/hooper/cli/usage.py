"""`hooper system df`: what takes room on the disk, and what of it could be freed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from hooper.cli import humanise, images, ps
from hooper.cli.command import command
from hooper.cli.flags import flag, text
from hooper.cli.listing import show_list
from hooper.cli.output import print_table
from hooper.cli.session import Session

_HEADERS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_RUNNING = ("running", "paused", "restarting")


@command("df", "")
@text("--format", help="Format output: table, table TEMPLATE, json, or a Go template")
@flag("-v", "--verbose", help="Show detailed information on space usage")
@click.pass_obj
def df(session: Session, format: str, verbose: bool) -> None:
    """Show disk usage."""
    answer = session.client.get("/system/df")
    layers = answer.get("LayersSize") or 0
    found = {key: answer.get(key) or [] for key in ("Images", "Containers", "Volumes", "BuildCache")}
    if verbose and not format:
        _print_details(found)
    else:
        show_list(summary(found, layers), _HEADERS, tuple(_HEADERS), format=format, quiet=False)


def summary(found: Mapping[str, Any], layers: int) -> Iterable[dict[str, str]]:
    """A row a kind of thing, as the fields of a template. `layers`: bytes of all images' layers."""
    image_list, containers = found.get("Images", ()), found.get("Containers", ())
    volumes, cache = found.get("Volumes", ()), found.get("BuildCache", ())
    used = sum(_unique(image) for image in image_list if image.get("Containers", 0) > 0)
    yield _row("Images", image_list, lambda one: one.get("Containers", 0) > 0, layers, layers - used)
    running = [one for one in containers if one["State"] in _RUNNING]
    size = sum(one.get("SizeRw") or 0 for one in containers)
    yield _row(
        "Containers", containers, running.__contains__, size, size - sum(one.get("SizeRw") or 0 for one in running)
    )
    sizes = {one["Name"]: _volume(one) for one in volumes}
    total = sum(size for size, _ in sizes.values())
    unused = sum(size for size, links in sizes.values() if not links)
    yield _row("Local Volumes", volumes, lambda one: sizes[one["Name"]][1] > 0, total, unused)
    total = sum(one["Size"] for one in cache if not one.get("Shared"))
    unused = sum(one["Size"] for one in cache if not one.get("Shared") and not one.get("InUse"))
    yield _row("Build Cache", cache, lambda one: one.get("InUse"), total, unused)


def _row(kind: str, items: Iterable[Any], active: Any, size: int, reclaimable: int) -> dict[str, str]:
    items = list(items)
    reclaimable = max(reclaimable, 0)
    share = f" ({reclaimable * 100 // size}%)" if size else ""
    return {
        "Type": kind,
        "TotalCount": str(len(items)),
        "Active": str(sum(1 for item in items if active(item))),
        "Size": humanise.size(size),
        "Reclaimable": f"{humanise.size(reclaimable)}{share}",
    }


def _unique(image: Mapping[str, Any]) -> int:
    return int(image["Size"] - max(image.get("SharedSize", 0), 0))


def _volume(volume: Mapping[str, Any]) -> tuple[int, int]:
    usage = volume.get("UsageData") or {}
    return max(usage.get("Size", 0), 0), max(usage.get("RefCount", 0), 0)


def _print_details(found: Mapping[str, Any]) -> None:
    print("Images space usage:\n")
    rows = [row for image in found.get("Images", ()) for row in images.image_rows(image, full=False)]
    columns = ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers")
    show_list(rows, images.HEADERS, columns, format="", quiet=False)
    print("\nContainers space usage:\n")
    containers = [ps.row(container, full=False) for container in found.get("Containers", ())]
    columns = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
    show_list(containers, ps.HEADERS, columns, format="", quiet=False)
    print("\nLocal Volumes space usage:\n")
    volumes = [(one["Name"], *reversed(_volume(one))) for one in found.get("Volumes", ())]
    print_table(["VOLUME NAME", "LINKS", "SIZE"], [[name, str(n), humanise.size(size)] for name, n, size in volumes])
    cache = found.get("BuildCache", ())
    print(f"\nBuild cache usage: {humanise.size(sum(one['Size'] for one in cache))}\n")
    rows_of_cache = [
        [humanise.short_id(one["ID"]), one.get("Type", ""), humanise.size(one["Size"]), str(one.get("UsageCount", 0))]
        for one in cache
    ]
    print_table(["CACHE ID", "CACHE TYPE", "SIZE", "USAGE"], rows_of_cache)
