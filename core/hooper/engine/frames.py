"""Docker's frames of attached output: [stream, 0, 0, 0, length as 32 bits big-endian], then the bytes."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator

import anyio

_NAMES = {1: "stdout", 2: "stderr"}
_HEAD = struct.Struct(">BxxxI")


async def frames(connection: socket.socket) -> AsyncIterator[tuple[str, bytes]]:
    """(stream, data) of every frame until the other side closes."""
    connection.setblocking(False)
    pending = b""
    while True:
        await anyio.wait_readable(connection)
        data = connection.recv(1 << 16)
        if not data:
            return
        pending += data
        while len(pending) >= _HEAD.size:
            stream, length = _HEAD.unpack_from(pending)
            if len(pending) < _HEAD.size + length:
                break
            yield _NAMES.get(stream, "stdout"), pending[_HEAD.size : _HEAD.size + length]
            pending = pending[_HEAD.size + length :]
