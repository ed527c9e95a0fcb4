"""How a client's directory gets to the daemon: only files that are not there already are sent.

The stream "context" of a build's session (`hooper.api.build_session`). All frames are one letter, the length of the
rest (4 bytes, big endian) and the rest, which is MessagePack. The client sends

    H [version, identity, name]            who names the same identity means the same directory
    E [Entry…]                             the listing in pieces: what ignore rules leave, parents first
    N time                                 its end, and when it was begun (ns)

then the daemon

    W [index…]                             the files of the listing whose content it lacks, in pieces
    N                                      the end of them

then the client, for each of these in their order

    D [index, mode, size, mtime, ctime]    what the file is now, followed by its bytes, as many as it says
    Z                                      all is sent

Instead of any of these either side may send F [what, why, remedy], an error, and close. Times are nanoseconds. A
file is not sent again as long as size, mode, mtime and ctime are what they were; ctime tells of changes that leave
the others as they are.
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import IO, Any, NamedTuple, TypeVar, cast

import msgspec

from hooper.api.errors import DataLoss, InvalidArgument, Unsupported
from hooper.api.patterns import Patterns

VERSION = 1
RACY = 20_000_000
"""Nanoseconds: a file that was changed so shortly before it was listed may change again without a trace."""
FRAME_MAX = 32 << 20
_PIECE = 1000
_BLOCK = 1 << 18
_CAPABILITY = "security.capability"

_Type = TypeVar("_Type")


class Entry(msgspec.Struct, array_like=True):
    """One file of a listing."""

    path: bytes
    """Relative, with slashes."""
    mode: int
    """Kind and permissions, as stat(2) has them."""
    size: int
    mtime: int
    ctime: int
    link: bytes = b""
    """Where a symlink points to; of a file the path of an earlier one that is the same."""
    device: int = 0
    capability: bytes = b""
    """The extended attribute security.capability."""


class Sent(NamedTuple):
    files: int
    size: int
    """Bytes."""


class Interrupted(DataLoss):
    """The other side is gone in the middle of it."""


# --- frames -------------------------------------------------------------------------------------------

_encoder = msgspec.msgpack.Encoder()


def frame(letter: bytes, value: Any = None) -> bytes:
    """One frame, in bytes."""
    body = _encoder.encode(value)
    return letter + len(body).to_bytes(4, "big") + body


def read_frame(read: Any) -> tuple[bytes, bytes]:
    """Letter and body of the next frame; `read` takes a number of bytes, fewer at the end. Interrupted, DataLoss."""
    head = read(5)
    if len(head) < 5:
        raise Interrupted("cannot receive the build context", "the other side closed the stream", "Try again.")
    size = int.from_bytes(head[1:], "big")
    if size > FRAME_MAX:
        raise DataLoss("cannot receive the build context", f"a frame of {size} bytes is too long")
    body = read(size)
    if len(body) < size:
        raise Interrupted("cannot receive the build context", "the other side closed the stream", "Try again.")
    return head[:1], body


def decode(body: bytes, type: type[_Type]) -> _Type:
    """The content of a frame. DataLoss if it is not of that type."""
    try:
        return msgspec.msgpack.decode(body, type=type)
    except msgspec.DecodeError as error:
        raise DataLoss("cannot receive the build context", f"a frame is damaged: {error}") from error


def failed(body: bytes) -> InvalidArgument:
    """The error that a frame F tells of."""
    what, why, remedy = decode(body, tuple[str, str, str])
    return InvalidArgument(what, why, remedy)


def hello(body: bytes) -> tuple[str, str]:
    """Identity and name, from the body of a frame H. Unsupported for another version."""
    version, identity, name = decode(body, tuple[int, str, str])
    if version != VERSION:
        raise Unsupported(
            "cannot receive the build context",
            f"the client speaks version {version} of this, the daemon {VERSION}",
            "Use a client and a daemon of the same version.",
        )
    return identity, name


def expect(letter: bytes, got: bytes, body: bytes) -> None:
    """DataLoss if another frame was due; the error itself for a frame F."""
    if got == b"F":
        raise failed(body)
    if got != letter:
        raise DataLoss("cannot receive the build context", f"the frame {got!r} comes where {letter!r} is due")


def opened(sock: socket.socket) -> IO[bytes]:
    """The stream of a blocking socket, both ways, in large pieces."""
    return cast("IO[bytes]", sock.makefile("rwb", _BLOCK))


# --- listings -----------------------------------------------------------------------------------------


def check_listing(entries: Iterable[Entry]) -> None:
    """DataLoss for a listing that no directory has: names that lead out of it, or that are below no directory."""
    kinds: dict[bytes, int] = {}
    for entry in entries:
        path = entry.path
        parent, _, name = path.rpartition(b"/")
        kind = stat.S_IFMT(entry.mode)
        if not name or name in (b".", b"..") or b"\0" in path or path.startswith(b"/") or path in kinds:
            raise _impossible(path, "it is no name")
        if parent and kinds.get(parent) != stat.S_IFDIR:
            raise _impossible(path, "it is in no directory")
        if kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK):
            raise _impossible(path, "it is of no kind that can be copied")
        if entry.size < 0 or entry.size >= 1 << 63 or entry.mode >> 16:
            raise _impossible(path, "its size or mode cannot be")
        if kind == stat.S_IFREG and entry.link and kinds.get(entry.link) != stat.S_IFREG:
            raise _impossible(path, "it is a link to what is no file")
        kinds[path] = kind


def _impossible(path: bytes, why: str) -> DataLoss:
    return DataLoss(f"the build context has the entry {os.fsdecode(path)!r}", why)


def identity(directory: str) -> str:
    """What a directory is recognised by: the machine, the user and its real path, hashed."""
    try:
        with open("/etc/machine-id", "rb") as file:
            machine = file.read().strip()
    except OSError:
        machine = socket.gethostname().encode()
    parts = (machine, str(os.geteuid()).encode(), os.fsencode(os.path.realpath(directory)))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def list_directory(directory: str, ignore: Patterns, always: Collection[str] = ()) -> Iterator[Entry]:
    """What of a directory goes to the daemon: what `ignore` does not match, and what `always` names.

    InvalidArgument for what cannot be read. Sockets are left out.
    """
    needed = {path[:end] for path in always for end in _ends(path)}
    links: dict[tuple[int, int], bytes] = {}
    # Directories that are not wanted themselves come along once something in them is.
    pending: list[tuple[str, bool, list[os.DirEntry[str]]]] = [("", True, _scan(directory, ""))]
    held: list[Entry | None] = [None]
    while pending:
        below, _, entries = pending[-1]
        if not entries:
            pending.pop()
            held.pop()
            continue
        found = entries.pop()
        path = below + found.name
        wanted = not ignore.matches(path) or path in always
        try:
            status = found.stat(follow_symlinks=False)
            if wanted or stat.S_ISDIR(status.st_mode):
                entry = _entry(found.path, path, status, links)
        except OSError as error:
            if not wanted:
                continue
            raise _unreadable(path, error) from error
        if wanted and not stat.S_ISSOCK(status.st_mode):
            for index, waiting in enumerate(held):
                if waiting is not None:
                    yield waiting
                    held[index] = None
            yield entry
        if stat.S_ISDIR(status.st_mode) and (path in needed or not ignore.prunes(path)):
            pending.append((f"{path}/", wanted, _scan(directory, path)))
            held.append(None if wanted else entry)


def _ends(path: str) -> Iterator[int]:
    return (index for index, char in enumerate(path) if char == "/")


def _scan(directory: str, path: str) -> list[os.DirEntry[str]]:
    """From the last one to the first."""
    try:
        with os.scandir(os.path.join(directory, path)) as found:
            return sorted(found, key=lambda entry: entry.name, reverse=True)
    except OSError as error:
        raise _unreadable(path, error) from error


def _entry(whole: str, path: str, status: os.stat_result, links: dict[tuple[int, int], bytes]) -> Entry:
    raw, mode = os.fsencode(path), status.st_mode
    entry = Entry(raw, mode, 0, status.st_mtime_ns, status.st_ctime_ns)
    if stat.S_ISREG(mode):
        entry.size = status.st_size
        if status.st_nlink > 1:
            first = links.setdefault((status.st_dev, status.st_ino), raw)
            entry.link = first if first != raw else b""
        if mode & 0o111:
            entry.capability = _capability(whole)
    elif stat.S_ISLNK(mode):
        entry.link = os.fsencode(os.readlink(whole))
    elif not stat.S_ISDIR(mode):
        entry.device = status.st_rdev
    return entry


def _capability(path: str) -> bytes:
    try:
        return os.getxattr(path, _CAPABILITY, follow_symlinks=False)
    except OSError:
        return b""


def _unreadable(path: str, error: OSError) -> InvalidArgument:
    return InvalidArgument(
        f"cannot read {path or 'the directory'} of the build context",
        error.strerror or str(error),
        "Name it in .dockerignore if the build does not need it.",
    )


# --- the client's end ---------------------------------------------------------------------------------


def serve(
    sock: socket.socket,
    directory: str,
    ignore: Patterns,
    *,
    name: str = "",
    always: Collection[str] = (),
    extra: Mapping[str, bytes] | None = None,
) -> Sent:
    """Gives a directory to the daemon, and returns how much had to be sent. Blocking; the caller closes the socket.

    `always` names files that go along whatever `ignore` says; `extra` are more files, by name and content, which hide
    those of the directory. Interrupted if the daemon goes away, which tells the reason itself, by other ways. An error
    of the directory is told to the daemon, and not raised.
    """
    sock.setblocking(True)
    try:
        with opened(sock) as stream:
            try:
                return _Serving(stream, directory, extra or {}).run(ignore, name, always)
            except InvalidArgument as error:
                stream.write(frame(b"F", (_text(error.what), _text(error.why), error.remedy)))
                stream.flush()
                return Sent(0, 0)
    except (BrokenPipeError, ConnectionResetError) as error:
        raise Interrupted("the build context was not taken", "the daemon closed the stream") from error


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class _Serving:
    def __init__(self, stream: IO[bytes], directory: str, extra: Mapping[str, bytes]) -> None:
        self._stream, self._directory = stream, directory
        self._extra = {os.fsencode(name): content for name, content in extra.items()}

    def run(self, ignore: Patterns, name: str, always: Collection[str]) -> Sent:
        began = time.time_ns()
        self._stream.write(frame(b"H", (VERSION, identity(self._directory), name)))
        entries = [
            entry for entry in list_directory(self._directory, ignore, always) if entry.path not in self._extra
        ]  # fmt: skip
        for path, content in self._extra.items():
            # Its time is what tells it from another content.
            number = int.from_bytes(hashlib.sha256(content).digest()[:7], "big")
            entries.append(Entry(path, stat.S_IFREG | 0o644, len(content), 0, number))
        for start in range(0, len(entries), _PIECE):
            self._stream.write(frame(b"E", entries[start : start + _PIECE]))
        self._stream.write(frame(b"N", began))
        self._stream.flush()
        sent = size = 0
        for index in self._wanted():
            if index >= len(entries):
                raise DataLoss("cannot send the build context", f"the daemon asks for the file {index}")
            size += self._send(index, entries[index])
            sent += 1
        self._stream.write(frame(b"Z"))
        self._stream.flush()
        return Sent(sent, size)

    def _wanted(self) -> list[int]:
        wanted: list[int] = []
        while True:
            letter, body = read_frame(self._stream.read)
            if letter == b"N":
                return wanted
            expect(b"W", letter, body)
            wanted += decode(body, list[int])

    def _send(self, index: int, entry: Entry) -> int:
        if entry.path in self._extra:
            content = self._extra[entry.path]
            self._stream.write(frame(b"D", (index, entry.mode, entry.size, entry.mtime, entry.ctime)) + content)
            return len(content)
        path = os.path.join(os.fsencode(self._directory), entry.path)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise _unreadable(os.fsdecode(entry.path), error) from error
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _changed(entry)
            head = (index, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            self._stream.write(frame(b"D", head))
            self._content(descriptor, status.st_size, entry)
        finally:
            os.close(descriptor)
        return status.st_size

    def _content(self, descriptor: int, size: int, entry: Entry) -> None:
        """As many bytes as were said: a file that grows meanwhile is cut off."""
        left = size
        while left:
            data = os.read(descriptor, min(left, _BLOCK))
            if not data:
                # What was said has to come, before the error can.
                for start in range(0, left, _BLOCK):
                    self._stream.write(bytes(min(_BLOCK, left - start)))
                raise _changed(entry)
            left -= len(data)
            self._stream.write(data)


def _changed(entry: Entry) -> InvalidArgument:
    return InvalidArgument(f"{os.fsdecode(entry.path)} changed while the build context was sent", remedy="Build again.")
