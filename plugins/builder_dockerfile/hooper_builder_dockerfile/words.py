"""The small shell of the Dockerfile language: words, quotes, escapes and variables.

(Dockerfile reference: Environment replacement. What that leaves open is as BuildKit has it.)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from hooper_builder_dockerfile.blanks import SPACES
from hooper_builder_dockerfile.faults import Fault
from hooper_builder_dockerfile.globs import Glob

Lookup = Callable[[str], str | None]
"""The value of a variable, None if it is unset."""

VALUE_LIMIT = 1 << 20
"""Characters that variables may add to a text."""
DEPTH_LIMIT = 100
"""Substitutions within one another: ${a:-${b:-…}}."""

_NAME = re.compile(r"[^\W\d]\w*|\d+|[@*#?!$-]")
_OPERATORS = "-+?#%/"


@dataclass
class Expansion:
    """What became of a text, and which variables it named, in order."""

    text: str = ""
    words: list[str] = field(default_factory=list)
    """The text, split at the blanks that are neither quoted nor escaped."""
    used: dict[str, None] = field(default_factory=dict)
    """Those that have a value."""
    unset: dict[str, None] = field(default_factory=dict)


def split_words(text: str, escape: str) -> list[str]:
    """Words between blanks; quotes and escapes keep blanks together and stay in the word."""
    words: list[str] = []
    pieces: list[str] = []
    for found in _pieces(escape).finditer(text):
        if not found["blank"]:
            pieces.append(found["piece"] or "")
        elif pieces:
            words.append("".join(pieces))
            pieces = []
    if word := "".join(pieces):
        words.append(word)
    return words


@cache
def _pieces(escape: str) -> re.Pattern[str]:
    mark = re.escape(escape)
    double = rf'"(?:[^"{mark}]++|{mark}.)*+"?'
    piece = rf"""{mark}.|'[^']*+'?|{double}|[^{SPACES}'"{mark}]++"""
    return re.compile(rf"(?P<blank>[{SPACES}]++)|(?P<piece>{piece})|{mark}", re.DOTALL)


def expand(text: str, lookup: Lookup, escape: str = "\\") -> str:
    """One word, whatever it holds: quotes and escapes removed, variables replaced.

    Raises Fault for an unclosed quote or brace, a bad substitution, `${x?message}`, and what goes over a limit.
    """
    return expansion(text, lookup, escape).text


def expand_words(text: str, lookup: Lookup, escape: str = "\\") -> list[str]:
    """As `expand`, split at blanks: also at those of unquoted variables."""
    return expansion(text, lookup, escape).words


def expand_document(text: str, lookup: Lookup) -> str:
    """A here-document of COPY or ADD: quotes stay, escapes (always a backslash) are removed, variables replaced."""
    return document_expansion(text, lookup).text


def expansion(text: str, lookup: Lookup, escape: str = "\\") -> Expansion:
    """As `expand` and `expand_words`, with the variables that were named."""
    return _Expander(text, lookup, escape, quotes=True).expansion()


def document_expansion(text: str, lookup: Lookup) -> Expansion:
    """As `expand_document`, with the variables that were named; without words."""
    return _Expander(text, lookup, "\\", quotes=False).expansion()


