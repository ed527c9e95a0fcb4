"""Blobs by digest, as files. Which blobs there ought to be is the database's business.

<directory>/sha256/<hex>   complete and verified
<directory>/ingest/<hex>   being written, or what an interrupted download left, to go on from
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio.to_thread

from hooper.api.errors import Conflict, DataLoss, InvalidArgument, NotFound

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_GATHER = 1 << 20
"""Bytes that are gathered before a thread hashes and writes them."""
_VECTOR = 1024
"""IOV_MAX of Linux: so many chunks one call writes."""
_SMALL_WRITE = 60.0
"""Seconds that `put_bytes` surely takes no longer than."""


class BlobWriter:
    """Takes the bytes of one blob, in order. Made by `ContentStore.writer`."""

    def __init__(self, path: Path, digest: str, size: int | None) -> None:
        self._path, self._digest, self._size = path, digest, size
        self._hash = hashlib.sha256()
        self._file = path.open("ab", buffering=0)
        self._pending: list[bytes] = []
        self._gathered = 0
        self.offset = 0
        """Bytes that are there already: the next `write` continues at this one."""

    def resume(self) -> None:
        """Hashes what an interrupted write left; more than the blob has is worth nothing."""
        with self._path.open("rb") as left:
            while chunk := left.read(_GATHER):
                self._hash.update(chunk)
                self.offset += len(chunk)
        if self._size is not None and self.offset > self._size:
            self.restart()

    def restart(self) -> None:
        """Drops all bytes so far: the source cannot go on from where it stopped."""
        self._file.truncate(0)
        self._pending, self._gathered = [], 0
        self._hash = hashlib.sha256()
        self.offset = 0

    def reader(self) -> int:
        """A descriptor that reads what has been written, from the beginning; the caller closes it."""
        return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)

    async def write(self, data: bytes | memoryview) -> None:
        """Appends a chunk. DataLoss as soon as it is more than the blob's size."""
        if self._size is not None and self.offset + len(data) > self._size:
            raise self._bad(f"there is more than its {self._size} bytes")
        self._pending.append(bytes(data))
        self._gathered += len(data)
        self.offset += len(data)
        if self._gathered >= _GATHER:
            await anyio.to_thread.run_sync(self._flush)

    def _flush(self) -> None:
        pending, self._pending, self._gathered = self._pending, [], 0
        rest = [memoryview(data) for data in pending]
        while rest:
            count = os.writev(self._file.fileno(), rest[:_VECTOR])
            while rest and count >= len(rest[0]):
                count -= len(rest.pop(0))
            if count:
                rest[0] = rest[0][count:]
        for data in pending:
            self._hash.update(data)

    def _bad(self, why: str) -> DataLoss:
        self._file.close()
        self._path.unlink(missing_ok=True)
        return DataLoss(f"blob {self._digest} is damaged", why, "Fetch it again; if that fails too, its source is bad.")

    def finish(self, target: Path) -> None:
        """Verifies the blob and gives it its name, durably. DataLoss drops what was written."""
        self._flush()
        if self._size is not None and self.offset != self._size:
            raise self._bad(f"it has {self.offset} bytes and should have {self._size}")
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self._digest:
            raise self._bad(f"its content has the digest {found}")
        os.fsync(self._file.fileno())
        self._file.close()
        self._path.rename(target)
        _sync_directory(target.parent)

    def close(self) -> None:
        """Keeps what was taken so far for another attempt. Calling it twice is harmless."""
        if not self._file.closed:
            self._flush()
            self._file.close()


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class ContentStore:
    """The blobs below one directory. InvalidArgument for what is no sha256 digest."""

    def __init__(self, directory: Path) -> None:
        self._blobs, self._ingest = directory / "sha256", directory / "ingest"
        for each in (self._blobs, self._ingest):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._writing: set[str] = set()

    @staticmethod
    def _hex(digest: str) -> str:
        found = _DIGEST.fullmatch(digest)
        if found is None:
            raise InvalidArgument(f"bad digest {digest[:100]!r}", 'it is not "sha256:" and 64 hexadecimal digits')
        return found[1]

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be."""
        return self._blobs / self._hex(digest)

    def has(self, digest: str) -> bool:
        return self.path(digest).exists()

    def open(self, digest: str) -> int:
        """A descriptor to read the blob from; the caller closes it. NotFound."""
        try:
            return os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise self._missing(digest) from None

    def size(self, digest: str) -> int:
        """Bytes. NotFound."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise self._missing(digest) from None

    @staticmethod
    def _missing(digest: str) -> NotFound:
        return NotFound(f"blob {digest} is not here", remedy="Pull or build the image again.")

    @asynccontextmanager
    async def writer(self, digest: str, size: int | None = None) -> AsyncIterator[BlobWriter]:
        """A writer for the blob `digest` of `size` bytes (None: unknown), which is committed at the end.

        It goes on from where an interrupted one stopped: see `BlobWriter.offset`. An exception inside keeps
        what was written, for the next attempt; DataLoss from the end drops it. Conflict if the same blob is
        being written already.
        """
        name = self._hex(digest)
        if name in self._writing:
            raise Conflict(f"blob {digest} is being written already", remedy="Wait for it.")
        self._writing.add(name)
        writer = None
        try:
            writer = BlobWriter(self._ingest / name, digest, size)
            await anyio.to_thread.run_sync(writer.resume)
            yield writer
            await anyio.to_thread.run_sync(writer.finish, self._blobs / name)
        finally:
            self._writing.discard(name)
            if writer is not None:
                writer.close()

    def adopt(self, file: Path, digest: str) -> None:
        """Moves a complete and verified file here, durably; one that is here already stays, and the file goes."""
        target = self.path(digest)
        if target.exists():
            file.unlink()
            return
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(file, target)
        _sync_directory(target.parent)

    async def put_bytes(self, data: bytes) -> str:
        """Stores a small blob and returns its digest."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if not self.has(digest):
            await anyio.to_thread.run_sync(self._put, data, self.path(digest))
        return digest

    def _put(self, data: bytes, target: Path) -> None:
        fd, name = tempfile.mkstemp(dir=self._ingest, prefix="put-")
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
            os.rename(name, target)
        except BaseException:
            os.unlink(name)
            raise
        _sync_directory(target.parent)

    def delete(self, digest: str) -> None:
        """Deletes the blob and what was written of it. Harmless if it is gone."""
        self.path(digest).unlink(missing_ok=True)
        if self._hex(digest) not in self._writing:
            (self._ingest / self._hex(digest)).unlink(missing_ok=True)

    def walk(self) -> Iterator[tuple[str, int]]:
        """Digest and size of every blob."""
        with os.scandir(self._blobs) as found:
            for entry in found:
                yield f"sha256:{entry.name}", entry.stat().st_size

    def partial(self, digest: str) -> int:
        """Bytes that an interrupted write left of the blob."""
        try:
            return (self._ingest / self._hex(digest)).stat().st_size
        except FileNotFoundError:
            return 0

    def forget_partial(self, older: float = 0.0) -> None:
        """Deletes what interrupted writes left more than `older` seconds ago, except for those that go on."""
        now = time.time()
        with os.scandir(self._ingest) as found:
            for entry in found:
                least = max(older, _SMALL_WRITE) if entry.name.startswith("put-") else older
                with suppress(FileNotFoundError):  # it became a blob in this moment
                    if entry.name not in self._writing and now - entry.stat().st_mtime >= least:
                        os.unlink(entry.path)
