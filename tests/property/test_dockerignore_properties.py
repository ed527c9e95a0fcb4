"""Ignore rules against a reference that is slow and plain: each rule is tried on each path and on all above it."""

from __future__ import annotations

from contextlib import suppress
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from hooper.api.errors import InvalidArgument
from hooper.api.patterns import Patterns, Wildcards

NAMES = st.sampled_from(["a", "b", "ab", "ba", "a.b", ".a", "aab", "x"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
TREES = st.lists(PATHS, min_size=1, max_size=8).map(
    lambda paths: sorted({"/".join(path.split("/")[:end]) for path in paths for end in range(1, 5)})
)
PIECES = st.sampled_from(["a", "b", "*", "**", "?", "[ab]", "[^a]", "a*", "*b", "*a*", "**b", "a**", ".a", "\\a", "x"])
PATTERNS = st.tuples(st.sampled_from(["", "", "!"]), st.lists(PIECES, min_size=1, max_size=4).map("/".join)).map(
    "".join
)


def matched(pattern: str, path: str) -> bool:
    """One pattern and one path, a character at a time."""
    plain = not any(char in pattern.removeprefix("**") for char in "*?[\\")
    if pattern.startswith("**") and plain:
        rest = pattern[2:]
        return path.endswith(rest) or (rest.startswith("/") and path == rest[1:])

    @cache
    def at(p: int, s: int) -> bool:
        if p == len(pattern):
            return s == len(path)
        if pattern.startswith("**", p):
            after = p + 3 if pattern.startswith("**/", p) else p + 2
            if after == len(pattern):
                return True
            return at(after, s) or any(path[i] == "/" and at(after, i + 1) for i in range(s, len(path)))
        if pattern[p] == "*":
            return at(p + 1, s) or (s < len(path) and path[s] != "/" and at(p, s + 1))
        if s == len(path):
            return False
        if pattern[p] == "?":
            return path[s] != "/" and at(p + 1, s + 1)
        if pattern[p] == "[":
            end = pattern.index("]", p)
            chars = pattern[p + 1 : end]
            inside = path[s] in chars.removeprefix("^")
            return inside != chars.startswith("^") and at(end + 1, s + 1)
        p += pattern[p] == "\\"
        return pattern[p] == path[s] and at(p + 1, s + 1)

    return at(0, 0)


def excluded(rules: list[str], path: str) -> bool:
    """From the top of the tree down: what a rule has matched, it matches below as well, if it was tried."""
    above = [False] * len(rules)
    result = False
    parts = path.split("/")
    for depth in range(1, len(parts) + 1):
        result = False
        for index, rule in enumerate(rules):
            exception = rule.startswith("!")
            if not above[index] and exception == result:
                above[index] = matched(rule.removeprefix("!"), "/".join(parts[:depth]))
            if above[index]:
                result = not exception
    return result


@settings(max_examples=200, deadline=None)
@given(TREES, st.lists(PATTERNS, max_size=5))
def test_patterns_agree_with_the_reference(tree, rules):
    patterns = Patterns(rules)
    assert [path for path in tree if patterns.matches(path)] == [path for path in tree if excluded(rules, path)]


@settings(max_examples=200, deadline=None)
@given(TREES, st.lists(PATTERNS, max_size=5))
def test_nothing_is_lost_in_a_directory_that_is_pruned(tree, rules):
    patterns = Patterns(rules)
    for directory in (path for path in tree if patterns.prunes(path)):
        assert all(excluded(rules, path) for path in tree if path == directory or path.startswith(f"{directory}/"))


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=3).map("/".join), PATHS)
def test_wildcards_agree_with_the_reference(pattern, path):
    single = pattern.replace("**", "*").replace("[^a]", "[^a/]")
    assert Wildcards(pattern).matches(path) == matched(single, path)


@settings(max_examples=200, deadline=None)
@given(st.text("ab*?[]^-\\!/. é\n", max_size=12), PATHS)
def test_whatever_is_written_is_a_pattern_or_an_error(pattern, path):
    for kind in (lambda: Patterns([pattern]), lambda: Wildcards(pattern)):
        with suppress(InvalidArgument):
            assert kind().matches(path) in (True, False)