class _Expander:
    def __init__(self, text: str, lookup: Lookup, escape: str, *, quotes: bool) -> None:
        self._text, self._lookup, self._escape, self._quotes = text, lookup, escape, quotes
        self._plain = _plain(escape)
        self._position = self._depth = self._added = 0
        self._found = Expansion()

    def expansion(self) -> Expansion:
        pieces = self._until("", raw=False)
        self._found.text = "".join(piece for piece, _ in pieces)
        if self._quotes:
            self._found.words = _words(pieces)
        return self._found

    # --- pieces ---------------------------------------------------------------------------------------

    def _until(self, stop: str, *, raw: bool) -> list[tuple[str, bool]]:
        """What stands before `stop`, in pieces of text, and whether the blanks in it separate words.

        `raw` leaves the escapes for a pattern.
        """
        pieces: list[tuple[str, bool]] = []
        while self._position < len(self._text):
            char = self._text[self._position]
            if char == stop:
                self._position += 1
                return pieces
            pieces.append(self._piece(char, raw))
        if stop:
            raise self._bad(f"syntax error: missing '{stop}'")
        return pieces

    def _piece(self, char: str, raw: bool) -> tuple[str, bool]:
        if self._quotes and char == "'":
            return self._single_quoted(), False
        if self._quotes and char == '"':
            return self._double_quoted(raw), False
        if char == "$":
            return self._counted(), True
        if char == self._escape:
            self._position += 1
            return (char if raw else "") + self._take(), False
        return self._run(), True

    def _run(self) -> str:
        """Characters that mean themselves; one at least."""
        found = self._plain.match(self._text, self._position)
        if found is None:
            return self._take()
        self._position = found.end()
        return found[0]

    def _take(self) -> str:
        char = self._text[self._position : self._position + 1]
        self._position += len(char)
        return char

    def _peek(self) -> str:
        return self._text[self._position : self._position + 1]

    # --- quotes ---------------------------------------------------------------------------------------

    def _single_quoted(self) -> str:
        start = self._position + 1
        end = self._text.find("'", start)
        if end < 0:
            raise self._unclosed("single")
        self._position = end + 1
        return self._text[start:end]

    def _double_quoted(self, raw: bool) -> str:
        self._position += 1
        pieces: list[str] = []
        while char := self._peek():
            if char == '"':
                self._position += 1
                return "".join(pieces)
            if char == "$":
                pieces.append(self._counted())
            elif char == self._escape:
                self._position += 1
                escaped = self._take() if self._peek() in ('"', "$", self._escape) else char
                pieces.append(char + escaped if raw else escaped)
            else:
                pieces.append(self._run())
        raise self._unclosed("double")

    # --- variables ------------------------------------------------------------------------------------

    def _name(self) -> str:
        found = _NAME.match(self._text, self._position)
        if not found:
            return ""
        self._position = found.end()
        return found[0]

    def _value(self, name: str) -> str | None:
        value = self._lookup(name)
        (self._found.unset if value is None else self._found.used)[name] = None
        return value

    def _counted(self) -> str:
        """What stands for the "$" here and its name. Fault if all these together grow too long."""
        self._position += 1
        value = self._variable()
        self._added += len(value)
        if self._added > VALUE_LIMIT:
            raise self._too_long()
        return value

    def _variable(self) -> str:
        """After a "$"."""
        if self._peek() != "{":
            name = self._name()
            return (self._value(name) or "") if name else "$"
        start = self._position - 1
        self._position += 1
        if not self._peek():
            raise self._bad("syntax error: missing '}'")
        name = self._name()
        if not name:
            raise self._bad("syntax error: bad substitution", self._text[start : start + 12])
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise self._bad(f"substitutions are nested more than {DEPTH_LIMIT} deep")
        value = self._substituted(name)
        self._depth -= 1
        return value

    def _substituted(self, name: str) -> str:
        operator = self._take()
        if operator == "}":
            return self._value(name) or ""
        if operator == "/":
            return self._replaced(name)
        colon = operator == ":"
        if colon:
            operator = self._take()
        shown = f":{operator}" if colon else operator
        if operator and (operator not in _OPERATORS or (colon and operator in "#%/")):
            raise self._bad(f"unsupported modifier ({shown}) in substitution", f"${{{name}{shown}")
        word = self._inner("}", raw=operator in ("#", "%"))
        value = self._value(name)
        if operator in ("#", "%"):
            return self._trimmed(value or "", word, operator)
        there = bool(value) if colon else value is not None
        if operator == "+":
            return word if there else ""
        if there:
            return value or ""
        if operator == "?":
            missing = "empty" if value is not None else "unset"
            raise Fault(
                f"{self._failed()}: {name}: {word or f'is not allowed to be {missing}'}",
                f"Set {name} with ENV, or with ARG and --build-arg.",
                name,
            )
        return word

    def _inner(self, stop: str, *, raw: bool) -> str:
        """The expanded word of a substitution, up to `stop`."""
        return "".join(piece for piece, _ in self._until(stop, raw=raw))

    def _trimmed(self, value: str, word: str, operator: str) -> str:
        """${x#p}, ${x##p}, ${x%p} and ${x%%p}."""
        longest = word.startswith(operator)
        with self._named():
            glob = Glob.of(word[longest:], self._escape)
        if operator == "#":
            return glob.without_prefix(value, longest=longest)
        return glob.without_suffix(value, longest=longest)

    def _replaced(self, name: str) -> str:
        """${x/p/r} and ${x//p/r}."""
        everywhere = self._peek() == "/"
        self._position += everywhere
        pattern = self._inner("/", raw=True)
        replacement = self._inner("}", raw=True)
        value = self._value(name) or ""
        with self._named():
            glob = Glob.of(pattern, self._escape)
            return glob.replaced(value, replacement, everywhere=everywhere, limit=VALUE_LIMIT)

    # --- faults ---------------------------------------------------------------------------------------

    def _failed(self) -> str:
        text = self._text if len(self._text) <= 200 else f"{self._text[:200]}…"
        return f'failed to process "{text}"'

    def _named(self) -> _Named:
        return _Named(self._failed())

    def _bad(self, why: str, word: str = "") -> Fault:
        return Fault(
            f"{self._failed()}: {why}",
            "Substitutions are ${x}, ${x:-y}, ${x-y}, ${x:+y}, ${x+y}, ${x:?y}, ${x?y}, ${x#p}, ${x##p}, ${x%p}, "
            "${x%%p}, ${x/p/r} and ${x//p/r}.",
            word,
        )

    def _unclosed(self, kind: str) -> Fault:
        return Fault(
            f"{self._failed()}: unexpected end of statement while looking for matching {kind}-quote",
            f"Close the quote, or put {self._escape} before it.",
            self._text[:60],
        )

    def _too_long(self) -> Fault:
        return Fault(
            f"{self._failed()}: its variables hold more than {VALUE_LIMIT} characters", "Put such text into a file."
        )


class _Named:
    """Says in a Fault within which text it was found."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Fault):
            raise Fault(f"{self._what}: {error.why}", error.remedy, error.word) from error


@cache
def _plain(escape: str) -> re.Pattern[str]:
    return re.compile(rf"""[^$'"/}}{re.escape(escape)}]++""")


def _words(pieces: list[tuple[str, bool]]) -> list[str]:
    words: list[str] = []
    word: list[str] = []
    for piece, splits in pieces:
        if not splits:
            word.append(piece)
            continue
        first, *more = re.split(f"[{SPACES}]+", piece)
        word.append(first)
        for part in more:
            words.append("".join(word))
            word = [part]
    words.append("".join(word))
    return [word for word in words if word]
