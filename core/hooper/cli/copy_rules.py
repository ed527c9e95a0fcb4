"""Where `cp` puts things: the rules of docker's documentation, as pure functions on paths.

A path that ends in "/." stands for the contents of a directory, one that ends in "/" for something that has to be
a directory. The last part of a path that ends in "/." is ".".
"""

from __future__ import annotations

import os
from typing import NamedTuple

from hooper.api.errors import InvalidArgument, NotFound


class Source(NamedTuple):
    """What is copied. `rebased` is the name that it gets in the place of its own, because a link led to it."""

    path: str
    is_directory: bool
    rebased: str = ""


class Target(NamedTuple):
    """Where it shall go, links followed."""

    path: str
    exists: bool = False
    is_directory: bool = False


class Arrangement(NamedTuple):
    """The directory to unpack in, and the first part of the names in the archive with what stands for it there."""

    directory: str
    old: str = ""
    new: str = ""

    def renamed(self, name: str) -> str:
        """The name of an entry of the archive as it is unpacked."""
        if self.old == self.new:
            return name
        if self.old == "/":
            return f"{self.new}/{name.strip('/')}".rstrip("/")
        head, slash, rest = name.partition("/")
        return f"{self.new}{slash}{rest}" if head == self.old else name


def split_entry(path: str) -> tuple[str, str]:
    """(directory, last part) of a path; the last part of "/a/b/." is ".", of "/a/b/" it is "b"."""
    clean = os.path.normpath(path)
    if names_contents(path):
        return clean, "."
    return os.path.dirname(clean) or ".", os.path.basename(clean) or "/"


def names_contents(path: str) -> bool:
    """Whether a path ends in "/."."""
    return os.path.basename(path) == "."


def names_directory(path: str) -> bool:
    """Whether only a directory can be meant."""
    return path.endswith("/") or names_contents(path)


def as_asked(clean: str, path: str) -> str:
    """A path without its ending as `path` ends: "/." and "/" mean something."""
    ending = "/." if names_contents(path) else "/" if path.endswith("/") else ""
    return clean if clean.endswith(ending) else clean.rstrip("/") + ending


def followed(path: str, resolved: str) -> tuple[str, str]:
    """(path to copy, name that it gets) where `path` turned out to be a link to `resolved`."""
    resolved = as_asked(resolved, path)
    name = os.path.basename(path.rstrip("/"))
    return resolved, "" if name == os.path.basename(resolved.rstrip("/")) else name


def joined(parent_of: str, link: str) -> str:
    """Where the link `parent_of`, whose text is `link`, leads to."""
    return link if link.startswith("/") else os.path.normpath(os.path.join(split_entry(parent_of)[0], link))


def arrange(source: Source, target: Target) -> Arrangement:
    """How the archive of `source` is unpacked; InvalidArgument, NotFound."""
    directory, name = split_entry(target.path)
    old = source.rebased or split_entry(source.path)[1]
    if target.exists and target.is_directory:
        return Arrangement(target.path)
    if target.exists and source.is_directory:
        raise InvalidArgument(f"cannot copy the directory {source.path}", f"{target.path} is a file")
    if not target.exists and not source.is_directory and names_directory(target.path):
        raise NotFound(f"the directory {target.path} does not exist", remedy="Make it first.")
    return Arrangement(directory, old, name)
