"""`hooper system df`: what takes room on the disk, and what of it could be freed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from hooper.cli import humanise, images, ps, volume
from hooper.cli.command import command
from hooper.cli.flags import flag, text
from hooper.cli.listing import show_list
from hooper.cli.output import print_rows, print_table
from hooper.cli.session import Session

_HEADERS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_CACHE = ("ID", "CacheType", "Size", "CreatedSince", "LastUsedSince", "UsageCount", "Shared")
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
    if not verbose:
        show_list(summary(found, layers), _HEADERS, tuple(_HEADERS), format=format, quiet=False)
    elif format:
        print_rows([details(found)], {}, "", format)
    else:
        _print_details(found)


def details(found: Mapping[str, Any]) -> dict[str, Any]:
    """All things, each kind as the rows of its list."""
    return {
        "Images": [row for image in found["Images"] for row in images.image_rows(image, full=True)],
        "Containers": [_own_size(container, full=True) for container in found["Containers"]],
        "Volumes": [volume.row(one) for one in found["Volumes"]],
        "BuildCache": [dict(zip(_CACHE, _cache_row(one), strict=True)) for one in found["BuildCache"]],
    }


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
    # As docker has it, no share of the cache: all of it can go.
    share = f" ({reclaimable * 100 // size}%)" if size and kind != "Build Cache" else ""
    return {
        "Type": kind,
        "TotalCount": str(len(items)),
        "Active": str(sum(1 for item in items if active(item))),
        "Size": humanise.size(size),
        "Reclaimable": f"{humanise.size(reclaimable)}{share}",
    }


def _unique(image: Mapping[str, Any]) -> int:
    return int(image["Size"] - max(image.get("SharedSize", 0), 0))


def _volume(one: Mapping[str, Any]) -> tuple[int, int]:
    usage = one.get("UsageData") or {}
    return max(usage.get("Size", 0), 0), max(usage.get("RefCount", 0), 0)


def _own_size(container: Mapping[str, Any], *, full: bool = False) -> dict[str, Any]:
    """The row of a container, without the size of its image, which is listed above."""
    return ps.row(container, full=full) | {"Size": humanise.size(container.get("SizeRw") or 0, 3)}


def _cache_row(one: Mapping[str, Any]) -> list[str]:
    created, used = (humanise.timestamp(one.get(key) or "") for key in ("CreatedAt", "LastUsedAt"))
    shared = str(bool(one.get("Shared"))).lower()
    name = f"{humanise.short_id(one['ID'])}{'*' if one.get('InUse') else ''}"
    size, times = humanise.size(one["Size"], 3), str(one.get("UsageCount", 0))
    return [name, one.get("Type", ""), size, humanise.ago(created), humanise.ago(used) if used else "", times, shared]


def _print_details(found: Mapping[str, Any]) -> None:
    print("Images space usage:\n")
    rows = [row for image in found.get("Images", ()) for row in images.image_rows(image, full=False)]
    columns = ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers")
    show_list(rows, images.HEADERS, columns, format="", quiet=False)
    print("\nContainers space usage:\n")
    containers = [_own_size(container) for container in found.get("Containers", ())]
    columns = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
    show_list(containers, ps.HEADERS, columns, format="", quiet=False)
    print("\nLocal Volumes space usage:\n")
    volumes = [(one["Name"], *reversed(_volume(one))) for one in found.get("Volumes", ())]
    print_table(["VOLUME NAME", "LINKS", "SIZE"], [[name, str(n), humanise.size(size)] for name, n, size in volumes])
    cache = found.get("BuildCache", ())
    print(f"\nBuild cache usage: {humanise.size(sum(one['Size'] for one in cache))}\n")
    headings = ["CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED"]
    print_table(headings, [_cache_row(one) for one in cache])
