"""`hooper plugin`: what is plugged in, and how it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from hooper.api.errors import NotFound
from hooper.cli import humanise
from hooper.cli.command import command
from hooper.cli.errors import BadFlag
from hooper.cli.flags import text
from hooper.cli.listing import list_flags, show_list
from hooper.cli.output import print_things
from hooper.cli.session import Session

_HEADERS = {
    "Kind": "KIND",
    "Name": "NAME",
    "Status": "STATUS",
    "Plugin": "PLUGIN",
    "Version": "VERSION",
    "Reason": "REASON",
    "Summary": "SUMMARY",
}
_COLUMNS = ("Kind", "Name", "Status", "Plugin", "Version", "Reason")
_FILTERED = ("Kind", "Name", "Status", "Plugin")
_BROKEN = ("error", "incompatible")
Record = Mapping[str, Any]


def _records(session: Session) -> list[Record]:
    return list(session.client.get("/hooper/plugins"))


def _fields(record: Record) -> dict[str, str]:
    fields = {field: str(record.get(field.lower()) or "") for field in _HEADERS}
    return fields | {"Reason": fields["Reason"].partition("\n")[0]}


@command("ls", "")
@list_flags
@click.pass_obj
def ls(session: Session, format: str, quiet: bool, no_trunc: bool, filters: tuple[str, ...]) -> None:
    """List plugins and the drivers that they bring."""
    rows = [_fields(record) for record in _records(session)]
    for item in filters:
        key, equals, value = item.partition("=")
        field = key.capitalize()
        if not equals or field not in _FILTERED:
            known = ", ".join(name.lower() for name in _FILTERED)
            raise BadFlag("--filter", item, f"it is not KEY=VALUE with a key of {known}", "--filter kind=storage")
        rows = [row for row in rows if row[field] == value]
    if not no_trunc and format in ("", "table"):
        rows = [row | {"Reason": humanise.shorten(row["Reason"], 60)} for row in rows]
    show_list(rows, _HEADERS, _COLUMNS, format=format, quiet=quiet, key="Name")


@command("inspect", "NAME [NAME...]")
@text("-f", "--format", help="Format output: json, or a Go template")
@click.argument("names", nargs=-1, required=True)
@click.pass_obj
def inspect(session: Session, names: tuple[str, ...], format: str) -> None:
    """Display all that is known of one or more plugins or drivers."""
    records = _records(session)
    found = []
    for name in names:
        matches = [record for record in records if name in (record.get("name"), record.get("plugin"))]
        if not matches:
            known = ", ".join(sorted({str(record.get("name")) for record in records}))
            raise NotFound(f"no plugin or driver is named {name}", remedy=f"There are: {known}.")
        found += matches
    print_things(found, format)


@command("doctor", "")
@click.pass_obj
def doctor(session: Session) -> int:
    """Check every plugin; fails if one is broken."""
    records = _records(session)
    broken = [record for record in records if record.get("status") in _BROKEN]
    skipped = [record for record in records if record.get("status") == "skipped"]
    for record in [*broken, *skipped]:
        reason = record.get("reason") or "no reason given"
        print(f"{record.get('status')}: {record.get('kind')} {record.get('name')}: {reason}")
        if record.get("traceback"):
            print("  " + str(record["traceback"]).rstrip().replace("\n", "\n  "))
    print(f"{len(records)} plugins and drivers, {len(skipped)} skipped, {len(broken)} broken")
    return 1 if broken else 0
