"""GET /containers/{id}/attach/ws: an attached container behind a WebSocket (RFC 6455).

What the container writes comes as it is, stdout and stderr in one, in binary messages (text before API 1.28); what
the client sends is its stdin. Only who uses this imports it.
"""

from __future__ import annotations

import base64
import hashlib
import socket
from collections.abc import Awaitable, Callable

import anyio
import anyio.abc
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Message, Ping, TextMessage
from wsproto.frame_protocol import CloseReason

from hooper.api.engine import Engine
from hooper.api.errors import HooperError, InvalidArgument
from hooper_api_docker.attach import check, logged, read_options
from hooper_api_docker.errors import ClientGone, message_of
from hooper_api_docker.http import Request
from hooper_api_docker.sockets import Transport

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""
_FRAME_HEAD = 8


async def attach(engine: Engine, request: Request, name: str) -> None:
    container = await engine.containers.get(name)
    check(container)
    options = read_options(request)
    head = _head(request)
    ours, theirs = socket.socketpair()
    with ours:
        with engine.containers.attaching(container.id):
            client, received = await request.take_over(head)
            bridge = _Bridge(client, Transport(ours), received, text=request.version < (1, 28))
            try:
                if options.logs:
                    async for data in logged(engine, container, options, framed=False):
                        await bridge.show(data)
                if not options.stream:
                    theirs.close()
                else:
                    await engine.containers.attach(container.id, options, theirs, b"")
            except HooperError as error:
                theirs.close()
                await bridge.send(CloseConnection(CloseReason.INTERNAL_ERROR, message_of(error)[:100]))
                return
        await bridge.run(plain=container.config.tty)


def _head(request: Request) -> bytes:
    """The answer to the handshake (RFC 6455, section 4.2). InvalidArgument if the request is none."""
    key = request.headers.get(b"sec-websocket-key", b"")
    if request.headers.get(b"upgrade", b"").lower() != b"websocket" or not key:
        raise InvalidArgument("not a websocket handshake", "there is no Upgrade: websocket with a Sec-WebSocket-Key")
    if request.headers.get(b"sec-websocket-version") != b"13":
        raise InvalidArgument("unknown websocket version", "only version 13 (RFC 6455) is spoken")
    accept = base64.b64encode(hashlib.sha1(key.strip() + _GUID, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


class _Bridge:
    """Between a WebSocket and an attached container. It ends with either. `text`: output is sent as text."""

    def __init__(self, client: Transport, container: Transport, received: bytes, *, text: bool) -> None:
        self._client, self._container, self._first, self._text = client, container, received, text
        self._protocol = Connection(ConnectionType.SERVER)
        self._lock = anyio.Lock()

    async def run(self, *, plain: bool) -> None:
        """`plain`: the container's output is not framed."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._until_end, self._to_container, tasks.cancel_scope)
            tasks.start_soon(self._until_end, lambda: self._to_client(plain), tasks.cancel_scope)

    async def _until_end(self, pump: Callable[[], Awaitable[None]], scope: anyio.CancelScope) -> None:
        try:
            await pump()
        except ClientGone:
            pass  # of either side: the other one ends too
        scope.cancel()

    async def show(self, output: bytes) -> None:
        """Sends some output of the container."""
        if output:
            await self.send(TextMessage(output.decode("utf-8", "replace")) if self._text else BytesMessage(output))

    async def send(self, event: Event) -> None:
        async with self._lock:
            await self._client.send(self._protocol.send(event))

    async def _to_container(self) -> None:
        data = self._first
        while True:
            if data:
                self._protocol.receive_data(data)
            for event in self._protocol.events():
                if isinstance(event, CloseConnection):
                    await self.send(event.response())
                    return
                if isinstance(event, Ping):
                    await self.send(event.response())
                elif isinstance(event, Message):
                    content = event.data
                    await self._container.send(content.encode() if isinstance(content, str) else bytes(content))
            data = await self._client.receive()
            if not data:
                return

    async def _to_client(self, plain: bool) -> None:
        frames = _Frames()
        while data := await self._container.receive():
            await self.show(data if plain else frames.payload(data))
        await self.send(CloseConnection(CloseReason.NORMAL_CLOSURE))


class _Frames:
    """Takes the heads out of the multiplexed stream."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0

    def payload(self, data: bytes) -> bytes:
        found = []
        while data:
            if self._left:
                found.append(data[: self._left])
                data, self._left = data[self._left :], self._left - len(found[-1])
                continue
            missing = _FRAME_HEAD - len(self._head)
            self._head, data = self._head + data[:missing], data[missing:]
            if len(self._head) == _FRAME_HEAD:
                self._left, self._head = int.from_bytes(self._head[4:], "big"), b""
        return b"".join(found)
