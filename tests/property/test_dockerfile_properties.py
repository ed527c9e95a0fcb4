"""What holds for every Dockerfile and every .dockerignore, sensible or not."""

from __future__ import annotations

import posixpath

from hypothesis import given
from hypothesis import strategies as st

from hooper.api.errors import InvalidArgument
from hooper_builder_dockerfile.arguments import Arguments
from hooper_builder_dockerfile.faults import Fault
from hooper_builder_dockerfile.parser import parse
from hooper_builder_dockerfile.patterns import IgnoreFile, compiled
from hooper_builder_dockerfile.plan import make_plan
from hooper_builder_dockerfile.words import expand, expand_words, split_words

_KEYWORDS = (
    "FROM RUN CMD LABEL EXPOSE ENV ADD COPY ENTRYPOINT VOLUME USER WORKDIR ARG ONBUILD STOPSIGNAL HEALTHCHECK "
    "SHELL MAINTAINER RNU #"
).split()
_PIECES = st.sampled_from(
    ["a", "a=b", " ", "\\", "\n", "`", '"', "'", "$x", "${x:-", "}", "<<EOF", "EOF", "[", '["a"]', ",", "--from=0",
     "--chmod=1", "--", "CMD", "NONE", "AS", "b", "80/tcp", "\t", "é", "\0", "1s", "--interval=", "# escape=`"]
)  # fmt: skip
_LINES = st.builds(
    lambda keyword, pieces: f"{keyword} {''.join(pieces)}", st.sampled_from(_KEYWORDS), st.lists(_PIECES, max_size=8)
)
_TEXTS = st.one_of(st.text(max_size=200), st.lists(_LINES, max_size=8).map("\n".join))


@given(_TEXTS)
def test_any_text_is_a_recipe_or_an_invalid_argument_with_its_place(text):
    error = None
    try:
        make_plan(parse(text, "D"), Arguments({}, {}), "", "D")
    except InvalidArgument as raised:
        error = raised
    assert error is None or (error.what.split(":")[0] == "D" and error.why)


@given(st.text("ab$' \"\\{}:-+?#%/`", max_size=30), st.sampled_from("\\`"))
def test_expansion_ends_or_faults(text, escape):
    lookup = {"a": "x y", "b": ""}.get
    try:
        whole = expand(text, lookup, escape)
        words = expand_words(text, lookup, escape)
    except Fault:
        return
    assert sum(map(len, words)) <= len(whole)


@given(st.text(max_size=50))
def test_words_lose_blanks_alone(text):
    joined = "".join(split_words(text, "\\"))
    assert set(joined) <= set(text)
    assert joined.replace(" ", "") in "".join(text.split(" ")) or "\\" in text or any(c in text for c in "\t\v\f\r\n")


@given(st.text("ab-c\\[]^*?/", max_size=8), st.text("abc/-]", max_size=6))
def test_match_agrees_with_a_matcher_that_tries_everything(pattern, path):
    if "**" in pattern:
        return
    expected = _naive(pattern, path)
    try:
        actual = bool(compiled(pattern).fullmatch(path))
    except Fault:
        return
    assert actual is expected


def _naive(pattern, path):
    """Go's Match, one character after the other, by backtracking."""
    if not pattern:
        return not path
    head, rest = pattern[0], pattern[1:]
    if head == "*":
        return _naive(rest, path) or (bool(path) and path[0] != "/" and _naive(pattern, path[1:]))
    if not path:
        return False
    if head == "?":
        return path[0] != "/" and _naive(rest, path[1:])
    if head == "[":
        return _naive_class(rest, path)
    if head == "\\":
        head, rest = rest[:1], rest[1:]
    return head == path[0] and _naive(rest, path[1:])


def _naive_class(rest, path):
    negated = rest.startswith("^")
    rest = rest[negated:]
    inside, first = False, True
    while first or not rest.startswith("]"):
        first = False
        low, rest = _naive_character(rest)
        high = low
        if rest.startswith("-"):
            high, rest = _naive_character(rest[1:])
        if low is None or high is None:
            return False
        inside = inside or low <= path[0] <= high
    return inside is not negated and _naive(rest[1:], path[1:])


def _naive_character(text):
    if text.startswith("\\"):
        text = text[1:]
    elif not text or text[0] in "-]":
        return None, text
    return (text[0], text[1:]) if text else (None, text)


_NAMES = st.sampled_from(["a", "b", "ab"])
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map("/".join)
_PARTS = st.sampled_from(["a", "b", "a*", "*", "?"])
_RULES = st.lists(
    st.tuples(st.booleans(), st.lists(_PARTS, min_size=1, max_size=3).map("/".join)), max_size=5
)  # fmt: skip


@given(_RULES, _PATHS)
def test_ignoring_agrees_with_the_rules_taken_literally(rules, path):
    text = "\n".join(("!" if exception else "") + pattern for exception, pattern in rules)
    assert IgnoreFile(text).excludes(path) is _naive_ignores(rules, path)


def _naive_ignores(rules, path):
    """Walks down as the client does: each directory with what it inherits, and not into what is left out."""
    inherited = [False] * len(rules)
    parts = path.split("/")
    excluded = False
    for depth in range(1, len(parts) + 1):
        current = "/".join(parts[:depth])
        excluded, matches = False, []
        for (exception, pattern), before in zip(rules, inherited, strict=True):
            matched = before
            if not matched and exception == excluded:
                matched = _naive(posixpath.normpath(pattern), current)
            excluded = (not exception) if matched else excluded
            matches.append(matched)
        inherited = matches
        entered = any(exception and f"{pattern}/".startswith(f"{current}/") for exception, pattern in rules)
        if excluded and not entered:
            return True
    return excluded
