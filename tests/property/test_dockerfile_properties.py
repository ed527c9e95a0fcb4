"""What holds for every Dockerfile, sensible or not."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from hooper.api.errors import InvalidArgument
from hooper_builder_dockerfile.checks import check
from hooper_builder_dockerfile.durations import duration, nanoseconds
from hooper_builder_dockerfile.faults import Fault, Location
from hooper_builder_dockerfile.globs import Glob
from hooper_builder_dockerfile.mounts import MountFlag, mount_text, parse_mount
from hooper_builder_dockerfile.parser import parse, parse_one
from hooper_builder_dockerfile.printing import print_instruction, print_recipe
from hooper_builder_dockerfile.words import expand, expand_document, expand_words, split_words

_KEYWORDS = (
    "FROM RUN CMD LABEL EXPOSE ENV ADD COPY ENTRYPOINT VOLUME USER WORKDIR ARG ONBUILD STOPSIGNAL HEALTHCHECK "
    "SHELL MAINTAINER RNU from Copy #"
).split()
_PIECES = st.sampled_from(
    [
        "a", "a=b", "a='", " ", "\\", "\\\n", "\n", "`", '"', "'", "$x", "${x:-", "${x#*", "${x//", "/", "}",
        "<<EOF", "<<-E", "<< 'E F'", "\nEOF\n", "\nE\n", "\n\tE\n", "\nE F\n", "[", "]", '["a"]', '["a b", "<<EOF"]',
        ",", "--from=0", "--chmod=1", "--link", "--exclude='*.o c'", "--", "CMD", "NONE", "AS", "b", "80/tcp", "\t",
        "\v", "\r", "\r\n", "é", "\u00a0", "\0", "1s", "--interval=1m", "# escape=`", "# check=x", "RUN ", "COPY ",
        "--mount=type=cache,target=/c", '--mount=\\"dst=/a,b\\"', "--network=n", "\x1c", "\u2028",
    ]
)  # fmt: skip
_LINES = st.builds(
    lambda keyword, pieces: f"{keyword} {''.join(pieces)}", st.sampled_from(_KEYWORDS), st.lists(_PIECES, max_size=8)
)
_TEXTS = st.one_of(
    st.text(max_size=200),
    st.lists(_LINES, max_size=8).map("\n".join),
    st.builds(lambda lines: "# escape=`\n" + "\n".join(lines), st.lists(_LINES, max_size=8)),
)


def outcome(function, *arguments):
    """The result, or None and the error that tells of bad input."""
    try:
        return function(*arguments), None
    except (InvalidArgument, Fault) as error:
        return None, error


def parsed(text):
    """None for what is no recipe: which is an InvalidArgument with file, line and cause, and short."""
    recipe, error = outcome(parse, text, "D")
    if error is not None:
        assert re.fullmatch(r"D:[0-9]+", error.what)
        assert error.why
        assert len(str(error)) < 4000
    return recipe


@given(_TEXTS)
@example('FROM a\nENV a="b \\\v')
@example("COPY <<\\-E a\nE\n-E")
@example("RUN <<E'\\'\n\nE\\")
@example("USER a\\\v")
def test_any_text_is_a_recipe_that_prints_and_parses_as_itself_or_an_invalid_argument(text):
    recipe = parsed(text)
    if recipe is not None:
        again = print_recipe(recipe)
        assert parse(again, "D") == recipe
        assert print_recipe(parse(again, "D")) == again


@given(_LINES)
def test_one_instruction_alone_is_the_same(line):
    recipe = parsed(line)
    if recipe is not None and len(recipe.instructions) == 1 and recipe.escape == "\\":
        step = recipe.instructions[0]
        assert parse_one(print_instruction(step), Location("D", 1)) == step


@given(_TEXTS)
def test_whatever_is_parsed_can_be_checked(text):
    recipe = parsed(text)
    if recipe is None:
        return
    warnings, error = outcome(check, recipe)
    if error is not None:
        assert "check option" in error.why
        return
    assert all(warning.rule and warning.message for warning in warnings)
    assert all(1 <= warning.origin.first <= len(recipe.source) for warning in warnings)


@given(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(b"FROM a\nRUN b ".__add__)))
def test_any_bytes_are_a_recipe_or_an_invalid_argument(data):
    text = data.decode(errors="replace")
    assert parsed(data) == (parsed(text) if text.encode() == data else None)


_SHELL_PIECES = ["${a", "${b", "$a", "}", ":-", ":?", "+", "#", "%%", "//", "/", "*", "?", "\\", "'", '"', " ", "x"]
_SHELL = st.one_of(
    st.text("ab$' \"\\{}:-+?#%/`*\n", max_size=30), st.lists(st.sampled_from(_SHELL_PIECES), max_size=12).map("".join)
)


@given(_SHELL, st.sampled_from("\\`"))
def test_expansion_ends_or_faults(text, escape):
    lookup = {"a": "x y", "b": ""}.get
    for function in (expand, expand_words):
        result, fault = outcome(function, text, lookup, escape)
        assert (result is None) == (fault is not None)
        assert fault is None or (fault.why and fault.remedy)
    outcome(expand_document, text, lookup)
    if fault is None:
        assert sum(map(len, result)) <= len(expand(text, lookup, escape))


@given(st.text("ab \\$'\"{}#/é\n", max_size=20))
def test_a_quoted_text_expands_to_itself(text):
    quoted = "'" + text.replace("'", "'\"'\"'") + "'"
    assert expand(quoted, {}.get) == text
    assert expand(re.sub(r"([^a-z])", r"\\\1", text), {}.get) == text


@given(st.text(max_size=50))
def test_words_lose_blanks_alone(text):
    joined = "".join(split_words(text, "\\"))
    assert set(joined) <= set(text)
    if "\\" not in text and not set("'\"") & set(text):
        assert split_words(" ".join(split_words(text, "\\")), "\\") == split_words(text, "\\")


# --- patterns of substitutions, against a regular expression that tries everything ----------------------

_GLOBS = st.text("ab*?", max_size=6)
_VALUES = st.text("ab\n", max_size=10)


def _regex(pattern, lazy):
    return "".join({"*": ".*?" if lazy else ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)


@given(_GLOBS, _VALUES, st.booleans())
def test_prefixes_and_suffixes_agree_with_a_regular_expression(pattern, value, longest):
    glob = Glob.of(pattern)
    found = re.match(_regex(pattern, not longest), value)
    assert glob.without_prefix(value, longest=longest) == (value[found.end() :] if found else value)
    found = re.match(_regex(pattern[::-1], not longest), value[::-1])
    assert glob.without_suffix(value, longest=longest) == (value[: len(value) - found.end()] if found else value)


@given(_GLOBS, _VALUES)
def test_a_replacement_agrees_with_a_regular_expression(pattern, value):
    expected = re.sub(_regex(pattern, False), "<>", value, count=1)
    assert Glob.of(pattern).replaced(value, "<>", everywhere=False, limit=1000) == expected


@given(_GLOBS.filter(lambda pattern: pattern.strip("*")), _VALUES)
def test_replacements_agree_with_a_regular_expression(pattern, value):
    expected = re.sub(_regex(pattern, False), "<>", value)
    assert Glob.of(pattern).replaced(value, "<>", everywhere=True, limit=1000) == expected


# --- values -------------------------------------------------------------------------------------------

_OPTION = st.one_of(st.none(), st.text("ab,\"$ ='", min_size=1, max_size=6))


@given(_OPTION, _OPTION, _OPTION)
def test_a_mount_is_printed_as_it_is_read(target, identifier, env):
    flag = MountFlag(type="$t", target=target, id=identifier, env=env)
    assert parse_mount(mount_text(flag)) == flag


@given(st.integers(0, 2**62))
def test_a_duration_is_printed_as_it_is_read(value):
    shown = duration(value)
    assert nanoseconds(shown) == value or value > 2**53
