"""Patterns of names. The tables of .dockerignore say what the docker client sends of this tree."""

from __future__ import annotations

import pytest

from hooper_builder_dockerfile.faults import Fault
from hooper_builder_dockerfile.patterns import IgnoreFile, compiled

TREE = (
    ".dockerignore .hid Dockerfile README.md a a/b a/b/c a/b/c/z a/b/y a/x d d/e d/e/f d/g top.md"
).split()  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "excluded"),
    [
        ("", ""),
        ("**/y", "a/b/y"),
        ("*/x", "a/x"),
        ("/a/", "a a/b a/b/c a/b/c/z a/b/y a/x"),
        ("./d/../a", "a a/b a/b/c a/b/c/z a/b/y a/x"),
        ("a/*/y", "a/b/y"),
        ("**/c/**", "a/b/c/z"),
        ("?op.md", "top.md"),
        ("[A-Z]*", "Dockerfile README.md"),
        ("[^d]*", ".dockerignore .hid Dockerfile README.md a a/b a/b/c a/b/c/z a/b/y a/x top.md"),
        (".", ""),
        ("**/*.md", "README.md top.md"),
        ("a/b/**/z", "a/b/c/z"),
        ("a**", "a a/b a/b/c a/b/c/z a/b/y a/x"),
        ("*.md\n!README.md", "top.md"),
        ("a\n!a/b/c", "a a/b a/b/y a/x"),
        ("a/**\n!a/b", "a/x"),
        ("**\n!d/e/f", ".dockerignore .hid Dockerfile README.md a a/b a/b/c a/b/c/z a/b/y a/x d d/e d/g top.md"),
        ("*\n!a", ".dockerignore .hid Dockerfile README.md d d/e d/e/f d/g top.md"),
        ("!a\na", "a a/b a/b/c a/b/c/z a/b/y a/x"),
        ("# a\n ! a ", ""),
        ("a\n!a/b\na/b/y", "a a/b/y a/x"),
        ("\n  \n", ""),
        ("a/b\n!a", "a/b a/b/c a/b/c/z a/b/y"),
        ("*\n!**/y", " ".join(TREE)),
        ("*\n!./a/b/", ".dockerignore .hid Dockerfile README.md a a/x d d/e d/e/f d/g top.md"),
        ("\ufefftop.md\r\n", "top.md"),
    ],
)
def test_dockerignore(rules, excluded):
    ignore = IgnoreFile(rules)
    assert [path for path in TREE if ignore.excludes(path)] == excluded.split()


@pytest.mark.parametrize(
    ("rules", "line", "why"), [("a\n!", 2, "illegal exclusion"), ("[", 1, "syntax error"), ("a\\", 1, "syntax error")]
)
def test_a_bad_rule_is_named_with_file_and_line(rules, line, why):
    with pytest.raises(Fault) as caught:
        IgnoreFile(rules, "x.dockerignore")
    assert caught.value.why.startswith(f"x.dockerignore:{line}: ")
    assert why in caught.value.why


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*", "a/b", False),
        ("*c", "abc", True),
        ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("[\\]a]", "]", True),
        ("[\\-x]", "-", True),
        ("a?c", "a☺c", True),
        ("a.c", "abc", False),
        ("a+(b)", "a+(b)", True),
        ("**/x", "x", True),
        ("**/x", "a/b/x", True),
        ("a/**", "a/b/c", True),
        ("a/**/z", "a/z", True),
        ("*x", "x\n", False),
    ],
)
def test_match(pattern, path, matches):
    assert bool(compiled(pattern).fullmatch(path)) is matches


@pytest.mark.parametrize("pattern", ["[]a]", "[-]", "[x-]", "[a", "[", "[^]", "a\\", "[a-"])
def test_a_bad_pattern(pattern):
    with pytest.raises(Fault, match="syntax error in pattern"):
        compiled(pattern)
