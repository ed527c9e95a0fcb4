"""Patterns of file names. The tables say what Docker's matcher and Go's filepath.Match make of them."""

from __future__ import annotations

import pytest

from hooper.api.errors import InvalidArgument
from hooper.api.patterns import Patterns, Wildcards, fixed_parent, has_wildcards, parse_ignore_file, unescaped

# A pattern, and the paths that it matches, by themselves or with a directory above them; after "|" those it does not.
TABLE = r"""
**                  file dir/file dir/sub/file .hid |
**/                 file dir/file |
**/**               file dir/file |
/**                 | file dir/file
dir/**              dir/file dir/sub/file | dir dirx/file xdir/file
dir/**/             dir/file | dir
**/dir              dir dir/file a/dir a/b/dir/c | dirx xdir a/xdir
**/dir/**           dir/x a/dir/x/y | dir a/dir xdir/y
**/dir2/*           dir/dir2/file dir2/file dir/dir2/file/below | dir2 dir/dir2
**file              file dir/file dir/xfile xfile | filex dir/filex
**/file             file dir/file dir/dir/file | xfile dir/xfile
**/file*            file dir/file dir/dir/file.txt file/x | xfile
**/file*txt         dir/dir/file.txt filetxt | file.tx
**/file*.txt        dir/dir/file.txt | dir/filetxt
**/file*.txt*       dir/dir/file.txt file.txt.gz |
**/**/*.txt         dir/dir/file.txt file.txt a/b.txt | file.tx
**/*.txt            file.txt a/file.txt a/b/c.txt | file.txtx
**/*.txt2           | dir/dir/file.txt
a**/*.txt           a/file.txt a/dir/file.txt a/dir/dir/file.txt a.txt ab.txt ab/c.txt | b/a/file.txt
a/*.txt             a/file.txt a/.txt | a/dir/file.txt a/file.tx file.txt
a/*.txt**           a/file.txt a/file.txt.gz a/file.txtx/y | a/b/file.txt
a**b                ab a/b ax/yz/b | axb aab a/xb
x**y**z             xyz x/yz xy/z xa/b/yc/d/z | xayz
a**                 a ab a/b abc/d | ba
a[b-d]e             ace abe ade | ae aae aee
a[^b-d]e            aze aae a/e | abe ae
[a-c]/x             a/x b/x | d/x
[abc]               a b c | d ab
.*                  .foo .a/b | foo a/.foo
abc.def             abc.def abc.def/g | abcdef abcZdef
abc?def             abcZdef abc.def abc☺def | abcdef abc/def
a\\                 a\ | a\\ a
a\*b                a*b | ab axb
a\?b                a?b | axb
\[a                 [a | a
**/foo/bar          foo/bar dir/foo/bar dir/dir2/foo/bar foo/bar/x | xfoo/bar foo
abc/**              abc/def abc/def/ghi | abc
**/.foo             .foo a/.foo | bar.foo
a(b)c/def           a(b)c/def | a(b)c/xyz abc/def
a.|)$(}+{bc         a.|)$(}+{bc | a
dist/*.whl          dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl | dist/a/b.whl
*                   abc .abc abc/d |
*c                  abc c | cd bcd
a*                  a abc ab/c | ba
a*/b                abc/b a/b | a/c/b
a*b*c*d*e*/f        axbxcxdxe/f axbxcxdxexxx/f | axbxcxdxe/xxx/f axbxcxdxexxx/fff
a*b?c*x             abxbbxdbxebxczzx | abxbbxdbxebxczzy
ab[c]               abc | abd
ab[e-g]             | abc
ab[^c]              abd | abc
ab[^e-g]            abc | abe
a[^a]b              a☺b axb | aab
a???b               axyzb | a☺b
[a-ζ]*              α abc Α | A
*[a-ζ]              xα | A
[\]a]               ] a | b
[\-]                - | a
[x\-]               x - | z
[\-x]               x - | a
*x                  xxx x | xxy
?                   a ☺ a/b | ab
??                  ab | a abc
a/?/c               a/b/c | a/bb/c a/c
a/*/c               a/b/c a/bb/c/d | a/c a/b/d/c
*/*                 a/b a/b/c | a
*/*/*               a/b/c | a/b
/a/                 | a a/b b/a
a/                  a a/b | ab
./a                 a a/b | b
./d/../a            a | d
a//b                a/b | ab
a/./b               a/b | a
.                   | a b/c
..                  | a
../a                | a
*a*a*a*             aaa xaxaxax | aa
*.*                 a.b .x a. | a
**/*.*              x/y.z | x/y
a/**/b              a/b a/x/b a/x/y/b a/b/c | ab a/xb
a/**/b/**/c         a/b/c a/x/b/y/z/c | a/c a/b/xc
**/a/**/b/**        a/b/c x/a/y/b/z | a/b b/a/c
**/*a*b/c           xaxb/c y/ab/c | ab/x/c
*/**                a/b a/b/c | a
**/*                a a/b |
*/**/z              a/z a/b/z | z
**?                 a a/b |
**[ab]              a x/b | c
"""


