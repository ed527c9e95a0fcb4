"""A SOCK_SEQPACKET socket on the daemon's event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from hooper.runtime import wire


class Channel:
    """`on_message` gets each message and its descriptors, which it then owns; `on_end` is called once, when
    the peer is gone or the channel was closed."""

    def __init__(
        self, sock: socket.socket, on_message: Callable[[bytes, list[int]], None], on_end: Callable[[], None]
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._on_message, self._on_end = on_message, on_end
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)

    @property
    def closed(self) -> bool:
        """Nothing comes or goes any more."""
        return self._socket.fileno() < 0

    async def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Sends one encoded message. OSError if the peer is gone."""
        while True:
            try:
                self.send_now(data, fds)
            except BlockingIOError:
                await self._writable()
            else:
                return

    def send_now(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """As `send`; BlockingIOError if the socket is full."""
        if self.closed:
            raise BrokenPipeError("the channel is closed")
        wire.send(self._socket, data, fds)

    def end_sending(self) -> None:
        """Tells the peer that no more follows; what it still says is taken."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()

    def close(self) -> None:
        """Harmless when it is closed."""
        if self.closed:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._on_end()

    async def _writable(self) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        fd = self._socket.fileno()

        def writable() -> None:
            if not ready.done():
                ready.set_result(None)

        self._loop.add_writer(fd, writable)
        try:
            await ready
        finally:
            self._loop.remove_writer(fd)

    def _readable(self) -> None:
        while not self.closed:
            try:
                received = wire.receive(self._socket)
            except BlockingIOError:
                return
            except OSError:
                received = None
            if received is None:
                self.close()
                return
            self._on_message(*received)
