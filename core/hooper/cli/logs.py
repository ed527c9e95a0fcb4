"""`hooper logs`."""

from __future__ import annotations

import sys

import click

from hooper.cli.command import command
from hooper.cli.flags import flag, text
from hooper.cli.pump import write_all
from hooper.cli.session import Session
from hooper.cli.terminal import STDERR, STDOUT
from hooper.cli.values import moment
from hooper.client.frames import Demultiplexer


@command("logs", "CONTAINER")
@flag("--details", help="Show extra details provided to logs")
@flag("-f", "--follow", help="Follow log output")
@text("--since", help='Show logs since timestamp or relative (e.g. "42m")')
@text("-n", "--tail", help="Number of lines to show from the end of the logs (default all)")
@flag("-t", "--timestamps", help="Show timestamps")
@text("--until", help='Show logs before a timestamp or relative (e.g. "42m")')
@click.argument("container")
@click.pass_obj
def logs(
    session: Session, container: str, details: bool, follow: bool, since: str, tail: str, timestamps: bool, until: str
) -> None:
    """Fetch the logs of a container."""
    query = {
        "stdout": True,
        "stderr": True,
        "follow": follow or None,
        "details": details or None,
        "timestamps": timestamps or None,
        "tail": tail or "all",
        "since": moment("--since", since),
        "until": moment("--until", until),
    }
    tty = session.client.get(f"/containers/{container}/json")["Config"]["Tty"]
    response = session.client.stream("GET", f"/containers/{container}/logs", query)
    frames = Demultiplexer()
    sys.stdout.flush()
    for part in response.parts():
        for stream, piece in [(STDOUT, memoryview(part))] if tty else frames.feed(part):
            write_all(STDERR if stream == STDERR else STDOUT, piece)
    response.close()
