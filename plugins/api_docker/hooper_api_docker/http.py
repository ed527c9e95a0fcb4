"""HTTP/1.1 on raw sockets: one `Connection` a client, one `Request` a request.

Small answers leave in one write, a handler can watch for the client to go away, and a connection can be hijacked:
given away as a socket.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from enum import Enum
from typing import Any

import anyio
import msgspec

from hooper.api.errors import InvalidArgument
from hooper_api_docker.errors import ClientGone, message_of, status_of
from hooper_api_docker.incoming import Head, Incoming, Malformed
from hooper_api_docker.query import Query
from hooper_api_docker.sockets import Transport

MAX_BODY = 16 << 20
"""Bytes of a JSON body that is read whole."""
DRAIN_SECONDS = 10.0
"""How long the rest of a refused upload is read, so that the client gets to see the answer."""
JSON = b"application/json"

Headers = Sequence[tuple[bytes, bytes]]


class Response(msgspec.Struct):
    """A small answer. `body` is sent as it is if bytes, else as JSON; None is no body."""

    status: int = 200
    body: Any = None
    content_type: bytes = JSON
    headers: Headers = ()


class Request:
    """One request, and the means to answer it. A handler answers by returning a Response, or by `begin`,
    `write`, `end`, or by `hijack`."""

    def __init__(self, connection: Connection, head: Head) -> None:
        self._connection = connection
        self.method = head.method
        path, _, query = head.target.partition(b"?")
        self.path = path.decode("utf-8", "replace")
        self.query = Query(query)
        self.headers = head.headers
        self.version: tuple[int, int] = (0, 0)
        """Of the API, set by the router."""
        self.begun = False

    # The request's body

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes."""
        while (data := await self._connection.read_body()) is not None:
            yield data

    async def body(self) -> bytes:
        """All of the body. InvalidArgument if it is larger than any JSON request."""
        data = await self._connection.read_body()
        if data is None:
            return b""
        parts, size = [data], len(data)
        while (data := await self._connection.read_body()) is not None:
            size += len(data)
            if size > MAX_BODY:
                raise InvalidArgument("cannot read the request", f"its body is larger than {MAX_BODY} bytes")
            parts.append(data)
        return b"".join(parts) if len(parts) > 1 else parts[0]

    # The answer

    async def respond(self, response: Response) -> None:
        self.begun = True
        body = response.body
        if body is not None and not isinstance(body, bytes):
            body = msgspec.json.encode(body)
        headers = list(response.headers)
        if body is not None:
            headers.append((b"Content-Type", response.content_type))
        if response.status not in (204, 304):
            headers.append((b"Content-Length", b"%d" % len(body or b"")))
        await self._connection.send_whole(response.status, headers, body if self.method != "HEAD" else None)

    async def begin(self, content_type: bytes, headers: Headers = (), status: int = 200) -> None:
        """Sends the head at once; a body of unknown length follows."""
        self.begun = True
        await self._connection.send_head(status, [*headers, (b"Content-Type", content_type)])

    async def write(self, data: bytes) -> None:
        if self.method != "HEAD":
            await self._connection.send_data(data)

    async def write_last(self, body: Any) -> None:
        """The rest of the answer as JSON, and its end, in one write."""
        await self._connection.send_last(msgspec.json.encode(body))

    async def end(self) -> None:
        await self._connection.send_end()

    async def fail(self, error: BaseException) -> None:
        """Answers with the error, or breaks the connection off if an answer has begun."""
        if self.begun:
            raise ClientGone from error
        status = status_of(error)
        body = None if status == 304 else {"message": message_of(error)}
        await self.respond(Response(status, body))

    @asynccontextmanager
    async def while_connected(self) -> AsyncIterator[None]:
        """Cancels the block when the client goes away. The rest of the body is read before."""
        await self._connection.drain_body()
        with self._connection.watched():
            yield

    async def hijack(self, content_type: bytes, *, until_taken: bool = True) -> tuple[socket.socket, bytes]:
        """Sends the head of a raw stream, on its own, and gives the connection up.

        Returns a duplicate of the socket, the caller's, and what was received beyond the request. Unless it is waited
        `until_taken`, whoever sends must see to that.
        """
        self.begun = True
        upgrade = b"upgrade" in self.headers
        hijacked = await self._connection.hijack(content_type, upgrade)
        if until_taken:
            await self.until_taken()
        return hijacked

    async def until_taken(self) -> None:
        """Waits, a moment at most, until the client has read the head: nothing may be sent before."""
        await self._connection.transport.until_taken()

    async def take_over(self, head: bytes) -> tuple[Transport, bytes]:
        """Sends `head` and leaves HTTP: the connection, as long as the request is handled, and what came beyond it."""
        self.begun = True
        return await self._connection.take_over(head)

    async def send_raw(self, data: bytes) -> None:
        """Writes to a hijacked connection, as long as the request is handled."""
        await self._connection.transport.send(data)


class _Answer(Enum):
    """How far it is, and how its end is told."""

    NONE = 0
    CHUNKED = 1
    UNTIL_CLOSED = 2
    DONE = 3


_NONE = Head("", b"", {})
_NONE.keeps_alive = False


