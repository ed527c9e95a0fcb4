"""An archive of somebody else's, unpacked into a directory that it cannot leave.

Names are walked part by part with descriptors and never through a symbolic link, whether the archive made it or it was
there before. Links are made as they are; what they point to is nobody's business here. Files belong to who unpacks
them, as Docker's `build --output` has it.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from hooper.api.errors import DataLoss, HooperError, InvalidArgument

_BLOCK = 1 << 18
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WITHOUT_CONTENT = (
    tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE,
)  # fmt: skip
_RECORD = re.compile(rb"(\d{1,9}) ")
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def unpack(archive: BinaryIO, directory: str) -> int:
    """Unpacks a tar stream into `directory`, which is made if it is not there; what is there stays or is replaced.

    The number of devices, which are left out. InvalidArgument for a name that leads out of it, DataLoss for an archive
    that ends too early; what was unpacked until then stays.
    """
    os.makedirs(directory, exist_ok=True)
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        whole = _Whole(archive)
        devices = _Unpacking(root).run(whole)
        whole.finish()
        return devices
    except tarfile.TarError as error:
        raise DataLoss(f"cannot unpack into {directory}", f"the archive is damaged: {error}", "Try again.") from error
    except OSError as error:
        raise InvalidArgument(f"cannot unpack into {directory}", error.strerror or str(error)) from error
    finally:
        os.close(root)


class _Unpacking:
    def __init__(self, root: int) -> None:
        self._root = root
        self._devices = 0
        self._directories: list[tuple[list[str], int, float]] = []

    def run(self, archive: _Whole) -> int:
        with tarfile.open(fileobj=cast(BinaryIO, archive), mode="r|") as members:
            for member in members:
                self._take(members, member)
        # Last, for a directory may not be written to any more, and each entry changes its time.
        for parts, mode, changed in reversed(self._directories):
            with self._parent(parts) as (parent, name):
                inner = os.open(name, _DIRECTORY, dir_fd=parent)
                try:
                    os.fchmod(inner, mode)
                    os.utime(inner, (changed, changed))
                finally:
                    os.close(inner)
        return self._devices

    def _take(self, members: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        parts = _parts(member.name)
        if not parts:
            return
        mode = stat.S_IMODE(member.mode)
        with self._parent(parts) as (parent, name):
            if member.isdir():
                _make_directory(parent, name)
                self._directories.append((parts, mode, member.mtime))
                return
            if member.isdev() and not member.isfifo():
                self._devices += 1
                return
            _clear(parent, name, member.name)
            if member.issym():
                os.symlink(member.linkname, name, dir_fd=parent)
                os.utime(name, (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)
            elif member.islnk():
                self._link(parent, name, member)
            elif member.isfifo():
                os.mkfifo(name, mode, dir_fd=parent)
            else:
                _write(members, member, parent, name, mode)

    def _link(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        with self._parent(_parts(member.linkname)) as (other, target):
            os.link(target, name, src_dir_fd=other, dst_dir_fd=parent, follow_symlinks=False)

    @contextmanager
    def _parent(self, parts: list[str]) -> Iterator[tuple[int, str]]:
        """The directory of a name, made as far as it is missing, and the last part."""
        held = os.dup(self._root)
        try:
            for part in parts[:-1]:
                _make_directory(held, part)
                inner = os.open(part, _DIRECTORY, dir_fd=held)
                os.close(held)
                held = inner
            yield held, parts[-1]
        finally:
            os.close(held)


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidArgument(
            f'the archive has the name "{name}"', "it leads out of the directory", "Nothing was written there."
        )
    return parts


def _make_directory(parent: int, name: str) -> None:
    """A directory of that name, in the place of anything that is none."""
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=parent)
            os.mkdir(name, 0o755, dir_fd=parent)


def _clear(parent: int, name: str, shown: str) -> None:
    """Takes away what has the name; a directory is not given up for a file."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except IsADirectoryError as error:
        raise InvalidArgument(f'cannot write "{shown}"', "a directory is in its place", "Remove it.") from error


def _write(members: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str, mode: int) -> None:
    source = members.extractfile(member)
    if source is None or member.issparse():
        raise InvalidArgument(f'cannot unpack "{member.name}"', f"it is of the kind {member.type!r}")
    with open(os.open(name, _NEW, 0o600, dir_fd=parent), "wb") as file:
        left = member.size
        while left:
            data = source.read(min(left, _BLOCK))
            if not data:
                raise DataLoss(f'cannot unpack "{member.name}"', "the archive ends within it", "Try again.")
            left -= len(data)
            file.write(data)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.utime(file.fileno(), (member.mtime, member.mtime))


def keep_tree(archive: BinaryIO, directory: str) -> int:
    """As `unpack`; a directory that is not there yet appears only when it is complete."""
    if os.path.lexists(directory):
        return unpack(archive, directory)
    partial = f"{directory.rstrip('/')}.{os.getpid()}.partial"
    try:
        devices = unpack(archive, partial)
        os.rename(partial, directory)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError):
            raise InvalidArgument(f"cannot write {directory}", error.strerror or str(error)) from error
        raise
    return devices


