"""Raw connections to an engine: hijacked streams, their frames, and WebSockets."""

from __future__ import annotations

import base64
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlencode

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, TextMessage

from support import Engine

PATIENCE = 30
"""Seconds that a read may take."""


def connect(engine: Engine) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(PATIENCE)
    sock.connect(engine.socket_path)
    return sock


def read_head(sock: socket.socket) -> str:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        assert byte, f"the connection ended in its head: {head!r}"
        head += byte
    return head.decode()


def read_to_end(sock: socket.socket) -> bytes:
    parts = []
    while data := sock.recv(65536):
        parts.append(data)
    return b"".join(parts)


def read_until(sock: socket.socket, wanted: bytes) -> bytes:
    """What comes, up to and with `wanted`."""
    found = b""
    while wanted not in found:
        data = sock.recv(65536)
        assert data, f"the end, after {found!r}"
        found += data
    return found


def frames(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        size = int.from_bytes(data[4:8], "big")
        found.append((data[0], data[8 : 8 + size]))
        data = data[8 + size :]
    return found


def of(stream: int, data: bytes) -> bytes:
    """What one stream of framed output has."""
    return b"".join(content for number, content in frames(data) if number == stream)


@contextmanager
def hijacked(engine: Engine, path: str, body: object = None, **query: object) -> Iterator[socket.socket]:
    """A connection that was given to a container or an exec."""
    data = b"" if body is None else json.dumps(body).encode()
    head = (
        f"POST {path}?{urlencode(query)} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    with connect(engine) as sock:
        sock.sendall(head.encode() + data)
        answer = read_head(sock)
        assert answer.startswith("HTTP/1.1 101 UPGRADED\r\n"), answer
        yield sock


def create(engine: Engine, name: str, command: list[str], **config: Any) -> str:
    status, answer = engine.request(
        "POST", f"/containers/create?name={name}", {"Image": "busybox", "Cmd": command, **config}
    )
    assert status == 201, answer
    return str(answer["Id"])


def start(engine: Engine, name: str) -> None:
    status, answer = engine.request("POST", f"/containers/{name}/start")
    assert status == 204, answer


def run(engine: Engine, name: str, command: list[str], **config: Any) -> str:
    identifier = create(engine, name, command, **config)
    start(engine, name)
    return identifier


def wait(engine: Engine, name: str) -> int:
    status, answer = engine.request("POST", f"/containers/{name}/wait")
    assert status == 200, answer
    return int(answer["StatusCode"])


def filters(**values: object) -> str:
    return urlencode({"filters": json.dumps(values)})


class WebSocket:
    """A client of GET /containers/{id}/attach/ws."""

    def __init__(self, engine: Engine, path: str, query: Mapping[str, object]) -> None:
        self.socket = connect(engine)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path}?{urlencode(query)} HTTP/1.1\r\nHost: d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Origin: http://d\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.head = read_head(self.socket)
        self._protocol = Connection(ConnectionType.CLIENT)
        self.kinds: set[type] = set()

    def send(self, data: bytes) -> None:
        self.socket.sendall(self._protocol.send(BytesMessage(data)))

    def close(self) -> None:
        self.socket.sendall(self._protocol.send(CloseConnection(1000)))
        self.socket.close()

    def read(self, until: bytes = b"", seconds: float = 20) -> bytes:
        """What comes, up to `until`; to the end if that is empty."""
        found, deadline = b"", time.monotonic() + seconds
        while not (until and until in found):
            assert time.monotonic() < deadline, found
            data = self.socket.recv(65536)
            if not data:
                return found
            self._protocol.receive_data(data)
            for event in self._protocol.events():
                if isinstance(event, BytesMessage | TextMessage):
                    self.kinds.add(type(event))
                    content = event.data
                    found += content.encode() if isinstance(content, str) else bytes(content)
                elif isinstance(event, CloseConnection):
                    with suppress(OSError):  # some servers wait for no answer
                        self.socket.sendall(self._protocol.send(event.response()))
                    return found
        return found
