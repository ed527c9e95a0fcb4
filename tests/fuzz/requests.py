"""Requests to the registry server, as bytes on a connection."""

from __future__ import annotations

import base64
import os
import re
import tempfile
from pathlib import Path

import anyio
import structlog

from fuzz.checks import Broken, Target, hold
from hooper_registry_server.http import Connection, Request, Response
from hooper_registry_server.names import digest_of
from hooper_registry_server.problems import Problem
from hooper_registry_server.routes import answer
from hooper_registry_server.server import Server
from hooper_registry_server.settings import Settings
from hooper_registry_server.store import Store
from hooper_registry_server.wires import Gone, Wire

_STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [ -~]*\r\n")
_SESSION = "SESSION"
"""In a path: the upload that this connection has begun last, whose name nobody can guess."""
_PATIENCE = 5.0
_USER = "u:$2b$04$" + "abcdefghijklmnopqrstuu" + "uIVsNLYqzHDdwo5qPVnnTYWX7Tdtaxa\n"
"""Of whose password there is but a hash."""


class _Memory(Wire):
    """What a client sends, in pieces, and what it is sent."""

    def __init__(self, data: bytes) -> None:
        super().__init__(_PATIENCE)
        self._pieces = [data[start : start + 500] for start in range(0, len(data), 500)]
        self.sent = bytearray()

    async def receive(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    async def send(self, data: bytes) -> None:
        self.sent += data

    async def send_file(self, descriptor: int, offset: int, count: int, threads: anyio.CapacityLimiter) -> None:
        data = os.pread(descriptor, count, offset)
        if len(data) < count:
            raise Gone("the file is shorter than it was")
        self.sent += data

    async def aclose(self) -> None:
        self._pieces.clear()


class _Conversation:
    """One connection to a server that has a blob and a manifest, and nothing from conversations before."""

    def __init__(self, server: Server) -> None:
        self._server, self._session = server, ""
        self.changes = False

    async def handle(self, request: Request) -> Response:
        self.changes |= request.method not in ("GET", "HEAD")
        request.path = request.path.replace(_SESSION, self._session or _SESSION)
        try:
            response = await answer(self._server, request)
        except Problem as problem:
            hold(400 <= problem.status < 500, "what a client sends is no fault of the server", problem)
            return Response(problem.status, problem.body(), problem.headers)
        self._session = response.headers.get("docker-upload-uuid", self._session)
        hold(200 <= response.status < 400, "an answer is one", response.status)
        return response

    async def run(self, data: bytes) -> bytes:
        wire = _Memory(data)
        await Connection(wire, self.handle, _PATIENCE, anyio.CapacityLimiter(2)).serve()
        return bytes(wire.sent)


class _Place:
    """A server's directory, made again when something in it may have changed. `guarded`: it has a user, "u"."""

    def __init__(self, *, guarded: bool) -> None:
        self._guarded = guarded
        self._used: tuple[tempfile.TemporaryDirectory[str], Store] | None = None

    async def converse(self, data: bytes) -> bytes:
        fresh = self._used is None
        directory, store = self._used = self._used or self._opened()
        users = f"{directory.name}/users" if self._guarded else ""
        server = Server(Settings(htpasswd=users, anonymous_pull=self._guarded), store, structlog.get_logger())
        if fresh and not self._guarded:
            await _Conversation(server).run(_CONTENT)
        conversation = _Conversation(server)
        try:
            return await conversation.run(data)
        finally:
            if conversation.changes:
                self._used = None
                store.close()
                directory.cleanup()

    @staticmethod
    def _opened() -> tuple[tempfile.TemporaryDirectory[str], Store]:
        place = os.environ.get("TMPDIR") or ("/dev/shm" if Path("/dev/shm").is_dir() else None)
        directory = tempfile.TemporaryDirectory(prefix="hooper-fuzz-", dir=place)
        (Path(directory.name) / "users").write_text(_USER)
        return directory, Store(Path(directory.name))


_OPEN, _GUARDED = _Place(guarded=False), _Place(guarded=True)


def feed(data: bytes) -> None:
    """To a server for everybody, and to one with passwords and tokens if it could mean any of these."""
    _check(anyio.run(_OPEN.converse, data))
    if b"uthorization" in data or b"/token" in data:
        _check(anyio.run(_GUARDED.converse, data))


def _check(sent: bytes) -> None:
    if not sent:
        return
    found = _STATUS.match(sent)
    if found is None:
        raise Broken(f"what is sent is HTTP: {sent[:200]!r}")
    hold(found[1] != b"500", "no request is a fault of the server", sent[:500])


# --- seeds --------------------------------------------------------------------------------------------


def _request(line: str, body: bytes = b"", **headers: str) -> bytes:
    fields = {"Host": "a", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if body:
        fields["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{line} HTTP/1.1\r\n{head}\r\n".encode() + body


_BLOB = b"{}"
_DIGEST = digest_of(_BLOB)
_KIND = "application/vnd.oci.image.manifest.v1+json"
_PART = b'{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":2}' % _DIGEST.encode()
_MANIFEST = b'{"schemaVersion":2,"mediaType":"%s","config":%s,"layers":[]}' % (_KIND.encode(), _PART)
_CONTENT = _request(f"POST /v2/a/b/blobs/uploads/?digest={_DIGEST}", _BLOB) + _request(
    "PUT /v2/a/b/manifests/latest", _MANIFEST, Content_Type=_KIND
)

_NESTED = base64.urlsafe_b64encode(b"[" * 6000 + b"]" * 6000).decode()

TARGET = Target(
    feed,
    (
        _CONTENT,
        _request("GET /v2/") + _request("GET /v2/_catalog?n=1&last=a"),
        _request("GET /v2/a/b/tags/list?n=1") + _request("HEAD /v2/a/b/manifests/latest"),
        _request(f"GET /v2/a/b/blobs/{_DIGEST}", Range="bytes=0-0") + _request(f"HEAD /v2/a/b/blobs/{_DIGEST}"),
        _request(f"GET /v2/a/b/referrers/{_DIGEST}?artifactType=a/b"),
        _request("POST /v2/a/b/blobs/uploads/")
        + _request("PATCH /v2/a/b/blobs/uploads/SESSION", b"ab", Content_Range="0-1")
        + _request("GET /v2/a/b/blobs/uploads/SESSION")
        + _request(f"PUT /v2/a/b/blobs/uploads/SESSION?digest={digest_of(b'abc')}", b"c"),
        _request("POST /v2/a/b/blobs/uploads/") + _request("DELETE /v2/a/b/blobs/uploads/SESSION"),
        _request(f"POST /v2/c/blobs/uploads/?mount={_DIGEST}&from=a/b"),
        _request("DELETE /v2/a/b/manifests/latest") + _request(f"DELETE /v2/a/b/blobs/{_DIGEST}"),
        b"PUT /v2/a/b/manifests/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
        b"2\r\n{}\r\n0\r\n\r\n",
        _request("GET /v2/", Authorization="Basic dTpw")
        + _request("GET /token?scope=repository:a:pull", Authorization="Basic dTpw"),
        _request("POST /token", b"grant_type=password&username=u&password=p&scope=repository:a:pull,push"),
        # Characters that base64 has not, and a token whose header is nested too deeply.
        _request("GET /v2/", Authorization="Basic \u00e9"),
        _request("GET /v2/", Authorization=f"Bearer {_NESTED}.e30.e30"),
        _request("GET /v2/a%00/manifests/%ff") + _request("GET /token?scope=repository:a:pull"),
    ),
    unit=0,
)
