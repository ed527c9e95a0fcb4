"""`hooper commit`, `export` and `import`: from containers to images and archives, and back."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import click

from hooper.api.errors import InvalidArgument
from hooper.api.reference import Reference
from hooper.cli.command import command
from hooper.cli.flags import platform as platform_flag
from hooper.cli.flags import text, values
from hooper.cli.progress import checked
from hooper.cli.session import Session
from hooper.cli.transfer import blocks, refuse_terminal, write_stream


def _repository(reference: str) -> dict[str, str | None]:
    if not reference:
        return {"repo": None, "tag": None}
    parsed = Reference.parse(reference)
    if parsed.digest:
        raise InvalidArgument("cannot give a new image a digest", remedy="Name it REPOSITORY[:TAG].")
    return {"repo": parsed.familiar_name, "tag": parsed.tag or "latest"}


@command("commit", "CONTAINER [REPOSITORY[:TAG]]")
@text("-a", "--author", help='Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")')
@values("-c", "--change", help="Apply Dockerfile instruction to the created image")
@text("-m", "--message", help="Commit message")
@click.option("-p", "--pause/--no-pause", default=True, help="Pause container during commit")
@click.argument("container")
@click.argument("reference", required=False, default="")
@click.pass_obj
def commit(
    session: Session, container: str, reference: str, author: str, change: tuple[str, ...], message: str, pause: bool
) -> None:
    """Create a new image from a container's changes."""
    query = {
        "container": container,
        **_repository(reference),
        "comment": message or None,
        "author": author or None,
        "changes": change,
        "pause": None if pause else False,
    }
    print(session.client.post("/commit", {}, query)["Id"])


@command("export", "CONTAINER")
@text("-o", "--output", help="Write to a file, instead of STDOUT")
@click.argument("container")
@click.pass_obj
def export(session: Session, container: str, output: str) -> None:
    """Export a container's filesystem as a tar archive."""
    refuse_terminal(output)
    write_stream(session.client.stream("GET", f"/containers/{container}/export"), output)


@command("import", "file|URL|- [REPOSITORY[:TAG]]")
@values("-c", "--change", help="Apply Dockerfile instruction to the created image")
@text("-m", "--message", help="Set commit message for imported image")
@platform_flag()
@click.argument("source")
@click.argument("reference", required=False, default="")
@click.pass_obj
def import_image(
    session: Session, source: str, reference: str, change: tuple[str, ...], message: str, platform: str
) -> None:
    """Import the contents from a tarball to create a filesystem image."""
    remote = source.startswith(("http://", "https://"))
    query = {
        "fromSrc": source if remote else "-",
        **_repository(reference),
        "changes": change,
        "message": message or None,
        "platform": platform or None,
    }
    if remote:
        _show(session, query, None)
        return
    with sys.stdin.buffer if source == "-" else open(source, "rb") as file:
        _show(session, query, blocks(file))


def _show(session: Session, query: Mapping[str, object], body: object) -> None:
    for message in checked(session.client.json_lines("POST", "/images/create", query, body=body)):
        if message.get("status") and not message.get("progressDetail"):
            print(message["status"])
