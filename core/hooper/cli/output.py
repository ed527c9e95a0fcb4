"""Tables, templates and JSON: how rows get to standard output."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hooper.gotemplate.functions import to_json
from hooper.gotemplate.template import Template
from hooper.gotemplate.values import typed

_MIN_CELL, _PADDING = 10, 3
Row = Mapping[str, Any]


def print_rows(rows: Iterable[Row], headers: Mapping[str, str], default: str, format: str = "") -> None:
    """Prints rows by `format`: a template, "table TEMPLATE", "table", "json", or none for `default`.

    `default` is a "table …" template or a plain one; `headers` has the heading of each field.
    """
    chosen = default if format in ("", "table") else format
    chosen = "{{json .}}" if chosen == "json" else chosen
    if not chosen.startswith("table"):
        template = Template(unescape(chosen))
        for row in rows:
            print(template.render(_sorted(row)))
        return
    source = unescape(chosen.removeprefix("table").strip())
    template = Template(source)
    lines = [Template(_plain_fields(source)).render(_headings(headers))]
    lines += [template.render(_sorted(row)) for row in rows]
    print_cells([line.split("\t") for line in lines])


def _sorted(row: Row) -> Row:
    """Docker's rows have their fields in the order of the alphabet, which `json` shows."""
    return dict(sorted(row.items()))


def unescape(text: str) -> str:
    r"""A shell's '\t' and '\n' as the characters."""
    return text.replace("\\t", "\t").replace("\\n", "\n")


def _plain_fields(source: str) -> str:
    """A heading has no use for functions: `{{upper .Names}}` is headed as `{{.Names}}` is."""
    return re.sub(r"\{\{[^}]*?(\.[A-Za-z]\w*(?: \"[^\"]*\")?)[^}]*\}\}", r"{{\1}}", source)


def _headings(headers: Mapping[str, str]) -> dict[str, Any]:
    return {**headers, "Label": _label_heading}


def _label_heading(name: str) -> str:
    """The last part of com.example.what-for, in words."""
    return name.rpartition(".")[2].replace("-", " ").replace("_", " ")


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints plain cells below `headers`."""
    print_cells([headers, *rows])


def print_cells(lines: Sequence[Sequence[str]]) -> None:
    """Prints lines of cells in columns that are wide enough for each."""
    print("\n".join(align(lines)))


def align(lines: Sequence[Sequence[str]], least: int = _MIN_CELL) -> list[str]:
    """Lines of cells as text: columns at least ten (or `least`) wide, three spaces between them, as docker's."""
    widths: dict[int, int] = {}
    for line in lines:
        for column, cell in enumerate(line[:-1]):
            widths[column] = max(widths.get(column, least), len(cell) + _PADDING)
    return [
        "".join(cell.ljust(widths[column]) for column, cell in enumerate(line[:-1])) + (line[-1] if line else "")
        for line in lines
    ]


def print_json(value: Any) -> None:
    """Indented JSON, as `inspect` prints it."""
    print(json.dumps(value, indent=4, ensure_ascii=False))


def print_things(values: Sequence[Any], format: str) -> None:
    """Several values as the `inspect` commands do: indented JSON, JSON on a line, or each by a template."""
    if not format:
        print_json(values)
    elif format == "json":
        print(to_json(values))
    else:
        for value in values:
            print_formatted(value, format)


def print_formatted(value: Any, format: str) -> None:
    """One value by a template, or "json" for one line of JSON."""
    print(to_json(value) if format == "json" else Template(unescape(format)).render(typed(value)))
