"""Here-documents: what opens one, and what it is. (Dockerfile reference: Here-documents.)"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hooper_builder_dockerfile.blanks import SPACES
from hooper_builder_dockerfile.faults import Fault

_WORD = re.compile(rf"""(?:\\.|'[^']*'|"(?:[^"\\]++|\\.)*+"|[^{SPACES}'"\\]++)++""", re.DOTALL)
_OPENED = re.compile(r"([0-9]*)<<(-?)[\t\r ]*")
_QUOTED = re.compile(r"""\\(?P<escaped>.)|'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]++|\\.)*+)\"""", re.DOTALL)


@dataclass(frozen=True)
class Heredoc:
    name: str
    content: str
    """Every line ends as in the file. Leading tabs are gone if `strip_tabs`."""
    expand: bool
    """The delimiter was not quoted: variables are expanded (of COPY and ADD: `words.expand_document`)."""
    strip_tabs: bool
    descriptor: str
    """What stood before "<<": a number, or "" for the standard input."""


@dataclass(frozen=True)
class Opener:
    """What opens a here-document: characters `start` to `end` of an instruction."""

    start: int
    end: int
    name: str
    expand: bool
    strip_tabs: bool
    descriptor: str


def openers(text: str) -> tuple[Opener, ...]:
    """In the order in which their contents follow. None if a quote is not closed: a shell would not see them."""
    found = []
    position = 0
    for start, end in _words(text):
        if start < position:
            continue
        opener = _opener(text, start, end)
        if opener is not None:
            found.append(opener)
            position = opener.end
    return tuple(found)


def _words(text: str) -> Iterator[tuple[int, int]]:
    """Where words begin and end; nothing at all if a quote is not closed."""
    places = []
    position = 0
    for match in _WORD.finditer(text):
        if text[position : match.start()].strip():
            return
        places.append(match.span())
        position = match.end()
    if text[position:].strip() in ("", "\\"):
        yield from places


def _opener(text: str, start: int, end: int) -> Opener | None:
    opened = _OPENED.match(text, start)
    if opened is None:
        return None
    if opened.end() >= end:
        delimiter = _WORD.match(text, opened.end())
        if delimiter is None:
            return None
        end = delimiter.end()
    raw = text[opened.end() : end]
    name = _unquoted(raw)
    if not name or "<" in raw:
        return None
    expand = not any(found["escaped"] is None for found in _QUOTED.finditer(raw))
    return Opener(start, end, name, expand, bool(opened[2]), opened[1])


def _unquoted(raw: str) -> str:
    def plain(found: re.Match[str]) -> str:
        if found["double"] is not None:
            return re.sub(r'\\(["$\\])', r"\1", found["double"])
        return found["escaped"] or found["single"] or ""

    return _QUOTED.sub(plain, raw)


def unterminated(name: str) -> Fault:
    return Fault(f"unterminated heredoc: no line is {name!r}", f"End it with a line that is {name} alone.", name)
