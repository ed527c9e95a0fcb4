"""`hooper image copy`, and pull and push of layouts: images between places, past the engine's list or not."""

from __future__ import annotations

import click

from hooper.api.layout import Layout
from hooper.api.reference import Reference
from hooper.cli.command import command
from hooper.cli.credentials import all_auths
from hooper.cli.flags import flag, text
from hooper.cli.progress import checked, show_progress
from hooper.cli.session import Session
from hooper.client import layouts
from hooper.client.http import Response


@command("copy", "SOURCE TARGET")
@flag("-a", "--all", "every", help="Of an index copy the images of all platforms, and the index itself")
@text("--platform", help='Copy the image for this platform (e.g., "linux/amd64")')
@flag("--preserve-digests", help="Keep Docker's manifests in a layout, which not every tool reads")
@flag("-q", "--quiet", help="Print the digest alone")
@click.argument("source")
@click.argument("target")
@click.pass_obj
def copy(
    session: Session, source: str, target: str, every: bool, preserve_digests: bool, platform: str, quiet: bool
) -> None:
    """Copy an image between registries and layouts, without storing it here.

    Places are references, or oci:PATH:TAG, oci-archive:PATH:TAG and docker-archive:PATH[:REFERENCE], whose paths are
    those of this machine.
    """
    origin, end = Layout.parse(source), Layout.parse(target)
    query = {
        "from": layouts.on_stream(origin) if origin else str(Reference.parse(source).with_default_tag()),
        "to": layouts.on_stream(end) if end else str(Reference.parse(target).with_default_tag()),
        "all": every or None,
        "preserve": preserve_digests or None,
        "platform": platform or None,
    }
    body = layouts.archive_of(origin) if origin else None
    if end is not None:
        response = session.client.stream("POST", "/hooper/images/copy", query, body=body, headers=all_auths())
        _stored(end, response)
        return
    messages = session.client.json_lines("POST", "/hooper/images/copy", query, body=body, headers=all_auths())
    if not quiet:
        show_progress(messages)
        return
    for message in checked(messages):
        if message.get("status", "").startswith("Digest: "):
            print(message["status"].removeprefix("Digest: "))


def pull_layout(session: Session, layout: Layout, *, name: str, platform: str, quiet: bool) -> None:
    """Reads an image of this machine into the engine's list."""
    query = {"from": layouts.on_stream(layout), "name": name or None, "file": layout.path, "platform": platform or None}
    messages = session.client.json_lines("POST", "/hooper/images/pull", query, body=layouts.archive_of(layout))
    if not quiet:
        show_progress(messages)
        return
    for _ in checked(messages):
        pass


def push_layout(session: Session, name: str, layout: Layout) -> None:
    """Writes an image of the engine's list into a layout of this machine."""
    query = {"name": name, "to": layouts.on_stream(layout)}
    _stored(layout, session.client.stream("POST", "/hooper/images/push", query))


def _stored(layout: Layout, response: Response) -> None:
    try:
        layouts.store(layout, response.parts())
    finally:
        response.close()
    print(layout)
