"""`hooper inspect`, of anything, and of one kind of thing in the groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from hooper.api.errors import HooperError, NotFound
from hooper.cli.command import Command, command
from hooper.cli.errors import report
from hooper.cli.flags import flag, text
from hooper.cli.output import print_things
from hooper.cli.session import Session
from hooper.cli.suggest import closest
from hooper.cli.values import one_of
from hooper.client.api import ApiClient, Query
from hooper.client.errors import ApiError

_PATHS = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
}


@command("inspect", "NAME|ID [NAME|ID...]")
@text("-f", "--format", help="Format output using a custom template: json, or a Go template")
@flag("-s", "--size", help="Display total file sizes if the type is container")
@text("--type", "kind", help="Only inspect objects of the given type (container, image, network, volume)")
@click.argument("names", nargs=-1, required=True)
@click.pass_obj
def inspect(session: Session, names: tuple[str, ...], format: str, size: bool, kind: str) -> int:
    """Return low-level information on objects."""
    kinds = (one_of("--type", kind, tuple(_PATHS)),) if kind else tuple(_PATHS)
    return show(session.client, names, kinds, format, {"size": True} if size else {})


def show(client: ApiClient, names: tuple[str, ...], kinds: tuple[str, ...], format: str, query: Query) -> int:
    """Prints each thing; the exit code: 1 if one was not found. With a format, one at a time."""
    found: list[Any] = []
    code = 0
    for name in names:
        try:
            found.append(_lookup(client, name, kinds, query))
        except HooperError as error:
            report(error)
            code = 1
    print_things(found, format)
    return code


def _lookup(client: ApiClient, name: str, kinds: tuple[str, ...], query: Query) -> Any:
    for kind in kinds:
        try:
            return client.get(_PATHS[kind].format(name), query if len(kinds) == 1 or kind == "container" else None)
        except ApiError as error:
            # A name that one kind of thing cannot have (400) may well be that of another.
            if error.status not in (400, 404) or len(kinds) == 1:
                raise
    near = [f'{kind} "{one}"' for kind in kinds for one in closest(client, kind, name)][:3]
    hint = f"Did you mean the {' or the '.join(near)}?" if near else ""
    raise NotFound(f"No such object: {name}", remedy=hint or "`hooper ps -a` and `hooper images` list what there is.")


def _of_kind(kind: str, usage: str) -> Command:
    def inspect_one_kind(
        session: Session, names: tuple[str, ...], format: str, size: bool = False, platform: str = "", **more: bool
    ) -> int:
        from hooper.cli.transfer import platform_json

        query = {"size": size or None, "platform": platform_json(platform), "verbose": more.get("verbose") or None}
        return show(session.client, names, (kind,), format, query)

    inspect_one_kind.__doc__ = f"Display detailed information on one or more {kind}s."
    function: Callable[..., Any] = click.pass_obj(inspect_one_kind)
    function = click.argument("names", nargs=-1, required=True)(function)
    function = text("-f", "--format", help="Format output using a custom template: json, or a Go template")(function)
    if kind == "container":
        function = flag("-s", "--size", help="Display total file sizes")(function)
    if kind == "image":
        function = text("--platform", help='Inspect a specific platform of the image (e.g., "linux/amd64")')(function)
    if kind == "network":
        function = flag("-v", "--verbose", help="Verbose output for diagnostics")(function)
    return command("inspect", usage)(function)


inspect_container = _of_kind("container", "CONTAINER [CONTAINER...]")
inspect_image = _of_kind("image", "IMAGE [IMAGE...]")
inspect_network = _of_kind("network", "NETWORK [NETWORK...]")
inspect_volume = _of_kind("volume", "VOLUME [VOLUME...]")
