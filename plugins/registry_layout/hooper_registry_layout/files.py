"""The files of a layout: in a directory, or in a tar that is read where it lies."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import NamedTuple, Protocol

import anyio.to_thread

from hooper.api.driver import Workers
from hooper.api.errors import DataLoss, NotFound
from hooper.content.archive_names import ArchiveNames
from hooper.content.tar import TarReader, damaged

_CHUNK = 1 << 20
_PIECE = 1 << 16
_SMALL = 16 << 20
_LINKS = 8
_MAGIC, _MAGIC_AT = b"ustar", 257


class Part(NamedTuple):
    """A range of a file; whoever is given it closes `descriptor`."""

    descriptor: int
    offset: int
    size: int


class Files(Protocol):
    """Names are relative, normalised paths."""

    def has(self, name: str) -> bool: ...

    def open(self, name: str) -> Part:
        """NotFound."""
        ...

    def close(self) -> None: ...


def read(files: Files, name: str, limit: int = _SMALL) -> bytes:
    """The whole of a small file. NotFound; DataLoss if it is larger than the limit: it may be a stranger's."""
    part = files.open(name)
    try:
        if part.size > limit:
            raise DataLoss(f"{name} is larger than {limit} bytes")
        return os.pread(part.descriptor, part.size, part.offset)
    finally:
        os.close(part.descriptor)


class Directory:
    """Symbolic links in it are not followed: they could lead to files that nobody meant."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def has(self, name: str) -> bool:
        return (self.path / name).is_file() and not (self.path / name).is_symlink()

    def open(self, name: str) -> Part:
        try:
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise NotFound(f"the layout {self.path} has no {name}", error.strerror or "") from error
        return Part(descriptor, 0, os.fstat(descriptor).st_size)

    def close(self) -> None:
        """Nothing is held open."""


class Tar:
    """An uncompressed tar; takes over its descriptor. `shown` names it in messages. DataLoss if it is damaged."""

    def __init__(self, descriptor: int, shown: str) -> None:
        self._descriptor, self._shown = descriptor, shown
        try:
            self._members, self._links = self._index()
        except BaseException:
            self.close()
            raise

    def _index(self) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
        members: dict[str, tuple[int, int]] = {}
        names = ArchiveNames()
        total, position = os.fstat(self._descriptor).st_size, 0

        def following() -> bytes:
            nonlocal position
            data = os.pread(self._descriptor, _PIECE, position)
            position += len(data)
            return data

        def seek(count: int) -> None:
            nonlocal position
            position += count

        try:
            reader = TarReader(following, seek)
            for entry in reader:
                if reader.offset + entry.stored > total:
                    raise damaged(entry.offset, "it is cut off")
                if (name := names.take(entry)) and entry.sparse is None:
                    members[name] = reader.offset, entry.size
        except DataLoss as error:
            raise DataLoss(f"the archive {self._shown} is damaged", error.why, "Write it again.") from error
        return members, names.links

    def _found(self, name: str) -> tuple[int, int] | None:
        for _ in range(_LINKS):
            if name in self._members:
                return self._members[name]
            name = self._links.get(name, "")
        return None

    @property
    def names(self) -> list[str]:
        return [*self._members, *self._links]

    def has(self, name: str) -> bool:
        return self._found(os.path.normpath(name)) is not None

    def open(self, name: str) -> Part:
        found = self._found(os.path.normpath(name))
        if found is None:
            raise NotFound(f"the archive {self._shown} has no {name}")
        return Part(os.dup(self._descriptor), *found)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


async def open_tar(path: Path, workers: Workers, scratch: Path) -> Tar:
    """A tar file; a compressed one is expanded by a worker into a nameless file in `scratch`. NotFound, DataLoss."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise NotFound(f"cannot read the archive {path}", error.strerror or "") from error
    if os.pread(descriptor, len(_MAGIC), _MAGIC_AT) != _MAGIC:
        try:
            with tempfile.TemporaryFile(dir=scratch, buffering=0) as file:
                await workers.run("hooper.engine.layer_work:unpack", {}, [descriptor, file.fileno()])
                os.lseek(file.fileno(), 0, os.SEEK_SET)
                expanded = os.dup(file.fileno())
        finally:
            os.close(descriptor)
        descriptor = expanded
    return await anyio.to_thread.run_sync(Tar, descriptor, str(path))


def copy(part: Part, target: Path) -> None:
    """Writes a part to a new file, and closes it."""
    try:
        with target.open("xb", buffering=0) as file:
            at, left = part.offset, part.size
            while left and (done := os.copy_file_range(part.descriptor, file.fileno(), min(left, _CHUNK), at)):
                at, left = at + done, left - done
    finally:
        os.close(part.descriptor)
