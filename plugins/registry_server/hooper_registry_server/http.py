"""HTTP/1.1 on a wire: one request after the other, by h11."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote

import anyio
import h11

from hooper.api.errors import HooperError
from hooper_registry_server.problems import Problem
from hooper_registry_server.wires import Gone, Pace, Wire

JSON = "application/json"
_MAX_HEAD = 64 * 1024
_DRAINED_SECONDS = 5.0
"""How long the rest of a refused upload is read, so that the client gets to see the answer."""


class FilePart:
    """A part of an open file, as a body; `close` is called when it has been sent, or cannot be."""

    def __init__(self, descriptor: int, offset: int, count: int, close: Callable[[], None]) -> None:
        self.descriptor, self.offset, self.count, self.close = descriptor, offset, count, close


class Streamed:
    """A body of known length that comes bit by bit; `close` is called at its end, whatever that is."""

    def __init__(self, chunks: AsyncIterator[bytes], count: int, close: Callable[[], None]) -> None:
        self.chunks, self.count, self.close = chunks, count, close


class Response:
    """An answer. A `Content-Length` is added, from the body; `headers` may give that of a HEAD."""

    def __init__(
        self, status: int, body: bytes | FilePart | Streamed = b"", headers: dict[str, str] | None = None
    ) -> None:
        self.status, self.body, self.headers = status, body, dict(headers or {})

    def discard(self) -> None:
        if not isinstance(self.body, bytes):
            self.body.close()


class Request:
    def __init__(self, connection: Connection, event: h11.Request) -> None:
        self._connection = connection
        self.method = event.method.decode("ascii")
        path, _, query = event.target.decode("ascii", "replace").partition("?")
        self.path = unquote(path)
        self.query: dict[str, list[str]] = parse_qs(query, keep_blank_values=True)
        self.headers = {name.decode("ascii"): value.decode("latin-1") for name, value in event.headers}
        self.user = ""
        """Who it is from, for the log."""

    def get(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return self.query.get(name, [default])[0]

    @property
    def length(self) -> int | None:
        """What the body's length is said to be."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() else None

    @property
    def host(self) -> str:
        return self.headers.get("host", "")

    @property
    def secure(self) -> bool:
        return self._connection.secure

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Gone if it breaks off."""
        while (data := await self._connection.read_body()) is not None:
            yield data

    async def body(self, limit: int) -> bytes:
        """All of the body. 413 if it is larger than `limit` bytes."""
        parts, size = [], 0
        if (self.length or 0) > limit:
            raise _too_large(limit)
        async for data in self.chunks():
            size += len(data)
            if size > limit:
                raise _too_large(limit)
            parts.append(data)
        return b"".join(parts)


def _too_large(limit: int) -> Problem:
    return Problem(413, "SIZE_INVALID", f"the body is larger than {limit} bytes")


class Connection:
    """Serves one client, to its end. `threads` limits those that wait for disks."""

    def __init__(
        self,
        wire: Wire,
        handle: Callable[[Request], Awaitable[Response]],
        patience: float,
        threads: anyio.CapacityLimiter,
        *,
        secure: bool = False,
    ) -> None:
        self._wire, self._handle, self._patience, self._threads = wire, handle, patience, threads
        self.secure = secure
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)

    async def serve(self) -> None:
        try:
            while await self._serve_one():
                self._h11.start_next_cycle()
        except Gone:
            return
        except h11.RemoteProtocolError as error:
            await self._refuse(error)

    async def _serve_one(self) -> bool:
        self._wire.pace = Pace(self._patience, refilled=False)
        event = await self._next_event()
        if not isinstance(event, h11.Request):
            return False
        self._wire.pace = Pace(self._patience)
        request = Request(self, event)
        response = await self._handle(request)
        await self._respond(request, response)
        with anyio.move_on_after(_DRAINED_SECONDS):
            if not self._h11.they_are_waiting_for_100_continue:
                while await self.read_body() is not None:
                    pass
        return self._h11.our_state is self._h11.their_state is h11.DONE

    async def _next_event(self) -> Any:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(await self._wire.receive())
        return event

    async def read_body(self) -> bytes | None:
        """The next part of the request's body, None at its end."""
        if self._h11.their_state is not h11.SEND_BODY:
            return None
        if self._h11.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
        try:
            event = await self._next_event()
        except h11.RemoteProtocolError as error:
            raise Gone(str(error)) from error
        if isinstance(event, h11.Data):
            return bytes(event.data)
        return None

    async def _send(self, event: Any) -> None:
        if data := self._h11.send(event):
            await self._wire.send(data)

    async def _respond(self, request: Request, response: Response) -> None:
        body, silent = response.body, request.method == "HEAD"
        count = len(body) if isinstance(body, bytes) else body.count
        try:
            head = self._head(response, count)
            if isinstance(body, bytes):
                # One write, so that it is one packet.
                data = self._h11.send(head) or b""
                if body and not silent:
                    data += self._h11.send(h11.Data(data=body)) or b""
                await self._wire.send(data + (self._h11.send(h11.EndOfMessage()) or b""))
                return
            await self._send(head)
            if not silent:
                await self._send_body(body)
            await self._send(h11.EndOfMessage())
        finally:
            response.discard()

    async def _send_body(self, body: FilePart | Streamed) -> None:
        if isinstance(body, FilePart):
            # h11 counts the bytes, which go out behind its back.
            self._h11.send_with_data_passthrough(h11.Data(data=_Sized(body.count)))  # type: ignore[arg-type]
            await self._wire.send_file(body.descriptor, body.offset, body.count, self._threads)
            return
        try:
            async for chunk in body.chunks:
                await self._send(h11.Data(data=chunk))
        except (Problem, HooperError) as error:
            # The head is out: that the body is not whole can be told by its end alone.
            raise Gone(str(error)) from error

    def _head(self, response: Response, count: int) -> h11.Response:
        headers = {"docker-distribution-api-version": "registry/2.0", "date": formatdate(usegmt=True)}
        if response.status not in (204, 304):
            headers["content-length"] = str(count)
        headers |= {name.lower(): value for name, value in response.headers.items()}
        reason = HTTPStatus(response.status).phrase if response.status in HTTPStatus._value2member_map_ else ""
        fields = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        return h11.Response(status_code=response.status, headers=fields, reason=reason)

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        if self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = Problem(error.error_status_hint, "UNSUPPORTED", f"malformed HTTP request: {error}").body()
        headers = {"content-type": JSON, "connection": "close"}
        try:
            head = self._head(Response(error.error_status_hint, body, headers), len(body))
            await self._send(head)
            await self._send(h11.Data(data=body))
            await self._send(h11.EndOfMessage())
        except (Gone, h11.LocalProtocolError):
            return


class _Sized:
    """Stands for bytes that are sent otherwise."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count
