"""Patterns of file names: Go's filepath.Match with "**", and the rules of .dockerignore.

(Go: path/filepath, Match. Dockerfile reference: ".dockerignore file". Where that leaves order and
parents open, the rules are those of the docker client, so that a context is the same whoever filters it.)
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hooper_builder_dockerfile.faults import Fault


def has_wildcards(path: str) -> bool:
    return any(char in path for char in "*?[\\")


def unescaped(path: str) -> str:
    """A pattern without wildcards as the name that it stands for."""
    return re.sub(r"\\(.)", r"\1", path)


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern for `fullmatch` of a relative path: * and ? stop at "/", ** does not. Fault if it is bad."""
    found, position = "", 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*" and pattern[position : position + 1] == "*":
            position += 1
            if pattern[position : position + 1] == "/":
                position += 1
            found += ".*" if position == len(pattern) else "(?:.*/)?"
        elif char == "*":
            found += "[^/]*"
        elif char == "?":
            found += "[^/]"
        elif char == "[":
            text, position = _character_class(pattern, position)
            found += text
        elif char == "\\":
            if position == len(pattern):
                raise _bad(pattern)
            found += re.escape(pattern[position])
            position += 1
        else:
            found += re.escape(char)
    return re.compile(found, re.DOTALL)


def _character_class(pattern: str, position: int) -> tuple[str, int]:
    """The class that begins after "[", as a regular expression, and where it ends."""
    negated = pattern[position : position + 1] == "^"
    position += negated
    ranges = ""
    while not (ranges and pattern[position : position + 1] == "]"):
        low, position = _class_character(pattern, position)
        high = low
        if pattern[position : position + 1] == "-":
            high, position = _class_character(pattern, position + 1)
        if low <= high:
            ranges += f"{re.escape(low)}-{re.escape(high)}"
        else:
            ranges = ranges or "\0-\0"
    return f"[{'^' if negated else ''}{ranges}]", position + 1


def _class_character(pattern: str, position: int) -> tuple[str, int]:
    char = pattern[position : position + 1]
    if char == "\\":
        position += 1
        char = pattern[position : position + 1]
    elif char in ("-", "]"):
        char = ""
    if not char:
        raise _bad(pattern)
    return char, position + 1


def _bad(pattern: str) -> Fault:
    return Fault(
        f"syntax error in pattern {pattern!r}", "Close each [ and write \\ before a character meant literally."
    )


@dataclass(frozen=True)
class _Rule:
    text: str
    exception: bool
    pattern: re.Pattern[str]


class IgnoreFile:
    """The rules of a .dockerignore. `file` names it in errors, which are Faults."""

    def __init__(self, text: str, file: str = ".dockerignore") -> None:
        self._rules = tuple(_rules(text, file))
        self._exceptions = tuple(rule.text for rule in self._rules if rule.exception)
        self._matched: dict[str, tuple[bool, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._rules)

    def excludes(self, path: str) -> bool:
        """Whether the rules leave out a path of the context, by itself or with a parent.

        The last rule that matches decides. A directory that is left out is not looked into, unless an
        exception begins with its path.
        """
        excluded = False
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            current = "/".join(parts[:depth])
            excluded = self._last_matching(current)
            if excluded and depth < len(parts) and not self._may_hold_exceptions(current):
                return True
        return excluded

    def _may_hold_exceptions(self, directory: str) -> bool:
        return any(f"{text}/".startswith(f"{directory}/") for text in self._exceptions)

    def _last_matching(self, path: str) -> bool:
        excluded = False
        for rule, matched in zip(self._rules, self._matches(path), strict=True):
            if matched:
                excluded = not rule.exception
        return excluded

    def _matches(self, path: str) -> tuple[bool, ...]:
        """Which rules match the path or, when it was looked at, its parent.

        A rule that would change nothing is not tried, and so is not inherited either: the client's way.
        """
        if path in self._matched:
            return self._matched[path]
        parent = posixpath.dirname(path)
        inherited = self._matches(parent) if parent else (False,) * len(self._rules)
        excluded, matches = False, []
        for rule, from_parent in zip(self._rules, inherited, strict=True):
            matched = from_parent or (rule.exception == excluded and bool(rule.pattern.fullmatch(path)))
            if matched:
                excluded = not rule.exception
            matches.append(matched)
        self._matched[path] = tuple(matches)
        return self._matched[path]


def _rules(text: str, file: str) -> Iterator[_Rule]:
    for number, line in enumerate(_lines(text), 1):
        bare = line.strip()
        if not bare or line.startswith("#"):
            continue
        exception = bare.startswith("!")
        name = bare[1:].strip() if exception else bare
        if not name:
            raise Fault(f'{file}:{number}: illegal exclusion pattern: "!"', "Write the pattern after the !.")
        clean = posixpath.normpath(name).lstrip("/") or "/"
        try:
            yield _Rule(clean, exception, compiled(clean))
        except Fault as fault:
            raise Fault(f"{file}:{number}: {fault.why}", fault.remedy) from fault


def _lines(text: str) -> Iterable[str]:
    return text.removeprefix("\ufeff").split("\n")
