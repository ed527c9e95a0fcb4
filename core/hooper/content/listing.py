"""What a build knows of its sources: each file with a digest of all that a copy would carry over.

The functions named as a worker's take (arguments, descriptors), see `hooper.api.driver.Workers`. Paths are bytes,
since they need not be UTF-8.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hooper.api.errors import InvalidArgument, NotFound
from hooper.content import selection
from hooper.content.mounting import enter
from hooper.content.trees import read_xattrs

_PIECE = 1 << 20
_SPARSE = 16 << 20
_BLOCK = 4096
_ZERO = bytes(_BLOCK)

Row = tuple[bytes, str, str, int, bytes]
"""Path, kind (file, directory, symlink, other), digest, bytes of a file, where a symlink points to."""


def kind_of(mode: int) -> str:
    """file, directory, symlink or other."""
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "symlink" if stat.S_ISLNK(mode) else "other"


def entry_digest(
    mode: int, *, content: str = "", link: bytes = b"", device: int = 0, xattrs: Mapping[bytes, bytes] | None = None,
    owner: tuple[int, int] = (0, 0),
) -> str:  # fmt: skip
    """Of all that a copy carries over: kind, mode, content (a file's digest), attributes; not of times and the name.

    `owner`: 0:0 where a copy does not keep it.
    """
    digest = hashlib.sha256(b"%o %d %d:%d %s\0%s\0" % (mode, device, *owner, content.encode(), link))
    for name, value in sorted(xattrs.items()) if xattrs else ():
        digest.update(b"%s=%d:%s\0" % (name, len(value), value))
    return f"sha256:{digest.hexdigest()}"


def content_digest(fd: int, status: os.stat_result) -> str:
    """The sha256 of a file, in hexadecimal. That of a large one which is mostly holes is of its data and where they
    are: reading what is not there could take for ever."""
    digest = hashlib.sha256()
    if status.st_size > _SPARSE and status.st_blocks * 1024 < status.st_size:
        for position, data in _data(fd, status.st_size):
            digest.update(b"%d\0" % position)
            digest.update(data)
        digest.update(b"%d" % status.st_size)
        return f"sparse-{digest.hexdigest()}"
    while piece := os.read(fd, _PIECE):
        digest.update(piece)
    return digest.hexdigest()


def _data(fd: int, size: int) -> Iterator[tuple[int, bytes]]:
    """The blocks that have something in them, wherever the file system has chosen to leave holes."""
    position = 0
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError:
            return  # only a hole is left
        end = os.lseek(fd, start, os.SEEK_HOLE)
        for offset in range(start - start % _BLOCK, end, _BLOCK):
            block = os.pread(fd, _BLOCK, offset)
            if block != _ZERO[: len(block)]:
                yield offset, block
        position = end


class DiskView:
    """`hooper.content.selection.View` of this process's root, whose links nobody follows here."""

    def __init__(self, *, owners: bool = False) -> None:
        """`owners`: a digest is also of the owner."""
        self._owners = owners
        self._status: dict[bytes, os.stat_result | None] = {}

    def status(self, path: bytes) -> os.stat_result | None:
        if path not in self._status:
            try:
                self._status[path] = os.lstat(b"/" + path)
            except (FileNotFoundError, NotADirectoryError):
                self._status[path] = None
            except OSError as error:
                raise unreadable(path, error) from error
        return self._status[path]

    def kind(self, path: bytes) -> str:
        status = self.status(path)
        return kind_of(status.st_mode) if status else ""

    def link(self, path: bytes) -> bytes:
        return os.readlink(b"/" + path)

    def names(self, path: bytes) -> Sequence[bytes]:
        try:
            return sorted(os.listdir(b"/" + path))
        except OSError as error:
            raise unreadable(path, error) from error

    def digest(self, path: bytes) -> str:
        try:
            return self.row(path)[2]
        except OSError as error:
            raise unreadable(path, error) from error

    def row(self, path: bytes) -> Row:
        status = self.status(path)
        assert status is not None
        owner = (status.st_uid, status.st_gid) if self._owners else (0, 0)
        whole = b"/" + path
        if stat.S_ISREG(status.st_mode):
            fd = os.open(whole, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                content, xattrs = content_digest(fd, status), read_xattrs(fd)
            finally:
                os.close(fd)
            digest = entry_digest(status.st_mode, content=content, xattrs=xattrs, owner=owner)
            return path, "file", digest, status.st_size, b""
        link = os.readlink(whole) if stat.S_ISLNK(status.st_mode) else b""
        xattrs = read_xattrs(whole) if stat.S_ISDIR(status.st_mode) else {}
        digest = entry_digest(status.st_mode, link=link, device=status.st_rdev, xattrs=xattrs, owner=owner)
        return path, kind_of(status.st_mode), digest, 0, link


def unreadable(path: bytes, error: OSError) -> InvalidArgument:
    """The error of a file of a tree that cannot be read."""
    return InvalidArgument(f"cannot read {os.fsdecode(path)}", error.strerror or str(error))


def rows_below(view: DiskView, path: bytes) -> Iterator[Row]:
    """What is below a directory. No recursion: trees may be deep."""
    stack = [path]
    while stack:
        directory = stack.pop()
        for name in view.names(directory):
            each = directory + b"/" + name if directory else name
            yield view.row(each)
            if view.kind(each) == "directory":
                stack.append(each)


def list_tree(arguments: Mapping[str, Any], fds: Sequence[int]) -> list[Row]:
    """Worker: all that is at and below `paths`, sorted.

    The tree is named by `mounts` or `root`. A path that is a symlink is followed, within the tree; those below are
    not. NotFound names one that is missing.
    """
    enter(arguments)
    view = DiskView()
    found: dict[bytes, Row] = {}
    for path in arguments["paths"]:
        name = selection.clean(os.fsdecode(path))
        real, _ = selection.resolve(view, name)
        if real is None or (real and not view.kind(real)):
            raise NotFound(
                f"{os.fsdecode(path)} is not there", "no such file or directory", "Is it spelled right?"
            )  # fmt: skip
        if name:
            found[name] = (name, *view.row(real)[1:])
        if not real or view.kind(real) == "directory":
            for row in rows_below(view, real):
                below = name + row[0][len(real) :]
                found[below.lstrip(b"/")] = (below.lstrip(b"/"), *row[1:])
    return [found[path] for path in sorted(found)]


def choose_files(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Worker: what `paths` mean, by `literal`, `parents` and `exclude`, see `hooper.content.selection.choose`.

    `owners`: its digest is also of the owners. Only those files are read. Returns what `selection.from_wire` takes.
    """
    enter(arguments)
    try:
        chosen = selection.choose(
            DiskView(owners=arguments["owners"]),
            [os.fsdecode(path) for path in arguments["paths"]],
            literal=arguments["literal"],
            parents=arguments["parents"],
            exclude=[os.fsdecode(pattern) for pattern in arguments["exclude"]],
        )
    except selection.Missing as missing:
        return missing.to_wire()
    return {"items": list(chosen.items), "digest": chosen.digest, "matched": chosen.matched}
