"""From a Dockerfile's text to its logical lines: directives, comments, continuations, heredocs.

(Dockerfile reference: Format, Parser directives, Here-documents.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hooper_builder_dockerfile.faults import Fault, Location
from hooper_builder_dockerfile.words import split_words, unquote

_DIRECTIVE = re.compile(r"#[ \t]*([A-Za-z][A-Za-z0-9]*)[ \t]*=[ \t]*(.+?)[ \t]*\Z")
_DIRECTIVES = ("escape", "syntax", "check")
_HEREDOC = re.compile(r"(\d*)<<(-?)([^<]+)\Z")
_WITH_HEREDOCS = ("RUN", "COPY", "ADD")


@dataclass(frozen=True)
class Heredoc:
    name: str
    content: str
    expand: bool
    """The delimiter was not quoted: variables are expanded."""
    strip_tabs: bool
    descriptor: str
    """What stood before "<<": a number, or "" for the standard input."""


@dataclass(frozen=True)
class LogicalLine:
    location: Location
    text: str
    """Continuations joined, comments gone, outer blanks gone."""
    heredocs: tuple[Heredoc, ...] = ()

    @property
    def keyword(self) -> str:
        return self.text.split(None, 1)[0].upper()

    @property
    def rest(self) -> str:
        parts = self.text.split(None, 1)
        return parts[1] if len(parts) > 1 else ""


class Lexer:
    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
        self._next = 0
        self.escape = "\\"
        self._read_directives()
        mark = re.escape(self.escape)
        self._continued = re.compile(rf"(?:(?<!{mark})|^){mark}[ \t]*\Z")

    def _location(self, index: int) -> Location:
        return Location(self._file, index + 1)

    def _read_directives(self) -> None:
        seen: set[str] = set()
        for index, line in enumerate(self._lines):
            found = _DIRECTIVE.match(line.strip())
            name = found[1].lower() if found else ""
            if found is None or name not in _DIRECTIVES:
                return
            if name in seen:
                raise self._location(index).error(
                    f"only one {name} parser directive can be used", "Delete one of them."
                )
            seen.add(name)
            if name == "escape":
                self.escape = self._escape(found[2], index)

    def _escape(self, value: str, index: int) -> str:
        if value not in ("\\", "`"):
            raise self._location(index).error(
                f"invalid escape {value!r}: it does not match ` or \\", "Write `# escape=\\` or # escape=`."
            )
        return value

    def lines(self) -> Iterator[LogicalLine]:
        while self._next < len(self._lines):
            first = self._next
            text = self._joined()
            if text:
                location = self._location(first)
                with location.blamed():
                    yield LogicalLine(location, text, self._heredocs(text))

    def _joined(self) -> str:
        """The next physical line and those that continue it; "" for a comment or blank line."""
        joined, started = "", False
        while self._next < len(self._lines):
            line = self._lines[self._next]
            self._next += 1
            bare = line.strip()
            if not bare or bare.startswith("#"):
                if started:
                    continue
                return ""
            continued = self._continued.search(line)
            joined += line[: continued.start()] if continued else line
            if not continued:
                break
            started = True
        return joined.strip()

    def _heredocs(self, text: str) -> tuple[Heredoc, ...]:
        words = text.split(None, 2)
        keyword = words[0].upper()
        if keyword == "ONBUILD" and len(words) > 1:
            keyword = words[1].upper()
        if "<<" not in text or keyword not in _WITH_HEREDOCS:
            return ()
        opened = [found for word in split_words(text, self.escape) if (found := _HEREDOC.match(word))]
        return tuple(self._heredoc(found) for found in opened)

    def _heredoc(self, opened: re.Match[str]) -> Heredoc:
        name = unquote(opened[3])
        strip_tabs = opened[2] == "-"
        content: list[str] = []
        while self._next < len(self._lines):
            line = self._lines[self._next]
            self._next += 1
            if strip_tabs:
                line = line.lstrip("\t")
            if line == name:
                return Heredoc(name, "".join(content), name == opened[3], strip_tabs, opened[1])
            content.append(line + "\n")
        raise Fault(f"unterminated heredoc: no line is {name!r}", f"End it with a line that is {name} alone.")