def rows():
    for line in TABLE.strip().splitlines():
        pattern, rest = line.split(maxsplit=1)
        matched, _, others = rest.partition(" | ") if not rest.startswith("| ") else ("", "", rest[2:])
        yield from ((pattern, path, True) for path in matched.removesuffix(" |").split())
        yield from ((pattern, path, False) for path in others.split())


MATCHES = list(rows())


def test_the_table_is_large():
    assert len(MATCHES) >= 120


@pytest.mark.parametrize(("pattern", "path", "wanted"), MATCHES)
def test_one_pattern(pattern, path, wanted):
    assert Patterns([pattern]).matches(path) is wanted


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("a\\", "a"), ("\\", "a"), ("[]a]", "]"), ("[-]", "-"), ("[x-]", "x"), ("[-x]", "x"), ("[a-b-c]", "a"),
        ("[", "a"), ("[^", "a"), ("[^bc", "a"), ("a[", "a"), ("!", "a"), ("[Local-Only]", "x"), ("a/[/b", "a"),
    ],
)  # fmt: skip
def test_what_is_no_pattern(pattern, path):
    with pytest.raises(InvalidArgument, match=r"syntax error in pattern|illegal exclusion pattern"):
        Patterns([pattern]).matches(path)


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
        ("/", ""),
        ("**/*.md", "README.md top.md"),
        ("a/b/**/z", "a/b/c/z"),
        ("a**", "a a/b a/b/c a/b/c/z a/b/y a/x"),
        ("*.md\n!README.md", "top.md"),
        ("*.md\n!README*.md\nREADME.md", "README.md top.md"),
        ("a\n!a/b/c", "a a/b a/b/y a/x"),
        ("a/**\n!a/b", "a/x"),
        ("**\n!d/e/f", ".dockerignore .hid Dockerfile README.md a a/b a/b/c a/b/c/z a/b/y a/x d d/e d/g top.md"),
        ("*\n!a", ".dockerignore .hid Dockerfile README.md d d/e d/e/f d/g top.md"),
        ("!a\na", "a a/b a/b/c a/b/c/z a/b/y a/x"),
        ("# a\n ! a ", ""),
        (" # a", ""),
        ("a\n!a/b\na/b/y", "a a/b/y a/x"),
        ("\n  \n", ""),
        ("a/b\n!a", "a/b a/b/c a/b/c/z a/b/y"),
        ("*\n!**/y", " ".join(path for path in TREE if path != "a/b/y")),
        ("*\n!./a/b/", ".dockerignore .hid Dockerfile README.md a a/x d d/e d/e/f d/g top.md"),
        ("\ufefftop.md\r\n", "top.md"),
        ("d/e\n!d\nd/g", "d/e d/e/f d/g"),
        ("a/b\n!a/b/c\na/b/c/z", "a/b a/b/y a/b/c/z"),
        ("!!a", ""),
    ],
)
def test_an_ignore_file(rules, excluded):
    patterns = Patterns(parse_ignore_file(rules))
    assert {path for path in TREE if patterns.matches(path)} == set(excluded.split())
    assert not patterns.matches("")


