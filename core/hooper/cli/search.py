"""`hooper search`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from hooper.cli import humanise
from hooper.cli.command import command
from hooper.cli.credentials import registry_auth
from hooper.cli.flags import flag, number, text, values
from hooper.cli.listing import show_list
from hooper.cli.session import Session
from hooper.cli.values import filters as parse_filters

_HEADERS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "StarCount": "STARS",
    "IsOfficial": "OFFICIAL",
    "IsAutomated": "AUTOMATED",
}


@command("search", "TERM")
@values("-f", "--filter", "filters", help="Filter output based on conditions provided", metavar="filter")
@text("--format", help="Format output: table, table TEMPLATE, json, or a Go template")
@number("--limit", help="Max number of search results")
@flag("--no-trunc", help="Don't truncate output")
@click.argument("term")
@click.pass_obj
def search(
    session: Session, term: str, filters: tuple[str, ...], format: str, limit: int | None, no_trunc: bool
) -> None:
    """Search a registry for images."""
    first, slash, _ = term.partition("/")
    host = first if slash and ("." in first or ":" in first or first == "localhost") else ""
    query = {"term": term, "limit": limit, "filters": parse_filters(filters)}
    found = session.client.call("GET", "/images/search", query, headers=registry_auth(host))
    rows = [_row(one, full=no_trunc) for one in sorted(found, key=lambda one: -one.get("star_count", 0))]
    show_list(rows, _HEADERS, ("Name", "Description", "StarCount", "IsOfficial"), format=format, quiet=False)


def _row(found: Mapping[str, Any], *, full: bool) -> dict[str, Any]:
    description = found["description"].replace("\n", " ").replace("\r", " ")
    return {
        "Name": found["name"],
        "Description": description if full else humanise.shorten(description, 45),
        "StarCount": str(found["star_count"]),
        "IsOfficial": "[OK]" if found.get("is_official") else "",
        "IsAutomated": "[OK]" if found.get("is_automated") else "",
    }
