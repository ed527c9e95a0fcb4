"""Unpacks layers (OCI image-spec, layer.md) and plain tar archives into the process's root.

The process has been moved into the tree before (`hooper.content.mounting`): absolute names, ".." and
symlinks cannot lead out of it. Names that try are refused nevertheless, for what they tell of the archive.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any

from hooper.api.errors import HooperError, Internal, InvalidArgument, Unsupported, no_space
from hooper.content.confinement import enter_confined
from hooper.content.pipeline import PlainStream
from hooper.content.removal import remove
from hooper.content.tar import (
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    FILE,
    HARDLINK,
    SYMLINK,
    Entry,
    TarReader,
    damaged,
    shown,
)  # fmt: skip
from hooper.content.trees import kept_xattr

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_WHITEOUT = b".wh."
_AUFS = b".wh..wh."
_ID_MAX = 0xFFFFFFFE
_ID_MIN = -(1 << 31)
_SPECIAL_BITS = 0o6000
_REMEMBERED_MAX = 1 << 30
"""Bytes that what is remembered of an archive's entries may take, about: no archive with billions of them uses up the
memory. It is room for six million files."""
_REMEMBERED_ENTRY = 128
"""Of them, what an entry takes beyond its name and attributes."""


def clean(name: bytes, offset: int) -> bytes:
    """A name as a path below the root: no leading "/", no "." or empty parts, ".." resolved by its letters.

    DataLoss if it leads outside. b"" is the root itself.
    """
    if name[:1] not in b"/." and b"//" not in name and b"/." not in name:
        return name[:-1] if name[-1:] == b"/" else name
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            if not parts:
                raise damaged(offset, f"the name {shown(name)} leads out of the archive")
            parts.pop()
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def _failed(entry: Entry, error: OSError) -> HooperError:
    what = f"cannot unpack {shown(entry.name)}"
    why = error.strerror or str(error)
    if full := no_space(error, what):
        return full
    if error.errno in (errno.EPERM, errno.EOPNOTSUPP):
        return Unsupported(what, why, "The file system or the rights of the engine do not allow this kind of file.")
    if error.errno == errno.EIO:
        return Internal(what, why, "Check the disk.")
    return damaged(entry.offset, f"{shown(entry.name)}: {why}")


class Unpacker:
    """Unpacks one archive below the working directory.

    `whiteouts`: "delete" applies them to the files that are there, those in overlayfs's form (a character device 0:0)
    too; "keep" takes them for ordinary files.
    `owner`: gives all files to this (uid, gid) in place of their own. `strict`: a directory and another kind of
    file never replace each other: InvalidArgument.
    """

    def __init__(
        self,
        reader: TarReader,
        whiteouts: str = "keep",
        *,
        owner: tuple[int, int] | None = None,
        strict: bool = False,
    ) -> None:
        self._reader, self._owner, self._strict = reader, owner, strict
        self._whiteouts = whiteouts
        self._inherits = False
        self._parents: dict[bytes, bool] = {}
        """Directories known to be there; True where new files inherit the group."""
        self._directories: dict[bytes, Entry] = {}
        """Those of the archive: their metadata are set at the end, when nothing changes them any more."""
        self._visited: dict[bytes, os.stat_result] = {}
        """Those that were there before: they get their times back."""
        self._brought: set[bytes] = set()
        self._holding = {b""}
        """Directories that were there before and may have in them what the archive brought."""
        self._purged: set[bytes] = set()
        """Directories in which there is nothing but what the archive brought."""
        self._remembered = 0
        self._makers = {
            FILE: self._file, DIRECTORY: self._directory, SYMLINK: self._symlink, HARDLINK: self._hardlink,
            CHARACTER: self._device, BLOCK_DEVICE: self._device, FIFO: self._device,
        }  # fmt: skip

    def run(self) -> None:
        """Unpacks all entries. DataLoss if the archive is damaged or names what cannot be."""
        os.umask(0)
        makers = self._makers
        self._enter(b"")
        for entry in self._reader:
            path = clean(entry.name, entry.offset)
            self._remember(path, entry)
            try:
                parent, _, base = path.rpartition(b"/")
                known = self._parents.get(parent)
                self._inherits = self._enter(parent) if known is None else known
                if base[:4] == _WHITEOUT and self._whiteouts == "delete":
                    self._whiteout(parent, base, entry)
                    continue
                maker = makers.get(entry.kind)
                if maker is None:
                    self._unknown(entry)
                    continue
                self._brought.add(path)
                maker(path, entry)
            except OSError as error:
                raise _failed(entry, error) from error
        self._finish()

    def _remember(self, path: bytes, entry: Entry) -> None:
        """Counts what an entry takes of the memory; also that which takes none, so that no archive goes on for ever."""
        self._remembered += _REMEMBERED_ENTRY + len(path)
        if entry.xattrs and entry.kind == DIRECTORY:
            self._remembered += sum(len(name) + len(value) + _REMEMBERED_ENTRY for name, value in entry.xattrs.items())
        if self._remembered > _REMEMBERED_MAX:
            raise damaged(entry.offset, "it has too many entries to remember, several millions")

    # --- the way to an entry -------------------------------------------------------------------------

    def _enter(self, path: bytes) -> bool:
        """Makes sure that a directory is there, and tells whether new files in it inherit its group."""
        missing: list[bytes] = []
        while (known := self._parents.get(path)) is None:
            try:
                known = self._known(path, os.stat(path or b"."))
                break
            except FileNotFoundError:
                missing.append(path)
                path = path.rpartition(b"/")[0]
        inherits = known
        while missing:
            path = missing.pop()
            base = path.rpartition(b"/")[2]
            if self._whiteouts == "delete" and base.startswith(_WHITEOUT) and not base.startswith(_AUFS):
                raise OSError(errno.EINVAL, "a directory cannot have the name of a whiteout")
            # Without an entry of its own: 0755, of root.
            os.mkdir(path, 0o755)
            self._brought.add(path)
            self._remembered += 2 * (_REMEMBERED_ENTRY + len(path))
            inherits = self._known(path, os.stat(path))
        return inherits

    def _known(self, path: bytes, status: os.stat_result) -> bool:
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, f"{shown(path)} is not a directory")
        if path not in self._brought:
            self._visited.setdefault(path, status)
            above = path
            while above not in self._holding:
                self._holding.add(above)
                above = above.rpartition(b"/")[0]
        self._parents[path] = inherits = bool(status.st_mode & stat.S_ISGID)
        return inherits

    def _clear(self, path: bytes, *, directory: bool = False) -> None:
        """Removes what an entry replaces, and what was known about it."""
        mode = os.lstat(path).st_mode
        is_directory = stat.S_ISDIR(mode)
        if self._strict and is_directory is not directory:
            kinds = ("non-directory", "directory")
            raise InvalidArgument(
                f"cannot overwrite {kinds[is_directory]} {shown(path)} with {kinds[directory]}",
                remedy="Remove it first, or copy to another place.",
            )
        if is_directory:
            brought = path in self._brought
            remove(path, self._forget)
            if brought:
                self._brought.add(path)
        else:
            os.unlink(path)
        if is_directory or stat.S_ISLNK(mode):
            # Other names may have led there as well.
            self._parents = {b"": self._parents[b""]}

    def _forget(self, path: bytes) -> None:
        self._brought.discard(path)
        self._holding.discard(path)
        self._purged.discard(path)
        self._directories.pop(path, None)
        self._visited.pop(path, None)

    # --- one kind of entry each ----------------------------------------------------------------------

    def _file(self, path: bytes, entry: Entry) -> None:
        mode = entry.mode
        try:
            fd = os.open(path, _CREATE, mode)
        except FileExistsError:
            self._clear(path)
            fd = os.open(path, _CREATE, mode)
        try:
            self._content(fd, entry)
            uid, gid = self._ids(entry)
            if uid or gid or self._inherits:
                os.fchown(fd, uid, gid)
                if mode & _SPECIAL_BITS:
                    os.fchmod(fd, mode)
            if entry.xattrs:
                _set_xattrs(path, entry)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _content(self, fd: int, entry: Entry) -> None:
        if entry.size:
            write_content(self._reader, fd, entry)

    def _directory(self, path: bytes, entry: Entry) -> None:
        if path:
            try:
                os.mkdir(path, entry.mode & 0o1777)
                self._parents[path] = False
            except FileExistsError:
                if not stat.S_ISDIR(os.lstat(path).st_mode):
                    self._clear(path, directory=True)
                    os.mkdir(path, 0o755)
        self._directories.pop(path, None)
        self._directories[path] = entry

    def _symlink(self, path: bytes, entry: Entry) -> None:
        try:
            os.symlink(entry.link, path)
        except FileExistsError:
            self._clear(path)
            os.symlink(entry.link, path)
        self._dress(path, entry)

    def _hardlink(self, path: bytes, entry: Entry) -> None:
        target = clean(entry.link, entry.offset)
        if target == path:
            return
        try:
            os.link(target, path, follow_symlinks=False)
        except FileExistsError:
            if path.startswith(target + b"/") or target.startswith(path + b"/"):
                raise
            self._clear(path)
            os.link(target, path, follow_symlinks=False)
        except FileNotFoundError:
            raise damaged(entry.offset, f"{shown(path)} is a link to {shown(target)}, which is not there") from None

    def _device(self, path: bytes, entry: Entry) -> None:
        kind = {CHARACTER: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK, FIFO: stat.S_IFIFO}[entry.kind]
        if not (0 <= entry.major < 1 << 12 and 0 <= entry.minor < 1 << 20):
            raise damaged(entry.offset, f"{shown(path)} has an impossible device number")
        number = os.makedev(entry.major, entry.minor)
        if kind == stat.S_IFCHR and not number and self._whiteouts == "delete":
            # Where overlayfs finds one, the name is gone; so it is with every driver.
            if os.path.lexists(path):
                self._clear(path)
            self._brought.discard(path)
            return
        try:
            os.mknod(path, entry.mode | kind, number)
        except FileExistsError:
            self._clear(path)
            os.mknod(path, entry.mode | kind, number)
        self._dress(path, entry)

    def _unknown(self, entry: Entry) -> None:
        # A volume label (GNU) and a directory's old listing (GNU, incremental) describe no file.
        if entry.kind not in b"VD":
            raise damaged(entry.offset, f"{shown(entry.name)} is of the unknown kind {entry.kind!r}")

    # --- metadata ------------------------------------------------------------------------------------

    def _ids(self, entry: Entry) -> tuple[int, int]:
        if self._owner is not None:
            return self._owner
        uid, gid = entry.uid, entry.gid
        if 0 <= uid <= _ID_MAX and 0 <= gid <= _ID_MAX:
            return uid, gid
        if not all(_ID_MIN <= each <= _ID_MAX and each != -1 for each in (uid, gid)):
            raise damaged(entry.offset, f"{shown(entry.name)} has the impossible owner {uid}:{gid}")
        # -2 and the like come from systems whose ids are signed: "nobody" of macOS.
        return uid & 0xFFFFFFFF, gid & 0xFFFFFFFF

    def _dress(self, path: bytes, entry: Entry) -> None:
        """Sets what symlinks and devices have of metadata."""
        uid, gid = self._ids(entry)
        if uid or gid or self._inherits:
            os.chown(path, uid, gid, follow_symlinks=False)
            if entry.mode & _SPECIAL_BITS and entry.kind != SYMLINK:
                os.chmod(path, entry.mode)
        if entry.xattrs:
            _set_xattrs(path, entry)
        os.utime(path, ns=(entry.mtime, entry.mtime), follow_symlinks=False)

    def _finish(self) -> None:
        """Sets the metadata of directories, which entries in them would have changed or been hindered by."""
        for path, entry in self._directories.items():
            try:
                place = path or b"."
                os.chown(place, *self._ids(entry), follow_symlinks=False)
                if entry.xattrs:
                    _set_xattrs(place, entry)
                os.chmod(place, entry.mode)
                os.utime(place, ns=(entry.mtime, entry.mtime))
            except OSError as error:
                raise _failed(entry, error) from error
        for path, status in self._visited.items():
            if path not in self._directories:
                os.utime(path or b".", ns=(status.st_atime_ns, status.st_mtime_ns))

    # --- whiteouts -----------------------------------------------------------------------------------

    def _whiteout(self, parent: bytes, base: bytes, entry: Entry) -> None:
        if base == b".wh..wh..opq":
            self._purge(parent)
            return
        if base.startswith(_AUFS):
            return
        hidden = base[4:]
        if hidden in (b"", b".", b".."):
            raise damaged(entry.offset, f"the whiteout {shown(entry.name)} hides nothing that can be")
        self._hide(parent + b"/" + hidden if parent else hidden)

    def _hide(self, path: bytes) -> None:
        """Deletes a path, except for what this archive brought."""
        if not os.path.lexists(path):
            return
        if path not in self._brought and path not in self._holding:
            self._clear(path)
        elif stat.S_ISDIR(os.lstat(path).st_mode):
            self._purge(path)

    def _purge(self, directory: bytes) -> None:
        pending = [directory]
        while pending:
            directory = pending.pop()
            if directory in self._purged:
                continue
            self._purged.add(directory)
            with os.scandir(directory or b".") as found:
                names = [entry.name for entry in found]
            for name in names:
                path = directory + b"/" + name if directory else name
                if path not in self._brought and path not in self._holding:
                    self._clear(path)
                elif stat.S_ISDIR(os.lstat(path).st_mode):
                    pending.append(path)


def write_content(reader: TarReader, fd: int, entry: Entry) -> None:
    """Writes the data of the reader's current entry, a file, to a new one; of a sparse file the holes are left out."""
    if entry.sparse is None:
        for piece in reader.pieces():
            write_all(fd, piece)
        return
    segments = iter(entry.sparse)
    left = 0
    for piece in reader.pieces():
        while piece:
            while not left:
                start, left = next(segments)
                os.lseek(fd, start, os.SEEK_SET)
            part = piece[:left]
            write_all(fd, part)
            left -= len(part)
            piece = piece[len(part) :]
    os.ftruncate(fd, entry.size)


