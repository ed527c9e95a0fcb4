"""The small shell of the Dockerfile language, by tables: what BuildKit makes of each text."""

from __future__ import annotations

import pytest

from hooper_builder_dockerfile.faults import Fault
from hooper_builder_dockerfile.words import (
    DEPTH_LIMIT,
    VALUE_LIMIT,
    document_expansion,
    expand,
    expand_document,
    expand_words,
    expansion,
    split_words,
)

VALUES = {
    "v": "val", "empty": "", "path": "/a/b/c.tar.gz", "two": "p q", "edges": "  p  q ", "home": "/root", "sh": "ash",
    "uni": "größe", "stars": "a*b*c", "lines": "one\ntwo\none", "dots": "x..y", "deep": "aXbXc", "slash": "/",
    "star": "*", "pat": "\\*", "url": "http://h/p?q", "dollar": "$v", "odd": "()[]{}^$.+|x",
}  # fmt: skip

PLAIN = [
    ("text", "text"),
    ("", ""),
    ("two words", "two words"),
    ("größe", "größe"),
    ("a#b", "a#b"),
    ("a<<b", "a<<b"),
    ("{v}", "{v}"),
    ("}", "}"),
    ("a/b}c", "a/b}c"),
]
QUOTES = [
    ("'a b'", "a b"),
    ('"a b"', "a b"),
    ("x'y'z", "xyz"),
    ("'a'\"b\"c", "abc"),
    ("''", ""),
    ('""', ""),
    ('"\'"', "'"),
    ("'\"'", '"'),
    ("\"''\"", "''"),
    (r"'\$v'", r"\$v"),
    (r"'a\b'", r"a\b"),
    (r"'a\\b'", r"a\\b"),
    (r"'end\'", "end\\"),
    (r'"a\b"', r"a\b"),
    (r'"a\\b"', r"a\b"),
    (r'"a\$v"', "a$v"),
    (r'"say \"hi\""', 'say "hi"'),
    (r'"a\\\"b"', r"a\"b"),
    ("'$v'", "$v"),
    ("'${v}'", "${v}"),
    ('"$v"', "val"),
    ('"${v}"', "val"),
    ("\"'$v'\"", "'val'"),
    ("gr'ö'ße", "größe"),
]
ESCAPES = [
    (r"\$v", "$v"),
    (r"\\$v", r"\val"),
    (r"\\\$v", r"\$v"),
    (r"a\bc", "abc"),
    (r"a\ b", "a b"),
    (r"\'", "'"),
    (r"\"", '"'),
    (r"\\", "\\"),
    ("trailing\\", "trailing"),
    ("two\\\\", "two\\"),
    (r"\${}", "${}"),
    (r"\${v}x", "${v}x"),
    (r"größe\t", "größet"),
]
NAMES = [
    ("$v", "val"),
    ("$v$v", "valval"),
    ("${v}x", "valx"),
    ("$v.x", "val.x"),
    ("$v-x", "val-x"),
    ("$vx", ""),
    ("$no", ""),
    ("${no}", ""),
    ("a${no}b", "ab"),
    ("$uni", "größe"),
    ("$", "$"),
    ("a$", "a$"),
    ("$.", "$."),
    ("$/x", "$/x"),
    ("$(cmd)", "$(cmd)"),
    ('"$"', "$"),
    ("$dollar", "$v"),
    ("$1x", "x"),
    ("$12x", "x"),
    ("${12}x", "x"),
    ("$007b", "b"),
    ("$@", ""),
    ("$@@", "@"),
    ("$*x", "x"),
    ("$#", ""),
    ("${#}", ""),
    ("$?", ""),
    ("$-", ""),
    ("$$", ""),
    ("$!", ""),
    ("$0", ""),
    ("${@:-d}", "d"),
    ("${?:+d}", ""),
    ("${9:-d}e", "de"),
]
DEFAULTS = [
    ("${v:-x}", "val"),
    ("${v-x}", "val"),
    ("${no:-x}", "x"),
    ("${no-x}", "x"),
    ("${empty:-x}", "x"),
    ("${empty-x}", ""),
    ("${no:-}", ""),
    ("${no:-x y}", "x y"),
    ("${no:-'q q'}", "q q"),
    ('${no:-"q $v"}', "q val"),
    ('"${no:-a b}"', "a b"),
    ("${no:-$v}", "val"),
    ("${no:-${v}}", "val"),
    ("${no:-${none:-deep}}", "deep"),
    ("${no:-${v:-deep}}z", "valz"),
    ("${v:-${v}}}", "val}"),
    ("${no:-x}}", "x}"),
    ("${no:-a {b}", "a {b"),
    (r"${no:-a\}b}", "a}b"),
    (r"${no:-\$v}", "$v"),
    (r"${no:-\${v}z}", "${vz}"),
    ("${no:-/a/b}", "/a/b"),
]
ALTERNATIVES = [
    ("${v:+x}", "x"),
    ("${v+x}", "x"),
    ("${no:+x}", ""),
    ("${no+x}", ""),
    ("${empty:+x}", ""),
    ("${empty+x}", "x"),
    ("${v:+$home}", "/root"),
    ("${v:+${home}:}z", "/root:z"),
    ("${v:+${no}}", ""),
    ("img${v:+-$v}.gz", "img-val.gz"),
    ("img${empty:+-$empty}.gz", "img.gz"),
]
REQUIRED = [
    ("${v?}", "val"),
    ("${v:?}", "val"),
    ("${v:?no $v}", "val"),
    ("${empty?x}", ""),
]
PREFIXES = [
    ("${path#/}", "a/b/c.tar.gz"),
    ("${path#/*/}", "b/c.tar.gz"),
    ("${path##/*/}", "c.tar.gz"),
    ("${path##*/}", "c.tar.gz"),
    ("${path#*.}", "tar.gz"),
    ("${path##*.}", "gz"),
    ("${path#x}", "/a/b/c.tar.gz"),
    ("${path#}", "/a/b/c.tar.gz"),
    ("${path##}", "/a/b/c.tar.gz"),
    ("${path#*}", "/a/b/c.tar.gz"),
    ("${path##*}", ""),
    ("${v#?}", "al"),
    ("${v#????}", "val"),
    ("${v##??}", "l"),
    ("${stars#*b}", "*c"),
    (r"${stars#a\*}", "b*c"),
    (r"${stars##*\*}", "c"),
    ("${path#$slash}", "a/b/c.tar.gz"),
    ("${stars#a$pat}", "b*c"),
    ("${v#$star}", "val"),
    ("${v##$star}", ""),
    ("${no#x}", ""),
    ("${path#'/a'}", "/b/c.tar.gz"),
    ('${path#"/a"}', "/b/c.tar.gz"),
    (r"${odd#()[]{\}^$.+|}", "x"),
    ("${uni#gr?}", "ße"),
]
SUFFIXES = [
    ("${path%.*}", "/a/b/c.tar"),
    ("${path%%.*}", "/a/b/c"),
    ("${path%/*}", "/a/b"),
    ("${path%%/*}", ""),
    ("${path%gz}", "/a/b/c.tar."),
    ("${path%x}", "/a/b/c.tar.gz"),
    ("${path%}", "/a/b/c.tar.gz"),
    ("${path%%}", "/a/b/c.tar.gz"),
    ("${path%*}", "/a/b/c.tar.gz"),
    ("${path%%*}", ""),
    ("${v%?}", "va"),
    (r"${stars%\*c}", "a*b"),
    (r"${stars%%\**}", "a"),
    (r"${stars%\**}", "a*b"),
    ("${dots%.*}", "x."),
    ("${dots%%.*}", "x"),
    ("${uni%ö*}", "gr"),
    ("${no:-.}${v%l}${no:-.}", ".va."),
]
REPLACEMENTS = [
    ("${path/a/x}", "/x/b/c.tar.gz"),
    ("${path//a/x}", "/x/b/c.txr.gz"),
    ("${path/zz/x}", "/a/b/c.tar.gz"),
    ("${deep/X/}", "abXc"),
    ("${deep//X/}", "abc"),
    ("${deep//X/--}", "a--b--c"),
    ("${deep//?X/_}", "__c"),
    ("${deep/a*X/_}", "_c"),
    ("${deep//*/_}", "_"),
    ("${deep/*/_}", "_"),
    (r"${path//\//_}", "_a_b_c.tar.gz"),
    (r"${path//\//\/}", r"\/a\/b\/c.tar.gz"),
    ("${path/$slash/_}", "_a/b/c.tar.gz"),
    ("${path//$slash/_}", "_a_b_c.tar.gz"),
    ("${url/http:/$no}", "//h/p?q"),
    ("${url/http/https}", "https://h/p?q"),
    ("${url/$no/x}", "xhttp://h/p?q"),
    (r"${url/\?/!}", "http://h/p!q"),
    ("${v/a/$home}", "v/rootl"),
    ("${v/a/$dollar}", "v$vl"),
    ("${v///}", "val"),
    ("${no/a/b}", ""),
    ("${no///}", ""),
    (r"${stars/\*/+}", "a+b*c"),
    (r"${stars//\*/+}", "a+b+c"),
    ("${lines//one/1}", "1\ntwo\n1"),
    ("${lines/*/x}", "x\ntwo\none"),
    ("${lines//o*e/x}", "x\ntwo\nx"),
    ("${lines/e?t/x}", "one\ntwo\none"),
]
ROWS = [
    *PLAIN, *QUOTES, *ESCAPES, *NAMES, *DEFAULTS, *ALTERNATIVES, *REQUIRED, *PREFIXES, *SUFFIXES, *REPLACEMENTS,
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ROWS)
def test_expansion(text, expected):
    assert expand(text, VALUES.get) == expected


