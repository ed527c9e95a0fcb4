"""Flags of an instruction: what each allows, and what is wrong with others. (Dockerfile reference.)"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from hooper_builder_dockerfile.blanks import BLANKS, SPACES
from hooper_builder_dockerfile.faults import Fault, nearest

_ONE, _MANY, _BOOLEAN = "one value", "a value each time", "true or false"

KNOWN: Mapping[str, Mapping[str, str]] = {
    "FROM": {"platform": _ONE},
    "RUN": {"mount": _MANY, "network": _ONE, "security": _ONE},
    "COPY": {
        "from": _ONE, "chown": _ONE, "chmod": _ONE, "link": _BOOLEAN, "parents": _BOOLEAN, "exclude": _MANY,
    },
    "ADD": {
        "chown": _ONE, "chmod": _ONE, "link": _BOOLEAN, "checksum": _ONE, "keep-git-dir": _BOOLEAN,
        "unpack": _BOOLEAN, "exclude": _MANY,
    },
    "HEALTHCHECK": {
        "interval": _ONE, "timeout": _ONE, "start-period": _ONE, "start-interval": _ONE, "retries": _ONE,
    },
}  # fmt: skip

_ELSEWHERE: Mapping[tuple[str, str], str] = {
    ("RUN", "device"): "Delete the flag: commands of a build are given no devices.",
    ("ADD", "from"): "COPY --from copies from a stage or an image.",
    ("ADD", "parents"): "COPY has --parents.",
    ("COPY", "checksum"): "ADD --checksum verifies what is fetched.",
    ("COPY", "unpack"): "ADD unpacks archives.",
    ("COPY", "keep-git-dir"): "ADD fetches git repositories.",
}


class Flags:
    """The flags that an instruction was given."""

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}

    def add(self, name: str, value: str) -> None:
        self._values.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def one(self, name: str) -> str:
        """Its value, "" if it was not given."""
        return self._values.get(name, [""])[-1]

    def many(self, name: str) -> tuple[str, ...]:
        return tuple(self._values.get(name, ()))

    def boolean(self, name: str) -> bool | None:
        """None if it was not given."""
        return self._values[name][-1] == "true" if name in self._values else None


def take_flags(keyword: str, text: str, escape: str) -> tuple[Flags, str]:
    """The flags at the begin of an instruction's text, and the text without them.

    Quotes and escapes in a flag are removed. Raises Fault for an unknown, doubled or incomplete one.
    """
    flags = Flags()
    while text.startswith("--"):
        found = _word(escape).match(text)
        word = found[0] if found else text
        text = text[len(word) :].lstrip(BLANKS)
        if word == "--":
            break
        _add(flags, keyword, _plain(word, escape))
    return flags, text


@cache
def _word(escape: str) -> re.Pattern[str]:
    """A word; an open quote goes to the end."""
    mark = re.escape(escape)
    quoted = "|".join(rf"{quote}(?:[^{quote}{mark}]++|{mark}.)*+{quote}?" for quote in "'\"")
    return re.compile(rf"""(?:{quoted}|{mark}.|[^{SPACES}'"{mark}]++|{mark})++""", re.DOTALL)


def _plain(word: str, escape: str) -> str:
    """Without quotes and escapes."""
    if not any(char in word for char in f"'\"{escape}"):
        return word
    plain: list[str] = []
    quote = ""
    characters = iter(word)
    for char in characters:
        if char == escape:
            plain.append(next(characters, ""))
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        else:
            plain.append(char)
    return "".join(plain)


def _add(flags: Flags, keyword: str, word: str) -> None:
    name, equals, value = word[2:].partition("=")
    flag = f"--{name}"
    kind = KNOWN.get(keyword, {}).get(name)
    if kind is None:
        raise Fault(f"unknown flag: {flag}", _remedy(keyword, name), flag)
    if name in flags and kind != _MANY:
        raise Fault(f"duplicate flag specified: {flag}", "Give it once.", flag)
    if kind == _BOOLEAN and not equals:
        value = "true"
    elif not equals or (kind == _BOOLEAN and not value):
        raise Fault(f"missing a value on flag: {flag}", f"Write {flag}=VALUE.", flag)
    elif kind == _BOOLEAN and (value := value.lower()) not in ("true", "false"):
        raise Fault(
            f"expecting boolean value for flag {flag}, not: {value}",
            f"Write {flag}, or {flag}=false.",
            f"{flag}={value}",
        )
    flags.add(name, value)


def _remedy(keyword: str, name: str) -> str:
    if remedy := _ELSEWHERE.get((keyword, name)):
        return remedy
    known = tuple(KNOWN.get(keyword, ()))
    if not known:
        return f"{keyword} has no flags."
    near = nearest(name, known)
    return f"Did you mean --{near}?" if near else f"{keyword} has {', '.join(f'--{flag}' for flag in known)}."
