"""The flags that all lists have, and what happens to a list that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hooper.cli.flags import flag, text, values
from hooper.cli.output import Row, print_rows
from hooper.cli.settings import setting

Function = Callable[..., Any]


def list_flags(function: Function) -> Function:
    """--filter, --format, --no-trunc and --quiet."""
    for decorator in (
        flag("-q", "--quiet", help="Only display identifiers"),
        flag("--no-trunc", help="Don't truncate output"),
        text("--format", help="Format output: table, table TEMPLATE, json, or a Go template"),
        values("-f", "--filter", "filters", help="Filter output based on conditions provided", metavar="filter"),
    ):
        function = decorator(function)
    return function


def show_list(
    rows: Iterable[Row],
    headers: Mapping[str, str],
    fields: Iterable[str],
    *,
    format: str,
    quiet: bool,
    key: str = "ID",
    usual: str = "",
) -> None:
    """Prints rows; `fields` are the table's columns, `key` is what --quiet leaves.

    `usual` names the setting of the user's that has the format where none is given.
    """
    if usual and not (format or quiet):
        format = setting(usual)
    table = "table " + "\t".join(f"{{{{.{field}}}}}" for field in fields)
    print_rows(
        rows, headers, f"{{{{.{key}}}}}" if quiet else table, "" if quiet and format in ("", "table") else format
    )
