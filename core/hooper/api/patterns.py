"""Patterns of file names: Go's filepath.Match with "**", and the rules of .dockerignore.

There are two kinds. `Patterns` are lists as .dockerignore has them, with "**" and "!". `Wildcards` are Go's
filepath.Match, in which nothing matches a "/". (Dockerfile reference: ".dockerignore files"; Go: path/filepath; where
those leave it open, the rules are those of the matcher that the docker client and BuildKit have in common.)

Every pattern is matched in time that grows with the lengths of pattern and path, never with their power: regular
expressions have atomic groups wherever the first place that fits is as good as any later one.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from hooper.api.errors import InvalidArgument

Test = Callable[[str], object]
"""Whether it is true of a path that the pattern matches."""

_WILD = frozenset("*?[\\")
_SPECIAL = re.compile(r"[*?\[\\]")
_REMEMBERED = 10_000
"""Directories whose matches are remembered."""


def has_wildcards(path: str) -> bool:
    """Whether a name is to be matched instead of taken as it is."""
    return any(char in _WILD for char in path)


def unescaped(path: str) -> str:
    """A pattern without wildcards as the name that it stands for."""
    return re.sub(r"\\(.)", r"\1", path, flags=re.DOTALL)


def fixed_parent(pattern: str) -> str:
    """The directory, unescaped, that all matches of a pattern are in: what stands before its first wildcard."""
    fixed = pattern
    if found := re.search(r"(?<!\\)(?:\\\\)*[*?\[]", pattern):
        fixed = pattern[: found.start()]
    return unescaped(fixed.rpartition("/")[0])


def parse_ignore_file(text: str, file: str = ".dockerignore") -> list[str]:
    """The patterns of an ignore file. InvalidArgument names the line of a bad one in `file`."""
    patterns = []
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        bare = line.strip()
        if line.startswith("#") or not bare:
            continue
        inverted = bare.startswith("!")
        name = bare[1:].strip() if inverted else bare
        if name:
            name = posixpath.normpath(name)
            name = name.lstrip("/") or "/"
        pattern = f"!{name}" if inverted else name
        try:
            Patterns([pattern])
        except InvalidArgument as error:
            raise InvalidArgument(f"{file}:{number}: {error.what}", error.why, error.remedy) from None
        patterns.append(pattern)
    return patterns


# --- lists of patterns --------------------------------------------------------------------------------


class _Rule(NamedTuple):
    exception: bool
    test: Test
    fixed: str
    """The directory that its matches are in, or the only match."""
    names: tuple[str, ...] = ()
    suffix: str = ""
    prefix: str = ""
    """Where the test is no more than one of these, what it compares with."""


class Patterns:
    """A list of patterns, of which the last one that matches a path, or a directory above it, decides.

    One that begins with "!" takes back what those before it matched. Paths are relative, with slashes.
    InvalidArgument for a pattern that is none.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self._rules = tuple(_rules(patterns))
        self._tests = tuple((rule.exception, rule.test) for rule in self._rules)
        self._fixed = tuple(rule.fixed for rule in self._rules if rule.exception)
        self._nothing = (False,) * len(self._rules)
        self._directories: dict[str, tuple[bool, ...]] = {"": self._nothing}
        first = [rule for rule in self._rules if not rule.exception]
        # What none of these matches, no rule changes: most paths, told by a few comparisons.
        self._names = frozenset(name for rule in first for name in rule.names)
        self._suffixes = tuple(rule.suffix for rule in first if rule.suffix)
        self._prefixes = tuple(rule.prefix for rule in first if rule.prefix)
        self._others = tuple(rule.test for rule in first if not (rule.names or rule.suffix or rule.prefix))

    def __bool__(self) -> bool:
        return bool(self._rules)

    def matches(self, path: str) -> bool:
        """Whether the list matches a path; never the root, which is ""."""
        if not self._rules or not path:
            return False
        return self._decide(path, self._above(path))[0]

    def prunes(self, directory: str) -> bool:
        """Whether the list matches a directory and whatever may be in it, so that nobody need look there."""
        return self.matches(directory) and not any(_may_meet(fixed, directory) for fixed in self._fixed)

    def _above(self, path: str) -> tuple[bool, ...]:
        """Which rules match the directory that a path is in."""
        parent = path.rpartition("/")[0]
        known = self._directories.get(parent)
        if known is not None:
            return known
        if len(self._directories) > _REMEMBERED:
            self._directories = {"": self._nothing}
        missing = []
        while parent not in self._directories:
            missing.append(parent)
            parent = parent.rpartition("/")[0]
        known = self._directories[parent]
        for parent in reversed(missing):
            known = self._directories[parent] = self._decide(parent, known)[1]
        return known

    def _untouched(self, path: str) -> bool:
        return not (
            path in self._names
            or path.endswith(self._suffixes)
            or path.startswith(self._prefixes)
            or any(test(path) for test in self._others)
        )

    def _decide(self, path: str, above: tuple[bool, ...]) -> tuple[bool, tuple[bool, ...]]:
        """Whether the path is matched, and by which rules.

        A rule that would change nothing is not tried, and so not handed down either.
        """
        if above is self._nothing and self._untouched(path):
            return False, above
        matched = False
        found: list[bool] | None = None
        for index, (exception, test) in enumerate(self._tests):
            if above[index]:
                matched = not exception
            elif exception is matched and test(path):
                matched = not exception
                if found is None:
                    found = list(above)
                found[index] = True
        return matched, above if found is None else tuple(found)


