"""The small shell of the Dockerfile language: words, quotes, escapes and variables.

(Dockerfile reference: Environment replacement. Facts that it leaves open are the classic builder's.)
"""

from __future__ import annotations

import re
from collections.abc import Callable

from hooper_builder_dockerfile.faults import Fault

Lookup = Callable[[str], str | None]
"""The value of a variable, None if it is unset."""

_BLANKS = " \t\v\f\r\n"
_NAME = re.compile(r"[^\W\d]\w*|\d+|[@*#?!$-]")


def split_words(text: str, escape: str) -> list[str]:
    """Words between blanks; quotes and escapes keep blanks together and stay in the word."""
    words: list[str] = []
    word, quote = "", ""
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == escape and quote != "'":
            if position < len(text):
                word += char + text[position]
            position += 1
            continue
        if not quote and char in _BLANKS:
            if word:
                words.append(word)
            word = ""
            continue
        if char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        word += char
    if word:
        words.append(word)
    return words


def unquote(word: str) -> str:
    """A word without its quotes; nothing in it is expanded."""
    return re.sub(r"""'([^']*)'|"([^"]*)\"""", lambda found: found[1] if found[1] is not None else found[2], word)


def expand(text: str, lookup: Lookup, escape: str = "\\") -> str:
    """One word, whatever it holds: quotes and escapes removed, variables replaced.

    Raises Fault for an unclosed quote or brace, a bad substitution and `${x?message}`.
    """
    return _Expander(text, lookup, escape).whole()


def expand_words(text: str, lookup: Lookup, escape: str = "\\") -> list[str]:
    """As `expand`, and what unquoted variables hold is split at blanks."""
    expander = _Expander(text, lookup, escape)
    expander.whole()
    return expander.words()


class _Expander:
    def __init__(self, text: str, lookup: Lookup, escape: str) -> None:
        self._text, self._lookup, self._escape = text, lookup, escape
        self._position = 0
        self._pieces: list[tuple[str, bool]] = []
        """Text, and whether blanks in it separate words."""

    def whole(self) -> str:
        self._until("")
        return "".join(piece for piece, _ in self._pieces)

    def words(self) -> list[str]:
        words: list[str] = []
        word: str | None = None
        for piece, splits in self._pieces:
            if not splits:
                word = (word or "") + piece
                continue
            for char in piece:
                if char not in _BLANKS:
                    word = (word or "") + char
                elif word is not None:
                    words.append(word)
                    word = None
        return words if word is None else [*words, word]

    def _take(self) -> str:
        char = self._text[self._position : self._position + 1]
        self._position += len(char)
        return char

    def _peek(self) -> str:
        return self._text[self._position : self._position + 1]

    def _add(self, text: str, splits: bool) -> None:
        if text or not splits:
            self._pieces.append((text, splits))

    def _until(self, stop: str) -> None:
        while self._position < len(self._text):
            char = self._take()
            if stop and char == stop:
                return
            if char == "'":
                self._add(self._single_quoted(), False)
            elif char == '"':
                self._add(self._double_quoted(), False)
            elif char == "$":
                self._add(self._variable(), True)
            elif char == self._escape:
                self._add(self._take(), False)
            else:
                self._add(char, True)
        if stop:
            raise Fault(f'failed to process "{self._text}": missing "{stop}"', f'Close it with "{stop}".')

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._position)
        if end < 0:
            raise self._unclosed("single")
        quoted = self._text[self._position : end]
        self._position = end + 1
        return quoted

    def _double_quoted(self) -> str:
        quoted = ""
        while char := self._take():
            if char == '"':
                return quoted
            if char == "$":
                quoted += self._variable()
            elif char == self._escape and self._peek() in ('"', "$", self._escape):
                quoted += self._take()
            else:
                quoted += char
        raise self._unclosed("double")

    def _unclosed(self, kind: str) -> Fault:
        return Fault(
            f'failed to process "{self._text}": unexpected end of statement while looking for matching {kind}-quote',
            f"Close the quote, or put {self._escape} before it.",
        )

    def _name(self) -> str:
        found = _NAME.match(self._text, self._position)
        if not found:
            return ""
        self._position = found.end()
        return found[0]

    def _variable(self) -> str:
        """After a "$"."""
        if self._peek() != "{":
            name = self._name()
            return (self._lookup(name) or "") if name else "$"
        self._take()
        name = self._name()
        if not name:
            raise self._bad("bad substitution")
        value = self._lookup(name)
        operator = self._take()
        if operator == "}":
            return value or ""
        if operator == "":
            raise self._bad('missing "}" or ":" in substitution')
        if operator == ":":
            operator = self._take()
            if operator not in ("-", "+", "?"):
                raise self._bad(f"unsupported modifier ({operator})")
            value = value or None
        elif operator == "/":
            return self._replaced(value or "")
        return self._modified(name, operator, value)

    def _bad(self, why: str) -> Fault:
        return Fault(
            f'failed to process "{self._text}": {why}',
            "Substitutions are ${x}, ${x:-y}, ${x-y}, ${x:+y}, ${x+y}, ${x:?y}, ${x?y}, ${x#y}, ${x%y} and ${x/y/z}.",
        )

    def _inner(self, stop: str) -> str:
        """The expanded word of a substitution, up to `stop`."""
        outer, self._pieces = self._pieces, []
        self._until(stop)
        word = "".join(piece for piece, _ in self._pieces)
        self._pieces = outer
        return word

    def _modified(self, name: str, operator: str, value: str | None) -> str:
        if operator in ("#", "%"):
            longest = self._peek() == operator
            if longest:
                self._take()
            return _trimmed(value or "", self._inner("}"), operator, longest)
        if operator not in ("-", "+", "?"):
            raise self._bad(f"unsupported modifier ({operator})")
        word = self._inner("}")
        if operator == "+":
            return word if value is not None else ""
        if value is None and operator == "?":
            raise Fault(
                f'failed to process "{self._text}": {name}: {word or "not allowed to be unset"}',
                f"Set {name} with ENV, or with ARG and --build-arg.",
            )
        return word if value is None else value

    def _replaced(self, value: str) -> str:
        everywhere = self._peek() == "/"
        if everywhere:
            self._take()
        pattern = _glob(self._inner("/"))
        replacement = self._inner("}")
        return re.sub(pattern, lambda _: replacement, value, count=0 if everywhere else 1, flags=re.DOTALL)


def _glob(pattern: str) -> str:
    """A regular expression for * and ?; all else is literal."""
    return "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)


def _trimmed(value: str, pattern: str, operator: str, longest: bool) -> str:
    """${x#p}, ${x##p}, ${x%p} and ${x%%p}: value without the shortest or longest match at its begin or end."""
    whole = re.compile(_glob(pattern), re.DOTALL)
    cuts = range(len(value) + 1)
    for cut in reversed(cuts) if longest == (operator == "#") else cuts:
        part = value[:cut] if operator == "#" else value[cut:]
        if whole.fullmatch(part):
            return value[cut:] if operator == "#" else value[:cut]
    return value
