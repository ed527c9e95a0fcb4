"""`hooper plugin`: what is plugged in, and how it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from hooper.api.errors import NotFound
from hooper.cli.command import command
from hooper.cli.flags import text
from hooper.cli.listing import show_list
from hooper.cli.output import print_formatted, print_json
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
_BROKEN = ("error", "incompatible")
Record = Mapping[str, Any]


def _records(session: Session) -> list[Record]:
    return list(session.client.get("/hooper/plugins"))


def _fields(record: Record) -> dict[str, str]:
    fields = {field: str(record.get(field.lower()) or "") for field in _HEADERS}
    return fields | {"Reason": fields["Reason"].partition("\n")[0]}


@command("ls", "")
@text("--format", help="Format output: table, table TEMPLATE, json, or a Go template")
@click.pass_obj
def ls(session: Session, format: str) -> None:
    """List plugins and the drivers that they bring."""
    show_list([_fields(record) for record in _records(session)], _HEADERS, _COLUMNS, format=format, quiet=False)


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
    if not format:
        print_json(found)
        return
    for record in found:
        print_formatted(record, format)


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
