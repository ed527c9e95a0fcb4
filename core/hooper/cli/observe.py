"""`hooper top`, `port` and `diff`."""

from __future__ import annotations

import click

from hooper.api.errors import NotFound
from hooper.cli.command import command
from hooper.cli.output import print_cells
from hooper.cli.session import Session

_KINDS = "CAD"


@command("top", "CONTAINER [ps OPTIONS]", flags_first=True)
@click.argument("container")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def top(session: Session, container: str, arguments: tuple[str, ...]) -> None:
    """Display the running processes of a container."""
    query = {"ps_args": " ".join(arguments) or None}
    found = session.client.get(f"/containers/{container}/top", query)
    width = max(len(title) for title in found["Titles"])
    rows = [[cell.ljust(width) for cell in row] for row in found["Processes"] or ()]
    print_cells([found["Titles"], *rows])


@command("port", "CONTAINER [PRIVATE_PORT[/PROTO]]")
@click.argument("container")
@click.argument("port", required=False, default="")
@click.pass_obj
def port(session: Session, container: str, port: str) -> None:
    """List port mappings or a specific mapping for the container."""
    details = session.client.get(f"/containers/{container}/json")
    published = {key: value for key, value in (details["NetworkSettings"].get("Ports") or {}).items() if value}
    wanted = port if "/" in port or not port else f"{port}/tcp"
    if wanted and wanted not in published:
        raise NotFound(
            f"no public port '{port}' published for {container}",
            remedy=f"It publishes: {', '.join(published) or 'none'}.",
        )
    for inside in [wanted] if wanted else sorted(published, key=_port_order):
        for binding in published[inside]:
            host = f"[{binding['HostIp']}]" if ":" in binding["HostIp"] else binding["HostIp"]
            prefix = "" if wanted else f"{inside} -> "
            print(f"{prefix}{host}:{binding['HostPort']}")


def _port_order(text: str) -> tuple[int, str]:
    number, _, protocol = text.partition("/")
    return int(number), protocol


@command("diff", "CONTAINER")
@click.argument("container")
@click.pass_obj
def diff(session: Session, container: str) -> None:
    """Inspect changes to files or directories on a container's filesystem."""
    for change in session.client.get(f"/containers/{container}/changes") or ():
        print(_KINDS[change["Kind"]], change["Path"])
