"""`hooper events`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from hooper.cli.command import command
from hooper.cli.flags import text, values
from hooper.cli.output import unescape
from hooper.cli.session import Session
from hooper.cli.values import filters as parse_filters
from hooper.cli.values import moment
from hooper.gotemplate.template import Template


@command("events", "")
@values("-f", "--filter", "filters", help="Filter output based on conditions provided", metavar="filter")
@text("--format", help="Format output: json, or a Go template")
@text("--since", help="Show all events created since timestamp")
@text("--until", help="Stream events until this timestamp")
@click.pass_obj
def events(session: Session, filters: tuple[str, ...], format: str, since: str, until: str) -> None:
    """Get real time events from the server."""
    query = {
        "filters": parse_filters(filters),
        "since": moment("--since", since),
        "until": moment("--until", until),
    }
    template = Template("{{json .}}" if format == "json" else unescape(format)) if format else None
    for event in session.client.json_lines("GET", "/events", query):
        print(template.render(event) if template else line(event), flush=True)


def line(event: Mapping[str, Any]) -> str:
    """An event as one line: when, what, which, and its attributes."""
    import time

    seconds, nanoseconds = divmod(int(event["timeNano"]), 10**9)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))
    zone = time.strftime("%z", time.localtime(seconds))
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    actor = event["Actor"]
    attributes = ", ".join(f"{key}={value}" for key, value in sorted((actor.get("Attributes") or {}).items()))
    shown = f" ({attributes})" if attributes else ""
    return f"{stamp}.{nanoseconds:09d}{zone} {event['Type']} {event['Action']} {actor['ID']}{shown}"
