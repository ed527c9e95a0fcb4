"""A small HTTP/1.1 server in this process, that can misbehave when it is told to."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import anyio.abc
import h11

_CHUNK = 256 * 1024
_REMEMBERED = 1000


@dataclass
class Fault:
    """A misbehaviour for the requests whose method and path match, `times` times.

    `status` answers with it at once; `cut_after` ends the connection after so many bytes of the body.
    """

    method: str
    path: str
    """A regular expression that the path contains."""
    status: int = 0
    cut_after: int = -1
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int = 1


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: AsyncIterator[bytes]
    scopes: list[str] = field(default_factory=list)
    """All `scope` parameters of the query."""

    async def read(self) -> bytes:
        return b"".join([part async for part in self.body])


@dataclass
class Response:
    status: int
    body: bytes | Path = b""
    headers: dict[str, str] = field(default_factory=dict)
    start: int = 0
    """Of a file: the first byte to send."""


class HttpServer:
    """Answers requests with `answer`. `requests` is what came last, in order; `faults` are what goes wrong."""

    def __init__(self, answer: Callable[[Request], Awaitable[Response]]) -> None:
        self._answer = answer
        self.faults: list[Fault] = []
        self.requests: list[Request] = []

    async def serve(self, stream: anyio.abc.SocketStream) -> None:
        """One connection, to its end; the handler of a listener."""
        connection = h11.Connection(h11.SERVER)
        async with stream:
            try:
                while await self._exchange(stream, connection):
                    connection.start_next_cycle()
            except (h11.ProtocolError, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return

    async def _exchange(self, stream: anyio.abc.SocketStream, connection: h11.Connection) -> bool:
        """One request and its answer; False if the connection is over."""
        head = await _event(stream, connection)
        if not isinstance(head, h11.Request):
            return False
        target = urlsplit(head.target.decode())
        fields = parse_qs(target.query)
        request = Request(
            head.method.decode(),
            target.path,
            {name: values[0] for name, values in fields.items()},
            {name.decode(): value.decode() for name, value in head.headers},
            _body(stream, connection),
            fields.get("scope", []),
        )
        self.requests.append(request)
        del self.requests[:-_REMEMBERED]
        fault = self._fault(request)
        response = (
            Response(fault.status, b"", dict(fault.headers)) if fault and fault.status else await self._answer(request)
        )
        cut = fault.cut_after if fault else -1
        async for _ in request.body:
            pass
        await self._respond(stream, connection, request, response, cut)
        return cut < 0 and connection.our_state is h11.DONE and connection.their_state is h11.DONE

    def _fault(self, request: Request) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.method == request.method and re.search(fault.path, request.path):
                fault.times -= 1
                return fault
        return None

    async def _respond(
        self, stream: anyio.abc.SocketStream, connection: h11.Connection, request: Request, response: Response, cut: int
    ) -> None:
        is_file = isinstance(response.body, Path)
        length = (
            response.body.stat().st_size - response.start if isinstance(response.body, Path) else len(response.body)
        )
        headers = {"docker-distribution-api-version": "registry/2.0", "content-length": str(length), **response.headers}
        await _send(stream, connection, h11.Response(status_code=response.status, headers=list(headers.items())))
        left = length if cut < 0 else min(cut, length)
        if request.method != "HEAD" and response.status != 204:
            if isinstance(response.body, bytes):
                await _send(stream, connection, h11.Data(data=response.body[:left]))
            else:
                with response.body.open("rb") as file:
                    file.seek(response.start)
                    while left and (data := file.read(min(_CHUNK, left))):
                        left -= len(data)
                        await _send(stream, connection, h11.Data(data=data))
        if cut < 0 or not is_file:
            await _send(stream, connection, h11.EndOfMessage())


async def _send(stream: anyio.abc.SocketStream, connection: h11.Connection, event: Any) -> None:
    data = connection.send(event)
    if data:
        await stream.send(data)


async def _event(stream: anyio.abc.SocketStream, connection: h11.Connection) -> Any:
    while (event := connection.next_event()) is h11.NEED_DATA:
        if connection.they_are_waiting_for_100_continue:
            await _send(stream, connection, h11.InformationalResponse(status_code=100, headers=[]))
        try:
            connection.receive_data(await stream.receive(_CHUNK))
        except anyio.EndOfStream:
            connection.receive_data(b"")
    return event


async def _body(stream: anyio.abc.SocketStream, connection: h11.Connection) -> AsyncIterator[bytes]:
    while connection.their_state is h11.SEND_BODY:
        event = await _event(stream, connection)
        if isinstance(event, h11.Data):
            yield bytes(event.data)
        elif not isinstance(event, h11.EndOfMessage):
            return
