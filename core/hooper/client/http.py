"""HTTP/1.1 as the Engine API uses it: one request at a time, chunked both ways, 101 upgrades.

The standard library's http.client costs 20 ms to import; this reads the same wire in a page.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Mapping

from hooper.client.errors import ConnectionFailed

_READ = 1 << 18
_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_MAX_LINE = 1 << 20


def quote(text: str, safe: str = "") -> str:
    """Percent-encodes everything but unreserved characters and `safe` (RFC 3986)."""
    keep = _SAFE.union(safe.encode())
    return "".join(chr(byte) if byte in keep else f"%{byte:02X}" for byte in os.fsencode(text))


def query_string(query: Mapping[str, object]) -> str:
    """`?a=1&b=…` from a mapping: None is left out, a list repeats its key, booleans are 1 and 0."""
    pairs = []
    for key, value in query.items():
        for item in value if isinstance(value, list | tuple) else [value]:
            if item is not None:
                text = str(int(item)) if isinstance(item, bool) else str(item)
                pairs.append(f"{quote(key)}={quote(text)}")
    return "?" + "&".join(pairs) if pairs else ""


class Wire:
    """A connected socket with what was read ahead from it. Owns the socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._ahead = bytearray()

    def close(self) -> None:
        self.socket.close()

    def take_ahead(self) -> bytes:
        """What was read beyond the last message; it is forgotten here."""
        ahead = bytes(self._ahead)
        self._ahead.clear()
        return ahead

    def read_some(self, most: int = _READ) -> bytes:
        """At least one byte, at most `most`; empty at the end of the stream."""
        if self._ahead:
            part = bytes(self._ahead[:most])
            del self._ahead[:most]
            return part
        return self.socket.recv(most)

    def read_line(self) -> bytes:
        """A line without its CRLF; ConnectionFailed if the stream ends within it."""
        while (end := self._ahead.find(b"\n")) < 0:
            data = self.socket.recv(65536)
            if not data or len(self._ahead) > _MAX_LINE:
                raise ConnectionFailed("the daemon closed the connection in the middle of its answer")
            self._ahead += data
        line = bytes(self._ahead[:end]).rstrip(b"\r")
        del self._ahead[: end + 1]
        return line

    def send_request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | Iterable[bytes] | None
    ) -> None:
        """Writes one request. An iterable body goes out chunked; a daemon that stops reading ends it early."""
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        if isinstance(body, bytes):
            lines.append(f"Content-Length: {len(body)}")
        elif body is not None:
            lines.append("Transfer-Encoding: chunked")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        if body is None or isinstance(body, bytes):
            self.socket.sendall(head + (body or b""))
            return
        try:
            self.socket.sendall(head)
            for part in body:
                if part:
                    self.socket.sendall(b"%x\r\n%b\r\n" % (len(part), part))
            self.socket.sendall(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            # The answer, already on its way, says why the daemon would not read on.
            return


class Response:
    """The head of an answer and its body, read on demand. `headers` has lower-case names."""

    def __init__(self, wire: Wire, method: str) -> None:
        self._wire = wire
        version, _, rest = wire.read_line().decode("latin-1").partition(" ")
        code, _, self.reason = rest.partition(" ")
        if not version.startswith("HTTP/1.") or not code.isdigit():
            raise ConnectionFailed("what answers is not an HTTP server", f'it said "{version} {rest}"')
        self.status = int(code)
        self.headers: dict[str, str] = {}
        while line := wire.read_line().decode("latin-1"):
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
        self._body = self._parts(method)

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another request once the body is read."""
        framed = "chunked" in self.headers.get("transfer-encoding", "") or "content-length" in self.headers
        bodiless = self.status in (204, 304)
        return (framed or bodiless) and self.headers.get("connection", "").lower() != "close"

    def parts(self) -> Iterator[bytes]:
        """The body in pieces as they come."""
        return self._body

    def read(self) -> bytes:
        """The whole (remaining) body."""
        return b"".join(self._body)

    def lines(self) -> Iterator[bytes]:
        """The body by lines, each as soon as it is complete; empty lines are left out."""
        pending = b""
        for part in self._body:
            *whole, pending = (pending + part).split(b"\n")
            for line in whole:
                if line.strip():
                    yield line
        if pending.strip():
            yield pending

    def close(self) -> None:
        """Ends the connection, whatever is left of the body."""
        self._wire.close()

    def _parts(self, method: str) -> Iterator[bytes]:
        if method == "HEAD" or self.status in (101, 204, 304):
            return iter(())
        if "chunked" in self.headers.get("transfer-encoding", ""):
            return self._chunked()
        if "content-length" in self.headers:
            return self._counted(int(self.headers["content-length"]))
        return iter(self._wire.read_some, b"")

    def _counted(self, left: int) -> Iterator[bytes]:
        while left:
            part = self._wire.read_some(min(left, _READ))
            if not part:
                raise ConnectionFailed("the daemon closed the connection in the middle of its answer")
            left -= len(part)
            yield part

    def _chunked(self) -> Iterator[bytes]:
        while size := int(self._wire.read_line().split(b";")[0], 16):
            yield from self._counted(size)
            self._wire.read_line()
        while self._wire.read_line():
            pass
