"""The daemon's copy of a client's directory, brought up to date by what the client sends (`hooper.api.context_sync`).

A directory holds `tree`, `record` (what the client said of each file, and its content's digest) and, as long as
something is changed, `journal`: the paths whose state nobody knows. The record is written when all is done. After the
host was started again, when files may lack what was not written in time, they are read once more.

Everything here runs in a worker whose root is that directory.
"""

from __future__ import annotations

import hashlib
import os
import socket
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from hooper.api import context_sync as wire
from hooper.api.context_sync import Entry
from hooper.api.errors import DataLoss, HooperError, Internal, no_space
from hooper.content.listing import Row, content_digest, entry_digest, kind_of
from hooper.content.mounting import enter
from hooper.content.receiving import too_large
from hooper.content.removal import remove
from hooper.content.unpack import write_all

_TREE, _RECORD, _JOURNAL, _ASIDE = b"/tree/", b"/record", b"/journal", b"/aside"
_PIECE = 5000
_BLOCK = 1 << 18
_BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
"""Read before the root is another."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Known(msgspec.Struct, array_like=True):
    entry: Entry
    content: str = ""
    """Digest of a file's content."""


class _Record(msgspec.Struct, array_like=True):
    boot: str
    """Identifies the time since the kernel was started."""
    known: list[_Known]


class Plan(NamedTuple):
    """What is to be done to make the tree what the client has listed."""

    gone: list[bytes]
    """Paths that are removed with all below them, in order."""
    wanted: list[int]
    """Files of the listing that have to be sent."""
    others: list[int]
    """Directories, links and devices that are made, or dressed anew."""


def compare(known: Mapping[bytes, Entry], listed: Sequence[Entry]) -> Plan:
    """From what is there to what was listed."""
    wanted, others = [], []
    new: dict[bytes, Entry] = {}
    replaced = set()
    for index, entry in enumerate(listed):
        new[entry.path] = entry
        old = known.get(entry.path)
        kind = stat.S_IFMT(entry.mode)
        if old is not None and stat.S_IFMT(old.mode) != kind:
            replaced.add(entry.path)
            old = None
        if old is not None and _same(old, entry) and (kind != stat.S_IFREG or entry.link not in replaced):
            continue
        if kind == stat.S_IFREG:
            # What a link is made to has to be the same file: one that is replaced takes its links along.
            replaced.add(entry.path)
        if kind == stat.S_IFREG and not entry.link:
            wanted.append(index)
        else:
            others.append(index)
    gone = [path for path in known if path not in new or path in replaced]
    return Plan(_topmost(gone), wanted, others)


def _same(old: Entry, new: Entry) -> bool:
    if stat.S_ISDIR(new.mode):
        return old.mode == new.mode and old.mtime == new.mtime
    return old == new


def _topmost(paths: Iterable[bytes]) -> list[bytes]:
    """Without those that are below others."""
    found: list[bytes] = []
    above = b"\0"
    for path in sorted(paths, key=lambda path: path.split(b"/")):
        if not path.startswith(above):
            found.append(path)
            above = path + b"/"
    return found


