"""`hooper image diff`: what one image has that another has not."""

from __future__ import annotations

import json
from typing import Any

import click

from hooper.api.errors import InvalidArgument
from hooper.cli import humanise
from hooper.cli.command import command
from hooper.cli.flags import text
from hooper.cli.session import Session

_SIGNS = {"added": "A", "removed": "D", "changed": "C"}


@command("diff", "IMAGE IMAGE")
@text("--format", help="json for all of it as JSON")
@click.argument("first")
@click.argument("second")
@click.pass_obj
def diff(session: Session, first: str, second: str, format: str) -> None:
    """Show how the second image differs from the first: files, with their sizes, and configuration.

    A is for added, C for changed, D for removed. Times of files count for nothing.
    """
    if format not in ("", "json"):
        raise InvalidArgument(f'unknown format "{format}"', remedy="Write --format json, or none.")
    found = session.client.get("/hooper/images/diff", {"first": first, "second": second})
    if format:
        print(json.dumps(found, indent=4))
        return
    for field, before, after in found["Config"]:
        print(f"config {field}: {_value(before)} -> {_value(after)}")
    for change in found["Files"]:
        print(f"{_SIGNS[change['Kind']]} {change['Path']}{_sizes(change)}")


def _value(value: object) -> str:
    return json.dumps(value)


def _sizes(change: dict[str, Any]) -> str:
    sizes = [humanise.size(size, 3) for size in (change["Before"], change["After"]) if size > 0]
    if change["Kind"] == "changed" and change["Before"] == change["After"]:
        sizes = sizes[:1]
    return f" ({' -> '.join(sizes)})" if sizes else ""
