"""`hooper pull`, `push`, `save` and `load`: images between places."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import BinaryIO

import click

from hooper.api.errors import InvalidArgument
from hooper.api.layout import Layout
from hooper.api.reference import Reference
from hooper.cli import terminal
from hooper.cli.command import command
from hooper.cli.credentials import encode, registry_auth
from hooper.cli.flags import flag, no_trust, text
from hooper.cli.flags import platform as platform_flag
from hooper.cli.progress import checked, show_progress
from hooper.cli.pulling import pull_image
from hooper.cli.pump import write_all
from hooper.cli.session import Session
from hooper.client.http import Response

_BLOCK = 1 << 18


@command("pull", "NAME[:TAG|@DIGEST]")
@flag("-a", "--all-tags", help="Download all tagged images in the repository")
@platform_flag()
@no_trust
@flag("-q", "--quiet", help="Suppress verbose output")
@text("--name", "named", help="Of an image in a layout (oci:PATH:TAG): what to call it here")
@click.argument("name")
@click.pass_obj
def pull(session: Session, name: str, all_tags: bool, platform: str, quiet: bool, named: str) -> None:
    """Download an image from a registry."""
    if (layout := Layout.parse(name)) is not None:
        from hooper.cli.image_copy import pull_layout

        if all_tags:
            raise InvalidArgument("--all-tags is for registries")
        pull_layout(session, layout, name=named, platform=platform, quiet=quiet)
        return
    given = Reference.parse(name)
    if all_tags and (given.tag or given.digest):
        raise InvalidArgument("tag can't be used with --all-tags")
    if not (quiet or all_tags or given.tag or given.digest):
        print("Using default tag: latest", flush=True)
    reference = pull_image(session.client, name, platform=platform, quiet=quiet, all_tags=all_tags)
    print(reference)


@command("push", "NAME[:TAG] [LAYOUT]")
@flag("-a", "--all-tags", help="Push all tags of an image to the repository")
@text("--platform", help="Push a platform-specific manifest as a single-platform image")
@no_trust
@flag("-q", "--quiet", help="Suppress verbose output")
@click.argument("name")
@click.argument("layout", required=False, default="")
@click.pass_obj
def push(session: Session, name: str, layout: str, all_tags: bool, platform: str, quiet: bool) -> None:
    """Upload an image to a registry, or write it to a layout (oci:PATH:TAG)."""
    if layout:
        from hooper.cli.image_copy import push_layout

        target = Layout.parse(layout)
        if target is None:
            raise InvalidArgument(f"{layout} is no layout", remedy="Write oci:PATH:TAG, or push NAME[:TAG] alone.")
        push_layout(session, name, target)
        return
    reference = Reference.parse(name)
    if all_tags and reference.tag:
        raise InvalidArgument("tag can't be used with --all-tags")
    if not all_tags and not reference.tag:
        reference = reference.with_default_tag()
        if not quiet:
            print("Using default tag: latest", flush=True)
    headers = registry_auth(reference.host) or {"X-Registry-Auth": encode({})}
    query = {"tag": reference.tag or None, "platform": platform_json(platform)}
    path = f"/images/{reference.familiar_name}/push"
    messages = session.client.json_lines("POST", path, query, headers=headers)
    if quiet:
        for _ in checked(messages):
            pass
        print(reference)
    else:
        show_progress(messages)


def platform_json(platform: str) -> str | None:
    """os/architecture/variant as the API's JSON; None for none."""
    import json

    if not platform:
        return None
    system, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    return json.dumps({"os": system, "architecture": architecture, **({"variant": variant} if variant else {})})


@command("save", "IMAGE [IMAGE...]")
@text("-o", "--output", help="Write to a file, instead of STDOUT")
@text("--platform", help='Save only the given platform variant (e.g., "linux/amd64")')
@click.argument("images", nargs=-1, required=True)
@click.pass_obj
def save(session: Session, images: tuple[str, ...], output: str, platform: str) -> None:
    """Save one or more images to a tar archive (streamed to STDOUT by default)."""
    refuse_terminal(output)
    query = {"names": images, "platform": platform_json(platform)}
    write_stream(session.client.stream("GET", "/images/get", query), output)


@command("load", "")
@text("-i", "--input", "source", help="Read from tar archive file, instead of STDIN")
@text("--platform", help='Load only the given platform variant (e.g., "linux/amd64")')
@flag("-q", "--quiet", help="Suppress the load output")
@click.pass_obj
def load(session: Session, source: str, platform: str, quiet: bool) -> None:
    """Load an image from a tar archive or STDIN."""
    if not source and os.isatty(terminal.STDIN):
        raise InvalidArgument(
            "requested load from stdin, but stdin is empty", remedy="Give --input FILE, or pipe an archive in."
        )
    query = {"quiet": True, "platform": platform_json(platform)} if quiet else {"platform": platform_json(platform)}
    with open(source, "rb") if source else sys.stdin.buffer as file:
        show_progress(
            session.client.json_lines(
                "POST", "/images/load", query, body=blocks(file), headers={"Content-Type": "application/x-tar"}
            )
        )


def blocks(file: BinaryIO) -> Iterator[bytes]:
    """The content of a file in pieces."""
    return iter(lambda: file.read(_BLOCK), b"")


def refuse_terminal(output: str) -> None:
    """InvalidArgument if an archive would go to a terminal."""
    if not output and os.isatty(terminal.STDOUT):
        raise InvalidArgument(
            "cowardly refusing to save to a terminal", remedy="Give --output FILE, or send the output elsewhere."
        )


def write_stream(response: Response, output: str) -> None:
    """Writes a body to a file, which appears only when it is complete, or to stdout. Closes the response."""
    try:
        if not output:
            for part in response.parts():
                write_all(terminal.STDOUT, part)
            return
        partial = f"{output}.{os.getpid()}.partial"
        try:
            with open(partial, "wb") as file:
                file.writelines(response.parts())
            os.replace(partial, output)
        except BaseException:
            if os.path.exists(partial):
                os.unlink(partial)
            raise
    finally:
        response.close()
