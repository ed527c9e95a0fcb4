"""COPY and ADD: files from a build's context, or from another file system, into a snapshot."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any

from hooper.api.errors import DataLoss, Internal, InvalidArgument, NotFound, no_space
from hooper.api.modes import parse_mode
from hooper.content.compression import plain_reader
from hooper.content.mounting import move_root, open_in_root, open_tree, private_namespace
from hooper.content.removal import remove
from hooper.content.tar import TarReader
from hooper.content.trees import TreeCopier
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


def chosen_owner(user: str) -> tuple[int, int]:
    """uid and gid that --chown or USER mean: as `lookup_owner`, but a number alone is the group's too."""
    return lookup_owner(f"{user}:{user}" if user.isdigit() else user)


def make_directories(path: bytes, owner: tuple[int, int]) -> bool:
    """Makes a directory, 0755, and what is missing of the way, all for `owner`. False if it was there.

    Symlinks lead where they lead within this process's root. InvalidArgument if a part is no directory.
    """
    path = os.path.realpath(b"/" + path.lstrip(b"/"))
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        make_directories(os.path.dirname(path), owner)
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


def looks_like_archive(arguments: Mapping[str, Any], fds: Sequence[int]) -> bool:
    """Worker: `is_archive` of the file `path`."""
    fd = os.open(arguments["path"], os.O_RDONLY | os.O_CLOEXEC)
    try:
        return is_archive(fd)
    finally:
        os.close(fd)


class _Copy:
    """One COPY or ADD into this process's root."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._destination: bytes = arguments["destination"]
        self._unpack: bool = arguments["unpack"]
        self._several: bool = arguments["several"] or arguments["parents"]
        chown: str = arguments["chown"]
        self._chown = chosen_owner(chown) if chown else None
        owner = self._chown if self._chown or arguments["keep_owner"] else (0, 0)
        mode = parse_mode(arguments["chmod"]) if arguments["chmod"] else None
        self._copier = TreeCopier(owner=owner, mode=mode, replace=True)
        self._into = (
            self._several or self._destination.endswith((b"/", b"/.")) or os.path.isdir(self._destination)
        )  # fmt: skip

    def copy(self, tree: int, path: bytes, name: bytes, only: Sequence[bytes] | None) -> None:
        """One item of a selection (`hooper.content.selection.Item`)."""
        shown = os.fsdecode(path)
        try:
            fd = open_in_root(tree, path, os.O_RDONLY | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"cannot copy {shown}", "no such file or directory", "Is it spelled right?") from None
        self._copier.forget_links()
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode) and only is None:
                self._copier.copy_children(fd, self._directory())
            elif stat.S_ISDIR(status.st_mode):
                self._copier.copy_listed(fd, only or (), self._directory())
            elif not stat.S_ISREG(status.st_mode):
                raise InvalidArgument(f"cannot copy {shown}", "it is neither a file nor a directory")
            elif self._unpack and is_archive(fd):
                self._unpacked(fd, shown)
            else:
                self._copier.copy_file(fd, self._file_target(name), status)
        finally:
            os.close(fd)

    def _unpacked(self, fd: int, shown: str) -> None:
        os.chdir(self._directory())
        try:
            unpack(fd, owner=self._chown)
        except DataLoss as error:
            raise InvalidArgument(
                f"cannot unpack {shown}", f"{error.what}: {error.why}", "Make it again, or COPY it as it is."
            ) from error
        finally:
            os.chdir("/")

    def _directory(self) -> bytes:
        make_directories(self._destination, self._chown or (0, 0))
        return os.path.realpath(self._destination)

    def _file_target(self, name: bytes) -> bytes:
        if self._into:
            target = self._directory() + b"/" + name
        else:
            target = os.path.realpath(self._destination)
            make_directories(os.path.dirname(target), self._chown or (0, 0))
        if os.path.isdir(target) and not os.path.islink(target):
            raise InvalidArgument(
                f"cannot copy a file to {os.fsdecode(target)}", "a directory is there", 'End the destination with "/".'
            )
        remove(target)
        return target


def copy_files(arguments: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Worker: COPY and ADD, by `hooper.api.build_graph.Copy`.

    The target is named by `mounts` or `root`, and so is each of `sources` with its `items`
    (`hooper.content.selection.Item`); further `several` (they are several files or directories), `destination`,
    `chown`, `chmod`, `keep_owner`, `unpack` and `parents`. NotFound names a source that is missing.
    """
    private_namespace()
    target = open_tree(arguments)
    trees = [open_tree(source) for source in arguments["sources"]]
    move_root(target)
    os.umask(0)
    copy = _Copy(arguments)
    try:
        for source, tree in zip(arguments["sources"], trees, strict=True):
            for path, name, only in source["items"]:
                copy.copy(tree, path, name, only)
    except OSError as error:
        place = f" to {os.fsdecode(error.filename)}" if error.filename else ""
        raise no_space(error, f"cannot copy{place}") or Internal(
            f"cannot copy{place}", error.strerror or str(error)
        ) from error
