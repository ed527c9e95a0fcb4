"""A client's TCP connection to the resolver (RFC 7766): messages with their length before them, both ways."""

from __future__ import annotations

import socket
from collections.abc import Callable

from hooper.runtime.loop import READ, WRITE, Loop

IDLE_S = 10.0
UNSENT_MAX = 256 * 1024
"""Bytes; a client that asks on and on and reads nothing is cut off."""


class ClientStream:
    """`asked` gets each message; `ended` is called once, when the connection is closed."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        asked: Callable[[bytes, ClientStream], None],
        ended: Callable[[ClientStream], None],
    ) -> None:
        sock.setblocking(False)
        self._loop, self._socket, self._asked, self._ended = loop, sock, asked, ended
        self._received, self._unsent = b"", b""
        self._timer = loop.call_later(IDLE_S, self.close)
        loop.watch(sock.fileno(), READ, self._ready)

    def close(self) -> None:
        """Harmless when it is closed."""
        if self._socket.fileno() < 0:
            return
        self._loop.cancel(self._timer)
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()
        self._ended(self)

    def send(self, data: bytes) -> None:
        """An answer. It is dropped if the connection is closed."""
        if self._socket.fileno() < 0:
            return
        self._unsent += len(data).to_bytes(2, "big") + data
        try:
            self._flush()
        except OSError:
            self.close()
            return
        if len(self._unsent) > UNSENT_MAX:
            self.close()

    def _flush(self) -> None:
        if self._unsent:
            try:
                self._unsent = self._unsent[self._socket.send(self._unsent, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                pass
        self._loop.watch(self._socket.fileno(), READ | WRITE if self._unsent else READ, self._ready)

    def _ready(self, events: int) -> None:
        try:
            if self._unsent:
                self._flush()
            received = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self.close()
            return
        self._loop.cancel(self._timer)
        self._timer = self._loop.call_later(IDLE_S, self.close)
        self._received += received
        self._take()

    def _take(self) -> None:
        while len(self._received) >= 2 and self._socket.fileno() >= 0:
            end = 2 + int.from_bytes(self._received[:2], "big")
            if len(self._received) < end:
                return
            message, self._received = self._received[2:end], self._received[end:]
            self._asked(message, self)