def write_all(fd: int, data: memoryview) -> None:
    """Writes all of it."""
    while (written := os.write(fd, data)) < len(data):
        data = data[written:]


def _set_xattrs(path: bytes, entry: Entry) -> None:
    for name, value in entry.xattrs.items():
        if not kept_xattr(name):
            continue
        try:
            os.setxattr(path, name, value, follow_symlinks=False)
        except OSError as error:
            # user.* on symlinks and devices is impossible, and many file systems have none at all.
            if error.errno not in (errno.EOPNOTSUPP, errno.EPERM) or name == b"security.capability":
                raise


def unpack(
    fd: int, whiteouts: str = "keep", *, owner: tuple[int, int] | None = None, strict: bool = False
) -> tuple[PlainStream, Unpacker]:
    """Unpacks an archive, compressed or not, below the working directory; see `Unpacker`."""
    stream = PlainStream(fd)
    unpacker = Unpacker(TarReader(stream.read), whiteouts, owner=owner, strict=strict)
    unpacker.run()
    return stream, unpacker


def apply_layer(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Worker: unpacks the layer `fds[0]` into a snapshot.

    Arguments: where, as `target` (a directory) or `mounts` (a snapshot's, each [type, source, [option…]]),
    and `whiteouts`: "delete" or "keep", see `Unpacker`. Returns {diff_id, size (bytes, uncompressed)}.
    """
    enter_confined(arguments if "mounts" in arguments else {"root": arguments["target"]})
    stream, _ = unpack(fds[0], arguments["whiteouts"])
    return {"diff_id": stream.diff_id, "size": stream.size}
