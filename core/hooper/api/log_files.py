"""A log in a file that is rotated: PATH, then PATH.1, PATH.2… (or PATH.1.gz…), the higher the older.

One writer (the container's monitor), any number of readers in other processes (`log_reading`).
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
from collections.abc import Callable

from hooper.linux import syscalls

_ORIGIN = struct.Struct("<2sHQQ")
"""A gzip header's extra field, "HL" (RFC 1952, 2.3.1.1): device and inode of the file that was compressed."""
_ORIGIN_SIZE = 16
_HEADER = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff"
"""gzip, deflate, FEXTRA, no time, no flags, unknown system."""
_BLOCK = 1 << 18

EndOfRecord = Callable[[bytes, int], int]
"""(records, offset) -> where the record ends that the byte before `offset` belongs to."""


class RotatingFile:
    """Appends whole records. What a failed write left of a record is taken away again.

    `max_size` in bytes is when the next file is begun, 0 for never; `max_file` counts the current one, and with 1 it
    is emptied in place. With `compress` files that are rotated away are compressed, by a process of its own.
    """

    def __init__(self, path: str, max_size: int, max_file: int, compress: bool, end_of_record: EndOfRecord) -> None:
        self.path = path
        self._limit, self._count, self._compress, self._end = max_size, max_file, compress, end_of_record
        self._open()

    @property
    def size(self) -> int:
        """Of the current file."""
        return self._size

    def read(self, size: int, offset: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def truncate(self, size: int) -> None:
        """Drops what follows in the current file."""
        os.ftruncate(self._fd, size)
        self._size = size

    def append(self, records: bytes) -> None:
        """A file takes records until it has reached its size, and one more begins the next. OSError."""
        while records and self._limit and self._size + len(records) > self._limit:
            if self._size >= self._limit:
                self._rotate()
                continue
            end = self._end(records, self._limit - self._size)
            self._write(records[:end])
            records = records[end:]
        if records:
            self._write(records)

    def close(self) -> None:
        os.close(self._fd)

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._fd).st_size

    def _write(self, records: bytes) -> None:
        written = 0
        try:
            while written < len(records):
                written += os.write(self._fd, memoryview(records)[written:] if written else records)
        except OSError:
            # No half record, or the next one would be lost with it.
            self.truncate(self._size + self._whole(records, written))
            raise
        self._size += written

    def _whole(self, records: bytes, count: int) -> int:
        """How many of the first `count` bytes are whole records."""
        whole = 0
        while 0 < (end := self._end(records, whole + 1)) <= count:
            whole = end
        return whole

    def _rotate(self) -> None:
        if self._count == 1:
            self.truncate(0)
            return
        with _Held(numbered(self.path, 1)):
            for number in range(self._count - 1, 1, -1):
                _move(numbered(self.path, number - 1), numbered(self.path, number))
        _remove(numbered(self.path, 1) + ".gz")
        os.rename(self.path, numbered(self.path, 1))
        old = self._fd
        try:
            self._open()
        except OSError:
            os.rename(numbered(self.path, 1), self.path)
            raise
        os.close(old)
        if self._compress:
            _compress_apart(numbered(self.path, 1))


class _Held:
    """A rotated file, locked: for as long as a process compresses it, it is not moved."""

    def __init__(self, path: str) -> None:
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._fd = -1

    def __enter__(self) -> None:
        if self._fd >= 0:
            fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def numbered(path: str, number: int) -> str:
    """A rotated file's path, without .gz."""
    return f"{path}.{number}"


def origin(head: bytes) -> tuple[int, int] | None:
    """(device, inode) of what a compressed file was, from its first bytes; None if nothing of ours made it."""
    if len(head) < len(_HEADER) + 2 + _ORIGIN.size or head[: len(_HEADER)] != _HEADER:
        return None
    mark, size, device, inode = _ORIGIN.unpack_from(head, len(_HEADER) + 2)
    return (device, inode) if (mark, size) == (b"HL", _ORIGIN_SIZE) else None


def _move(source: str, target: str) -> None:
    """With .gz or without; what was there before goes."""
    for ending in (".gz", ""):
        _remove(target + ending)
        try:
            os.rename(source + ending, target + ending)
        except FileNotFoundError:
            continue


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _compress_apart(path: str) -> None:
    """In a child, which nobody waits for. Its lock on the file is taken here, before anything can move it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        pid = os.fork()
    except OSError:
        # It stays as it is, and is read as it is.
        os.close(fd)
        return
    if pid:
        os.close(fd)
        return
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        os.dup2(fd, 3)
        syscalls.close_range(4)
        os.nice(10)
        _compress(3, path)
        code = 0
    finally:
        os._exit(code)


def _compress(fd: int, path: str) -> None:
    import zlib

    stat = os.fstat(fd)
    extra = _ORIGIN.pack(b"HL", _ORIGIN_SIZE, stat.st_dev, stat.st_ino)
    packer = zlib.compressobj(level=4, wbits=-15)
    checksum = 0
    temporary = path + ".tmp"
    out = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
    try:
        with open(out, "wb") as file:
            file.write(_HEADER + struct.pack("<H", len(extra)) + extra)
            while block := os.read(fd, _BLOCK):
                checksum = zlib.crc32(block, checksum)
                file.write(packer.compress(block))
            file.write(packer.flush() + struct.pack("<II", checksum, stat.st_size & 0xFFFFFFFF))
        os.rename(temporary, path + ".gz")
        os.unlink(path)
    except OSError:
        # As when the disk is full: the file stays as it is.
        _remove(temporary)
