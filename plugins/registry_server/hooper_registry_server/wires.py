"""Connections as streams of bytes, plain or TLS, whose peer must not keep them waiting."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
from anyio.streams.tls import TLSStream

from hooper.api.errors import Conflict, InvalidArgument

_SLOWEST = 1024
"""Bytes a second that a peer must move in the long run."""
_BACKLOG = 512
_PIECE = 256 * 1024
_SENT_AT_ONCE = 4 << 20


class Gone(Exception):
    """The peer has closed the connection, or has been too slow."""


class Pace:
    """How long a peer may still be waited for: `patience` seconds, which bytes that move fill up again."""

    def __init__(self, patience: float, *, refilled: bool = True) -> None:
        self._patience, self._refilled = patience, refilled
        self.left = patience

    def waited(self, seconds: float, moved: int) -> None:
        more = moved / _SLOWEST if self._refilled else 0.0
        self.left = min(self.left - seconds + more, self._patience)


class Wire(ABC):
    """`pace` is that of the present exchange. Whatever goes wrong is Gone."""

    def __init__(self, patience: float) -> None:
        self.pace = Pace(patience)

    async def _waiting(self, awaitable: Awaitable[Any]) -> Any:
        started = time.monotonic()
        try:
            with anyio.fail_after(max(self.pace.left, 0.0)):
                return await awaitable
        except TimeoutError as error:
            raise Gone("it is too slow") from error
        finally:
            self.pace.waited(time.monotonic() - started, 0)

    @abstractmethod
    async def receive(self) -> bytes:
        """Some bytes, b"" at the end of the stream."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """All of `data`."""

    @abstractmethod
    async def send_file(self, descriptor: int, offset: int, count: int, threads: anyio.CapacityLimiter) -> None:
        """Part of a file, which has so many bytes; the disk is waited for in a thread."""

    @abstractmethod
    async def aclose(self) -> None: ...


class PlainWire(Wire):
    def __init__(self, sock: socket.socket, patience: float) -> None:
        super().__init__(patience)
        sock.setblocking(False)
        self._socket = sock

    async def receive(self) -> bytes:
        while True:
            try:
                data = self._socket.recv(_PIECE)
            except BlockingIOError:
                await self._waiting(anyio.wait_readable(self._socket))
            except OSError as error:
                raise Gone(str(error)) from error
            else:
                self.pace.waited(0, len(data))
                return data

    async def send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                sent = self._socket.send(rest)
            except BlockingIOError:
                await self._waiting(anyio.wait_writable(self._socket))
            except OSError as error:
                raise Gone(str(error)) from error
            else:
                self.pace.waited(0, sent)
                rest = rest[sent:]

    async def send_file(self, descriptor: int, offset: int, count: int, threads: anyio.CapacityLimiter) -> None:
        while count:
            sent = await anyio.to_thread.run_sync(self._send_some, descriptor, offset, count, limiter=threads)
            offset, count = offset + sent, count - sent
            self.pace.waited(0, sent)
            if count:
                await self._waiting(anyio.wait_writable(self._socket))

    def _send_some(self, descriptor: int, offset: int, count: int) -> int:
        """As much as the socket takes now."""
        sent, most = 0, min(count, _SENT_AT_ONCE)
        try:
            while sent < most:
                now = os.sendfile(self._socket.fileno(), descriptor, offset + sent, most - sent)
                if not now:
                    raise Gone("the file is shorter than it was")
                sent += now
        except BlockingIOError:
            pass
        except OSError as error:
            raise Gone(str(error)) from error
        return sent

    async def aclose(self) -> None:
        self._socket.close()


class TlsWire(Wire):
    def __init__(self, inner: PlainWire, patience: float) -> None:
        super().__init__(patience)
        self._inner = inner
        self._stream: TLSStream | None = None

    async def handshake(self, context: ssl.SSLContext) -> None:
        """Must come first."""
        self._inner.pace = self.pace
        try:
            self._stream = await TLSStream.wrap(
                _Adapter(self._inner), server_side=True, ssl_context=context, standard_compatible=False
            )
        except (ssl.SSLError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
            raise Gone(str(error)) from error

    async def receive(self) -> bytes:
        assert self._stream is not None
        self._inner.pace = self.pace
        try:
            return await self._stream.receive(_PIECE)
        except anyio.EndOfStream:
            return b""
        except (ssl.SSLError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise Gone(str(error)) from error

    async def send(self, data: bytes) -> None:
        assert self._stream is not None
        self._inner.pace = self.pace
        try:
            await self._stream.send(data)
        except (ssl.SSLError, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise Gone(str(error)) from error

    async def send_file(self, descriptor: int, offset: int, count: int, threads: anyio.CapacityLimiter) -> None:
        while count:
            data = await anyio.to_thread.run_sync(os.pread, descriptor, min(count, _PIECE), offset, limiter=threads)
            if not data:
                raise Gone("the file is shorter than it was")
            await self.send(data)
            offset, count = offset + len(data), count - len(data)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Adapter(anyio.abc.ByteStream):
    """A plain wire as anyio's TLS wants it."""

    def __init__(self, wire: PlainWire) -> None:
        self._wire = wire

    async def receive(self, max_bytes: int = 65536) -> bytes:
        data = await self._wire.receive()
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        await self._wire.send(item)

    async def send_eof(self) -> None:
        """The peer sees the end of a TLS stream by its own message."""

    async def aclose(self) -> None:
        await self._wire.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Any]:
        return {}


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
    """InvalidArgument if the files are no certificate and its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key or None)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or str(error)
        raise InvalidArgument(
            f"cannot use the certificate {certificate}", reason, "Give PEM files of a certificate and its key."
        ) from error
    return context


def open_listener(address: str) -> socket.socket:
    """A listening socket on "HOST:PORT". InvalidArgument, or Conflict if it cannot be had."""
    host, colon, port = address.removeprefix("tcp://").rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise InvalidArgument(f'cannot listen on "{address}"', "there is no port number", "Write HOST:PORT.")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        sock = socket.create_server((host, int(port)), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise Conflict(
            f"cannot listen on {address}", reason, "Choose a free port and an address of this host."
        ) from error
    sock.setblocking(False)
    return sock


async def accept(listener: socket.socket) -> tuple[socket.socket, str]:
    """The next connection, and the peer's address. Out of descriptors, it waits for some to be freed."""
    while True:
        try:
            sock, peer = listener.accept()
        except BlockingIOError:
            await anyio.wait_readable(listener)
        except OSError as error:
            if error.errno in (errno.EBADF, errno.EINVAL):
                raise
            await anyio.sleep(0.1)
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock, str(peer[0])