def receive(arguments: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """Worker: brings the directory up to date with what the client at the socket `fds[0]` has.

    The frame H has been read before. `limit`: bytes that the files may have altogether, 0 for any. Returns {rows
    (`hooper.content.listing.Row`, sorted), size (bytes of all files), sent (bytes that came)}.
    """
    with socket.socket(fileno=os.dup(fds[0])) as sock, _stream_of(sock) as stream:
        enter(arguments)
        os.umask(0)
        try:
            return _Receiving(stream, arguments["limit"]).run()
        except HooperError as error:
            _tell(stream, error)
            raise
        except (BrokenPipeError, ConnectionResetError):
            raise wire.Interrupted(
                "cannot receive the build context", "the client closed the stream", "Build again."
            ) from None
        except OSError as error:
            raise no_space(error, "cannot keep the build context") or Internal(
                "cannot keep the build context", error.strerror or str(error)
            ) from error


@contextmanager
def _stream_of(sock: socket.socket) -> Iterator[IO[bytes]]:
    """The stream of a socket. What could not be sent at the end, nobody waits for any more."""
    sock.setblocking(True)
    stream = wire.opened(sock)
    try:
        yield stream
    finally:
        with suppress(OSError):
            stream.close()


def _tell(stream: IO[bytes], error: HooperError) -> None:
    try:
        texts = [text.encode("utf-8", "backslashreplace").decode() for text in (error.what, error.why, error.remedy)]
        stream.write(wire.frame(b"F", texts))
        stream.flush()
    except OSError:
        return  # the client is gone


class _Receiving:
    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream, self._limit = stream, limit
        self._known: dict[bytes, _Known] = {}
        self._sent = 0
        self._stale = False
        """The record does not say what is known."""

    def run(self) -> dict[str, Any]:
        os.makedirs(_TREE, mode=0o755, exist_ok=True)
        listed, began = self._listing()
        self._load()
        plan = compare({path: known.entry for path, known in self._known.items()}, listed)
        if plan.gone or plan.wanted or plan.others or self._stale:
            touched = [*plan.gone, *(listed[index].path for index in (*plan.wanted, *plan.others))]
            _write(_JOURNAL, msgspec.msgpack.encode(touched))
            self._change(plan, listed)
            self._save(listed, began)
            os.unlink(_JOURNAL)
        else:
            self._take()
        return {"rows": self._rows(listed), "size": sum(entry.size for entry in listed), "sent": self._sent}

    def _listing(self) -> tuple[list[Entry], int]:
        listed: list[Entry] = []
        size = 0
        while True:
            letter, body = wire.read_frame(self._stream.read)
            if letter == b"N":
                began = wire.decode(body, int)
                break
            wire.expect(b"E", letter, body)
            piece = wire.decode(body, list[Entry])
            listed += piece
            size += sum(entry.size + 512 for entry in piece)
            if self._limit and size > self._limit:
                raise too_large(self._limit, piece[-1].path)
        wire.check_listing(listed)
        return listed, began

    # --- what is there ------------------------------------------------------------------------------

    def _load(self) -> None:
        """What the record says, without what may not be so; the tree holds no more than that afterwards."""
        try:
            record = msgspec.msgpack.decode(_read(_RECORD), type=_Record)
        except (FileNotFoundError, msgspec.DecodeError):
            for name in os.listdir(_TREE):
                remove(_TREE + name)
            record = _Record(_BOOT, [])
        self._known = {known.entry.path: known for known in record.known}
        if record.boot != _BOOT:
            self._stale = True
            self._forget([path for path, known in self._known.items() if not _is_intact(known)])
        try:
            unsure = msgspec.msgpack.decode(_read(_JOURNAL), type=list[bytes])
        except FileNotFoundError:
            return
        except msgspec.DecodeError:
            unsure = list(self._known)
        self._stale = True
        self._forget(unsure)
        remove(_ASIDE)

    def _forget(self, paths: Iterable[bytes]) -> None:
        for path in _topmost(paths):
            remove(_TREE + path)
            below = path + b"/"
            for each in [each for each in self._known if each == path or each.startswith(below)]:
                del self._known[each]

    # --- changes ------------------------------------------------------------------------------------

    def _change(self, plan: Plan, listed: list[Entry]) -> None:
        for path in plan.gone:
            remove(_TREE + path)
        directories = [entry for entry in listed if stat.S_ISDIR(entry.mode)]
        for index in plan.others:
            if stat.S_ISDIR(listed[index].mode):
                _make_directory(listed[index])
        self._take(plan.wanted, listed)
        for index in plan.others:
            if not stat.S_ISDIR(listed[index].mode):
                self._make(listed[index])
        changed = {listed[index].path.rpartition(b"/")[0] for index in (*plan.wanted, *plan.others)}
        changed |= {path.rpartition(b"/")[0] for path in plan.gone}
        changed |= {listed[index].path for index in plan.others}
        for entry in reversed(directories):
            if entry.path in changed:
                os.chmod(_TREE + entry.path, stat.S_IMODE(entry.mode))
                os.utime(_TREE + entry.path, ns=(entry.mtime, entry.mtime))

    def _take(self, wanted: Sequence[int] = (), listed: Sequence[Entry] = ()) -> None:
        """Asks for files of the listing, and writes them as they come."""
        for start in range(0, len(wanted), _PIECE):
            self._stream.write(wire.frame(b"W", wanted[start : start + _PIECE]))
        self._stream.write(wire.frame(b"N"))
        self._stream.flush()
        for index in wanted:
            letter, body = wire.read_frame(self._stream.read)
            wire.expect(b"D", letter, body)
            number, mode, size, mtime, ctime = wire.decode(body, tuple[int, int, int, int, int])
            if number != index or not stat.S_ISREG(mode) or not 0 <= size < 1 << 63:
                raise DataLoss("cannot receive the build context", f"the file {number} comes where {index} is due")
            entry = listed[index]
            entry.mode, entry.size, entry.mtime, entry.ctime = mode, size, mtime, ctime
            self._file(entry)
        letter, body = wire.read_frame(self._stream.read)
        wire.expect(b"Z", letter, body)

    def _file(self, entry: Entry) -> None:
        self._sent += entry.size
        if self._limit and self._sent > self._limit:
            raise too_large(self._limit, entry.path)
        path = _TREE + entry.path
        remove(path)
        fd = os.open(path, _NEW, stat.S_IMODE(entry.mode))
        try:
            digest, left = hashlib.sha256(), entry.size
            while left:
                data = self._stream.read(min(left, _BLOCK))
                if not data:
                    raise wire.Interrupted(
                        "cannot receive the build context", "the client closed the stream", "Build again."
                    )
                digest.update(data)
                write_all(fd, memoryview(data))
                left -= len(data)
            _dress(fd, path, entry)
        finally:
            os.close(fd)
        self._known[entry.path] = _Known(entry, digest.hexdigest())

    def _make(self, entry: Entry) -> None:
        """A link, or a device. The way to it is made of directories that were made here."""
        path = _TREE + entry.path
        remove(path)
        if stat.S_ISREG(entry.mode):
            os.link(_TREE + entry.link, path, follow_symlinks=False)
        elif stat.S_ISLNK(entry.mode):
            os.symlink(entry.link, path)
            os.utime(path, ns=(entry.mtime, entry.mtime), follow_symlinks=False)
        else:
            os.mknod(path, entry.mode, entry.device)
            os.utime(path, ns=(entry.mtime, entry.mtime))

    # --- what is known then -------------------------------------------------------------------------

    def _save(self, listed: Sequence[Entry], began: int) -> None:
        known = []
        fresh: dict[bytes, _Known] = {}
        for entry in listed:
            content = ""
            if stat.S_ISREG(entry.mode):
                content = (fresh[entry.link] if entry.link else self._known[entry.path]).content
            fresh[entry.path] = _Known(entry, content)
            racy = max(entry.mtime, entry.ctime) > began - wire.RACY and stat.S_ISREG(entry.mode)
            kept = msgspec.structs.replace(entry, ctime=-1) if racy else entry
            known.append(_Known(kept, content))
        self._known = fresh
        _write(_RECORD, msgspec.msgpack.encode(_Record(_BOOT, known)))

    def _rows(self, listed: Sequence[Entry]) -> list[Row]:
        rows: list[Row] = []
        for entry in listed:
            content = self._known[entry.path].content
            link = entry.link if stat.S_ISLNK(entry.mode) else b""
            xattrs = {b"security.capability": entry.capability} if entry.capability else None
            digest = entry_digest(entry.mode, content=content, link=link, device=entry.device, xattrs=xattrs)
            rows.append((entry.path, kind_of(entry.mode), digest, entry.size, link))
        rows.sort()
        return rows


def _make_directory(entry: Entry) -> None:
    try:
        os.mkdir(_TREE + entry.path, 0o700)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(_TREE + entry.path).st_mode):
            raise


def _dress(fd: int, path: bytes, entry: Entry) -> None:
    if entry.capability:
        os.setxattr(path, "security.capability", entry.capability)
    os.fchmod(fd, stat.S_IMODE(entry.mode))
    os.utime(fd, ns=(entry.mtime, entry.mtime))


def _is_intact(known: _Known) -> bool:
    """Whether a file has the content that was recorded."""
    path = _TREE + known.entry.path
    try:
        status = os.lstat(path)
        if stat.S_IFMT(status.st_mode) != stat.S_IFMT(known.entry.mode):
            return False
        if not stat.S_ISREG(status.st_mode):
            return True
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return content_digest(fd, status) == known.content
    finally:
        os.close(fd)


def _read(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: bytes, content: bytes) -> None:
    """The file is there when it is complete."""
    partial = path + b".new"
    with open(partial, "wb") as file:
        file.write(content)
    os.replace(partial, path)
