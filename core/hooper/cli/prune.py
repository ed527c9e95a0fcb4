"""The `prune` commands: asking first, then removing what is not used."""

from __future__ import annotations

import json
from typing import Any

import click

from hooper.cli import humanise
from hooper.cli.command import command
from hooper.cli.flags import flag
from hooper.cli.session import Session
from hooper.cli.values import filters as parse_filters
from hooper.client.api import ApiClient

Filters = dict[str, dict[str, bool]]
force_flag = flag("-f", "--force", help="Do not prompt for confirmation")
filter_flag = click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="filter",
    help='Provide filter values (e.g. "until=24h")',
    callback=lambda _context, _option, given: _filters(given),
)


def confirmed(warning: str, force: bool) -> bool:
    """Whether the user, if asked, agrees; the end of stdin is a no."""
    try:
        return force or click.confirm(f"WARNING! {warning}\nAre you sure you want to continue?", default=False)
    except click.Abort:
        print()
        return False


def _filters(given: tuple[str, ...]) -> Filters:
    return json.loads(parse_filters(given) or "{}")  # type: ignore[no-any-return]


def prune_kind(client: ApiClient, kind: str, filters: Filters, **query: object) -> dict[str, Any]:
    """The daemon's answer to POST /KIND/prune."""
    answer = client.post(f"/{kind}/prune", query={"filters": json.dumps(filters) if filters else None, **query})
    return answer or {}


def print_reclaimed(*amounts: int | None) -> None:
    """How many bytes are free again."""
    print(f"Total reclaimed space: {humanise.size(sum(amount or 0 for amount in amounts))}")


def print_names(title: str, names: list[str] | None) -> None:
    """A title, the names below it and an empty line; nothing if there are none."""
    if names:
        print(f"{title}:", *names, "", sep="\n")


def _print_images(deleted: list[dict[str, str]] | None) -> None:
    print_names("Deleted Images", [f"{kind.lower()}: {what}" for one in deleted or () for kind, what in one.items()])


@command("prune", "")
@filter_flag
@force_flag
@click.pass_obj
def prune_containers(session: Session, filters: Filters, force: bool) -> None:
    """Remove all stopped containers."""
    if confirmed("This will remove all stopped containers.", force):
        answer = prune_kind(session.client, "containers", filters)
        print_names("Deleted Containers", answer.get("ContainersDeleted"))
        print_reclaimed(answer.get("SpaceReclaimed"))


@command("prune", "")
@flag("-a", "--all", help="Remove all unused images, not just dangling ones")
@filter_flag
@force_flag
@click.pass_obj
def prune_images(session: Session, all: bool, filters: Filters, force: bool) -> None:
    """Remove unused images."""
    what = "images without at least one container associated to them" if all else "dangling images"
    if confirmed(f"This will remove all {what}.", force):
        answer = prune_kind(session.client, "images", filters | {"dangling": {str(not all).lower(): True}})
        _print_images(answer.get("ImagesDeleted"))
        print_reclaimed(answer.get("SpaceReclaimed"))


@command("prune", "")
@filter_flag
@force_flag
@click.pass_obj
def prune_networks(session: Session, filters: Filters, force: bool) -> None:
    """Remove all unused networks."""
    if confirmed("This will remove all custom networks not used by at least one container.", force):
        answer = prune_kind(session.client, "networks", filters)
        print_names("Deleted Networks", answer.get("NetworksDeleted"))


@command("prune", "")
@flag("-a", "--all", help="Remove all unused volumes, not just anonymous ones")
@filter_flag
@force_flag
@click.pass_obj
def prune_volumes(session: Session, all: bool, filters: Filters, force: bool) -> None:
    """Remove unused local volumes."""
    what = "local" if all else "anonymous local"
    if confirmed(f"This will remove all {what} volumes not used by at least one container.", force):
        answer = prune_kind(session.client, "volumes", filters | _all_volumes(session.client, all))
        print_names("Deleted Volumes", answer.get("VolumesDeleted"))
        print_reclaimed(answer.get("SpaceReclaimed"))


def _all_volumes(client: ApiClient, all: bool) -> Filters:
    """Up to API 1.41 a daemon prunes named volumes as well, and knows no filter `all`."""
    return {"all": {"true": True}} if all and client.version >= (1, 42) else {}


@command("prune", "")
@flag("-a", "--all", help="Remove all unused images not just dangling ones")
@flag("--volumes", help="Prune anonymous volumes")
@filter_flag
@force_flag
@click.pass_obj
def prune_system(session: Session, all: bool, volumes: bool, filters: Filters, force: bool) -> None:
    """Remove unused data."""
    if not confirmed(_warning(all, volumes), force):
        return
    client, chosen = session.client, filters
    containers = prune_kind(client, "containers", chosen)
    print_names("Deleted Containers", containers.get("ContainersDeleted"))
    networks = prune_kind(client, "networks", chosen)
    print_names("Deleted Networks", networks.get("NetworksDeleted"))
    # Volumes have no age, and the daemon refuses that filter for them.
    without_age = {key: value for key, value in chosen.items() if key != "until"}
    removed = prune_kind(client, "volumes", without_age) if volumes else {}
    print_names("Deleted Volumes", removed.get("VolumesDeleted"))
    images = prune_kind(client, "images", chosen | {"dangling": {str(not all).lower(): True}})
    _print_images(images.get("ImagesDeleted"))
    unlabelled = {key: value for key, value in chosen.items() if key != "label"}
    cache = prune_kind(client, "build", unlabelled, all=all or None)
    print_names("Deleted build cache objects", cache.get("CachesDeleted"))
    print_reclaimed(*(answer.get("SpaceReclaimed") for answer in (containers, removed, images, cache)))


def _warning(all: bool, volumes: bool) -> str:
    things = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        things.append("all anonymous volumes not used by at least one container")
    things.append("all images without at least one container associated to them" if all else "all dangling images")
    things.append("all build cache" if all else "unused build cache")
    return "This will remove:" + "".join(f"\n  - {thing}" for thing in things) + "\n"