def keep_layout(archive: BinaryIO, directory: str) -> None:
    """Unpacks an OCI layout into a directory that may have one: its index is replaced when all else is there."""
    partial = os.path.join(directory, f".partial.{os.getpid()}")
    try:
        unpack(archive, partial)
        for place, _, names in os.walk(partial):
            target = os.path.join(directory, os.path.relpath(place, partial))
            os.makedirs(target, exist_ok=True)
            for name in names:
                if name != "index.json":
                    os.replace(os.path.join(place, name), os.path.join(target, name))
        os.replace(os.path.join(partial, "index.json"), os.path.join(directory, "index.json"))
    except FileNotFoundError as error:
        raise DataLoss(f"cannot keep a cache in {directory}", "what came has no index.json") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def send_layout(directory: str, to: BinaryIO) -> None:
    """Writes the files of an OCI layout as a tar stream."""
    with tarfile.open(fileobj=to, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for name in ("oci-layout", "index.json", "blobs"):
            path = os.path.join(directory, name)
            if os.path.exists(path):
                archive.add(path, name, filter=_plain)


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return member if member.isfile() or member.isdir() else None


def keep_archive(archive: BinaryIO, path: str) -> None:
    """Writes a tar stream to a file, which appears only when it is complete. DataLoss if it is not.

    A device or a pipe of that name is written to.
    """
    there = os.path.exists(path) and not os.path.isfile(path)
    partial = path if there else f"{path}.{os.getpid()}.partial"
    try:
        with open(partial, "wb") as file:
            copy_archive(archive, file)
        if not there:
            os.replace(partial, path)
    except BaseException as error:
        if not there and os.path.exists(partial):
            os.unlink(partial)
        if isinstance(error, OSError) and not isinstance(error, HooperError):
            raise InvalidArgument(f"cannot write {path}", error.strerror or str(error)) from error
        raise


def copy_archive(archive: BinaryIO, to: BinaryIO) -> None:
    """Copies a tar stream. DataLoss if it lacks its end."""
    whole = _Whole(archive)
    while data := whole.read(_BLOCK):
        to.write(data)
    to.flush()
    whole.finish()


class _Whole:
    """Reads a tar stream, and follows it from one header to the next to see whether it comes to its end, two blocks of
    zeros. Zeros alone prove nothing: files have them too."""

    def __init__(self, archive: BinaryIO) -> None:
        self._archive = archive
        self._head = b""
        self._left = 0
        """Bytes until the next header."""
        self._zeros = 0
        self._record: bytearray | None = None
        """Of an extended header, as far as it is here."""
        self._size: int | None = None
        """What that says of the next file's size."""

    def read(self, size: int = -1) -> bytes:
        data = self._archive.read(size)
        rest = memoryview(data)
        while rest and self._zeros < 2:
            rest = rest[self._content(rest) if self._left else self._header(rest) :]
        return data

    def _content(self, data: memoryview) -> int:
        count = min(len(data), self._left)
        self._left -= count
        if self._record is not None:
            self._record += data[:count]
            if not self._left:
                self._size, self._record = _recorded_size(bytes(self._record)), None
        return count

    def _header(self, data: memoryview) -> int:
        count = min(len(data), tarfile.BLOCKSIZE - len(self._head))
        self._head += data[:count]
        if len(self._head) < tarfile.BLOCKSIZE:
            return count
        head, self._head = self._head, b""
        if head == bytes(tarfile.BLOCKSIZE):
            self._zeros += 1
            return count
        self._zeros = 0
        kind, size = head[156:157], _number(head[124:136])
        if kind == tarfile.XHDTYPE:
            self._record = bytearray()
        elif self._size is not None:
            size, self._size = self._size, None
        stored = 0 if kind in _WITHOUT_CONTENT else size
        self._left = stored + -stored % tarfile.BLOCKSIZE
        return count

    def finish(self) -> None:
        """Reads what is left. DataLoss if the end is missing."""
        while self.read(_BLOCK):
            pass
        if self._zeros < 2:
            raise DataLoss("the archive is not complete", "the daemon ended it too early", "Build again.")


def _number(field: bytes) -> int:
    """Of a header: octal digits, or binary if the first bit is set."""
    if field[0] & 0x80:
        return int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError as error:
        raise DataLoss("the archive is damaged", f"a header has the size {field!r}", "Build again.") from error


def _recorded_size(records: bytes) -> int | None:
    """The size in an extended header, records "LENGTH KEY=VALUE" that end with a newline."""
    while match := _RECORD.match(records):
        length = int(match[1])
        key, _, value = records[match.end() : length - 1].partition(b"=")
        if key == b"size" and value.isdigit():
            return int(value)
        records = records[max(length, 1) :]
    return None
