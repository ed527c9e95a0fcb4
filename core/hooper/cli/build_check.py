"""`hooper build --check`: the doubtful places of a recipe, as BuildKit shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hooper.api.build_events import Warned


def print_check(warnings: Sequence[Warned]) -> int:
    """Prints what was found; the exit code: 1 if that is anything."""
    print("\n".join(check_lines(warnings)))
    return 1 if warnings else 0


def check_lines(warnings: Sequence[Warned]) -> Iterator[str]:
    """How many there are; then each with its rule, the page that explains it, its place and lines."""
    if not warnings:
        yield "Check complete, no warnings found."
        return
    one = len(warnings) == 1
    yield f"Check complete, {len(warnings)} warning{' has' if one else 's have'} been found!"
    for warning in sorted(warnings, key=lambda found: found.origin.first if found.origin else 0):
        yield ""
        yield f"WARNING: {warning.rule}{f' - {warning.url}' if warning.url else ''}"
        yield warning.message
        if warning.origin:
            from hooper.cli.build_plain import excerpt

            yield ""
            yield from excerpt(warning.origin)