@pytest.mark.parametrize(
    ("text", "patterns"),
    [
        ("a\n#b\n\n  c  \n", ["a", "c"]),
        ("\ufeff#x\n/a/b/\n", ["a/b"]),
        ("! /a/ \n!  b", ["!a", "!b"]),
        ("./a/../b\n../c", ["b", "../c"]),
        ("/\n.", ["/", "."]),
        (" #not a comment", ["#not a comment"]),
        ("a\r\nb\r", ["a", "b"]),
        ("\\!a\n\\#b", ["\\!a", "\\#b"]),
    ],
)
def test_the_lines_of_an_ignore_file(text, patterns):
    assert parse_ignore_file(text) == patterns


@pytest.mark.parametrize(
    ("rules", "line", "why"),
    [("a\n!", 2, "illegal exclusion"), ("[", 1, "syntax error"), ("\n#\na\\", 3, "syntax error")],
)
def test_a_bad_line_is_named_with_its_file(rules, line, why):
    with pytest.raises(InvalidArgument, match=rf"^x\.dockerignore:{line}: {why}"):
        parse_ignore_file(rules, "x.dockerignore")


@pytest.mark.parametrize(
    ("rules", "pruned", "looked_into"),
    [
        (["a"], "a a/b", "b"),
        (["a", "!a/b/c"], "a/x a/b/d", "a a/b a/b/c"),
        (["a", "!b"], "a a/b", "b"),
        (["*", "!**/y"], "", "a a/b"),
        (["node_modules", "!src/**/x"], "node_modules", "src"),
        (["*", "!src/*.py"], "other", "src"),
        (["**"], "a", ""),
        (["a/*"], "a/b", "a"),
    ],
)
def test_directories_that_nobody_need_look_into(rules, pruned, looked_into):
    patterns = Patterns(rules)
    assert [path for path in pruned.split() if not patterns.prunes(path)] == []
    assert [path for path in looked_into.split() if patterns.prunes(path)] == []


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 20 + "b", "a" * 2000),
        ("a*?" * 20 + "b", "a" * 2000),
        ("**/" * 50 + "*x*y", "/".join("ab" for _ in range(200))),
        ("**/*a*a/**/*a*a/**/b", "/".join("aaaaaaaaaaaa" for _ in range(100))),
        ("x**a" * 10 + "b", "x" + "a" * 500),
        ("[^b]*" * 20 + "c", "a" * 2000),
    ],
)
def test_no_pattern_takes_for_ever(pattern, path):
    assert not Patterns([pattern]).matches(path)


@pytest.mark.parametrize(
    ("pattern", "path", "wanted"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*", "a/b", False),
        ("**", "a/b", False),
        ("**", "ab", True),
        ("a/**/c", "a/b/c", True),
        ("a/**/c", "a/b/b/c", False),
        ("*c", "abc", True),
        ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False),
        ("ab[^e-g]", "abc", True),
        ("ab[g-e]", "abf", False),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("a?c", "a☺c", True),
        ("a.c", "abc", False),
        ("*x", "x\n", False),
        ("a/b", "a", False),
        ("*a*a*b", "aXaYb", True),
        ("*a*a*b", "aXYb", False),
        ("dir/*.txt", "dir/x.txt", True),
        ("dir/*.txt", "dir/x/y.txt", False),
    ],
)
def test_wildcards(pattern, path, wanted):
    assert Wildcards(pattern).matches(path) is wanted


@pytest.mark.parametrize("pattern", ["[]a]", "[-]", "[x-]", "[a", "[", "[^]", "a\\", "[a-", "x/[/y"])
def test_bad_wildcards(pattern):
    with pytest.raises(InvalidArgument, match="syntax error in pattern"):
        Wildcards(pattern)


@pytest.mark.parametrize(
    ("pattern", "parent"),
    [
        ("a/b/*.c", "a/b"),
        ("*", ""),
        ("a*/b", ""),
        ("a/b", "a"),
        ("a/\\*/b*", "a/*"),
        ("a/b\\\\*", "a"),
        ("a/[x]/b", "a"),
    ],
)
def test_the_directory_of_all_matches(pattern, parent):
    assert fixed_parent(pattern) == parent


def test_names_that_are_no_patterns():
    assert [has_wildcards(name) for name in ("a.b", "a*", "a?", "a[", "a\\b", "a]")] == [
        False,
        True,
        True,
        True,
        True,
        False,
    ]
    assert unescaped("a\\*b\\\\") == "a*b\\"
