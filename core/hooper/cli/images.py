"""`hooper images`, `history`, `rmi` and `tag`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click

from hooper.api.errors import InvalidArgument
from hooper.cli import humanise
from hooper.cli.command import command
from hooper.cli.each import for_each
from hooper.cli.flags import flag, text, values
from hooper.cli.listing import list_flags, show_list
from hooper.cli.session import Session
from hooper.cli.values import filters as parse_filters

_NONE = "<none>"
HEADERS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "Containers": "CONTAINERS",
    "VirtualSize": "SIZE",
}
_HISTORY_HEADERS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}


@command("images", "[REPOSITORY[:TAG]]")
@flag("-a", "--all", help="Show all images (default hides intermediate images)")
@flag("--digests", help="Show digests")
@flag("--tree", help="List multi-platform images as a tree")
@list_flags
@click.argument("reference", required=False, default="")
@click.pass_obj
def images(
    session: Session,
    reference: str,
    all: bool,
    digests: bool,
    tree: bool,
    quiet: bool,
    no_trunc: bool,
    format: str,
    filters: tuple[str, ...],
) -> None:
    """List images."""
    wanted = (*filters, f"reference={reference}") if reference else filters
    query = {"all": all or None, "filters": parse_filters(wanted), "manifests": tree or None}
    if tree and (quiet or digests or format):
        raise InvalidArgument("--tree goes with none of --quiet, --digests and --format")
    found = session.client.get("/images/json", query)
    if tree:
        from hooper.cli.image_tree import print_tree

        print_tree(found, full=no_trunc)
        return
    by_digest = digests or ".Digest" in format
    rows = [row for image in found for row in image_rows(image, full=no_trunc, digests=by_digest)]
    columns = ["Repository", "Tag", *(["Digest"] if digests else []), "ID", "CreatedSince", "Size"]
    show_list(rows, HEADERS, columns, format=format, quiet=quiet, usual="imagesFormat")


def image_rows(image: Mapping[str, Any], *, full: bool, digests: bool = False) -> Iterator[dict[str, Any]]:
    """One image of GET /images/json as the fields of a template: a row a tag, or a row a digest without tags."""
    tags = [tag for tag in image.get("RepoTags") or () if tag != f"{_NONE}:{_NONE}"]
    by_repository = dict(item.split("@", 1) for item in image.get("RepoDigests") or () if not item.startswith(_NONE))
    references = [tuple(tag.rsplit(":", 1)) for tag in tags]
    references = references or [(repository, _NONE) for repository in by_repository] or [(_NONE, _NONE)]
    shared, total = image.get("SharedSize", -1), image["Size"]
    for repository, tag in references:
        yield {
            "ID": image["Id"] if full else humanise.short_id(image["Id"]),
            "Repository": repository,
            "Tag": tag,
            "Digest": by_repository.get(repository, _NONE) if digests else _NONE,
            "CreatedSince": humanise.ago(image["Created"]),
            "CreatedAt": humanise.local_time(image["Created"]),
            "Size": humanise.size(total, 3),
            "SharedSize": humanise.size(shared) if shared >= 0 else "N/A",
            "UniqueSize": humanise.size(total - shared) if shared >= 0 else "N/A",
            "VirtualSize": humanise.size(image.get("VirtualSize") or total),
            "Containers": str(image["Containers"]) if image.get("Containers", -1) >= 0 else "N/A",
        }


@command("history", "IMAGE")
@text("--format", help="Format output: table, table TEMPLATE, json, or a Go template")
@click.option("-H", "--human/--no-human", default=True, help="Print sizes and dates in human readable format")
@flag("--no-trunc", help="Don't truncate output")
@flag("-q", "--quiet", help="Only show image IDs")
@text("--platform", help='Show history for the given platform (e.g., "linux/amd64")')
@click.argument("image")
@click.pass_obj
def history(session: Session, image: str, format: str, human: bool, no_trunc: bool, quiet: bool, platform: str) -> None:
    """Show the history of an image."""
    from hooper.cli.transfer import platform_json

    layers = session.client.get(f"/images/{image}/history", {"platform": platform_json(platform)})
    rows = [_history_row(layer, human=human, full=no_trunc) for layer in layers]
    columns = ("ID", "CreatedSince" if human else "CreatedAt", "CreatedBy", "Size", "Comment")
    show_list(rows, _HISTORY_HEADERS, columns, format=format, quiet=quiet)


def _history_row(layer: Mapping[str, Any], *, human: bool, full: bool) -> dict[str, Any]:
    step = layer["CreatedBy"].replace("\t", " ")
    return {
        "ID": layer["Id"] if full else humanise.short_id(layer["Id"]),
        "CreatedSince": humanise.ago(layer["Created"]),
        "CreatedAt": humanise.rfc3339(layer["Created"]),
        "CreatedBy": step if full else humanise.shorten(step, 45),
        "Size": humanise.size(layer["Size"], 3) if human else str(layer["Size"]),
        "Comment": layer["Comment"],
    }


@command("rmi", "IMAGE [IMAGE...]")
@flag("-f", "--force", help="Force removal of the image")
@flag("--no-prune", help="Do not delete untagged parents")
@values("--platform", help='Remove only the given platform variant (e.g., "linux/amd64")', metavar="strings")
@click.argument("images", nargs=-1, required=True)
@click.pass_obj
def rmi(session: Session, images: tuple[str, ...], force: bool, no_prune: bool, platform: tuple[str, ...]) -> int:
    """Remove one or more images."""
    from hooper.cli.transfer import platform_json

    platforms = [platform_json(one) for item in platform for one in item.split(",")]
    query = {"force": force or None, "noprune": no_prune or None, "platforms": platforms}

    def remove(name: str) -> None:
        for change in session.client.delete(f"/images/{name}", query):
            for kind, what in change.items():
                print(f"{kind}: {what}")

    return for_each(images, remove, shown=False)


@command("tag", "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]")
@click.argument("source")
@click.argument("target")
@click.pass_obj
def tag(session: Session, source: str, target: str) -> None:
    """Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE."""
    from hooper.api.reference import Reference

    reference = Reference.parse(target)
    session.client.post(
        f"/images/{source}/tag", query={"repo": reference.familiar_name, "tag": reference.tag or "latest"}
    )
