"""`hooper images --tree`: images, and below each what it holds for several platforms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from hooper.cli import humanise
from hooper.cli.command import command
from hooper.cli.flags import flag
from hooper.cli.output import print_table
from hooper.cli.session import Session
from hooper.cli.values import filters


def print_tree(images: list[dict[str, Any]], *, full: bool) -> None:
    """Prints GET /images/json (with manifests=1) as a tree; "U" marks what a container uses."""
    rows = [row for image in images for row in _image(image, full=full)]
    print_table(["IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA"], rows)


def _image(image: Mapping[str, Any], *, full: bool) -> Iterator[list[str]]:
    tags = [tag for tag in image.get("RepoTags") or () if not tag.startswith("<none>")] or ["<untagged>"]
    manifests = [one for one in image.get("Manifests") or () if one.get("Kind") == "image"]
    content = sum(one["Size"]["Content"] for one in manifests)
    shown = image["Id"] if full else humanise.short_id(image["Id"])
    size, used = humanise.size(image["Size"], 3), image.get("Containers", 0) > 0
    *more, last = tags
    for tag in more:
        yield [tag, shown, "", "", ""]
    yield [last, shown, size, humanise.size(content, 3) if manifests else "", "U" if used else ""]
    for number, one in enumerate(manifests, start=1):
        branch = "└─" if number == len(manifests) else "├─"
        platform = one["ImageData"]["Platform"]
        name = "/".join(platform[key] for key in ("os", "architecture", "variant") if platform.get(key))
        identifier = one["ID"] if full else humanise.short_id(one["ID"])
        sizes = one["Size"]
        used = bool(one["ImageData"].get("Containers"))
        yield [
            f"{branch} {name}",
            identifier,
            humanise.size(sizes["Total"], 3),
            humanise.size(sizes["Content"], 3),
            "U" if used else "",
        ]


@command("tree", "[REPOSITORY[:TAG]]")
@flag("-a", "--all", help="Show all images (default hides intermediate images)")
@flag("--no-trunc", help="Don't truncate output")
@click.argument("reference", required=False, default="")
@click.pass_obj
def tree(session: Session, reference: str, all: bool, no_trunc: bool) -> None:
    """List images, and what they hold for several platforms, as a tree."""
    wanted = {"filters": filters((f"reference={reference}",))} if reference else {}
    print_tree(session.client.get("/images/json", {"all": all or None, "manifests": True, **wanted}), full=no_trunc)
