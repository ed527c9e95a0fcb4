"""The small shell of the Dockerfile language. The expectations are what dockerd 20.10 makes of an ENV, and
for the forms that it lacks the Dockerfile reference's."""

from __future__ import annotations

import pytest

from hooper_builder_dockerfile.faults import Fault
from hooper_builder_dockerfile.words import expand, expand_words, split_words

VALUES = {"v": "val", "empty": "", "path": "/a/b/c.tar.gz", "two": "p q"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\$v", "$v"),
        (r"\\$v", r"\val"),
        (r"'\$v'", r"\$v"),
        (r'"\\v"', r"\v"),
        (r"a\bc", "abc"),
        (r"'a\b'", r"a\b"),
        (r'"a\b"', r"a\b"),
        ('"a\'b"', "a'b"),
        ("'a\"b'", 'a"b'),
        (r'"a\$b"', "a$b"),
        (r'"a\\\"b"', r"a\"b"),
        ("'a'\"b\"c", "abc"),
        ("$v$v", "valval"),
        ("${v}x", "valx"),
        ("$vx", ""),
        ("$1x", "x"),
        ("$", "$"),
        ("$.", "$."),
        ('"$"', "$"),
        ("$$", ""),
        ("${v:-x}", "val"),
        ("${no:-x y}", "x y"),
        ('"${no:-a b}"', "a b"),
        ("${no:-'q q'}", "q q"),
        ("${no:-${v}}", "val"),
        ("${empty:-d}", "d"),
        ("${empty-d}", ""),
        ("${no-d}", "d"),
        ("${v:+p}", "p"),
        ("${no:+p}", ""),
        ("${empty:+p}", ""),
        ("${empty+p}", "p"),
        ("${v?bad}", "val"),
        ("${empty?bad}", ""),
        ("${path#/*/}", "b/c.tar.gz"),
        ("${path##*/}", "c.tar.gz"),
        ("${path%.*}", "/a/b/c.tar"),
        ("${path%%.*}", "/a/b/c"),
        ("${path/a/x}", "/x/b/c.tar.gz"),
        ("${path//a/x}", "/x/b/c.txr.gz"),
        ("trailing\\", "trailing"),
        ("$(foo)", "$(foo)"),
    ],
)
def test_expansion(text, expected):
    assert expand(text, VALUES.get) == expected


def test_the_escape_directive_changes_the_escape():
    assert expand("`$v \\$v f`q", VALUES.get, "`") == "$v \\val fq"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${b", 'missing "}"'),
        ("${", "bad substitution"),
        ("${}", "bad substitution"),
        ("${:x}", "bad substitution"),
        ("${v:", "unsupported modifier"),
        ("${v!x}", "unsupported modifier"),
        ("${no:-a", 'missing "}"'),
        ("'open", "single-quote"),
        ('"open', "double-quote"),
        ("${no?is missing}", "no: is missing"),
        ("${empty:?}", "empty: not allowed"),
    ],
)
def test_a_bad_expansion_says_what_is_wrong(text, words):
    with pytest.raises(Fault) as caught:
        expand(text, VALUES.get)
    assert words in caught.value.why
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$two x", ["p", "q", "x"]),
        ('"$two" x', ["p q", "x"]),
        ("a$two", ["ap", "q"]),
        ("$no", []),
        ('""', [""]),
    ],
)
def test_an_unquoted_variable_is_split_into_words(text, expected):
    assert expand_words(text, VALUES.get) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('a=b c="d e" f\\ g=1', ["a=b", 'c="d e"', "f\\ g=1"]),
        ("  x\t y ", ["x", "y"]),
        ("'a \\' b", ["'a \\'", "b"]),
        ("", []),
    ],
)
def test_words_keep_their_quotes(text, expected):
    assert split_words(text, "\\") == expected
