"""Writes layers: what a tree changes against another one, as a tar (OCI image-spec, layer.md).

The form is canonical, so that the same change gives the same bytes whichever driver keeps it:
- an entry appears if its kind, mode, owner, size, mtime (to the nanosecond), link, device, extended attributes
  or content differ from the parent's; the root only if mode, owner or attributes do;
- what is gone from the parent appears as a whiteout of its own, each name alone: no opaque directories;
- entries are sorted by the bytes of their names, directory by directory, a directory before what is in it;
- files of the layer that share an inode are links to the first of them; sockets are left out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hooper.api.errors import Unavailable
from hooper.api.storage import Mount
from hooper.content import mounting
from hooper.content.hashing import BackgroundHash
from hooper.content.tar import DIRECTORY, FILE, HARDLINK, Entry
from hooper.content.tarwrite import TarWriter
from hooper.content.trees import entry_of, read_xattrs

_OPAQUE = "trusted.overlay.opaque"
"""The attribute of a directory that hides what is below it, by overlayfs."""
_PIECE = 1 << 20


def write_all(fd: int, data: memoryview) -> None:
    """Writes all of it. Unavailable if nobody reads the pipe or socket any more."""
    try:
        while data:
            data = data[os.write(fd, data) :]
    except (BrokenPipeError, ConnectionResetError) as error:
        raise Unavailable("the archive was not written to its end", "whoever reads it has gone") from error


class Output:
    """Hashes and counts what is written, and passes it on to a descriptor, if there is one."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._hash = BackgroundHash()
        self._pending = bytearray()

    def write(self, data: bytes | memoryview) -> None:
        if len(data) < _PIECE // 4:
            self._pending += data
            if len(self._pending) >= _PIECE:
                self._flush()
            return
        self._flush()
        self._pass_on(memoryview(data))

    def _flush(self) -> None:
        pending, self._pending = self._pending, bytearray()
        self._pass_on(memoryview(pending))

    def _pass_on(self, data: memoryview) -> None:
        self._hash.update(data)
        if self._fd is not None:
            write_all(self._fd, data)

    def result(self) -> dict[str, Any]:
        """{diff_id, size} of all that was written."""
        self._flush()
        return {"diff_id": self._hash.finish(), "size": self._hash.size}


