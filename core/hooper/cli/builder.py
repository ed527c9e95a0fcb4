"""`hooper builder prune` and `hooper builder du`: what finished steps of builds keep on the disk."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from hooper.api.errors import Unsupported
from hooper.cli import humanise
from hooper.cli.command import command
from hooper.cli.errors import BadFlag
from hooper.cli.flags import flag, text, values
from hooper.cli.output import print_cells, print_rows
from hooper.cli.prune import Filters, confirmed, filter_flag, force_flag, print_names, print_reclaimed, prune_kind
from hooper.cli.session import Session
from hooper.cli.units import parse_duration, parse_size
from hooper.cli.values import checked
from hooper.client.api import ApiClient

_HEADERS = ("ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED")
_FIELDS = {
    "ID": "ID", "Parents": "PARENTS", "CreatedAt": "CREATED AT", "Mutable": "MUTABLE", "Reclaimable": "RECLAIMABLE",
    "Shared": "SHARED", "Size": "SIZE", "Description": "DESCRIPTION", "UsageCount": "USAGE COUNT",
    "LastUsedAt": "LAST ACCESSED", "Type": "TYPE",
}  # fmt: skip
_CONDITION = re.compile(r"([a-z]+)(~=|!=|==|=)?(.*)", re.DOTALL)
_KEYS = ("description", "id", "immutable", "inuse", "mutable", "parents", "private", "shared", "type", "until")
_SWITCHES = ("immutable", "inuse", "mutable", "private", "shared")
Record = Mapping[str, Any]


@command("du", "")
@values("--filter", "filters", help='Provide filter values (e.g. "until=24h", "type=regular")', metavar="filter")
@text("--format", help="Format output: json, or a Go template")
@flag("--verbose", help="Provide a more verbose output")
@click.pass_obj
def du(session: Session, filters: tuple[str, ...], format: str, verbose: bool) -> None:
    """Disk usage of the build cache."""
    conditions = [_condition(one) for one in filters]
    records = [one for one in _records(session.client) if all(_meets(one, *wanted) for wanted in conditions)]
    if format:
        print_rows([_row(one) for one in records], _FIELDS, "", format)
    elif verbose:
        _print_details(records)
    else:
        _print_records(records)
    if not format:
        _print_sums(records)


@command("prune", "")
@flag("-a", "--all", help="Remove all unused build cache, not just dangling ones")
@filter_flag
@force_flag
@text("--reserved-space", "--keep-storage", "reserved", help="Amount of disk space always kept", metavar="bytes")
@text("--max-used-space", "most", help="Amount of disk space that the cache may use", metavar="bytes")
@text("--min-free-space", "free", help="Amount of disk space to be free afterwards", metavar="bytes")
@flag("--verbose", help="Show all that is known of what was removed")
@click.pass_obj
def prune(
    session: Session, all: bool, filters: Filters, force: bool, reserved: str, most: str, free: str, verbose: bool
) -> None:
    """Remove build cache."""
    bounds = _bounds(session.client, reserved, most, free)
    if not confirmed(f"This will remove all {'' if all else 'dangling '}build cache.", force):
        return
    known = {one["ID"]: one for one in _records(session.client)} if verbose else {}
    answer = prune_kind(session.client, "build", filters, all=all or None, **bounds)
    removed = answer.get("CachesDeleted") or []
    if verbose:
        _print_details([known[name] for name in removed if name in known])
    else:
        print_names("Deleted build cache objects", removed)
    print_reclaimed(answer.get("SpaceReclaimed"))


def _bounds(client: ApiClient, reserved: str, most: str, free: str) -> dict[str, int]:
    """What is to stay, as the API's parameters. Before API 1.48 there was one, of another name."""
    given = {"reserved-space": reserved, "max-used-space": most, "min-free-space": free}
    bounds = {key: checked(f"--{key}", value, parse_size, "10g") for key, value in given.items() if value}
    if not bounds or client.version >= (1, 48):
        return bounds
    if set(bounds) != {"reserved-space"}:
        flags = " and ".join(f"--{key}" for key in bounds if key != "reserved-space")
        raise Unsupported(f"cannot prune by {flags}", "this daemon's API is older than 1.48", "Give --keep-storage.")
    return {"keep-storage": bounds["reserved-space"]}


def _records(client: ApiClient) -> list[Record]:
    """The steps that the daemon knows, the most recently used last."""
    answer = client.get("/system/df", {"type": "build-cache"} if client.version >= (1, 42) else None)
    found: list[Record] = answer.get("BuildCache") or []
    return sorted(found, key=lambda one: str(one.get("LastUsedAt") or ""))


