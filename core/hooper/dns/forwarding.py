"""Asks the servers outside what no container here is called.

A query goes on byte by byte, but for its id, so that whatever a client asks for (EDNS, DNSSEC, record types that are
not known here) reaches the server, and its answer the client.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from hooper.dns import answers
from hooper.dns.protocol import ADDRESS
from hooper.linux.netlink import entered
from hooper.runtime.loop import READ, WRITE, Loop

TRIES = 3
TRY_S = 1.5
"""After so long without an answer the next server is asked too. All tries together end before the five seconds after
which clients usually ask again (resolv.conf(5))."""
SULK_S = 30.0
"""How long a server that did not answer is asked last."""
PORT = 53
DEFAULT_SERVERS = ("8.8.8.8", "8.8.4.4")
"""Of a host that names none, as with Docker."""

Answered = Callable[[bytes | None], None]
Heard = Callable[[bytes | None], None]
"""Takes a server's answer, or None: it cannot be asked."""


class Attempt(Protocol):
    """One server that is being asked."""

    def close(self) -> None:
        """Harmless when it is closed."""


Opener = Callable[[str, bytes, Heard], Attempt]
"""Asks a server. Raises OSError, or ValueError for what is no address."""


class HostServers:
    """The name servers in the host's resolv.conf, read again when it has changed."""

    CHECK_S = 1.0

    def __init__(self, path: str = "/etc/resolv.conf") -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._checked = float("-inf")
        self._servers: list[str] = []

    def __call__(self) -> list[str]:
        now = time.monotonic()
        if now - self._checked >= self.CHECK_S:
            self._checked = now
            self._check()
        return self._servers or [*DEFAULT_SERVERS]

    def _check(self) -> None:
        try:
            status = os.stat(self._path)
            if (status.st_mtime_ns, status.st_ino) == self._seen:
                return
            with open(self._path) as file:
                words = [line.split() for line in file]
        except OSError:
            self._servers, self._seen = [], None
            return
        self._seen = status.st_mtime_ns, status.st_ino
        self._servers = [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]


class Forwarder:
    """Asks servers in their order, but those that did not answer lately last."""

    def __init__(self, loop: Loop, host_servers: Callable[[], Sequence[str]], *, port: int = PORT) -> None:
        self._loop, self._host_servers, self._port = loop, host_servers, port
        self._sulking: dict[tuple[str, int | None], float] = {}

    def ask(
        self, query: bytes, answered: Answered, *, tcp: bool, servers: Sequence[str] = (), netns: int | None = None
    ) -> Exchange:
        """Calls back once, with the answer under the query's id or None if there was none in time.

        `servers` are asked from the network namespace `netns` (a descriptor); none: the host's, from here.
        """
        place = netns if servers else None
        known = [server for server in servers or self._host_servers() if place is None or server != ADDRESS]
        now = time.monotonic()
        known.sort(key=lambda server: self._sulking.get((server, place), 0.0) > now)
        tries = [known[number % len(known)] for number in range(max(TRIES, len(known)))] if known else []

        def silent(server: str) -> None:
            if len(self._sulking) > 1000:
                self._sulking.clear()
            self._sulking[server, place] = time.monotonic() + SULK_S

        return Exchange(self._loop, query, answered, tries, silent, self._opener(tcp, place))

    def _opener(self, tcp: bool, netns: int | None) -> Opener:
        def open_attempt(server: str, query: bytes, heard: Heard) -> Attempt:
            kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
            if netns is None:
                sock = _socket(server, kind)
            else:
                with entered(netns):
                    sock = _socket(server, kind)
            try:
                _connect(sock, server, self._port)
                return (_OverTcp if tcp else _OverUdp)(self._loop, sock, query, heard)
            except BaseException:
                sock.close()
                raise

        return open_attempt


def _socket(server: str, kind: int) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, kind | socket.SOCK_NONBLOCK)


def _connect(sock: socket.socket, server: str, port: int) -> None:
    with suppress(BlockingIOError):
        if ":" in server:
            address, _, scope = server.partition("%")
            sock.connect((address, port, 0, socket.if_nametoindex(scope) if scope else 0))
        else:
            sock.connect((server, port))


