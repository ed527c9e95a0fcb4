"""`hooper top`, `port` and `diff`."""

from __future__ import annotations

import click

from hooper.api.errors import NotFound
from hooper.cli.command import command
from hooper.cli.flags import flag, text
from hooper.cli.output import align
from hooper.cli.session import Session

_KINDS = "CAD"


@command("top", "[CONTAINER [ps OPTIONS]]", flags_first=True)
@click.option("--interval", type=float, default=2.0, metavar="seconds", help="Time between two looks at all containers")
@flag("--no-stream", help="Look at all containers once")
@text("--sort", help="Order of all containers: cpu, memory, net, io, pids or name")
@click.argument("container", required=False, default="")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def top(
    session: Session, container: str, arguments: tuple[str, ...], interval: float, no_stream: bool, sort: str
) -> None:
    """Watch what all containers use, or display the running processes of one.

    On a terminal q quits, and c, m, n, i, p and a choose the order.
    """
    if not container:
        from hooper.cli.live import watch

        watch(session.client, sort=sort or "cpu", interval=interval, once=no_stream)
        return
    query = {"ps_args": " ".join(arguments) or None}
    found = session.client.get(f"/containers/{container}/top", query)
    print("\n".join(align([found["Titles"], *(found["Processes"] or ())], least=20)))


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
