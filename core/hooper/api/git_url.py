"""URLs of git repositories, as a build's context and ADD have them.

Forms: "https://HOST/PATH.git", "http://…", "git://HOST/PATH", "ssh://USER@HOST/PATH", "USER@HOST:PATH". After it may
stand "?NAME=VALUE&…" with ref, branch, tag, subdir, checksum (or commit), keep-git-dir, submodules, fetch-by-commit and
mtime, and "#REF:DIRECTORY". (Docker's documentation: Build context, Git repositories.)
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from hooper.api.errors import InvalidArgument

_SCHEME = re.compile(r"([A-Za-z0-9]+)://")
_SCP = re.compile(r"(?P<remote>[\w-]+@[A-Za-z0-9.-]+:[^?#]*)(?:\?(?P<query>[^#]*))?(?:#(?P<fragment>.*))?\Z", re.DOTALL)
_TRUE, _FALSE = ("1", "t", "T", "TRUE", "true", "True"), ("0", "f", "F", "FALSE", "false", "False")
_COMMIT = re.compile(r"[0-9a-f]{1,64}\Z")
_QUERIES = (
    "ref", "branch", "tag", "subdir", "checksum", "commit", "keep-git-dir", "submodules", "fetch-by-commit", "mtime",
)  # fmt: skip
_BOOLEANS = ("keep-git-dir", "submodules", "fetch-by-commit")


class GitUrl(msgspec.Struct, frozen=True, kw_only=True):
    """A repository, and what of it is meant; the fields are those of `build_graph.GitSource`."""

    remote: str
    ref: str = ""
    subdirectory: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    """None: the URL does not say."""
    submodules: bool = True


def parse_git_url(text: str, *, loose: bool = False) -> GitUrl | None:
    """None if the text is none. `loose`: "github.com/USER/REPOSITORY" is one as well.

    InvalidArgument for one with a wrong query.
    """
    if loose and text.startswith("github.com/"):
        return _of_url(f"https://{text}")
    if scheme := _SCHEME.match(text):
        return _of_url(text) if _is_git(scheme[1].lower(), text) else None
    if found := _SCP.match(text):
        return _git_url(text, found["remote"], found["query"] or "", found["fragment"] or "")
    return None


def check_commit(checksum: str) -> None:
    """InvalidArgument for what is neither a commit's id nor the beginning of one."""
    if not _COMMIT.match(checksum):
        raise InvalidArgument(
            f'invalid checksum "{checksum}"', "expected hex commit hash", "Give the commit, or its beginning."
        )


def _is_git(scheme: str, text: str) -> bool:
    """Of HTTP servers, paths with the ending .git are repositories."""
    if scheme in ("http", "https"):
        return re.split("[?#]", text, maxsplit=1)[0].endswith(".git")
    return scheme in ("git", "ssh")


def _of_url(text: str) -> GitUrl:
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise InvalidArgument(f'invalid URL "{text}"', str(error), "Write https://HOST/PATH.git") from error
    remote = parts._replace(query="", fragment="").geturl()
    return _git_url(text, remote, parts.query, unquote(parts.fragment))


def _git_url(text: str, remote: str, query: str, fragment: str) -> GitUrl:
    ref, _, directory = fragment.partition(":")
    given = _query(text, query)
    for prefix, name in (("", "ref"), ("refs/tags/", "tag"), ("refs/heads/", "branch")):
        if name in given:
            ref = _agreed(text, "ref", ref, prefix + given[name].removeprefix(prefix))
    directory = _agreed(text, "subdir", directory, given.get("subdir", directory))
    checksum = _agreed(text, "checksum", given.get("checksum", ""), given.get("commit", given.get("checksum", "")))
    if checksum:
        check_commit(checksum)
    if given.get("fetch-by-commit") == "true" and checksum:
        ref, checksum = checksum, ""
    keep = given.get("keep-git-dir")
    return GitUrl(
        remote=remote,
        ref=ref,
        subdirectory=posixpath.normpath(f"/{directory}").lstrip("/"),
        checksum=checksum,
        keep_git_dir=None if keep is None else keep == "true",
        submodules=given.get("submodules") != "false",
    )


def _query(text: str, query: str) -> Mapping[str, str]:
    """Each name with its value; booleans are "true" or "false"."""
    given = {}
    for name, values in parse_qs(query, keep_blank_values=True).items():
        value = values[0]
        if name not in _QUERIES:
            raise _wrong(text, f'unexpected query "{name}"')
        if len(values) > 1:
            raise _wrong(text, f'query "{name}" has multiple values')
        if name in _BOOLEANS:
            value = "true" if value in ("", *_TRUE) else "false" if value in _FALSE else ""
            if not value:
                raise _wrong(text, f'invalid {name} value: "{values[0]}"')
        elif not value:
            raise _wrong(text, f'query "{name}" has no value')
        if name == "mtime" and value != "checkout":
            raise _wrong(text, f'invalid mtime value: "{value}" (files have the time of the checkout)')
        given[name] = value
    return given


def _agreed(text: str, name: str, one: str, other: str) -> str:
    if one and one != other:
        raise _wrong(text, f'{name} conflicts: "{one}" vs "{other}"')
    return other


def _wrong(text: str, why: str) -> InvalidArgument:
    return InvalidArgument(f'cannot understand the git URL "{text}"', why, f"There are: {', '.join(_QUERIES)}.")
