"""`hooper volume`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from hooper.api.errors import InvalidArgument
from hooper.cli import humanise
from hooper.cli.command import command
from hooper.cli.flags import flag, values
from hooper.cli.listing import list_flags, show_list
from hooper.cli.network import remove_each
from hooper.cli.session import Session
from hooper.cli.values import filters as parse_filters
from hooper.cli.values import pairs

_HEADERS = {
    "Name": "VOLUME NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
    "Availability": "AVAILABILITY",
    "Group": "GROUP",
    "Status": "STATUS",
}


@command("ls", "")
@list_flags
@click.pass_obj
def ls(session: Session, quiet: bool, no_trunc: bool, format: str, filters: tuple[str, ...]) -> None:
    """List volumes."""
    found = session.client.get("/volumes", {"filters": parse_filters(filters)})["Volumes"] or ()
    rows = [row(volume) for volume in sorted(found, key=lambda one: one["Name"])]
    show_list(rows, _HEADERS, ("Driver", "Name"), format=format, quiet=quiet, key="Name", usual="volumesFormat")


def row(volume: Mapping[str, Any]) -> dict[str, Any]:
    """One volume as the fields of a template."""
    labels = volume.get("Labels") or {}
    usage = volume.get("UsageData") or {}
    return {
        "Name": volume["Name"],
        "Driver": volume["Driver"],
        "Scope": volume["Scope"],
        "Mountpoint": volume["Mountpoint"],
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "Links": str(usage["RefCount"]) if usage else "N/A",
        "Size": humanise.size(usage["Size"]) if usage else "N/A",
        # Of swarm's cluster volumes alone.
        **dict.fromkeys(("Availability", "Group", "Status"), "N/A"),
        "Label": lambda name: labels.get(name, ""),
    }


@command("create", "[VOLUME]")
@click.option("-d", "--driver", default="local", metavar="string", help="Specify volume driver name")
@values("--label", help="Set metadata for a volume")
@click.option("--name", "old_name", default="", hidden=True)
@values("-o", "--opt", help="Set driver specific options", metavar="map")
@click.argument("name", required=False, default="")
@click.pass_obj
def create(
    session: Session, name: str, old_name: str, driver: str, label: tuple[str, ...], opt: tuple[str, ...]
) -> None:
    """Create a volume."""
    if name and old_name:
        raise InvalidArgument("conflicting options: give the name once")
    body = {
        "Name": name or old_name,
        "Driver": driver,
        "DriverOpts": pairs("--opt", opt),
        "Labels": pairs("--label", label),
    }
    print(session.client.post("/volumes/create", body)["Name"])


@command("rm", "VOLUME [VOLUME...]")
@flag("-f", "--force", help="Force the removal of one or more volumes")
@click.argument("volumes", nargs=-1, required=True)
@click.pass_obj
def rm(session: Session, volumes: tuple[str, ...], force: bool) -> int:
    """Remove one or more volumes."""
    return remove_each(session, "/volumes/{}", volumes, force=force)