class Exchange:
    """One query on its way. Its attempts stay open for a late answer until one of them has brought a good one."""

    def __init__(
        self,
        loop: Loop,
        query: bytes,
        answered: Answered,
        tries: list[str],
        silent: Callable[[str], None],
        open_attempt: Opener,
    ) -> None:
        self._loop, self._query, self._answered = loop, query, answered
        self._tries, self._silent, self._open = tries, silent, open_attempt
        self._pause = TRY_S * TRIES / max(TRIES, len(tries))
        self._attempts: list[tuple[str, Attempt]] = []
        self._failure: bytes | None = None
        # Not from within `ask`: its caller has not yet noted what it gets.
        self._timer = loop.call_later(0, self._next)

    def cancel(self) -> None:
        """Nothing is called back any more."""
        self._loop.cancel(self._timer)
        for _, attempt in self._attempts:
            attempt.close()
        self._attempts = []

    def _next(self) -> None:
        """Asks one server more, or gives up."""
        self._loop.cancel(self._timer)
        while self._tries and not self._ask(self._tries.pop(0)):
            continue
        if self._attempts:
            self._timer = self._loop.call_later(self._pause, self._late)
        else:
            self._finish(self._failure)

    def _ask(self, server: str) -> bool:
        query = os.urandom(2) + self._query[2:]
        try:
            attempt = self._open(server, query, partial(self._heard, server))
        except (OSError, ValueError):
            self._forget(server)
            return False
        self._attempts.append((server, attempt))
        return True

    def _late(self) -> None:
        """The last one asked has said nothing."""
        self._silent(self._attempts[-1][0])
        if self._tries:
            self._next()
        else:
            self._finish(self._failure)

    def _heard(self, server: str, data: bytes | None) -> None:
        if data is not None and not answers.is_failure(data):
            self._finish(data)
            return
        self._failure = data or self._failure
        if data is None:
            self._silent(server)
        self._forget(server)
        self._next()

    def _forget(self, server: str) -> None:
        self._tries = [other for other in self._tries if other != server]
        for asked, attempt in self._attempts:
            if asked == server:
                attempt.close()
        self._attempts = [kept for kept in self._attempts if kept[0] != server]

    def _finish(self, data: bytes | None) -> None:
        self.cancel()
        self._answered(None if data is None else self._query[:2] + data[2:])


class _OverUdp:
    def __init__(self, loop: Loop, sock: socket.socket, query: bytes, heard: Heard) -> None:
        self._loop, self._socket, self._query, self._heard = loop, sock, query, heard
        sock.send(query)
        loop.watch(sock.fileno(), READ, self._readable)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()

    def _readable(self, _: int) -> None:
        try:
            data = self._socket.recv(answers.MESSAGE_MAX)
        except BlockingIOError:
            return
        except OSError:
            # Nobody listens there, or the way there is closed (ICMP).
            self._heard(None)
            return
        if answers.is_answer(data, self._query):
            self._heard(data)


class _OverTcp:
    def __init__(self, loop: Loop, sock: socket.socket, query: bytes, heard: Heard) -> None:
        self._loop, self._socket, self._query, self._heard = loop, sock, query, heard
        self._unsent = len(query).to_bytes(2, "big") + query
        self._received = b""
        loop.watch(sock.fileno(), WRITE, self._ready)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()

    def _ready(self, _: int) -> None:
        try:
            data = self._exchange()
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data is not None:
            self._heard(data or None)

    def _exchange(self) -> bytes | None:
        """The answer; b"" if none will come; None: go on."""
        if self._unsent:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
            if not self._unsent:
                self._loop.watch(self._socket.fileno(), READ, self._ready)
            return None
        received = self._socket.recv(answers.MESSAGE_MAX)
        self._received += received
        length = int.from_bytes(self._received[:2], "big")
        if len(self._received) >= 2 + max(length, answers.HEADER_LENGTH):
            data = self._received[2 : 2 + length]
            return data if answers.is_answer(data, self._query) else b""
        return None if received else b""
