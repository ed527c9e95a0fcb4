"""An instruction's text while it is being understood: flags taken off, JSON or words."""

from __future__ import annotations

import json
from typing import Any

from hooper_builder_dockerfile.blanks import split
from hooper_builder_dockerfile.faults import Fault
from hooper_builder_dockerfile.flags import take_flags
from hooper_builder_dockerfile.instructions import Writing
from hooper_builder_dockerfile.lexer import LogicalLine


class Line:
    """`rest` is what follows the keyword and the flags."""

    def __init__(self, line: LogicalLine, escape: str) -> None:
        self.location, self.escape, self.heredocs = line.location, escape, line.heredocs
        self.keyword = line.keyword.upper()
        self.text = line.rest
        self.writing = Writing(keyword=line.keyword, comments=line.comments, empty_lines=line.empty_lines)
        self.flags, self.rest = take_flags(self.keyword, self.text, escape)
        shift = len(line.text) - len(self.rest)
        self.openers = tuple((opener.start - shift, opener.end - shift) for opener in line.openers)
        """Where in `rest` the here-documents are opened."""

    def common(self) -> dict[str, Any]:
        """What every instruction has."""
        return {
            "location": self.location, "shown": f"{self.keyword} {self.text}".rstrip(), "writing": self.writing,
        }  # fmt: skip

    def json_words(self) -> tuple[str, ...] | None:
        """The JSON form, None if it is none. Fault for an array of something else than strings."""
        values = json_array(self.rest)
        if values is None:
            return None
        words = tuple(_encodable(value) for value in values if isinstance(value, str))
        if len(words) < len(values):
            raise Fault("when using JSON array syntax, arrays must be comprised of strings only", "Quote each word.")
        if any("\0" in word for word in words):
            raise Fault("a word has a null character", "Delete it.", "\\u0000")
        return words

    def words(self) -> tuple[str, ...]:
        """The JSON form or what stands between blanks."""
        words = self.json_words()
        if words is None and self.rest.startswith('["'):
            raise Fault(
                f"{self.keyword}: this is no JSON array: {self.rest[:200]}", f'Write {self.keyword} ["…", "…"].'
            )
        return tuple(split(self.rest)) if words is None else words

    def one(self) -> str:
        if not self.rest:
            raise Fault(f"{self.keyword} requires exactly one argument", f"Write {self.keyword} VALUE.")
        return self.rest

    def command(self) -> tuple[tuple[str, ...], bool]:
        """Words, and whether they are one text for a shell."""
        words = self.json_words()
        return ((self.rest,) if self.rest else (), True) if words is None else (words, False)


def _encodable(text: str) -> str:
    """Halves of a surrogate pair, which JSON can write, become replacement characters."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def json_array(text: str) -> list[object] | None:
    """None if the text is no JSON array, by the letter of the standard."""
    if not text.startswith("["):
        return None
    try:
        found = json.loads(text, parse_int=float, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


def _no_constant(name: str) -> None:
    raise ValueError(name)