class Connection:
    """Serves the requests of one client, one after the other."""

    def __init__(
        self, sock: socket.socket, handle: Callable[[Request], Awaitable[None]], standard_headers: Headers
    ) -> None:
        self.transport = Transport(sock)
        self._incoming = Incoming(self.transport)
        self._handle, self._standard_headers = handle, standard_headers
        self._head = _NONE
        self._answer = _Answer.NONE
        self._hijacked = False

    async def serve(self) -> None:
        """Until the client closes, or breaks the protocol."""
        try:
            while await self._serve_one():
                pass
        except ClientGone:
            pass
        except Malformed as error:
            await self._refuse(error)
        finally:
            self.transport.socket.close()

    async def _serve_one(self) -> bool:
        self._answer = _Answer.NONE
        head = await self._incoming.head()
        if head is None:
            return False
        self._head = head
        await self._handle(Request(self, head))
        if self._hijacked:
            return False
        if self._answer in (_Answer.CHUNKED, _Answer.UNTIL_CLOSED):
            await self.send_end()
        if not self._incoming.done:
            with anyio.move_on_after(DRAIN_SECONDS), suppress(InvalidArgument):
                await self._discard_body()
        return self._incoming.done and self._answer is _Answer.DONE and self._head.keeps_alive

    async def _refuse(self, error: Malformed) -> None:
        """Of a request whose head could not be read."""
        body = msgspec.json.encode({"message": f"malformed HTTP request: {error}"})
        self._head = _NONE
        try:
            headers = [(b"Content-Type", JSON), (b"Content-Length", b"%d" % len(body))]
            await self.send_whole(error.status, headers, body)
        except ClientGone:
            pass

    # Receiving

    async def read_body(self) -> bytes | None:
        """The next part of the request's body, None at its end."""
        return await self._incoming.body()

    async def drain_body(self) -> None:
        while await self.read_body() is not None:
            pass

    async def _discard_body(self) -> None:
        if not self._incoming.awaits_continue:
            await self.drain_body()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Cancels the block, and raises ClientGone, when the client closes its connection.

        A callback of the loop rather than a task: it costs microseconds on the way of every `wait`.
        """
        loop = asyncio.get_running_loop()
        scope = anyio.CancelScope()
        # The number: asyncio writes a whole socket out as text to find that it does not know it.
        sock, closed = self.transport.socket.fileno(), False

        def readable() -> None:
            nonlocal closed
            closed = bool(self.transport.peer_closed())
            # More requests may have come in advance; what follows them cannot be seen.
            loop.remove_reader(sock)
            if closed:
                scope.cancel()

        loop.add_reader(sock, readable)
        try:
            with scope:
                yield
        finally:
            loop.remove_reader(sock)
        if closed and scope.cancelled_caught:
            raise ClientGone

    # Sending

    def _written_head(self, status: int, headers: Headers) -> bytes:
        lines = [b"HTTP/1.1 %d %s\r\n" % (status, _REASONS.get(status, b"Error"))]
        lines += [b"%s: %s\r\n" % each for each in (*self._standard_headers, (b"Date", _date()), *headers)]
        if not self._head.keeps_alive:
            lines.append(b"Connection: close\r\n")
        return b"".join((*lines, b"\r\n"))

    async def send_whole(self, status: int, headers: Headers, body: bytes | None) -> None:
        """Head and body in one write."""
        self._answer = _Answer.DONE
        self._incoming.answered()
        await self.transport.send(self._written_head(status, headers) + (body or b""))

    async def send_head(self, status: int, headers: Headers) -> None:
        """Of an answer whose length is not known: HTTP/1.0 finds its end when the connection is closed."""
        if self._head.is_1_1:
            self._answer = _Answer.CHUNKED
            headers = [*headers, (b"Transfer-Encoding", b"chunked")]
        else:
            self._answer, self._head.keeps_alive = _Answer.UNTIL_CLOSED, False
        self._incoming.answered()
        await self.transport.send(self._written_head(status, headers))

    def _framed(self, data: bytes) -> bytes:
        if self._answer is not _Answer.CHUNKED or not data:
            return data
        return b"%x\r\n%s\r\n" % (len(data), data)

    async def send_data(self, data: bytes) -> None:
        if data:
            await self.transport.send(self._framed(data))

    async def send_last(self, data: bytes) -> None:
        await self.transport.send(self._framed(data) + self._end())

    async def send_end(self) -> None:
        if end := self._end():
            await self.transport.send(end)

    def _end(self) -> bytes:
        chunked, self._answer = self._answer is _Answer.CHUNKED, _Answer.DONE
        return b"0\r\n\r\n" if chunked and self._head.method != "HEAD" else b""

    async def hijack(self, content_type: bytes, upgrade: bool) -> tuple[socket.socket, bytes]:
        _, received = await self.take_over(_hijacked_head(content_type, upgrade))
        return self.transport.socket.dup(), received

    async def take_over(self, head: bytes) -> tuple[Transport, bytes]:
        await self.drain_body()
        self._hijacked = True
        await self.transport.send(head)
        return self.transport, self._incoming.rest()


def _hijacked_head(content_type: bytes, upgrade: bool) -> bytes:
    """The docker CLI takes nothing but a literal "101 UPGRADED"."""
    if upgrade:
        return (
            b"HTTP/1.1 101 UPGRADED\r\nContent-Type: " + content_type + b"\r\n"
            b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
        )
    return b"HTTP/1.1 200 OK\r\nContent-Type: " + content_type + b"\r\n\r\n"


_REASONS = {
    200: b"OK",
    201: b"Created",
    204: b"No Content",
    304: b"Not Modified",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    409: b"Conflict",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
}


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_cached_date: tuple[int, bytes] = (0, b"")


def _date() -> bytes:
    """RFC 9110, section 5.6.7: independent of the locale; made once a second."""
    global _cached_date
    now = int(time.time())
    if _cached_date[0] != now:
        t = time.gmtime(now)
        text = (
            f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year} {time.strftime('%H:%M:%S', t)} GMT"
        )
        _cached_date = (now, text.encode())
    return _cached_date[1]
