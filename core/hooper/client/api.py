"""The Engine API as calls: JSON in, JSON out, streams, uploads and hijacked connections."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from hooper.client.address import Address
from hooper.client.errors import ApiError, ConnectionFailed, broken
from hooper.client.http import Response, Wire, query_string, quote

NEWEST = (1, 50)
"""The newest version of the API that this client speaks."""

_JSON = "application/json"
Query = Mapping[str, object]


class Hijacked:
    """A connection that the daemon handed over: raw bytes both ways. The caller closes `socket`.

    `ahead` is what came together with the answer's head. Output is framed (see
    `hooper.client.frames`) unless the process has a tty; the content type tells that only from 1.42 on.
    """

    def __init__(self, connection: socket.socket, ahead: bytes) -> None:
        self.socket, self.ahead = connection, ahead


class ApiClient:
    """A client of one daemon. Plain calls share a connection; streams and hijacks have their own.

    Every call raises ApiError for an answer of 400 and more, ConnectionFailed where none comes.
    `first` is the connection that found the daemon, if there is one already. `trace`, if set, is told of
    every answer.
    """

    def __init__(self, address: Address, first: socket.socket | None = None) -> None:
        self.address = address
        self._idle: Wire | None = Wire(first) if first else None
        self._prefix: str | None = None
        self.server_headers: dict[str, str] = {}
        self.trace: Callable[[str], object] | None = None

    @property
    def prefix(self) -> str:
        """The path prefix of the version in use: the daemon's own or `NEWEST`, whichever is older."""
        if self._prefix is None:
            response = self._exchange("HEAD", "/_ping", {}, None)
            self._settle(response)
            self.server_headers = response.headers
            advertised = response.headers.get("api-version", "")
            self._prefix = _choose_version(os.environ.get("DOCKER_API_VERSION") or advertised)
        return self._prefix

    @property
    def version(self) -> tuple[int, int]:
        """The version of the API in use."""
        major, _, minor = self.prefix.removeprefix("/v").partition(".")
        return (int(major), int(minor)) if minor else NEWEST

    def get(self, path: str, query: Query | None = None) -> Any:
        """GET, the answer's JSON."""
        return self.call("GET", path, query)

    def post(
        self, path: str, body: Any = None, query: Query | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """POST of a JSON body (or none), the answer's JSON, None if it has none."""
        return self.call("POST", path, query, body, headers)

    def delete(self, path: str, query: Query | None = None) -> Any:
        """DELETE, the answer's JSON, None if it has none."""
        return self.call("DELETE", path, query)

    def head(self, path: str, query: Query | None = None) -> dict[str, str]:
        """HEAD, the answer's headers by lower-case name."""
        response = self._exchange("HEAD", self._target(path, query), {}, None)
        self._settle(response)
        if response.status >= 400:
            raise ApiError(response.status, f"{response.status} {response.reason}")
        return response.headers

    def call(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """One request on the shared connection; the answer's JSON or None."""
        target = self._target(path, query)
        response = self._exchange(method, target, headers or {}, body)
        text = response.read()
        self._settle(response)
        if response.status >= 400:
            raise self._error(response.status, text)
        return json.loads(text) if text.strip() else None

    def stream(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """A request on a connection of its own; the caller reads the answer's body and closes it.

        `body` is an object for JSON, bytes, or an iterable of bytes that is sent chunked.
        """
        target = self._target(path, query)
        wire = Wire(self.address.connect())
        response = self._send(wire, method, target, headers or {}, body)
        if response.status >= 400:
            text = response.read()
            response.close()
            raise self._error(response.status, text)
        return response

    def json_lines(self, method: str, path: str, query: Query | None = None, **more: Any) -> Iterator[Any]:
        """The objects of a stream of JSON lines; what `stream` takes goes in `more`."""
        response = self.stream(method, path, query, **more)
        try:
            for line in response.lines():
                yield json.loads(line)
        finally:
            response.close()

    def hijack(self, path: str, query: Query | None = None, body: Any = None) -> Hijacked:
        """POST that turns its connection into a raw stream (attach, exec start)."""
        target = self._target(path, query)
        wire = Wire(self.address.connect())
        upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
        response = self._send(wire, "POST", target, upgrade, {} if body is None else body)
        if response.status not in (101, 200):
            text = response.read()
            response.close()
            raise self._error(response.status, text)
        return Hijacked(wire.socket, wire.take_ahead())

    def sibling(self) -> ApiClient:
        """A client of the same daemon that shares no connection with this one."""
        other = ApiClient(self.address)
        other._prefix, other.trace = self._prefix, self.trace
        return other

    def close(self) -> None:
        """Closes the shared connection; harmless twice."""
        if self._idle:
            self._idle.close()
            self._idle = None

    def _error(self, status: int, text: bytes) -> ApiError:
        try:
            message = str(json.loads(text)["message"])
        except (ValueError, KeyError, TypeError):
            message = text.decode("utf-8", "replace").strip() or f"the daemon answered {status}"
        return ApiError(status, message, self if status == 404 else None)

    def _target(self, path: str, query: Query | None) -> str:
        return self.prefix + quote(path, safe="/:@") + query_string(query or {})

    def _exchange(self, method: str, target: str, headers: Mapping[str, str], body: Any) -> Response:
        if self._idle:
            try:
                return self._send(self._idle, method, target, headers, body)
            except (ConnectionFailed, OSError):
                # A daemon closes idle connections when it likes; only one that was used before is tried anew.
                self.close()
        self._idle = Wire(self.address.connect())
        return self._send(self._idle, method, target, headers, body)

    def _settle(self, response: Response) -> None:
        if not response.reusable:
            self.close()

    def _send(self, wire: Wire, method: str, target: str, headers: Mapping[str, str], body: Any) -> Response:
        fields = {"Host": self.address.http_host, "User-Agent": "hooper", **headers}
        payload: bytes | Iterable[bytes] | None = body
        if isinstance(body, dict | list):
            fields["Content-Type"] = _JSON
            payload = json.dumps(body).encode()
        elif body is None and method in ("POST", "PUT"):
            payload = b""
        try:
            wire.send_request(method, target, fields, payload)
            response = Response(wire, method)
            if self.trace:
                self.trace(f"{method} {target}: {response.status}")
            return response
        except OSError as error:
            wire.close()
            raise broken(str(self.address), error.strerror or "") from error


def _choose_version(advertised: str) -> str:
    major, _, minor = advertised.partition(".")
    if not (major.isdigit() and minor.isdigit()):
        return ""
    chosen = min((int(major), int(minor)), NEWEST)
    return f"/v{chosen[0]}.{chosen[1]}"