def test_there_are_rows_enough():
    assert len(ROWS) > 180
    assert len({text for text, _ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`$v", "$v"),
        ("\\$v", "\\val"),
        ("f`q", "fq"),
        ('"a`"b"', 'a"b'),
        ('"a\\b"', "a\\b"),
        ("C:\\dir\\$v", "C:\\dir\\val"),
        ("${no:-a`}b}", "a}b"),
        ("${stars#a`*}", "b*c"),
    ],
)
def test_the_escape_directive_changes_the_escape(text, expected):
    assert expand(text, VALUES.get, "`") == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${v", "missing '}'"),
        ("${", "missing '}'"),
        ("${}", "bad substitution"),
        ("${}x", "bad substitution"),
        ("${{v}", "bad substitution"),
        ("${:x}", "bad substitution"),
        ("${.}", "bad substitution"),
        ("${v:", "missing '}'"),
        ("${v:=x}", "unsupported modifier (:=)"),
        ("${v=x}", "unsupported modifier (=)"),
        ("${v:x}", "unsupported modifier (:x)"),
        ("${v!x}", "unsupported modifier (!)"),
        ("${v^^}", "unsupported modifier (^)"),
        ("${v:#x}", "unsupported modifier (:#)"),
        ("${v:%x}", "unsupported modifier (:%)"),
        ("${no:-a", "missing '}'"),
        ("${no:-a ${v}", "missing '}'"),
        ("${v//a}", "missing '/'"),
        ("${v/a/b", "missing '}'"),
        (r"${v#\x}", r"invalid escape '\x'"),
        ("'open", "single-quote"),
        ("a'b'c'", "single-quote"),
        ('"open', "double-quote"),
        (r'"open\"', "double-quote"),
        (r"a\\'b", "single-quote"),
        ("${no?is missing}", "no: is missing"),
        ("${no:?is $v}", "no: is val"),
        ("${no?}", "no: is not allowed to be unset"),
        ("${empty:?}", "empty: is not allowed to be empty"),
        ("${v:-${no?x}}", "no: x"),
    ],
)
def test_a_bad_expansion_says_what_is_wrong(text, words):
    with pytest.raises(Fault) as caught:
        expand(text, VALUES.get)
    assert words in caught.value.why
    assert "failed to process" in caught.value.why
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b", ["a", "b"]),
        ("$two x", ["p", "q", "x"]),
        ('"$two" x', ["p q", "x"]),
        ("a$two", ["ap", "q"]),
        ("a${edges}b", ["a", "p", "q", "b"]),
        ('a"$edges"b', ["a  p  q b"]),
        ('a" x "', ["a x "]),
        (r"a\ b", ["a b"]),
        (r"a\" b", ['a"', "b"]),
        ("a${no:-b}c", ["abc"]),
        ("$no", []),
        ('""', []),
        ('"" x', ["x"]),
        ("  x\t y ", ["x", "y"]),
        ("80/tcp 90-92/udp", ["80/tcp", "90-92/udp"]),
    ],
)
def test_an_unquoted_variable_is_split_into_words(text, expected):
    assert expand_words(text, VALUES.get) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\"q\" 'q'\n", "\"q\" 'q'\n"),
        ("$v '$v'\n", "val 'val'\n"),
        ("\\$v\n", "$v\n"),
        ("\\\n", "\n"),
        ("\\\\\n", "\\\n"),
        ('it\'s ${no:-"x"}\n', 'it\'s "x"\n'),
    ],
)
def test_a_document_keeps_its_quotes(text, expected):
    assert expand_document(text, VALUES.get) == expected


