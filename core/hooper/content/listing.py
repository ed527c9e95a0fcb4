"""What a build knows of its sources: each file with a digest of all that a copy would carry over."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hooper.api.errors import InvalidArgument, NotFound
from hooper.content.mounting import open_in_root, open_tree, private_namespace
from hooper.content.trees import read_xattrs

_PIECE = 1 << 20


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "symlink" if stat.S_ISLNK(mode) else "other"


def _digest(status: os.stat_result, link: bytes, content: int | None) -> str:
    """Of kind, mode, size, device, link target, attributes and content; not of times, owner and name."""
    size = status.st_size if stat.S_ISREG(status.st_mode) else 0
    digest = hashlib.sha256(b"%o %d %d %s\0" % (status.st_mode, size, status.st_rdev, link))
    if content is not None:
        for name, value in sorted(read_xattrs(content).items()):
            digest.update(b"%s=%d:%s\0" % (name, len(value), value))
        if size:
            while piece := os.read(content, _PIECE):
                digest.update(piece)
    return f"sha256:{digest.hexdigest()}"


def _entries(directory: int, name: bytes, path: bytes) -> Iterator[tuple[bytes, str, str]]:
    """(path, kind, digest) of `name` in a directory, and of all below it."""
    status = os.lstat(name, dir_fd=directory)
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            yield from _opened(fd, path)
        finally:
            os.close(fd)
        return
    link = os.readlink(name, dir_fd=directory) if stat.S_ISLNK(status.st_mode) else b""
    yield path, _kind(status.st_mode), _digest(status, link, None)


def _opened(fd: int, path: bytes) -> Iterator[tuple[bytes, str, str]]:
    status = os.fstat(fd)
    if path:
        yield path, _kind(status.st_mode), _digest(status, b"", fd)
    if stat.S_ISDIR(status.st_mode):
        for name in os.listdir(fd):
            raw = os.fsencode(name)
            yield from _entries(fd, raw, path + b"/" + raw if path else raw)


def list_tree(arguments: Mapping[str, Any], fds: Sequence[int]) -> list[tuple[bytes, str, str]]:
    """Worker: (path, kind, digest) (see `hooper.api.builder.SourceEntry`) of all that is at and below `paths`.

    Paths are bytes, since they need not be UTF-8; `paths` may be too. The tree is named by `mounts` or `root`.
    A path that is a symlink is followed, within the tree; those below are not. NotFound names one that is missing.
    """
    private_namespace()
    tree = open_tree(arguments)
    found: dict[bytes, tuple[bytes, str, str]] = {}
    for path in arguments["paths"]:
        raw = os.fsencode(path).strip(b"/")
        try:
            fd = open_in_root(tree, raw, os.O_RDONLY | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(
                f"{os.fsdecode(path)} is not there", "no such file or directory", "Is it spelled right?"
            ) from None
        except OSError as error:
            raise InvalidArgument(f"cannot read {os.fsdecode(path)}", error.strerror or str(error)) from error
        for entry, kind, digest in _opened(fd, b"/".join(part for part in raw.split(b"/") if part not in (b"", b"."))):
            found[entry] = entry, kind, digest
        os.close(fd)
    return [found[path] for path in sorted(found)]