def _may_meet(fixed: str, directory: str) -> bool:
    """Whether something below `fixed` can be below `directory` as well, or is it."""
    return f"{fixed}/".startswith(f"{directory}/") or not fixed or f"{directory}/".startswith(f"{fixed}/")


def _rules(patterns: Iterable[str]) -> Iterator[_Rule]:
    for pattern in patterns:
        bare = pattern.strip()
        if not bare:
            continue
        clean = posixpath.normpath(bare)
        exception = clean.startswith("!")
        if exception:
            clean = clean[1:]
        if not clean:
            raise InvalidArgument('illegal exclusion pattern: "!"', remedy="Write the pattern after the !.")
        yield _rule(clean, exception)


def _rule(pattern: str, exception: bool) -> _Rule:
    if not _SPECIAL.search(pattern):
        return _Rule(exception, pattern.__eq__, pattern, names=(pattern,))
    parts, fixed = list(_parsed(pattern)), fixed_parent(pattern)
    only_text = sum(part.kind == _Kind.TEXT for part in parts) == len(parts) - 1 and "\\" not in pattern
    if only_text and parts[0].kind == _Kind.DEEP:
        # Only here does "**" reach into a name: "**file" is any that ends so.
        suffix, name = pattern[2:], pattern[3:]
        if not suffix:
            return _Rule(exception, lambda path: True, fixed)
        if suffix.startswith("/"):
            return _Rule(exception, lambda path: path.endswith(suffix) or path == name, fixed, (name,), suffix)
        return _Rule(exception, lambda path: path.endswith(suffix), fixed, suffix=suffix)
    if only_text and parts[-1].kind == _Kind.DEEP:
        start = pattern[:-2]
        return _Rule(exception, lambda path: path.startswith(start), fixed, prefix=start)
    if any(_is_odd(parts, index) for index in range(len(parts))):
        return _Rule(exception, _Automaton(parts).matches, fixed)
    return _Rule(exception, re.compile(_expression(parts), re.DOTALL).fullmatch, fixed)


# --- the parts of a pattern ---------------------------------------------------------------------------


class _Kind:
    TEXT, ONE, CLASS, STAR, DEEP = range(5)


class _Part(NamedTuple):
    kind: int
    text: str = ""
    """TEXT: the characters; CLASS: a regular expression for one."""


def _parsed(pattern: str, *, deep: bool = True) -> Iterator[_Part]:
    """TEXT, ONE ("?"), CLASS, STAR, and DEEP for "**" or "**/" (a STAR unless `deep`). InvalidArgument."""
    position, text = 0, list[str]()
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char not in _WILD:
            text.append(char)
            continue
        if char == "\\":
            if position == len(pattern):
                raise _bad(pattern)
            text.append(pattern[position])
            position += 1
            continue
        if text:
            yield _Part(_Kind.TEXT, "".join(text))
            text.clear()
        if char == "?":
            yield _Part(_Kind.ONE)
        elif char == "[":
            found, position = _character_class(pattern, position, strict=deep)
            yield _Part(_Kind.CLASS, found)
        elif deep and pattern.startswith("*", position):
            position += 2 if pattern.startswith("*/", position) else 1
            yield _Part(_Kind.DEEP)
        else:
            yield _Part(_Kind.STAR)
    if text:
        yield _Part(_Kind.TEXT, "".join(text))