@pytest.mark.parametrize(
    ("text", "used", "unset"),
    [
        ("x", [], []),
        ("$v ${no}", ["v"], ["no"]),
        ("${no:-$none}", [], ["none", "no"]),
        ("${v:-$none}", ["v"], ["none"]),
        ("${empty-x}", ["empty"], []),
        ("'$no'", [], []),
        ("${path#$no}", ["path"], ["no"]),
        ("${v/$a/$b}", ["v"], ["a", "b"]),
    ],
)
def test_it_tells_which_variables_were_named(text, used, unset):
    found = expansion(text, VALUES.get)
    assert (list(found.used), list(found.unset)) == (used, unset)
    assert list(document_expansion('"$v $no"', VALUES.get).unset) == ["no"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('a=b c="d e" f\\ g=1', ["a=b", 'c="d e"', "f\\ g=1"]),
        ("  x\t y ", ["x", "y"]),
        ("'a \\' b", ["'a \\'", "b"]),
        ('"a \\" b" c', ['"a \\" b"', "c"]),
        ('a="open b', ['a="open b']),
        ("a\\", ["a"]),
        ('""', ['""']),
        ("größe 'x ÿ'", ["größe", "'x ÿ'"]),
        ("a=$(x y)", ["a=$(x", "y)"]),
        ("", []),
    ],
)
def test_words_keep_their_quotes(text, expected):
    assert split_words(text, "\\") == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${a:-" * (DEPTH_LIMIT + 1), f"more than {DEPTH_LIMIT} deep"),
        ("${a:-" * 100_000, f"more than {DEPTH_LIMIT} deep"),
        ("$big" * 20, f"more than {VALUE_LIMIT} characters"),
        ('"' + "$big" * 200_000 + '"', f"more than {VALUE_LIMIT} characters"),
        ("${big//a/$big}", f"over {VALUE_LIMIT} characters"),
        ("${v#" + "a" * 5000 + "}", "longer than 4096 characters"),
        ("'" + "x" * VALUE_LIMIT, "single-quote"),
    ],
)
def test_what_would_grow_without_end_is_refused_and_named(text, words):
    with pytest.raises(Fault) as caught:
        expand(text, {**VALUES, "big": "a" * 100_000}.get)
    assert words in caught.value.why
    assert len(caught.value.why) < 1000


def test_as_deep_as_allowed():
    assert expand("${a:-" * DEPTH_LIMIT + "x" + "}" * DEPTH_LIMIT, {}.get) == "x"


BIG = "a" * 200_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${big#*a*a*a*a*a*a*a*a*b}", BIG),
        ("${big%%b*a*a*a*a*a*a*a*a}", BIG),
        ("${big//a*a*a*a*b/x}", BIG),
        ("${big//*b/x}", BIG),
        ("${big//?/x}", "x" * 200_000),
        ("x" * VALUE_LIMIT, "x" * VALUE_LIMIT),
        ("\\x" * 100_000, "x" * 100_000),
        ("}/" * 100_000, "}/" * 100_000),
        ("$$" * 100_000, ""),
    ],
)
def test_long_texts_and_many_stars_are_no_hardship(text, expected):
    assert expand(text, {"big": BIG}.get) == expected
