"""What is wrong with a recipe, where it stands, and how that is shown to a person."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from hooper.api.build_graph import Origin
from hooper.api.errors import InvalidArgument

_BEFORE = 2
"""Lines of an excerpt that stand before the instruction."""
_SHOWN = 6
"""Lines of an instruction that an excerpt has, at most."""
_WIDTH = 120
"""Characters of a line that an excerpt has, at most."""
_WHY = 1000
"""Characters of a cause, which may have a text of the file in it."""


class Fault(Exception):
    """Something wrong in a piece of text, found where its place in the file is not known.

    `word` is the piece to point at; "" points at the whole instruction.
    """

    def __init__(self, why: str, remedy: str = "", word: str = "") -> None:
        super().__init__(why)
        self.why, self.remedy, self.word = why, remedy, word


@dataclass(frozen=True)
class Location:
    """Lines `first` to `last`, from 1, of a file."""

    file: str
    first: int
    last: int = 0
    """0 is the same as `first`."""
    source: Sequence[str] = field(default=(), compare=False, repr=False)
    """All lines of the file."""

    def __str__(self) -> str:
        return f"{self.file}:{self.first}"

    @property
    def line(self) -> int:
        return self.first

    @property
    def lines(self) -> Sequence[str]:
        """The lines themselves, as they are in the file."""
        return self.source[self.first - 1 : max(self.first, self.last)]

    def origin(self) -> Origin:
        return Origin(self.file, self.first, max(self.first, self.last), "\n".join(self.lines))

    def error(self, why: str, remedy: str = "", word: str = "") -> InvalidArgument:
        """Its text has the place, the cause, an excerpt of the file with `word` marked, and the remedy."""
        excerpt = self.excerpt(word)
        why = why if len(why) <= _WHY else f"{why[:_WHY]}…"
        return InvalidArgument(str(self), f"{why}\n{excerpt}" if excerpt else why, remedy)

    @contextmanager
    def blamed(self, prefix: str = "") -> Iterator[None]:
        """Turns a `Fault` within into InvalidArgument with this place."""
        try:
            yield
        except Fault as fault:
            raise self.error(prefix + fault.why, fault.remedy, fault.word) from fault

    def blamed_parse(self) -> AbstractContextManager[None]:
        """As `blamed`, in the words with which Docker begins what it says of a Dockerfile."""
        return self.blamed(f"dockerfile parse error on line {self.first}: ")

    def excerpt(self, word: str = "") -> str:
        """These lines with some before them, their numbers, and marks under `word`; "" without the file."""
        if not self.lines:
            return ""
        marked, column, length = self._find(word)
        start = max(0, self.first - 1 - _BEFORE)
        end = min(max(self.first, self.last), max(self.first - 1 + _SHOWN, marked + 1))
        shown = [index for index in range(start, end) if index < self.first - 1 + _SHOWN or index == marked]
        digits = len(str(end))
        rows = []
        for index in shown:
            cut = max(0, column - _WIDTH // 2) if index == marked else 0
            sign = ">" if index == marked else " "
            rows.append(f"{sign} {index + 1:>{digits}} | {_printable(self.source[index], cut)}".rstrip())
            if index == marked:
                rows.append(f"  {'':>{digits}} | {' ' * (column - cut)}{'^' * min(length, _WIDTH // 2)}")
        return "\n".join(rows)

    def _find(self, word: str) -> tuple[int, int, int]:
        """Index of the line, column and length of what is to be marked."""
        word = word[:_WIDTH]
        if word:
            alone = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
            for index, line in enumerate(self.lines, self.first - 1):
                if found := alone.search(line):
                    return index, found.start(), len(word)
            for index, line in enumerate(self.lines, self.first - 1):
                if (column := line.find(word)) >= 0:
                    return index, column, len(word)
        line = self.source[self.first - 1]
        text = line.strip()
        return self.first - 1, len(line) - len(line.lstrip()), max(1, len(text))


def _printable(line: str, cut: int) -> str:
    """What a terminal shows in one column a character."""
    shown = "".join(char if char.isprintable() else " " for char in line[cut : cut + _WIDTH])
    return f"{shown}…" if len(line) > cut + _WIDTH else shown


def nearest(word: str, known: Sequence[str], cutoff: float = 0.5) -> str:
    """The known word that is most like `word`, "" if none is like it."""
    import difflib

    found = difflib.get_close_matches(word[:100], known, 1, cutoff)
    return found[0] if found else ""


def nearest_or_all(word: str, known: Sequence[str], what: str = "There are") -> str:
    """A remedy: "Did you mean x?", or the list of all."""
    near = nearest(word, known)
    return f"Did you mean {near}?" if near else f"{what}: {', '.join(known)}."
