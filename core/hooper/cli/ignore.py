"""Which files of a build context are sent: the patterns of .dockerignore.

The syntax (Dockerfile reference, "dockerignore files"): a pattern a line, the last that matches
decides, `!` takes a file back in, `**` stands for any number of directories.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from posixpath import normpath


class Ignore:
    """Parsed patterns; paths are relative to the context, with slashes."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for line in lines:
            text = line.strip()
            if not text or line.startswith("#"):
                continue
            excluded = not text.startswith("!")
            pattern = normpath(text.removeprefix("!").strip()).lstrip("/")
            if pattern and pattern != ".":
                self._rules.append((excluded, re.compile(_expression(pattern))))
        self._exceptions = any(not excluded for excluded, _ in self._rules)

    def excludes(self, path: str) -> bool:
        """Whether the file `path` is left out; a pattern that matches a directory holds for all below it."""
        result = False
        for excluded, pattern in self._rules:
            if pattern.match(path):
                result = excluded
        return result

    def prunes(self, directory: str) -> bool:
        """Whether nothing below `directory` can be sent, so that it need not be read."""
        return not self._exceptions and self.excludes(directory)


def _expression(pattern: str) -> str:
    """A regular expression for the pattern and everything below what it matches."""
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        rest = pattern[at:]
        if rest.startswith("**/"):
            parts.append("(?:.*/)?")
            at += 3
        elif rest.startswith("**"):
            parts.append(".*")
            at += 2
        elif rest[0] == "[" and "]" in rest[1:]:
            end = rest.index("]", 1)
            parts.append(rest[: end + 1])
            at += end + 1
        elif rest[0] == "\\" and len(rest) > 1:
            parts.append(re.escape(rest[1]))
            at += 2
        else:
            parts.append({"*": "[^/]*", "?": "[^/]"}.get(rest[0], re.escape(rest[0])))
            at += 1
    return "".join(parts) + r"(?:/.*)?\Z"
