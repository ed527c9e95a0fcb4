"""Directory trees: their entries as tar entries, their copies, their removal.

Paths are bytes. Functions named as a worker's take (arguments, descriptors), see `hooper.api.driver.Workers`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any

from hooper.content.tar import BLOCK_DEVICE, CHARACTER, DIRECTORY, FIFO, FILE, SYMLINK, Entry

_FORMATS = {
    stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHARACTER, stat.S_IFBLK: BLOCK_DEVICE, stat.S_IFIFO: FIFO,
}  # fmt: skip
_NO_XATTRS = (errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.ENOENT)


def kept_xattr(name: bytes) -> bool:
    """Whether layers carry an extended attribute.

    What belongs to one host (SELinux labels, IMA) stays there, and overlayfs's own, which would
    let a layer name directories of others, never get in or out.
    """
    if name.startswith((b"user.", b"trusted.")):
        return not name.startswith((b"trusted.overlay.", b"user.overlay."))
    return name in (b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default")


def read_xattrs(path: bytes) -> dict[bytes, bytes]:
    """The extended attributes that layers carry, of the path itself (a symlink is not followed)."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return {}
        raise
    found = {}
    for name in names:
        if kept_xattr(os.fsencode(name)):
            found[os.fsencode(name)] = os.getxattr(path, name, follow_symlinks=False)
    return found


def entry_of(path: bytes, status: os.stat_result, name: bytes) -> Entry | None:
    """The tar entry for a path, named `name`; None for a socket, which no archive can hold."""
    kind = _FORMATS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    mode, mtime = stat.S_IMODE(status.st_mode), status.st_mtime_ns
    entry = Entry(name, kind, mode=mode, uid=status.st_uid, gid=status.st_gid, mtime=mtime)
    if kind == FILE:
        entry.size = entry.stored = status.st_size
    elif kind == DIRECTORY:
        entry.name = name + b"/"
    elif kind == SYMLINK:
        entry.link = os.readlink(path)
    elif kind in (CHARACTER, BLOCK_DEVICE):
        entry.major, entry.minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    entry.xattrs = read_xattrs(path)
    return entry


def remove(path: bytes) -> None:
    """Removes a path and all below it; harmless if it is gone."""
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
        with os.scandir(path) as found:
            entries = list(found)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                remove(entry.path)
            else:
                os.unlink(entry.path)
        os.rmdir(path)
    except FileNotFoundError:
        pass


def remove_tree(arguments: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Worker: removes `path` and all below it."""
    remove(os.fsencode(arguments["path"]))


def usage(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, int]:
    """Worker: the {size (bytes allocated), inodes} of the tree `path`; a file with several links counts once."""
    size = 0
    seen: set[int] = set()
    pending = [os.fsencode(arguments["path"])]
    while pending:
        directory = pending.pop()
        try:
            status = os.lstat(directory)
            with os.scandir(directory) as found:
                entries = [(entry.path, entry.stat(follow_symlinks=False)) for entry in found]
        except FileNotFoundError:
            continue  # a snapshot in use changes underneath
        for path, each in [(b"", status), *entries]:
            if path and stat.S_ISDIR(each.st_mode):
                pending.append(path)
            elif each.st_ino not in seen:
                seen.add(each.st_ino)
                size += each.st_blocks * 512
    return {"size": size, "inodes": len(seen)}


def copy_content(source: int, target: int, status: os.stat_result) -> None:
    """Copies a file's bytes: shared blocks where the file system has them, holes kept as holes."""
    size = status.st_size
    if not size:
        return
    if status.st_blocks * 512 >= size:
        _copy_range(source, target, 0, size)
        return
    position = 0
    while position < size:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # only a hole is left
        position = os.lseek(source, start, os.SEEK_HOLE)
        _copy_range(source, target, start, position - start)
    os.ftruncate(target, size)


def _copy_range(source: int, target: int, start: int, count: int) -> None:
    end = start + count
    while start < end:
        try:
            copied = os.copy_file_range(source, target, end - start, start, start)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
                raise
            data = os.pread(source, min(end - start, 1 << 20), start)
            copied = os.pwrite(target, data, start) if data else 0
        if not copied:
            return  # it was shortened meanwhile
        start += copied


def copy_metadata(source: bytes, target: bytes, status: os.stat_result, *, owner: bool = True) -> None:
    """Gives `target` owner, extended attributes, mode and mtime of `source`, in the order that keeps all."""
    link = stat.S_ISLNK(status.st_mode)
    if owner:
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    for name, value in read_xattrs(source).items():
        os.setxattr(target, name, value, follow_symlinks=False)
    if not link:
        os.chmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


class TreeCopier:
    """Copies trees with all that they have; files with several links stay linked among each other."""

    def __init__(self) -> None:
        self._links: dict[tuple[int, int], bytes] = {}

    def copy(self, source: bytes, target: bytes) -> None:
        """Copies `source` to `target`, which must not exist, unless both are directories."""
        status = os.lstat(source)
        if stat.S_ISDIR(status.st_mode):
            self._directory(source, target, status)
            return
        if status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), target)
            if first is not target:
                os.link(first, target, follow_symlinks=False)
                return
        if self._leaf(source, target, status):
            copy_metadata(source, target, status)

    def _directory(self, source: bytes, target: bytes, status: os.stat_result) -> None:
        try:
            os.mkdir(target, 0o700)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(target).st_mode):
                raise
        with os.scandir(source) as found:
            names = [entry.name for entry in found]
        for name in names:
            self.copy(source + b"/" + name, target + b"/" + name)
        copy_metadata(source, target, status)

    def _leaf(self, source: bytes, target: bytes, status: os.stat_result) -> bool:
        """Makes the copy of anything but a directory; False if it is of a kind that is left out."""
        if stat.S_ISREG(status.st_mode):
            reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                try:
                    copy_content(reading, writing, status)
                finally:
                    os.close(writing)
            finally:
                os.close(reading)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(source), target)
        elif stat.S_ISSOCK(status.st_mode):
            return False
        else:
            os.mknod(target, status.st_mode, status.st_rdev)
        return True


def copy_tree(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, int]:
    """Worker: copies the tree `source` to `target`, which is empty or does not exist.

    Returns {stamp}: a time (ns) by the file system's clock when all was copied. A file whose ctime is
    older has not been touched since; `hooper.content.pack:diff_trees` takes it.
    """
    target = os.fsencode(arguments["target"])
    TreeCopier().copy(os.fsencode(arguments["source"]), target)
    marker = target + b".stamp"
    os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    stamp = os.lstat(marker).st_ctime_ns
    os.unlink(marker)
    return {"stamp": stamp}
