"""Dockerfiles and ignore files."""

from __future__ import annotations

from fuzz.checks import Target, hold, only
from hooper.api.errors import InvalidArgument
from hooper.api.patterns import Patterns, Wildcards, fixed_parent, parse_ignore_file
from hooper_builder_dockerfile.checks import check
from hooper_builder_dockerfile.parser import parse
from hooper_builder_dockerfile.printing import print_recipe


def feed_dockerfile(data: bytes) -> None:
    with only(InvalidArgument):
        recipe = parse(data, "D")
        written = print_recipe(recipe)
        again = parse(written, "D")
        hold(again == recipe and print_recipe(again) == written, "a recipe reads back", written)
        for warning in check(recipe):
            origin = warning.origin
            placed = origin is not None and 1 <= origin.first <= len(recipe.source)
            hold(placed and warning.message, "a warning has its place", warning)


def feed_ignore(data: bytes) -> None:
    """An ignore file, and after a null the paths that it is tried on, one a line."""
    rules, _, paths = data.decode(errors="replace").partition("\0")
    with only(InvalidArgument):
        found = parse_ignore_file(rules)
        for path in paths.split("\n")[:8]:
            # Short, as those of files are: each directory above is matched as well.
            _check_path(found, path[:100])
    for line in rules.split("\n")[:8]:
        with only(InvalidArgument):
            hold(isinstance(fixed_parent(line), str), "a pattern has a parent", line)
            hold(Wildcards(line).matches(paths[:100]) in (True, False), "a pattern is matched or not", line)


def _check_path(rules: list[str], path: str) -> None:
    patterns = Patterns(rules)
    matched = patterns.matches(path)
    hold(Patterns(rules).matches(path) is matched, "what was asked before changes nothing", rules, path)
    hold(not matched or path, "the root is never matched", rules)
    if path and not path.endswith("/") and patterns.prunes(path):
        hold(matched and patterns.matches(f"{path}/a/b"), "what is pruned is matched", rules, path)


_DOCKERFILES = (
    b"FROM a AS b\nRUN echo $x\nCOPY --from=b --chmod=1 a b\nCMD [\"a\", \"b\"]\n",
    b"# syntax=a\n# escape=`\nFROM a\nENV a=b c='d e' `\n f=g\nLABEL x y\n",
    b"FROM a\nRUN <<E cat\nx $y\nE\nCOPY <<-'E' <<F /d/\n\ta\n\tE\nb\nF\n",
    b"FROM a\nHEALTHCHECK --interval=1m --retries=3 CMD x\nONBUILD ADD a b\nEXPOSE 80/tcp\nVOLUME [\"/a\"]\n",
    b"FROM a\nRUN --mount=type=cache,target=/c --network=none x\nARG a=${b:-c}\nSHELL [\"a\"]\nUSER a:b\nWORKDIR $a\n",
    b"FROM --platform=$a b\n# check=skip=all\nMAINTAINER x\nSTOPSIGNAL 9\nENTRYPOINT x\\\n\n # c\n y\n",
)  # fmt: skip
_IGNORED = (
    b"# c\n*.o\n!a.o\n\0a.o\nb/c.o",
    b"**/a\na/**/b\n**.c\na**b\n[a-c]?\\*\0a/b\nx/a/b/c",
    b" /a/../b/ \n!\\!c\n\0b/c",
    b"![\n\0a",
    # A class that, when it is long, took time with the square of its length.
    b"![#o\xf7\xac\xff\xdf\x9c\xf5\x90a",
)
DOCKERFILE = Target(feed_dockerfile, _DOCKERFILES)
IGNORE = Target(feed_ignore, _IGNORED)
