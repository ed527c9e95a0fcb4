"""COPY and ADD: files from a build's context, or from another file system, into a snapshot."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any

from hooper.api.errors import DataLoss, InvalidArgument, NotFound
from hooper.content.compression import plain_reader
from hooper.content.mounting import move_root, open_in_root, open_tree, private_namespace
from hooper.content.tar import TarReader
from hooper.content.trees import TreeCopier, remove
from hooper.content.unpack import unpack
from hooper.linux import users


def lookup_owner(user: str) -> tuple[int, int]:
    """uid and gid of "user[:group]", by the passwd and group files of this process's root. InvalidArgument."""
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        identity = users.resolve(root, user)
    finally:
        os.close(root)
    return identity.uid, identity.gid


def make_directories(path: bytes, owner: tuple[int, int], parents: tuple[int, int] = (0, 0)) -> bool:
    """Makes a directory, 0755, and what is missing of the way; `owner` is the last one's. False if it was there.

    Symlinks lead where they lead within this process's root. InvalidArgument if a part is no directory.
    """
    path = os.path.realpath(b"/" + path.lstrip(b"/"))
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        make_directories(os.path.dirname(path), parents, parents)
        os.mkdir(path)
        os.chmod(path, 0o755)
        os.chown(path, *owner)
        return True
    except NotADirectoryError:
        pass
    raise InvalidArgument(f"cannot make the directory {os.fsdecode(path)}", "something else is there")


def is_archive(fd: int) -> bool:
    """Whether a file is a tar, plain or compressed, with an entry in it. The descriptor is at its start again then."""
    try:
        _, read = plain_reader(fd)
        next(iter(TarReader(read)))
    except (DataLoss, StopIteration, OSError):
        return False
    finally:
        os.lseek(fd, 0, os.SEEK_SET)
    return True


class _Copy:
    """One COPY or ADD into this process's root."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._destination = os.fsencode(arguments["destination"])
        self._unpack: bool = arguments["unpack"]
        self._sources: list[Any] = arguments["sources"]
        chown: str = arguments["chown"]
        # As Docker has it, a user alone is also the name or number of the group.
        self._chown = lookup_owner(chown if ":" in chown else f"{chown}:{chown}") if chown else None
        owner = self._chown if self._chown or arguments["keep_owner"] else (0, 0)
        mode = int(arguments["chmod"], 8) if arguments["chmod"] else None
        self._copier = TreeCopier(owner=owner, mode=mode, replace=True)

    def _into_directory(self) -> bool:
        """The destination is a directory, whatever the source is."""
        several = sum(len(source["paths"]) for source in self._sources) > 1
        return several or self._destination.endswith((b"/", b"/.")) or os.path.isdir(self._destination)

    def run(self, trees: Sequence[int]) -> None:
        into = self._into_directory()
        for source, tree in zip(self._sources, trees, strict=True):
            for path in source["paths"]:
                self._one(tree, os.fsencode(path), into)

    def _one(self, tree: int, raw: bytes, into: bool) -> None:
        path = os.fsdecode(raw)
        try:
            fd = open_in_root(tree, raw, os.O_RDONLY | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"cannot copy {path}", "no such file or directory", "Is it spelled right?") from None
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                self._copier.copy_children(fd, self._directory())
            elif not stat.S_ISREG(status.st_mode):
                raise InvalidArgument(f"cannot copy {path}", "it is neither a file nor a directory")
            elif self._unpack and is_archive(fd):
                os.chdir(self._directory())
                unpack(fd, owner=self._chown)
                os.chdir("/")
            else:
                self._copier.copy_file(fd, self._file_target(os.path.basename(raw), into), status)
        finally:
            os.close(fd)

    def _directory(self) -> bytes:
        make_directories(self._destination, self._chown or (0, 0))
        return os.path.realpath(self._destination)

    def _file_target(self, name: bytes, into: bool) -> bytes:
        if into:
            target = self._directory() + b"/" + name
        else:
            target = os.path.realpath(self._destination)
            make_directories(os.path.dirname(target), (0, 0))
        if os.path.isdir(target) and not os.path.islink(target):
            raise InvalidArgument(
                f"cannot copy a file to {os.fsdecode(target)}", "a directory is there", 'End the destination with "/".'
            )
        remove(target)
        return target


def copy_files(arguments: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Worker: COPY and ADD, by `hooper.api.builder.CopyStep`.

    The target is named by `mounts` or `root`, and so is each of `sources` with its `paths` (text or bytes); further
    `destination`, `chown`, `chmod`, `keep_owner` and `unpack`. NotFound names a source that is missing.
    """
    private_namespace()
    target = open_tree(arguments)
    trees = [open_tree(source) for source in arguments["sources"]]
    move_root(target)
    os.umask(0)
    _Copy(arguments).run(trees)
