"""Work on the files of a container or a snapshot: what `cp`, `export` and WORKDIR need.

All functions are a worker's (`hooper.api.driver.Workers`). Their arguments name the tree by `mounts` (a snapshot's)
or `root` (a directory, /proc/<pid>/root for a running container); it becomes the root of the process.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hooper.api.errors import InvalidArgument, NotFound
from hooper.content.confinement import enter_confined
from hooper.content.copying import chosen_owner, copy_files, looks_like_archive, lookup_owner, make_directories
from hooper.content.listing import choose_files, list_tree
from hooper.content.mounting import enter, open_in_root
from hooper.content.pack import Output, Packer
from hooper.content.receiving import receive_archive
from hooper.content.unpack import unpack

__all__ = [
    "archive_path", "choose_files", "copy_files", "export_tree", "extract_path", "list_tree", "looks_like_archive",
    "make_directory", "read_file", "receive_archive", "stat_path", "unpack_archive",
]  # fmt: skip

_READ_MAX = 16 << 20
_GO_KINDS = {
    stat.S_IFDIR: 1 << 31, stat.S_IFLNK: 1 << 27, stat.S_IFBLK: 1 << 26, stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24, stat.S_IFCHR: 1 << 26 | 1 << 21,
}  # fmt: skip
_GO_BITS = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


def go_mode(mode: int) -> int:
    """A mode of stat(2) as Go's os.FileMode."""
    bits = sum(go for bit, go in _GO_BITS.items() if mode & bit)
    return _GO_KINDS.get(stat.S_IFMT(mode), 0) | bits | (mode & 0o777)


def _open(path: str, flags: int) -> int:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return open_in_root(root, os.fsencode(path), flags)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"Could not find the file {path} in container", "there is no such path") from None
    except OSError as error:
        raise InvalidArgument(f"cannot open {path}", error.strerror or str(error)) from error
    finally:
        os.close(root)


def _go_to(path: str) -> tuple[bytes, os.stat_result]:
    """Makes a path's parent the working directory; returns its last part there (not followed) and what it is.

    A path that ends in "/" or "/." is the directory itself, as "."; so is the root. NotFound.
    """
    whole = "/" + path.lstrip("/")
    parent, _, base = whole.rpartition("/")
    if base in ("", ".", ".."):
        parent, base = whole, "."
    fd = _open(parent or "/", os.O_PATH | os.O_DIRECTORY)
    os.fchdir(fd)
    os.close(fd)
    try:
        return os.fsencode(base), os.lstat(base)
    except FileNotFoundError:
        raise NotFound(f"Could not find the file {path} in container", "there is no such path") from None


def _given_name(path: str) -> str:
    """The last part of a path as it was given: "." for "/" and "/a/.", "a" for "/a/"."""
    return path.rstrip("/").rpartition("/")[2] or "."


def stat_path(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Worker: what is at `path`: {name, size, mode (Go's), mtime (RFC 3339), link_target (as a path in the tree)}.

    A symlink is not followed, unless the path ends in "/" or "/.". NotFound.
    """
    enter(arguments)
    path: str = arguments["path"]
    name, status = _go_to(path)
    link = ""
    if stat.S_ISLNK(status.st_mode):
        link = os.path.realpath(name).decode("utf-8", "replace")
    whole, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
    time = f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}"
    fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
    given = _given_name(path)
    return {
        "name": "/" if given == "." and not path.strip("/.") else given,
        "size": status.st_size,
        "mode": go_mode(status.st_mode),
        "mtime": f"{time}{fraction}Z",
        "link_target": link,
    }


def archive_path(arguments: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Worker: writes a tar of what is at `path` to `fds[0]`, its first entry named like the last part of the path.

    NotFound.
    """
    enter(arguments)
    name, _ = _go_to(arguments["path"])
    output = Output(fds[0])
    packer = Packer(output)
    packer.tree(name, os.fsencode(_given_name(arguments["path"])))
    packer.finish()
    output.result()


def export_tree(arguments: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Worker: writes a tar of the whole tree to `fds[0]`."""
    enter(arguments)
    output = Output(fds[0])
    packer = Packer(output)
    packer.children(b".", b"")
    packer.finish()
    output.result()


def extract_path(arguments: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Worker: unpacks the archive `fds[0]` in the directory `path`, which must be there.

    `no_overwrite_dir_non_dir`: a directory and another kind of file do not replace each other. `copy_uid_gid`: all
    files belong to `user` ("" or missing: as in the archive). NotFound, InvalidArgument.
    """
    enter_confined(arguments, devices=True)
    path: str = arguments["path"]
    fd = _open(path, os.O_PATH)
    try:
        os.fchdir(fd)
    except NotADirectoryError:
        raise InvalidArgument(
            f"cannot extract to {path}", "extraction point is not a directory", "Name a directory."
        ) from None
    owner = None
    if arguments.get("copy_uid_gid") and arguments.get("user"):
        owner = lookup_owner(arguments["user"])
    unpack(fds[0], owner=owner, strict=bool(arguments.get("no_overwrite_dir_non_dir")))


def unpack_archive(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Worker: unpacks the archive `fds[0]`, plain or compressed, at the root of the tree. Returns {diff_id, size}."""
    enter_confined(arguments)
    stream, _ = unpack(fds[0])
    return {"diff_id": stream.diff_id, "size": stream.size}


def read_file(arguments: Mapping[str, Any], fds: Sequence[int]) -> bytes:
    """Worker: the content of the file `path`. NotFound; InvalidArgument if it is no file, or more than 16 MiB."""
    enter(arguments)
    path: str = arguments["path"]
    fd = _open(path, os.O_RDONLY | os.O_NONBLOCK)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_size > _READ_MAX:
        raise InvalidArgument(f"cannot read {path}", "it is no file, or too large")
    with os.fdopen(fd, "rb") as file:
        return file.read(_READ_MAX)


def make_directory(arguments: Mapping[str, Any], fds: Sequence[int]) -> bool:
    """Worker: makes the directory `path` and its missing parents, 0755; False if it was there.

    New ones belong to `user` ("" is root). InvalidArgument if something else is there.
    """
    enter(arguments)
    owner = chosen_owner(arguments["user"]) if arguments.get("user") else (0, 0)
    return make_directories(os.fsencode(arguments["path"]), owner)
