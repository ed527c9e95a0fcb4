"""The body of an answer, in pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

READ = 1 << 18
"""Bytes that are read at once: as much as the event loop's transport gives."""
_LARGE = 4 << 20
"""From this size on a body is worth a connection of its own."""


async def pieces(response: httpx.Response, timeout: float) -> AsyncIterator[bytes]:
    """What `aiter_raw` gives. Of a large body, whose length the head says, all but the beginning is read from the
    connection itself, which saves the HTTP library's two copies; the connection is closed then, not used again.

    `timeout`: seconds without a byte. httpx.TransportError.
    """
    beginning = aiter(response.aiter_raw())
    length = _length(response)
    if length < _LARGE:
        async for piece in beginning:
            yield piece
        return
    first = await anext(beginning, b"")
    yield first
    async for piece in _from_connection(response, length - len(first), timeout):
        yield piece


def _length(response: httpx.Response) -> int:
    """0 if it is not known, or the body does not come as it is."""
    plain = response.http_version.startswith("HTTP/1") and "transfer-encoding" not in response.headers
    text = response.headers.get("content-length", "")
    return int(text) if plain and text.isascii() and text.isdigit() else 0


async def _from_connection(response: httpx.Response, left: int, timeout: float) -> AsyncIterator[bytes]:
    import httpcore
    import httpx

    stream: httpcore.AsyncNetworkStream = response.extensions["network_stream"]
    while left > 0:
        try:
            piece = await stream.read(READ, timeout)
        except httpcore.TimeoutException as error:
            raise httpx.ReadTimeout(str(error)) from error
        except httpcore.NetworkError as error:
            raise httpx.ReadError(str(error)) from error
        if not piece:
            raise httpx.RemoteProtocolError("the answer was too short")
        left -= len(piece)
        yield piece
