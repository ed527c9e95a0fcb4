"""The build context as a tar stream."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from hooper.api.errors import InvalidArgument
from hooper.api.patterns import Patterns
from hooper.cli.build_context import Source, patterns_of

_BLOCK = 1 << 18
END = bytes(2 * tarfile.BLOCKSIZE)
"""What ends an archive."""


def pack(source: Source) -> Iterator[bytes]:
    """A tar stream (PAX) of the directory of `source`, owners set to root; the files that say what is built and what is
    ignored go along in any case.

    InvalidArgument names a file that cannot be read.
    """
    directory, extra = Path(source.directory), source.extra_files()
    for path, status in _walk(directory, "", patterns_of(source), source.always()):
        if path not in extra:
            yield from _entry(directory, path, status)
    for name, content in extra.items():
        yield from pack_file(name, content)
    yield END


def pack_file(name: str, content: bytes) -> Iterator[bytes]:
    """A tar stream's one entry: a regular file made of `content`, without the end of the archive."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    yield info.tobuf(tarfile.PAX_FORMAT) + content + _padding(len(content))


def _walk(context: Path, below: str, ignore: Patterns, always: frozenset[str]) -> Iterator[tuple[str, os.stat_result]]:
    try:
        with os.scandir(context / below) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(context / below, error) from error
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        status = entry.stat(follow_symlinks=False)
        wanted = path in always or not ignore.matches(path)
        if wanted and not stat.S_ISSOCK(status.st_mode):
            yield path, status
        if entry.is_dir(follow_symlinks=False) and (
            not ignore.prunes(path) or any(name.startswith(f"{path}/") for name in always)
        ):
            yield from _walk(context, path, ignore, always)


def _entry(context: Path, path: str, status: os.stat_result) -> Iterator[bytes]:
    info = tarfile.TarInfo(path)
    info.mode, info.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    if stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(status.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(context / path)
    elif stat.S_ISFIFO(status.st_mode):
        info.type = tarfile.FIFOTYPE
    elif not stat.S_ISREG(status.st_mode):
        info.type = tarfile.CHRTYPE if stat.S_ISCHR(status.st_mode) else tarfile.BLKTYPE
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    if info.type != tarfile.REGTYPE:
        yield info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
        return
    try:
        file = open(context / path, "rb")  # noqa: SIM115
    except OSError as error:
        raise _unreadable(context / path, error) from error
    with file:
        info.size = os.fstat(file.fileno()).st_size
        yield info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
        yield from _content(file, path, info.size)


def _content(file: BinaryIO, path: str, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes, as the header promised: a file that grows meanwhile is cut."""
    left = size
    while left:
        data = file.read(min(left, _BLOCK))
        if not data:
            raise InvalidArgument(f"{path} in the build context became shorter while it was sent", remedy="Try again.")
        left -= len(data)
        yield data
    if padding := _padding(size):
        yield padding


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _unreadable(path: Path, error: OSError) -> InvalidArgument:
    return InvalidArgument(
        f"cannot read {path} of the build context", error.strerror or str(error), "Or name it in .dockerignore."
    )
