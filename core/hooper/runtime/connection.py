"""A client's connection: output that waits for it, input that comes from it, its end."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence

from hooper.linux import unread
from hooper.runtime.loop import CLOSED, READ, WRITE, Loop

_SO_SNDBUFFORCE = 32
_SEND_BUFFER = 1 << 20
_INPUT_CHUNK = 64 * 1024

Buffer = bytes | memoryview


class Connection:
    """Owns a stream socket. `on_input` gets what the client sent, b"" at the end of that; `on_room` is
    called when nothing waits any more; `on_closed` once, when the socket has been closed."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        *,
        on_input: Callable[[Connection, bytes], None],
        on_room: Callable[[], None],
        on_closed: Callable[[Connection], None],
    ) -> None:
        sock.setblocking(False)
        _widen(sock)
        self._loop, self._socket = loop, sock
        self._on_input, self._on_room, self._on_closed = on_input, on_room, on_closed
        self._waiting: deque[memoryview] = deque()
        self._reading = False
        self._stalled = False
        self._finishing = False
        self._closed = False
        self._held = False
        self.pending = 0
        """Bytes taken by `send` that the socket did not take yet."""

    def send(self, parts: Sequence[Buffer], size: int) -> None:
        """Sends `size` bytes in order; what the socket does not take now is copied and waits."""
        if self._closed or self._finishing:
            return
        sent = self._send_now(parts) if not (self.pending or self._held) else 0
        if self._closed or sent == size:
            return
        for part in parts:
            if sent >= len(part):
                sent -= len(part)
                continue
            rest = memoryview(bytes(part[sent:]))
            sent = 0
            self._waiting.append(rest)
            self.pending += len(rest)
        self._rewatch()

    def hold_until_taken(self, looks: int = 0) -> None:
        """What is to be sent waits, a moment at most, until the client has read what it was sent before."""
        if self._closed:
            return
        if looks < len(unread.PAUSES) and unread.is_unread(self._socket):
            self._held = True
            self._loop.call_later(unread.PAUSES[looks], lambda: self.hold_until_taken(looks + 1))
            return
        held, self._held = self._held, False
        if held and (self.pending or self._finishing):
            self._flush()

    def read(self, wanted: bool) -> None:
        """Begins, or stops, to take input."""
        self._reading, self._stalled = wanted, False
        if not self._closed:
            self._rewatch()

    def stall(self) -> None:
        """Stops to take input until `read`; what a client sends before it goes away is kept for then."""
        self._reading, self._stalled = False, True
        if not self._closed:
            self._rewatch()

    def finish(self) -> None:
        """Closes the connection once all that waits has been sent."""
        if self._closed:
            return
        self._finishing, self._reading = True, False
        if self.pending or self._held:
            self._rewatch()
        else:
            self.close()

    def close(self) -> None:
        """Closes it now; the client reads an end, not a reset."""
        if self._closed:
            return
        self._closed = True
        self._loop.unwatch(self._socket.fileno())
        self._waiting.clear()
        self.pending = 0
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
            # Closing a socket with unread input would be told to the client as a reset.
            while self._socket.recv(_INPUT_CHUNK):
                continue
        except OSError:
            pass
        self._socket.close()
        self._on_closed(self)

    def _send_now(self, parts: Sequence[Buffer]) -> int:
        try:
            return self._socket.sendmsg(parts, (), socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return 0
        except OSError:
            self.close()
            return 0

    def _rewatch(self) -> None:
        events = (READ if self._reading else 0) | (WRITE if self.pending and not self._held else 0)
        self._loop.watch(self._socket.fileno(), events, self._ready)

    def _ready(self, events: int) -> None:
        if events & READ:
            self._take_input()
        elif events & CLOSED:
            if not self._stalled:
                self.close()
                return
            self._loop.unwatch(self._socket.fileno())
            self._waiting.clear()
            self.pending = 0
            self._on_room()
            return
        if self.pending and not (self._closed or self._held):
            self._flush()

    def _take_input(self) -> None:
        try:
            data = self._socket.recv(_INPUT_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not data:
            self.read(False)
        self._on_input(self, data)

    def _flush(self) -> None:
        sent = self._send_now(list(self._waiting)) if self._waiting else 0
        self.pending -= sent if not self._closed else 0
        while sent and self._waiting:
            first = self._waiting.popleft()
            if sent < len(first):
                self._waiting.appendleft(first[sent:])
                break
            sent -= len(first)
        if self.pending or self._closed:
            return
        if self._finishing:
            self.close()
            return
        self._rewatch()
        self._on_room()


def _widen(sock: socket.socket) -> None:
    """A larger send buffer means fewer turns for the same bytes; beyond the limit where we may."""
    for option in (_SO_SNDBUFFORCE, socket.SO_SNDBUF):
        try:
            sock.setsockopt(socket.SOL_SOCKET, option, _SEND_BUFFER)
        except OSError:
            continue
        return
