"""Modes of files as --chmod has them: octal, or symbolic as in chmod(1) (POSIX.1-2017, chmod)."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable

from hooper.api.errors import InvalidArgument

Change = Callable[[int], int]
"""From what stat(2) says of a file (its kind too) to the mode that it gets."""

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_SPECIAL = {"u": stat.S_ISUID, "g": stat.S_ISGID, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}


def parse_mode(text: str) -> Change:
    """How a mode is changed. InvalidArgument for what is no mode. Without "u", "g" or "o" all three are meant."""
    if re.fullmatch(r"[0-7]{1,5}", text) and int(text, 8) <= 0o7777:
        mode = int(text, 8)
        return lambda _: mode
    clauses = text.split(",")
    if text.isdigit() or not all(_CLAUSE.fullmatch(clause) for clause in clauses):
        raise InvalidArgument(
            f"invalid chmod parameter: '{text}'", "it is neither octal, up to 07777, nor symbolic", "Try 0644 or u=rwX."
        )
    actions = [
        (who or "ugo", operator, rights)
        for who, rest in (_parted(clause) for clause in clauses)
        for operator, rights in _ACTION.findall(rest)
    ]

    def change(mode: int) -> int:
        for who, operator, rights in actions:
            mode = _changed(mode, who.replace("a", "ugo"), operator, rights)
        return stat.S_IMODE(mode)

    return change


def _parted(clause: str) -> tuple[str, str]:
    found = _CLAUSE.fullmatch(clause)
    assert found is not None
    return found[1], found[2]


def _changed(mode: int, who: str, operator: str, rights: str) -> int:
    given = affected = 0
    for each in dict.fromkeys(who):
        given |= _granted(mode, each, rights)
        affected |= 7 << _SHIFTS[each] | _SPECIAL[each]
    if len(set(who)) == 3:
        affected |= stat.S_ISVTX
        given |= stat.S_ISVTX if "t" in rights else 0
    if operator == "+":
        return mode | given
    if operator == "-":
        return mode & ~given
    if stat.S_ISDIR(mode) and "s" not in rights:
        affected &= ~(stat.S_ISUID | stat.S_ISGID)  # as chmod(1): only a "s" takes these from a directory
    return mode & ~affected | given


def _granted(mode: int, who: str, rights: str) -> int:
    shift = _SHIFTS[who]
    if rights in _SHIFTS:
        return (mode >> _SHIFTS[rights] & 7) << shift
    bits = sum(_BITS[right] for right in set(rights) & set(_BITS))
    if "X" in rights and (stat.S_ISDIR(mode) or mode & 0o111):
        bits |= 1
    return bits << shift | (_SPECIAL[who] if "s" in rights else 0)