def _character_class(pattern: str, position: int, *, strict: bool) -> tuple[str, int]:
    """The class that begins after "[", as a regular expression, and where it ends.

    A range from a later to an earlier character is an error if `strict`, and otherwise empty.
    """
    negated = pattern.startswith("^", position)
    position += negated
    ranges, empty = list[str](), True
    while empty or not pattern.startswith("]", position):
        low, position = _class_character(pattern, position)
        high, empty = low, False
        if pattern.startswith("-", position):
            high, position = _class_character(pattern, position + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        elif strict:
            raise _bad(pattern)
    if not ranges:
        return (r"(?s:.)" if negated else r"(?!)"), position + 1
    return f"[{'^' if negated else ''}{''.join(ranges)}]", position + 1


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


def _bad(pattern: str) -> InvalidArgument:
    return InvalidArgument(
        f'syntax error in pattern "{pattern}"', remedy="Close each [ and write \\ before a character meant literally."
    )


def _one(part: _Part) -> str:
    """A regular expression for a part of a fixed length."""
    if part.kind == _Kind.TEXT:
        return re.escape(part.text)
    return "[^/]" if part.kind == _Kind.ONE else part.text


# --- as regular expressions ---------------------------------------------------------------------------


def _is_odd(parts: list[_Part], index: int) -> bool:
    """Whether "**" stands within a name: "a**b". Then the first place that fits need not do."""
    if parts[index].kind != _Kind.DEEP or index in (0, len(parts) - 1):
        return False
    before = parts[index - 1]
    return before.kind != _Kind.DEEP and not (before.kind == _Kind.TEXT and before.text.endswith("/"))


def _expression(parts: list[_Part]) -> str:
    """Of parts in which each "**" follows a "/", for fullmatch."""
    units: list[list[_Part]] = [[]]
    for part in parts:
        if part.kind == _Kind.DEEP:
            if units[-1] or len(units) == 1:
                units.append([])
        else:
            units[-1].append(part)
    if len(units) == 1:
        return _unit(units[0], last=True)
    found = _unit(units[0], last=False)
    for unit in units[1:-1]:
        # At the beginning of a name; after so many of them that it is the first that fits.
        found += f"(?>(?:[^/]*+/)*?{_unit(unit, last=False)})"
    if not units[-1]:
        return found + ".*"
    return f"{found}(?:[^/]*+/)*?{_unit(units[-1], last=True)}"


def _unit(parts: list[_Part], *, last: bool) -> str:
    """Parts without "**". What follows a star, up to the next star or "/", is looked for once."""
    found = ""
    chunk = ""
    star = False
    for part in parts:
        if part.kind == _Kind.STAR:
            found += _after_star(chunk, ended=False) if star else chunk
            chunk, star = "", True
            continue
        pieces = part.text.split("/") if part.kind == _Kind.TEXT and star else []
        if len(pieces) > 1:
            # The "/" ends what the star may take: there the chunk has to be.
            found += _after_star(chunk + re.escape(pieces[0]), ended=True)
            chunk, star = re.escape("/" + "/".join(pieces[1:])), False
            continue
        chunk += _one(part)
    if not star:
        return found + chunk
    return found + _after_star(chunk, ended=last)


def _after_star(chunk: str, *, ended: bool) -> str:
    """A star and the characters after it; `ended`: with them the name ends."""
    if ended:
        return f"(?>[^/]*{chunk}(?=/|\\Z))"
    return f"(?>[^/]*?{chunk})" if chunk else ""


class _Automaton:
    """Of parts in any order. Its states are sets of places in the pattern, as bits; each step is worked out once."""

    def __init__(self, parts: list[_Part]) -> None:
        self._places: list[tuple[int, Test]] = []
        for part in parts:
            if part.kind == _Kind.TEXT:
                self._places += [(part.kind, char.__eq__) for char in part.text]
            else:
                expression = _one(part) if part.kind in (_Kind.ONE, _Kind.CLASS) else "."
                self._places.append((part.kind, re.compile(expression, re.DOTALL).fullmatch))
        self._steps: dict[tuple[int, int, str], tuple[int, int]] = {}
        self._start = self._closed(1, 0)

    def matches(self, path: str) -> bool:
        state = self._start
        for char in path:
            key = (*state, char)
            step = self._steps.get(key)
            if step is None:
                if len(self._steps) > 20_000:
                    self._steps.clear()
                step = self._steps[key] = self._step(*state, char)
            state = step
        return bool(state[0] >> len(self._places) & 1)

    def _closed(self, places: int, within: int) -> tuple[int, int]:
        """With what can be passed over: stars, and "**" that stands for nothing. `within`: those that are in a "**"."""
        for index, (kind, _) in enumerate(self._places):
            if places >> index & 1 and kind in (_Kind.STAR, _Kind.DEEP):
                places |= 2 << index
                if kind == _Kind.DEEP:
                    within |= 1 << index
        return places, within

    def _step(self, places: int, within: int, char: str) -> tuple[int, int]:
        after = 0
        last = len(self._places) - 1
        for index, (kind, test) in enumerate(self._places):
            if kind == _Kind.DEEP:
                # It ends with a "/", or it is the end of the pattern and takes everything.
                if within >> index & 1 and (char == "/" or index == last):
                    after |= 2 << index
            elif places >> index & 1:
                if kind == _Kind.STAR:
                    after |= (1 << index) if char != "/" else 0
                elif test(char):
                    after |= 2 << index
        return self._closed(after, within)


# --- wildcards of COPY --------------------------------------------------------------------------------


class Wildcards:
    """One pattern of COPY or ADD. Each part between slashes is matched with one name."""

    def __init__(self, pattern: str) -> None:
        """InvalidArgument if it is none."""
        self.parts: tuple[str | Test, ...] = tuple(_component(part, pattern) for part in pattern.split("/"))
        """Of each name on the way what it is, or how it is told."""

    def matches(self, path: str) -> bool:
        names = path.split("/")
        return len(names) == len(self.parts) and all(
            part == name if isinstance(part, str) else bool(part(name))
            for part, name in zip(self.parts, names, strict=True)
        )


def _component(part: str, pattern: str) -> str | Test:
    if not has_wildcards(part):
        return part
    try:
        parts = list(_parsed(part, deep=False))
    except InvalidArgument:
        raise _bad(pattern) from None
    if all(each.kind == _Kind.TEXT for each in parts):
        return "".join(each.text for each in parts)
    return re.compile(_unit(parts, last=True), re.DOTALL).fullmatch