def _condition(text: str) -> tuple[str, str, str]:
    """(key, comparison, value) of a filter; a switch alone stands for true."""
    match = _CONDITION.fullmatch(text.strip())
    key, comparison, value = match.groups() if match else ("", "", "")
    if key not in _KEYS:
        raise BadFlag("--filter", text, f'"{key or text}" is none of {", ".join(_KEYS)}', "--filter type=regular")
    if not comparison and key not in _SWITCHES:
        raise BadFlag("--filter", text, "it is not KEY=VALUE", f"--filter {key}=value")
    if key == "until":
        try:
            parse_duration(value)
        except ValueError as error:
            raise BadFlag("--filter", text, str(error), "--filter until=24h") from error
    if comparison == "~=":
        try:
            re.compile(value)
        except re.error as error:
            raise BadFlag("--filter", text, f"{value} is no regular expression: {error}") from error
    return key, comparison or "=", value if comparison else "true"


def _meets(record: Record, key: str, comparison: str, value: str) -> bool:
    if key == "until":
        import time

        used = humanise.timestamp(record.get("LastUsedAt") or record.get("CreatedAt") or "")
        return used < time.time() - parse_duration(value) / 1e9
    actual = _facts(record)[key]
    if comparison == "~=":
        return bool(re.search(value, actual))
    return (actual == value.lower() if key in _SWITCHES else actual == value) != (comparison == "!=")


def _facts(record: Record) -> dict[str, str]:
    switches = {
        "inuse": bool(record.get("InUse")), "shared": bool(record.get("Shared")),
        "private": not record.get("Shared"), "mutable": bool(record.get("Mutable")),
        "immutable": not record.get("Mutable"),
    }  # fmt: skip
    return {
        "id": record["ID"],
        "parents": ",".join(_parents(record)),
        "description": str(record.get("Description") or ""),
        "type": str(record.get("Type") or ""),
        **{key: str(value).lower() for key, value in switches.items()},
    }


def _parents(record: Record) -> list[str]:
    return list(record.get("Parents") or ([record["Parent"]] if record.get("Parent") else []))


def _row(record: Record) -> dict[str, str]:
    used = humanise.timestamp(record.get("LastUsedAt") or "")
    return {
        "ID": record["ID"],
        "Parents": ", ".join(_parents(record)),
        "CreatedAt": str(record.get("CreatedAt") or ""),
        "Mutable": _facts(record)["mutable"],
        "Reclaimable": str(not record.get("InUse")).lower(),
        "Shared": _facts(record)["shared"],
        "Size": humanise.size(record["Size"]),
        "Description": str(record.get("Description") or ""),
        "UsageCount": str(record.get("UsageCount", 0)),
        "LastUsedAt": humanise.ago(used) if used else "",
        "Type": str(record.get("Type") or ""),
    }


def _print_records(records: Iterable[Record]) -> None:
    lines: list[Sequence[str]] = [_HEADERS]
    for record in records:
        row = _row(record)
        shared = "*" if record.get("Shared") else ""
        lines.append((row["ID"], row["Reclaimable"], f"{row['Size']}{shared}", row["LastUsedAt"]))
    print_cells(lines)


def _print_details(records: Iterable[Record]) -> None:
    for record in records:
        row = _row(record)
        for title, key in (
            ("ID", "ID"), ("Parents", "Parents"), ("Created at", "CreatedAt"), ("Mutable", "Mutable"),
            ("Reclaimable", "Reclaimable"), ("Shared", "Shared"), ("Size", "Size"), ("Description", "Description"),
            ("Usage count", "UsageCount"), ("Last used", "LastUsedAt"), ("Type", "Type"),
        ):  # fmt: skip
            if row[key]:
                print(f"{title + ':':<16}{row[key]}")
        print()


def _print_sums(records: Sequence[Record]) -> None:
    def total(chosen: Iterable[Record]) -> str:
        return humanise.size(sum(int(one["Size"]) for one in chosen))

    sums = [("Total", total(records))]
    sums.insert(0, ("Reclaimable", total(one for one in records if not one.get("InUse"))))
    if any(one.get("Shared") for one in records):
        shared = total(one for one in records if one.get("Shared"))
        private = total(one for one in records if not one.get("Shared"))
        sums = [("Shared", shared), ("Private", private), *sums]
    for title, amount in sums:
        print(f"{title + ':':<16}{amount}")
