"""From a Dockerfile's text to its logical lines: directives, comments, continuations, here-documents.

(Dockerfile reference: Format, Parser directives, Here-documents.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hooper_builder_dockerfile.blanks import BLANKS, split
from hooper_builder_dockerfile.faults import Fault, Location
from hooper_builder_dockerfile.heredocs import Heredoc, Opener, openers, unterminated
from hooper_builder_dockerfile.instructions import Directives

LINE_LIMIT = 1 << 20
"""Characters of a line, and of the lines that a continuation joins."""

_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(\S.*)\Z")
_DIRECTIVES = ("syntax", "escape", "check")
_WITH_HEREDOCS = ("RUN", "COPY", "ADD")


@dataclass(frozen=True)
class LogicalLine:
    location: Location
    text: str
    """Continuations joined, comments gone, outer blanks gone."""
    heredocs: tuple[Heredoc, ...] = ()
    openers: tuple[Opener, ...] = ()
    """Where in `text` the here-documents are opened."""
    comments: tuple[str, ...] = ()
    empty_lines: tuple[int, ...] = ()

    @property
    def keyword(self) -> str:
        """In the case that it has in the file."""
        return split(self.text, 1)[0]

    @property
    def rest(self) -> str:
        return self.text[len(self.keyword) :].strip(BLANKS)


class Lexer:
    """`place` is where to blame a text that is no file of its own; it has no directives."""

    def __init__(self, text: str, file: str, escape: str = "\\", place: Location | None = None) -> None:
        """Reads the directives."""
        self.file, self._place = file, place
        self._raw = text.removeprefix("\ufeff").split("\n")
        self.source = tuple(line.rstrip("\r") for line in self._raw)
        self._next = 0
        self.escape = escape
        self.directives = Directives() if place else self._read_directives()
        self.escape = self.directives.escape or escape

    def location(self, first: int, last: int = 0) -> Location:
        return self._place or Location(self.file, first, last, self.source)

    # --- directives -----------------------------------------------------------------------------------

    def _read_directives(self) -> Directives:
        found: dict[str, str] = {}
        if self.source[0].startswith("#!"):
            self._next = 1
        while self._next < len(self.source):
            line = self.source[self._next].strip(BLANKS)
            directive = _DIRECTIVE.match(line[1:].strip(BLANKS)) if line.startswith("#") else None
            if directive is None or directive[1].lower() not in _DIRECTIVES:
                break
            with self.location(self._next + 1).blamed_parse():
                self._directive(directive[1].lower(), directive[2], found)
            self._next += 1
        return Directives(**found)

    @staticmethod
    def _directive(name: str, value: str, found: dict[str, str]) -> None:
        if name in found:
            raise Fault(f"only one {name} parser directive can be used", "Delete one of them.")
        if name == "escape" and value not in ("\\", "`"):
            raise Fault(
                f"invalid escape token '{value}' does not match ` or \\", "Write `# escape=\\` or # escape=`.", value
            )
        found[name] = value

    # --- lines ----------------------------------------------------------------------------------------

    def lines(self) -> Iterator[LogicalLine]:
        """InvalidArgument for a line that is too long or has a null, and a here-document without its end."""
        comments: list[str] = []
        while self._next < len(self.source):
            line = self._line(self._next).strip(BLANKS)
            if line.startswith("#"):
                comment = line[1:].strip(BLANKS)
                if comment:
                    comments.append(comment)
                else:
                    comments.clear()
                self._next += 1
            elif not line:
                comments.clear()
                self._next += 1
            else:
                if logical := self._logical_line(tuple(comments)):
                    yield logical
                comments.clear()

    def _line(self, index: int) -> str:
        line = self.source[index]
        if len(line) > LINE_LIMIT:
            raise self._too_long(index + 1)
        if "\0" in line:
            with self.location(index + 1).blamed_parse():
                raise Fault("the line has a null byte", "Delete it: a Dockerfile is plain text.")
        return line

    def _too_long(self, number: int) -> Exception:
        limit = f"dockerfile line greater than max allowed size of {LINE_LIMIT} characters"
        return self.location(number).error(
            f"dockerfile parse error on line {number}: {limit}", "Put such text into a file, and COPY it."
        )

    def _logical_line(self, comments: tuple[str, ...]) -> LogicalLine | None:
        first = self._next
        text, empty = self._joined()
        if not text:
            return None
        try:
            opened = self._openers(text)
            heredocs = tuple(self._heredoc(opener) for opener in opened)
        except Fault as fault:
            with self.location(first + 1, first + 1).blamed_parse():
                raise fault
        return LogicalLine(self.location(first + 1, self._next), text, heredocs, opened, comments, empty)

    def _joined(self) -> tuple[str, tuple[int, ...]]:
        """The next physical line and those that continue it, and the numbers of blank ones among these."""
        pieces: list[str] = []
        empty: list[int] = []
        first, size = self._next, 0
        while self._next < len(self.source):
            line = self._line(self._next)
            self._next += 1
            bare = line.strip(BLANKS)
            if bare.startswith("#") and pieces:
                continue
            if not bare:
                empty.append(self._next)
                continue
            kept = self._continued(line)
            pieces.append(line if kept is None else kept)
            size += len(line)
            if size > LINE_LIMIT:
                raise self._too_long(first + 1)
            if kept is None:
                break
        return "".join(pieces).strip(BLANKS), tuple(empty)

    def _continued(self, line: str) -> str | None:
        """A line without the escape that continues it; None if it ends here. Two escapes are a character."""
        bare = line.rstrip("\t ")
        if not bare.endswith(self.escape) or bare.endswith(self.escape * 2):
            return None
        return bare[:-1]

    # --- here-documents -------------------------------------------------------------------------------

    def _openers(self, text: str) -> tuple[Opener, ...]:
        if "<<" not in text:
            return ()
        words = split(text, 2)
        keyword = words[0].upper()
        if keyword == "ONBUILD" and len(words) > 1:
            keyword = words[1].upper()
        return openers(text) if keyword in _WITH_HEREDOCS else ()

    def _heredoc(self, opener: Opener) -> Heredoc:
        content: list[str] = []
        while self._next < len(self.source):
            self._line(self._next)
            line = self._raw[self._next]
            self._next += 1
            if opener.strip_tabs:
                line = line.lstrip("\t")
            if line.rstrip("\r") == opener.name:
                text = "".join(content)
                return Heredoc(opener.name, text, opener.expand, opener.strip_tabs, opener.descriptor)
            content.append(line + "\n")
        raise unterminated(opener.name)
