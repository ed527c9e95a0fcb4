"""Contexts of builds as they come in: each file is hashed while it is written."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from hooper.api.errors import InvalidArgument
from hooper.content.confinement import enter_confined
from hooper.content.listing import DiskView, Row, entry_digest
from hooper.content.pipeline import PlainStream
from hooper.content.tar import BLOCK, Entry, TarReader
from hooper.content.trees import read_xattrs
from hooper.content.unpack import Unpacker, write_all


def receive_archive(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Worker: unpacks the archive that `fds` are, one after the other, plain or compressed, at the root of the tree.

    `limit`: bytes that its files may have altogether, 0 for any. Returns {rows (`hooper.content.listing.Row`, sorted),
    size (bytes of the archive, uncompressed)}. DataLoss if it is damaged, InvalidArgument if it is too large.
    """
    enter_confined(arguments)
    stream = PlainStream(*fds, hashed=False)
    entries = _Entries(stream.read, arguments["limit"])
    unpacker = _HashingUnpacker(entries)
    unpacker.run()
    return {"rows": unpacker.rows(attributes=entries.attributes), "size": stream.size}


class _Entries(TarReader):
    """Those of an archive with a limit to its size."""

    def __init__(self, read: Callable[[], bytes], limit: int) -> None:
        super().__init__(read)
        self._limit, self._size = limit, 0
        self.attributes = False
        """Whether any has extended attributes."""

    def __iter__(self) -> Iterator[Entry]:
        for entry in super().__iter__():
            self._size += BLOCK + entry.stored
            if self._limit and self._size > self._limit:
                raise too_large(self._limit, entry.name)
            if entry.xattrs:
                self.attributes = True
            yield entry


def too_large(limit: int, name: bytes) -> InvalidArgument:
    """The error of a context with more bytes than `builder.context_limit` allows."""
    return InvalidArgument(
        "the build context is too large",
        f"it has more than {limit} bytes, up to {os.fsdecode(name)}",
        "Name in .dockerignore what the build does not need, or raise builder.context_limit.",
    )


class _HashingUnpacker(Unpacker):
    """Files belong to root: the owners of a context are not copied anywhere."""

    def __init__(self, reader: TarReader) -> None:
        super().__init__(reader, owner=(0, 0))
        self._contents: dict[int, str] = {}
        """Digests by inode: names may still be given to other files."""

    def _content(self, fd: int, entry: Entry) -> None:
        inode = os.fstat(fd).st_ino
        if entry.sparse is not None:
            self._contents.pop(inode, None)
            super()._content(fd, entry)
            return
        digest = hashlib.sha256()
        for piece in self._reader.pieces():
            digest.update(piece)
            write_all(fd, piece)
        self._contents[inode] = digest.hexdigest()

    def rows(self, *, attributes: bool) -> list[Row]:
        """All that is there now. What was not hashed while it was written, is read."""
        view = DiskView()
        found: list[Row] = []
        stack = [b""]
        while stack:
            directory = stack.pop()
            start = directory + b"/" if directory else b""
            with os.scandir(directory or b".") as entries:
                for each in entries:
                    path = start + each.name
                    status = each.stat(follow_symlinks=False)
                    content = self._contents.get(status.st_ino) if stat.S_ISREG(status.st_mode) else None
                    if content is None:
                        found.append(view.row(path))
                    else:
                        xattrs = read_xattrs(path) if attributes else {}
                        digest = entry_digest(status.st_mode, content=content, xattrs=xattrs)
                        found.append((path, "file", digest, status.st_size, b""))
                    if stat.S_ISDIR(status.st_mode):
                        stack.append(path)
        found.sort()
        return found
