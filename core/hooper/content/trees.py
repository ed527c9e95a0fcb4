"""Directory trees: their entries as tar entries, their copies, their removal.

Paths are bytes. Functions named as a worker's take (arguments, descriptors), see `hooper.api.driver.Workers`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hooper.content.removal import remove
from hooper.content.tar import BLOCK_DEVICE, CHARACTER, DIRECTORY, FIFO, FILE, SYMLINK, Entry

_FORMATS = {
    stat.S_IFREG: FILE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHARACTER, stat.S_IFBLK: BLOCK_DEVICE, stat.S_IFIFO: FIFO,
}  # fmt: skip
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_XATTRS = (errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.ENOENT)


def kept_xattr(name: bytes) -> bool:
    """Whether layers carry an extended attribute.

    What belongs to one host (SELinux labels, IMA) stays there, and overlayfs's own, which would
    let a layer name directories of others, never get in or out.
    """
    if name.startswith((b"user.", b"trusted.")):
        return not name.startswith((b"trusted.overlay.", b"user.overlay."))
    return name in (b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default")


def read_xattrs(path: bytes | int) -> dict[bytes, bytes]:
    """The extended attributes that layers carry, of a descriptor or of a path (a symlink is not followed)."""
    follow = isinstance(path, int)
    try:
        names = os.listxattr(path, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return {}
        raise
    found = {}
    for name in names:
        if kept_xattr(os.fsencode(name)):
            found[os.fsencode(name)] = os.getxattr(path, name, follow_symlinks=follow)
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


def remove_tree(arguments: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Worker: removes `path` and all below it."""
    remove(os.fsencode(arguments["path"]))


def usage(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, int]:
    """Worker: of the tree `path` the {size (bytes allocated), inodes, content (bytes of files, as they appear)}.

    A file with several links counts once.
    """
    size = content = 0
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
                content += 0 if stat.S_ISDIR(each.st_mode) else each.st_size
    return {"size": size, "inodes": len(seen), "content": content}


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


class TreeCopier:
    """Copies trees with all that they have; files with several links stay linked among each other.

    `owner` (uid, gid) and `mode`, which takes what stat(2) says, are given to every copy in place of its own; a
    symlink has no mode. With `replace`, what is in the way is removed, and directories are merged.
    """

    def __init__(
        self,
        *,
        owner: tuple[int, int] | None = None,
        mode: Callable[[int], int] | None = None,
        replace: bool = False,
    ) -> None:
        self._owner, self._mode, self._replace = owner, mode or stat.S_IMODE, replace
        self._links: dict[tuple[int, int], bytes] = {}

    def copy_listed(self, source: int, names: Sequence[bytes], target: bytes) -> None:
        """Copies these alone of what is in a directory; the directories that they are in come before them."""
        made: list[tuple[bytes, os.stat_result]] = []
        opened, parent = os.dup(source), b""
        try:
            for path in names:
                directory, _, name = path.rpartition(b"/")
                if directory != parent:
                    following = os.open(directory or b".", _DIRECTORY, dir_fd=source)
                    os.close(opened)
                    opened, parent = following, directory
                status = os.lstat(name, dir_fd=opened)
                if stat.S_ISDIR(status.st_mode):
                    self._make_directory(target + b"/" + path)
                    made.append((path, status))
                else:
                    self.copy(opened, name, target + b"/" + path)
        finally:
            os.close(opened)
        for path, status in reversed(made):
            fd = os.open(path, _DIRECTORY, dir_fd=source)
            self._dress(fd, target + b"/" + path, status)
            os.close(fd)

    def forget_links(self) -> None:
        """What comes now is linked to nothing that was copied before."""
        self._links.clear()

    def copy(self, directory: int, name: bytes, target: bytes) -> None:
        """Copies `name` in the directory with the descriptor `directory` to the path `target`.

        A socket is left out.
        """
        status = os.lstat(name, dir_fd=directory)
        if stat.S_ISDIR(status.st_mode):
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                self.copy_directory(fd, target, status)
            finally:
                os.close(fd)
            return
        if self._replace:
            remove(target)
        if status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), target)
            if first is not target:
                os.link(first, target, follow_symlinks=False)
                return
        if stat.S_ISREG(status.st_mode):
            # A fifo in its place meanwhile must not stop the copy.
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
            try:
                self.copy_file(fd, target, status)
            finally:
                os.close(fd)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=directory), target)
            self._dress(None, target, status)
        elif not stat.S_ISSOCK(status.st_mode):
            os.mknod(target, status.st_mode, status.st_rdev)
            self._dress(None, target, status)

    def copy_file(self, source: int, target: bytes, status: os.stat_result) -> None:
        """Copies the file that `source` is open on."""
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            copy_content(source, writing, status)
        finally:
            os.close(writing)
        self._dress(source, target, status)

    def copy_directory(self, source: int, target: bytes, status: os.stat_result) -> None:
        """Copies the directory that `source` is open on, to a path that is none or a directory."""
        self._make_directory(target)
        self.copy_children(source, target)
        self._dress(source, target, status)

    def _make_directory(self, target: bytes) -> None:
        try:
            os.mkdir(target, 0o700)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(target).st_mode):
                if not self._replace:
                    raise
                os.unlink(target)
                os.mkdir(target, 0o700)

    def copy_children(self, source: int, target: bytes) -> None:
        """Copies what is in a directory into another one, which is there."""
        for name in sorted(os.listdir(source)):
            self.copy(source, os.fsencode(name), target + b"/" + os.fsencode(name))

    def _dress(self, source: int | None, target: bytes, status: os.stat_result) -> None:
        """Owner, attributes, mode and time, in the order that keeps them all."""
        uid, gid = self._owner or (status.st_uid, status.st_gid)
        os.chown(target, uid, gid, follow_symlinks=False)
        if source is not None:
            for name, value in read_xattrs(source).items():
                os.setxattr(target, name, value)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(target, self._mode(status.st_mode))
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns), follow_symlinks=False)


def copy_tree(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, int]:
    """Worker: copies the tree `source` to `target`, which is empty or does not exist.

    Returns {stamp}: a time (ns) by the file system's clock when all was copied. A file whose ctime is
    older has not been touched since; `hooper.content.pack:diff_trees` takes it.
    """
    target = os.fsencode(arguments["target"])
    source = os.open(arguments["source"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    TreeCopier().copy_directory(source, target, os.fstat(source))
    marker = target + b".stamp"
    os.close(os.open(marker, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    stamp = os.lstat(marker).st_ctime_ns
    os.unlink(marker)
    return {"stamp": stamp}
