"""The `prune` commands: asking first, then removing what is not used."""

from __future__ import annotations

import json
from typing import Any

import click

from hooper.cli import humanise
from hooper.cli.command import command
from hooper.cli.flags import flag, text
from hooper.cli.session import Session
from hooper.cli.units import parse_size
from hooper.cli.values import checked
from hooper.cli.values import filters as parse_filters
from hooper.client.api import ApiClient

Filters = dict[str, dict[str, bool]]
_force = flag("-f", "--force", help="Do not prompt for confirmation")
_filter = click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="filter",
    help='Provide filter values (e.g. "until=24h")',
    callback=lambda _context, _option, given: _filters(given),
)


def _confirmed(warning: str, force: bool) -> bool:
    """Whether the user, if asked, agrees; the end of stdin is a no."""
    try:
        return force or click.confirm(f"WARNING! {warning}\nAre you sure you want to continue?", default=False)
    except click.Abort:
        print()
        return False


def _filters(given: tuple[str, ...]) -> Filters:
    return json.loads(parse_filters(given) or "{}")  # type: ignore[no-any-return]


def _prune(client: ApiClient, kind: str, filters: Filters, **query: object) -> dict[str, Any]:
    answer = client.post(f"/{kind}/prune", query={"filters": json.dumps(filters) if filters else None, **query})
    return answer or {}


def _print_reclaimed(*amounts: int | None) -> None:
    print(f"Total reclaimed space: {humanise.size(sum(amount or 0 for amount in amounts))}")


def _print_names(title: str, names: list[str] | None) -> None:
    if names:
        print(f"{title}:", *names, "", sep="\n")


def _print_images(deleted: list[dict[str, str]] | None) -> None:
    _print_names("Deleted Images", [f"{kind.lower()}: {what}" for one in deleted or () for kind, what in one.items()])


@command("prune", "")
@_filter
@_force
@click.pass_obj
def prune_containers(session: Session, filters: Filters, force: bool) -> None:
    """Remove all stopped containers."""
    if _confirmed("This will remove all stopped containers.", force):
        answer = _prune(session.client, "containers", filters)
        _print_names("Deleted Containers", answer.get("ContainersDeleted"))
        _print_reclaimed(answer.get("SpaceReclaimed"))


@command("prune", "")
@flag("-a", "--all", help="Remove all unused images, not just dangling ones")
@_filter
@_force
@click.pass_obj
def prune_images(session: Session, all: bool, filters: Filters, force: bool) -> None:
    """Remove unused images."""
    what = "images without at least one container associated to them" if all else "dangling images"
    if _confirmed(f"This will remove all {what}.", force):
        answer = _prune(session.client, "images", filters | {"dangling": {str(not all).lower(): True}})
        _print_images(answer.get("ImagesDeleted"))
        _print_reclaimed(answer.get("SpaceReclaimed"))


@command("prune", "")
@_filter
@_force
@click.pass_obj
def prune_networks(session: Session, filters: Filters, force: bool) -> None:
    """Remove all unused networks."""
    if _confirmed("This will remove all custom networks not used by at least one container.", force):
        answer = _prune(session.client, "networks", filters)
        _print_names("Deleted Networks", answer.get("NetworksDeleted"))


@command("prune", "")
@flag("-a", "--all", help="Remove all unused volumes, not just anonymous ones")
@_filter
@_force
@click.pass_obj
def prune_volumes(session: Session, all: bool, filters: Filters, force: bool) -> None:
    """Remove unused local volumes."""
    what = "local" if all else "anonymous local"
    if _confirmed(f"This will remove all {what} volumes not used by at least one container.", force):
        answer = _prune(session.client, "volumes", filters | _all_volumes(session.client, all))
        _print_names("Deleted Volumes", answer.get("VolumesDeleted"))
        _print_reclaimed(answer.get("SpaceReclaimed"))


def _all_volumes(client: ApiClient, all: bool) -> Filters:
    """Up to API 1.41 a daemon prunes named volumes as well, and knows no filter `all`."""
    return {"all": {"true": True}} if all and client.version >= (1, 42) else {}


@command("prune", "")
@flag("-a", "--all", help="Remove all unused build cache, not just dangling ones")
@_filter
@_force
@text("--keep-storage", help="Amount of disk space to keep for cache", metavar="bytes")
@click.pass_obj
def prune_builder(session: Session, all: bool, filters: Filters, force: bool, keep_storage: str) -> None:
    """Remove build cache."""
    if _confirmed(f"This will remove all {'' if all else 'dangling '}build cache.", force):
        keep = checked("--keep-storage", keep_storage, parse_size, "10g") if keep_storage else None
        answer = _prune_cache(session.client, all, filters, keep)
        _print_names("Deleted build cache objects", answer.get("CachesDeleted"))
        _print_reclaimed(answer.get("SpaceReclaimed"))


def _prune_cache(client: ApiClient, all: bool, filters: Filters, keep: int | None = None) -> dict[str, Any]:
    """`keep` is in bytes; API 1.48 gave it another name."""
    bound = {"reserved-space" if client.version >= (1, 48) else "keep-storage": keep}
    return _prune(client, "build", filters, all=all or None, **bound)


@command("prune", "")
@flag("-a", "--all", help="Remove all unused images not just dangling ones")
@flag("--volumes", help="Prune anonymous volumes")
@_filter
@_force
@click.pass_obj
def prune_system(session: Session, all: bool, volumes: bool, filters: Filters, force: bool) -> None:
    """Remove unused data."""
    if not _confirmed(_warning(all, volumes), force):
        return
    client, chosen = session.client, filters
    containers = _prune(client, "containers", chosen)
    _print_names("Deleted Containers", containers.get("ContainersDeleted"))
    networks = _prune(client, "networks", chosen)
    _print_names("Deleted Networks", networks.get("NetworksDeleted"))
    # Volumes have no age, and the daemon refuses that filter for them.
    without_age = {key: value for key, value in chosen.items() if key != "until"}
    removed = _prune(client, "volumes", without_age) if volumes else {}
    _print_names("Deleted Volumes", removed.get("VolumesDeleted"))
    images = _prune(client, "images", chosen | {"dangling": {str(not all).lower(): True}})
    _print_images(images.get("ImagesDeleted"))
    cache = _prune_cache(client, all, {key: value for key, value in chosen.items() if key != "label"})
    _print_names("Deleted build cache objects", cache.get("CachesDeleted"))
    _print_reclaimed(*(answer.get("SpaceReclaimed") for answer in (containers, removed, images, cache)))


def _warning(all: bool, volumes: bool) -> str:
    things = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        things.append("all anonymous volumes not used by at least one container")
    things.append("all images without at least one container associated to them" if all else "all dangling images")
    things.append("all build cache" if all else "unused build cache")
    return "This will remove:" + "".join(f"\n  - {thing}" for thing in things) + "\n"
