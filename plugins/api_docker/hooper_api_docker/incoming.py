"""What a client sends over a connection: requests one after the other (RFC 9112).

Heads are read by httptools, that is llhttp. Only the framing is done here: no byte beyond a request is touched, so that
a connection can be given away at its end.
"""

from __future__ import annotations

import re

import httptools

from hooper.api.errors import InvalidArgument
from hooper_api_docker.errors import ClientGone
from hooper_api_docker.sockets import Transport

MAX_HEAD = 1 << 20
"""Bytes of request line and headers, as Go's server allows."""
READ_SIZE = 256 * 1024
_MAX_CHUNK_LINE = 4096
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r?\n")
_LINE_END = re.compile(rb"\r?\n")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Malformed(Exception):
    """No HTTP; `status` is to be answered, and the connection closed."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Head:
    """A request up to its body. Names of headers are lowercase."""

    def __init__(self, method: str, target: bytes, headers: dict[bytes, bytes]) -> None:
        self.method, self.target, self.headers = method, target, headers
        self.length: int | None = 0
        """Of the body; None if that is chunked."""
        self.is_1_1 = True
        self.keeps_alive = True
        """The client wants to send further requests."""


class _Reader:
    """httptools' callbacks; all is known once the headers are complete."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.method, self.version = b"", ""
        self.keeps_alive = False
        self.target = b""
        self.headers: dict[bytes, bytes] = {}
        self.hosts = 0

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self.hosts += name == b"host"
        self.headers[name] = value.strip(b" \t")

    def on_headers_complete(self) -> None:
        self.method, self.version = self.parser.get_method(), self.parser.get_http_version()
        self.keeps_alive = self.parser.should_keep_alive()


def parse(data: bytes) -> Head:
    """Reads a head, with the empty line at its end."""
    reader = _Reader()
    try:
        reader.parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # whether to follow is the handler's to say
    except httptools.HttpParserError as error:
        raise Malformed(400, str(error)) from error
    finally:
        del reader.parser  # each would keep the other alive
    head = Head(reader.method.decode("ascii"), reader.target, reader.headers)
    head.is_1_1, head.keeps_alive = reader.version == "1.1", reader.keeps_alive
    if reader.hosts > 1 or (head.is_1_1 and not reader.hosts):
        raise Malformed(400, "there must be one Host header")
    head.length = _length(reader.headers)
    return head


def _length(headers: dict[bytes, bytes]) -> int | None:
    coding = headers.get(b"transfer-encoding")
    if coding is None:
        return int(headers.get(b"content-length", b"0"))
    if coding.lower() != b"chunked":
        raise Malformed(501, f'the transfer coding "{coding.decode("latin-1")}" is unknown')
    return None


class Incoming:
    """Reads requests: `head`, then `body` until that is None, then the next `head`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._buffer = b""
        self._left: int | None = 0
        """Bytes of the body that are still to come; None before a chunk's size is known."""
        self._chunked = False
        self.awaits_continue = False
        """The client sends its body when it is told to, and was not."""
        self._may_continue = False
        self.done = True
        """The last request has been read whole."""

    def answered(self) -> None:
        """An answer has begun: that is no moment any more to tell the client to go on."""
        self._may_continue = False

    def rest(self) -> bytes:
        """Takes what was received beyond the request."""
        rest, self._buffer = self._buffer, b""
        return rest

    async def head(self) -> Head | None:
        """The next request; None if the client has closed. Raises Malformed."""
        buffer, searched = self._buffer.lstrip(b"\r\n"), 0
        while not (end := _HEAD_END.search(buffer, searched)):
            searched = max(0, len(buffer) - len(b"\r\n\r"))
            if len(buffer) > MAX_HEAD:
                raise Malformed(431, "the head is too large")
            data = await self._transport.receive(READ_SIZE)
            if not data:
                return None
            buffer = (buffer + data).lstrip(b"\r\n")
        if end.end() > MAX_HEAD:
            raise Malformed(431, "the head is too large")
        head = parse(buffer[: end.end()])
        self._buffer = buffer[end.end() :]
        self._chunked = head.length is None
        self._left = head.length
        self.done = self._left == 0
        expected = head.headers.get(b"expect", b"").lower() == b"100-continue"
        self.awaits_continue = self._may_continue = expected and head.is_1_1 and not self.done and not self._buffer
        return head

    async def body(self) -> bytes | None:
        """The next part, None at the end. InvalidArgument for wrong chunks, ClientGone if it breaks off."""
        if self.done:
            return None
        self.awaits_continue = False
        if self._may_continue:
            self._may_continue = False
            await self._transport.send(CONTINUE)
        if self._left is None:
            self._left = await self._chunk_size()
            if not self._left:
                await self._trailers()
                self.done = True
                return None
        data = await self._some(self._left)
        self._left -= len(data)
        if not self._left:
            if self._chunked:
                await self._line_end()
                self._left = None
            else:
                self.done = True
        return data

    async def _some(self, most: int) -> bytes:
        if not self._buffer:
            await self._more()
        data, self._buffer = self._buffer[:most], self._buffer[most:]
        return data

    async def _more(self) -> None:
        data = await self._transport.receive(READ_SIZE)
        if not data:
            raise ClientGone
        self._buffer += data

    async def _matched(self, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
        """What the buffer must begin with: some line."""
        while not (found := pattern.match(self._buffer)):
            if b"\n" in self._buffer[:_MAX_CHUNK_LINE] or len(self._buffer) > _MAX_CHUNK_LINE:
                raise InvalidArgument("malformed request body", "a chunk does not begin or end as it must")
            await self._more()
        self._buffer = self._buffer[found.end() :]
        return found

    async def _chunk_size(self) -> int:
        return int((await self._matched(_CHUNK_LINE))[1], 16)

    async def _line_end(self) -> None:
        await self._matched(_LINE_END)

    async def _trailers(self) -> None:
        """They are read and forgotten."""
        size = 0
        while True:
            while (end := self._buffer.find(b"\n")) < 0:
                if len(self._buffer) > MAX_HEAD:
                    raise InvalidArgument("malformed request body", "its trailers are too large")
                await self._more()
            line, self._buffer = self._buffer[: end + 1], self._buffer[end + 1 :]
            size += len(line)
            if not line.strip(b"\r\n"):
                return
            if size > MAX_HEAD:
                raise InvalidArgument("malformed request body", "its trailers are too large")