def file_pieces(path: bytes, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes of a file: one that was shortened meanwhile is filled up with zeros."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while size:
            piece = os.read(fd, min(size, _PIECE)) or bytes(min(size, _PIECE))
            size -= len(piece)
            yield piece
    finally:
        os.close(fd)


class Packer:
    """Writes paths as entries; files that share an inode become links to the first of them."""

    def __init__(self, output: Output) -> None:
        self._writer = TarWriter(output.write)
        self._links: dict[tuple[int, int], bytes] = {}
        self.finish = self._writer.finish

    def add(self, path: bytes, status: os.stat_result, entry: Entry) -> None:
        """Writes `entry`, which `entry_of` made of `path`."""
        if status.st_nlink > 1 and entry.kind != DIRECTORY:
            first = self._links.setdefault((status.st_dev, status.st_ino), entry.name)
            if first is not entry.name:
                link = Entry(entry.name, HARDLINK, mode=entry.mode, uid=entry.uid, gid=entry.gid, mtime=entry.mtime)
                link.link = first
                self._writer.add(link)
                return
        self._writer.add(entry, file_pieces(path, entry.size) if entry.kind == FILE else ())

    def whiteout(self, directory: bytes, name: bytes) -> None:
        """Writes that `name` in `directory` ("" or with its "/") of the parent is gone."""
        self._writer.add(Entry(directory + b".wh." + name, FILE, mode=0))

    def tree(self, path: bytes, name: bytes) -> None:
        """Writes what is at `path` and all below it, as `name` (without a "/" at its end)."""
        status = os.lstat(path)
        entry = entry_of(path, status, name)
        if entry is None:
            return
        self.add(path, status, entry)
        if entry.kind == DIRECTORY:
            self.children(path, entry.name)

    def children(self, path: bytes, prefix: bytes) -> None:
        """Writes what is in the directory `path`, each name after `prefix`."""
        for name in sorted(os.listdir(path)):
            self.tree(path + b"/" + name, prefix + name)


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(path: bytes) -> bool:
    try:
        return os.getxattr(path, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _status(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _same_content(one: bytes, other: bytes, size: int) -> bool:
    return all(a == b for a, b in zip(file_pieces(one, size), file_pieces(other, size), strict=True))


class Differ:
    """Writes what `upper` changes against `lower` (None: against nothing).

    `overlay`: `upper` is overlayfs's upper directory, in which what is missing is as in `lower`; otherwise
    it is a complete tree. `stamp`: files whose ctime (ns) is older have the content that they have in `lower`.
    """

    def __init__(self, packer: Packer, *, lower: bytes | None, upper: bytes, overlay: bool, stamp: int = 0) -> None:
        self._packer = packer
        self._lower, self._upper = lower, upper
        self._overlay, self._stamp = overlay, stamp

    def run(self) -> None:
        self._root()
        self._directory(b"", self._lower is not None, complete=not self._overlay or _is_opaque(self._upper))
        self._packer.finish()

    def _root(self) -> None:
        status = os.lstat(self._upper)
        mine = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, read_xattrs(self._upper))
        theirs: tuple[int, int, int, dict[bytes, bytes]] = (0o755, 0, 0, {})
        if self._lower is not None:
            other = os.lstat(self._lower)
            theirs = (stat.S_IMODE(other.st_mode), other.st_uid, other.st_gid, read_xattrs(self._lower))
        if mine != theirs:
            entry = entry_of(self._upper, status, b".")
            assert entry is not None
            self._packer.add(self._upper, status, entry)

    def _directory(self, prefix: bytes, in_lower: bool, *, complete: bool) -> None:
        """Writes the changes in one directory. `complete`: what it lacks is gone from `lower`."""
        upper = self._upper + b"/" + prefix
        names = set(os.listdir(upper))
        if complete and in_lower and self._lower is not None:
            names.update(os.listdir(self._lower + b"/" + prefix))
        for name in sorted(names):
            path = upper + name
            status = _status(path)
            below = self._lower + b"/" + prefix + name if in_lower and self._lower is not None else None
            other = _status(below) if below is not None else None
            if status is None or (self._overlay and _is_whiteout(status)):
                if other is not None:
                    self._packer.whiteout(prefix, name)
                continue
            self._entry(path, status, below, other, prefix + name)
            if stat.S_ISDIR(status.st_mode):
                merged = other is not None and stat.S_ISDIR(other.st_mode)
                self._directory(prefix + name + b"/", merged, complete=complete or _is_opaque(path))

    def _entry(
        self, path: bytes, status: os.stat_result, below: bytes | None, other: os.stat_result | None, name: bytes
    ) -> None:
        entry = entry_of(path, status, name)
        if entry is None:
            if other is not None:
                # A socket in its place leaves nothing there.
                directory, slash, base = name.rpartition(b"/")
                self._packer.whiteout(directory + slash, base)
            return
        if below is None or other is None or self._differs(entry, path, status, below, other):
            self._packer.add(path, status, entry)

    def _differs(self, entry: Entry, path: bytes, status: os.stat_result, below: bytes, other: os.stat_result) -> bool:
        if (
            (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_rdev)
            != (other.st_mode, other.st_uid, other.st_gid, other.st_mtime_ns, other.st_rdev)
        ):  # fmt: skip
            return True
        if entry.kind != DIRECTORY and status.st_size != other.st_size:
            return True
        if status.st_ctime_ns < self._stamp:
            return False
        if stat.S_ISLNK(status.st_mode):
            return entry.link != os.readlink(below)
        if entry.xattrs != read_xattrs(below):
            return True
        return entry.kind == FILE and not _same_content(path, below, entry.size)


def _diff(fds: Sequence[int], lower: bytes | None, upper: bytes, overlay: bool, stamp: int = 0) -> dict[str, Any]:
    output = Output(fds[0] if fds else None)
    Differ(Packer(output), lower=lower, upper=upper, overlay=overlay, stamp=stamp).run()
    return output.result()


def diff_trees(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Worker: the layer that makes the tree `upper` of the tree `lower` ("" for an empty one).

    `stamp` (ns, optional): what `hooper.content.trees:copy_tree` returned when `upper` was made as a copy of `lower`;
    older files are not read then. Writes to `fds[0]`, if given. Returns {diff_id, size}.
    """
    lower = arguments["lower"]
    upper = os.fsencode(arguments["upper"])
    return _diff(fds, os.fsencode(lower) if lower else None, upper, False, arguments.get("stamp") or 0)


def diff_overlay(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Worker: the layer that overlayfs's upper directory `upper` is on `lowers`, the topmost first.

    Writes to `fds[0]`, if given. Returns {diff_id, size}.
    """
    lowers = arguments["lowers"]
    lower = lowers[0] if lowers else None
    if len(lowers) > 1:
        mounting.private_namespace()
        lower = mounting.mount_private([Mount("overlay", "overlay", ("ro", "lowerdir=" + ":".join(lowers)))])
    return _diff(fds, os.fsencode(lower) if lower else None, os.fsencode(arguments["upper"]), True)


def pack_tree(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Worker: the whole tree `path` as a layer. Writes to `fds[0]`, if given. Returns {diff_id, size}."""
    return _diff(fds, None, os.fsencode(arguments["path"]), False)
