"""Sockets: listening on unix, tcp and inherited ones, and a stream without any buffer of its own.

Connections are plain non-blocking sockets, so that a hijacked one can be given away: no byte is ever
held by a transport.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio

from hooper.api.errors import Conflict, InvalidArgument
from hooper.api.frontend import Listener
from hooper.linux import unread
from hooper_api_docker.errors import ClientGone

BACKLOG = 1024
_NOTHING_TO_TAKE = (errno.EAGAIN, errno.ECONNABORTED)
_PAUSE_S = 0.1
"""After a failure that may last: the descriptor would be reported as ready over and over."""
FIRST_INHERITED = 3
"""sd_listen_fds(3): descriptors from 3 on are passed."""


class Transport:
    """Reads and writes a connected socket. All errors of the peer become ClientGone."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.socket = sock
        self._torn = False

    async def receive(self, size: int = 65536) -> bytes:
        """Some bytes, b"" at the end of the stream."""
        while True:
            try:
                return self.socket.recv(size)
            except BlockingIOError:
                await anyio.wait_readable(self.socket)
            except OSError as error:
                raise ClientGone from error

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """All of `data`. What was cancelled in the middle of it leaves a stream that nothing can follow."""
        if self._torn:
            raise ClientGone
        rest = data
        while True:
            try:
                sent = self.socket.send(rest)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                raise ClientGone from error
            if sent == len(rest):
                return
            rest = memoryview(rest)[sent:]
            try:
                await anyio.wait_writable(self.socket)
            except BaseException:
                self._torn = True
                raise

    async def until_taken(self) -> None:
        """Waits, a moment at most, until a local client has read all that was sent: see `hooper.linux.unread`."""
        for pause in (0, 0, *unread.PAUSES):
            if not unread.is_unread(self.socket):
                return
            await anyio.sleep(pause)

    def peer_closed(self) -> bool | None:
        """Whether the stream is at its end; None if nothing is known yet."""
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        except OSError:
            return True


@dataclass
class Listening:
    """A listening socket; `path` is the file that was made for it, if any."""

    socket: socket.socket
    path: Path | None = None
    inode: int = 0

    def close(self) -> None:
        """Closes it; its file goes too, if it is still this socket's."""
        self.socket.close()
        if self.path:
            with suppress(OSError):
                if self.path.lstat().st_ino == self.inode:
                    self.path.unlink()


def open_listeners(listeners: Sequence[Listener]) -> list[Listening]:
    """Listening sockets for all addresses, or none of them: an error closes those opened before it.

    Raises InvalidArgument for an address that cannot be understood, Conflict for one in use.
    """
    opened: list[Listening] = []
    try:
        for listener in listeners:
            opened.extend(_open(listener))
    except BaseException:
        for listening in opened:
            listening.close()
        raise
    for listening in opened:
        listening.socket.setblocking(False)
    return opened


def _open(listener: Listener) -> Iterator[Listening]:
    scheme, separator, rest = listener.address.partition("://")
    if separator and scheme == "unix" and rest:
        yield _open_unix(listener, Path(rest))
    elif separator and scheme == "tcp":
        yield Listening(_open_tcp(listener, rest))
    elif separator and scheme == "fd":
        yield from _inherited(listener, rest)
    else:
        raise InvalidArgument(
            f'cannot listen on "{listener.address}"',
            "it is not an address to listen on",
            "Write unix:///PATH, tcp://HOST:PORT or fd:// for sockets passed by systemd.",
        )


def _open_unix(listener: Listener, path: Path) -> Listening:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(listener, path)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.bind(str(path))
            # Nobody can connect between bind and listen: the file has its final rights before.
            _restrict(path, listener.group)
            sock.listen(BACKLOG)
            inode = path.lstat().st_ino
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise _refused(listener, error, "Choose a path in a directory that hooper may write to.") from error
    return Listening(sock, path, inode)


def _remove_stale(listener: Listener, path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise Conflict(f"cannot listen on {listener.address}", "a file that is no socket is there", "Move it away.")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except OSError:
            # A full backlog or a slow peer: somebody is there.
            pass
    raise Conflict(
        f"cannot listen on {listener.address}", "another daemon answers there", "Stop it, or listen elsewhere."
    )


def _restrict(path: Path, group: str) -> None:
    import grp

    if os.geteuid() == 0:
        with suppress(KeyError):
            os.chown(path, 0, grp.getgrnam(group).gr_gid)
    path.chmod(0o660)


def _open_tcp(listener: Listener, rest: str) -> socket.socket:
    host, colon, port = rest.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise InvalidArgument(
            f'cannot listen on "{listener.address}"', "there is no port number", "Write tcp://HOST:PORT."
        )
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        raise _refused(listener, error, "Choose a free port and an address of this host.") from error


def _refused(listener: Listener, error: Exception, remedy: str) -> Conflict:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Conflict(f"cannot listen on {listener.address}", reason, remedy)


def _inherited(listener: Listener, rest: str) -> Iterator[Listening]:
    """Sockets that systemd passed (sd_listen_fds(3)): one by its number, or all."""
    passed = 0
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        passed = int(os.environ.get("LISTEN_FDS", "0"))
    available = range(FIRST_INHERITED, FIRST_INHERITED + passed)
    wanted = [int(rest)] if rest.isdigit() else list(available)
    if not wanted or (rest and not rest.isdigit()) or any(number not in available for number in wanted):
        raise InvalidArgument(
            f'cannot listen on "{listener.address}"',
            f"{passed} sockets were passed to this process (LISTEN_FDS)",
            "Start hooper through its systemd socket unit, or name an address.",
        )
    for number in wanted:
        os.set_inheritable(number, False)
        passed_on = socket.socket(fileno=number)
        if not passed_on.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            passed_on.close()
            raise InvalidArgument(
                f'cannot listen on "{listener.address}"',
                f"descriptor {number} is a socket that does not listen",
                "Write ListenStream= in the socket unit, without Accept=yes.",
            )
        yield Listening(passed_on)


@contextmanager
def accepting(listener: socket.socket, take: Callable[[socket.socket], None]) -> Iterator[None]:
    """Gives each connection that comes to `take`. Out of descriptors, it waits for some to be freed.

    A callback of the loop rather than a task that waits, which would look for each connection twice.
    """
    loop = asyncio.get_running_loop()
    pause: asyncio.TimerHandle | None = None

    def watch() -> None:
        loop.add_reader(listener, readable)

    def readable() -> None:
        nonlocal pause
        try:
            connection = listener.accept()[0]
        except OSError as error:
            if error.errno not in _NOTHING_TO_TAKE:
                loop.remove_reader(listener)
                pause = loop.call_later(_PAUSE_S, watch)
        else:
            take(connection)

    watch()
    try:
        yield
    finally:
        loop.remove_reader(listener)
        if pause is not None:
            pause.cancel()
