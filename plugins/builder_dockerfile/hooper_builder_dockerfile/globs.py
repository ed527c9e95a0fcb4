"""The patterns of ${x#p}, ${x%p} and ${x/p/r}: "*" is any text, "?" any character, but for the end of a line.

A pattern is matched in time that grows with the length of pattern and text, never with their power, whatever stars it
has: between two stars the first place that fits is as good as any later one.
(Dockerfile reference: Environment replacement. POSIX: Pattern Matching Notation, without brackets.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hooper_builder_dockerfile.faults import Fault

PATTERN_LIMIT = 4096
"""Characters of a pattern."""

_Part = list[str | None]
"""Characters; None is any one."""


@dataclass(frozen=True)
class Glob:
    parts: tuple[_Part, ...]
    """What stands between the stars: one more than there are stars."""

    @classmethod
    def of(cls, pattern: str, escape: str = "\\") -> Glob:
        """Fault for an escape before what needs none, and a pattern that is too long."""
        if len(pattern) > PATTERN_LIMIT:
            raise Fault(f"a pattern is longer than {PATTERN_LIMIT} characters", "Write a shorter one.")
        parts: list[_Part] = [[]]
        position = 0
        while position < len(pattern):
            char = pattern[position]
            position += 1
            if char == "*":
                parts.append([])
            elif char == "?":
                parts[-1].append(None)
            elif char == escape:
                parts[-1].append(_escaped(pattern, position, escape))
                position += 1
            else:
                parts[-1].append(char)
        return cls(tuple(parts))

    def without_prefix(self, text: str, *, longest: bool) -> str:
        """`text` without the shortest or longest beginning that matches; all of it if none does."""
        end = _Matcher(self.parts, text).end(0, longest=longest)
        return text if end is None else text[end:]

    def without_suffix(self, text: str, *, longest: bool) -> str:
        backwards = Glob(tuple(part[::-1] for part in reversed(self.parts)))
        return backwards.without_prefix(text[::-1], longest=longest)[::-1]

    def replaced(self, text: str, replacement: str, *, everywhere: bool, limit: int) -> str:
        """The first match, or each, as long as it can be, replaced. Fault for a result of over `limit` characters."""
        pieces: list[str] = []
        position = size = 0
        for start, end in _Matcher(self.parts, text).matches():
            pieces += [text[position:start], replacement]
            size += start - position + len(replacement)
            if size > limit:
                raise Fault(f"a value grows over {limit} characters", "Replace less.")
            position = end
            if not everywhere:
                break
        return "".join(pieces) + text[position:]


def _escaped(pattern: str, position: int, escape: str) -> str:
    char = pattern[position : position + 1]
    if not char or char not in f"*?/}}{escape}":
        raise Fault(
            f"invalid pattern ({pattern}) in substitution: invalid escape '{escape}{char}'",
            f"Write {escape * 2} for the character itself.",
        )
    return char


class _Matcher:
    def __init__(self, parts: tuple[_Part, ...], text: str) -> None:
        self._text = text
        self._parts = [re.compile("".join("[^\n]" if c is None else re.escape(c) for c in part)) for part in parts]

    def end(self, start: int, *, longest: bool) -> int | None:
        """Where the match that begins at `start` ends."""
        found = self._parts[0].match(self._text, start)
        if found is None:
            return None
        position = found.end()
        last = len(self._parts) - 1
        for index, part in enumerate(self._parts[1:], 1):
            stop = self._line_end(position)
            matched = (
                self._last(part, position, stop) if longest and index == last else part.search(self._text, position)
            )
            if matched is None or matched.start() > stop:
                return None
            position = matched.end()
        return position

    def matches(self) -> Iterator[tuple[int, int]]:
        """Leftmost and longest first. An empty one does not follow another directly."""
        position, before = 0, -1
        while position <= len(self._text):
            first = self._parts[0].search(self._text, position)
            if first is None:
                return
            start = first.start()
            end = self.end(start, longest=True)
            if end is None:
                # What fails here, fails from any later place of this line as well.
                position = self._line_end(start) + 1
                continue
            if end > start or start != before:
                yield start, end
            before = end
            position = end if end > start else start + 1

    def _line_end(self, position: int) -> int:
        found = self._text.find("\n", position)
        return len(self._text) if found < 0 else found

    def _last(self, part: re.Pattern[str], position: int, stop: int) -> re.Match[str] | None:
        """The last place that fits, not beyond the line."""
        if not part.pattern:
            return part.match(self._text, stop)
        found = None
        while (following := part.search(self._text, position)) and following.start() <= stop:
            found = following
            position = following.start() + 1
        return found
