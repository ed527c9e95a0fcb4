"""A small registry that runs in this process (OCI distribution-spec: pull, push, discovery, deletion).

async with Registry(directory) as registry:
    ...  # registry.host is "127.0.0.1:PORT"
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import anyio
import anyio.abc

from hooper.testing.http_server import Fault, HttpServer, Request, Response

__all__ = ["Fault", "Registry", "Request"]

_NAME = r"(?P<name>[a-z0-9][a-z0-9._/-]*?)"
_REFERENCE = r"(?P<reference>sha256:[a-f0-9]{64}|[A-Za-z0-9_][A-Za-z0-9_.-]*)"
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}\Z")


class Problem(Exception):
    """Answered as the distribution-spec's error object."""

    def __init__(self, status: int, code: str, **headers: str) -> None:
        super().__init__(code)
        self.response = _json(status, {"errors": [{"code": code, "message": code.lower().replace("_", " ")}]})
        self.response.headers |= {name.replace("_", "-"): value for name, value in headers.items()}


def _json(status: int, value: Any) -> Response:
    return Response(status, json.dumps(value).encode(), {"content-type": "application/json"})


class Registry:
    """Keeps everything in `directory`, or in a temporary one. `users` (name: password) makes it ask for them,
    by basic authentication or, with `tokens`, by bearer tokens from its own /token."""

    def __init__(
        self,
        directory: Path | None = None,
        *,
        users: Mapping[str, str] | None = None,
        tokens: bool = False,
        port: int = 0,
    ) -> None:
        self._given, self._users, self._token_auth, self._port = directory, users or {}, tokens, port
        self._tokens: dict[str, list[str]] = {}
        self._stack = AsyncExitStack()
        self._server = HttpServer(self._answer)
        self.host = ""
        self.faults = self._server.faults
        self.requests = self._server.requests

    async def __aenter__(self) -> Registry:
        if self._given is None:
            temporary = tempfile.mkdtemp(prefix="hooper-registry-")
            self._stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        self._root = self._given or Path(temporary)
        for part in ("blobs", "uploads", "repositories"):
            (self._root / part).mkdir(parents=True, exist_ok=True)
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=self._port)
        await self._stack.enter_async_context(listener)
        self.host = f"127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        group = await self._stack.enter_async_context(anyio.create_task_group())
        self._stack.callback(group.cancel_scope.cancel)
        group.start_soon(listener.serve, self._server.serve)
        return self

    async def __aexit__(self, *_: object) -> None:
        # The caller's error goes its own way, not wrapped in the task group's.
        await self._stack.aclose()

    # --- routes ---------------------------------------------------------------------------------------

    async def _answer(self, request: Request) -> Response:
        try:
            if request.path == "/token":
                return await self._token(request)
            self._authorise(request)
            for method, pattern, handler in _ROUTES:
                match = re.fullmatch(pattern, request.path)
                if match and request.method in method.split("|"):
                    result: Response = await getattr(self, handler)(request, **match.groupdict())
                    return result
            raise Problem(404, "UNSUPPORTED")
        except Problem as problem:
            return problem.response
        except (ValueError, LookupError, TypeError, AttributeError):  # what a client sent is not what it should be
            return Problem(400, "UNSUPPORTED").response

    async def _base(self, request: Request) -> Response:
        return _json(200, {})

    async def _get_blob(self, request: Request, name: str, digest: str) -> Response:
        path = self._blob(digest)
        if not (self._repository(name) / "blobs" / path.name).exists() or not path.exists():
            raise Problem(404, "BLOB_UNKNOWN")
        headers = {
            "docker-content-digest": digest,
            "content-type": "application/octet-stream",
            "accept-ranges": "bytes",
        }
        size = path.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        if not wanted:
            return Response(200, path, headers)
        start = int(wanted[1])
        if start >= size:
            raise Problem(416, "RANGE_INVALID", content_range=f"bytes */{size}")
        return Response(206, path, {**headers, "content-range": f"bytes {start}-{size - 1}/{size}"}, start)

    async def _delete_blob(self, request: Request, name: str, digest: str) -> Response:
        self._unlink(self._repository(name) / "blobs" / self._blob(digest).name, "BLOB_UNKNOWN")
        return Response(202)

    async def _start_upload(self, request: Request, name: str) -> Response:
        digest, source = request.query.get("mount", ""), request.query.get("from", "")
        if digest and source and (self._repository(source) / "blobs" / self._blob(digest).name).exists():
            return self._created(name, digest)
        upload = f"{os.urandom(16).hex()}"
        (self._root / "uploads" / upload).touch()
        if "digest" in request.query:
            return await self._finish_upload(request, name, upload)
        return self._upload_state(202, name, upload)

    def _upload_state(self, status: int, name: str, upload: str) -> Response:
        size = self._upload(upload).stat().st_size
        location = f"/v2/{name}/blobs/uploads/{upload}"
        return Response(
            status, b"", {"location": location, "range": f"0-{max(size - 1, 0)}", "docker-upload-uuid": upload}
        )

    async def _upload_status(self, request: Request, name: str, upload: str) -> Response:
        return self._upload_state(204, name, upload)

    async def _append_upload(self, request: Request, name: str, upload: str) -> Response:
        path = self._upload(upload)
        wanted = re.match(r"(\d+)-", request.headers.get("content-range", ""))
        if wanted and int(wanted[1]) != path.stat().st_size:
            raise Problem(416, "BLOB_UPLOAD_INVALID")
        with path.open("ab") as file:
            async for part in request.body:
                file.write(part)
        return self._upload_state(202, name, upload)

    async def _finish_upload(self, request: Request, name: str, upload: str) -> Response:
        await self._append_upload(request, name, upload)
        path, digest = self._upload(upload), request.query.get("digest", "")
        with path.open("rb") as file:
            actual = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if actual != digest:
            path.unlink()
            raise Problem(400, "DIGEST_INVALID")
        path.replace(self._blob(digest))
        return self._created(name, digest)

    async def _cancel_upload(self, request: Request, name: str, upload: str) -> Response:
        self._upload(upload).unlink()
        return Response(204)

    def _created(self, name: str, digest: str) -> Response:
        link = self._repository(name) / "blobs" / self._blob(digest).name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.touch()
        return Response(201, b"", {"location": f"/v2/{name}/blobs/{digest}", "docker-content-digest": digest})

    async def _get_manifest(self, request: Request, name: str, reference: str) -> Response:
        digest = reference if _DIGEST.match(reference) else self._tag(name, reference)
        kind = self._repository(name) / "manifests" / digest.partition(":")[2]
        if not kind.exists():
            raise Problem(404, "MANIFEST_UNKNOWN")
        headers = {"content-type": kind.read_text(), "docker-content-digest": digest}
        return Response(200, self._blob(digest).read_bytes(), headers)

    async def _put_manifest(self, request: Request, name: str, reference: str) -> Response:
        content = await request.read()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if _DIGEST.match(reference) and reference != digest:
            raise Problem(400, "DIGEST_INVALID")
        repository = self._repository(name)
        try:
            value = json.loads(content)
        except ValueError as error:
            raise Problem(400, "MANIFEST_INVALID") from error
        for part in [value.get("config"), *value.get("layers", ())]:
            if part and not (repository / "blobs" / self._blob(part["digest"]).name).exists():
                raise Problem(404, "MANIFEST_BLOB_UNKNOWN")
        self._blob(digest).write_bytes(content)
        self._write(repository / "manifests" / digest[7:], request.headers.get("content-type", ""))
        if reference != digest:
            self._write(repository / "tags" / reference, digest)
        return Response(201, b"", {"location": f"/v2/{name}/manifests/{digest}", "docker-content-digest": digest})

    async def _delete_manifest(self, request: Request, name: str, reference: str) -> Response:
        tags = self._repository(name) / "tags"
        if not _DIGEST.match(reference):
            self._unlink(tags / reference, "MANIFEST_UNKNOWN")
            return Response(202)
        self._unlink(self._repository(name) / "manifests" / reference[7:], "MANIFEST_UNKNOWN")
        for tag in tags.glob("*"):
            if tag.read_text() == reference:
                tag.unlink()
        return Response(202)

    async def _list_tags(self, request: Request, name: str) -> Response:
        if not self._repository(name).exists():
            raise Problem(404, "NAME_UNKNOWN")
        tags = sorted(tag.name for tag in (self._repository(name) / "tags").glob("*"))
        tags = [tag for tag in tags if tag > request.query.get("last", "")]
        count = int(request.query.get("n", len(tags)))
        response = _json(200, {"name": name, "tags": tags[:count]})
        if 0 < count < len(tags):
            response.headers["link"] = f'</v2/{name}/tags/list?n={count}&last={tags[count - 1]}>; rel="next"'
        return response

    # --- files ----------------------------------------------------------------------------------------

    def _blob(self, digest: str) -> Path:
        if not _DIGEST.match(digest):
            raise Problem(400, "DIGEST_INVALID")
        return self._root / "blobs" / digest[7:]

    def _repository(self, name: str) -> Path:
        return self._root / "repositories" / name.replace("/", "+")

    def _upload(self, upload: str) -> Path:
        path = self._root / "uploads" / upload
        if not path.exists():
            raise Problem(404, "BLOB_UPLOAD_UNKNOWN")
        return path

    def _tag(self, name: str, tag: str) -> str:
        path = self._repository(name) / "tags" / tag
        if not path.exists():
            raise Problem(404, "MANIFEST_UNKNOWN")
        return path.read_text()

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    @staticmethod
    def _unlink(path: Path, code: str) -> None:
        if not path.exists():
            raise Problem(404, code)
        path.unlink()

    # --- who may --------------------------------------------------------------------------------------

    def _authorise(self, request: Request) -> None:
        if not self._users:
            return
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if not self._token_auth:
            if scheme != "Basic" or not self._knows(value):
                raise Problem(401, "UNAUTHORIZED", www_authenticate='Basic realm="registry"')
            return
        needed = self._scope(request)
        if scheme == "Bearer" and value in self._tokens and (not needed or _covers(self._tokens[value], needed)):
            return
        scope = f',scope="{needed}"' if needed else ""
        challenge = f'Bearer realm="http://{self.host}/token",service="{self.host}"{scope}'
        raise Problem(401, "UNAUTHORIZED", www_authenticate=challenge)

    def _scope(self, request: Request) -> str:
        match = re.match(rf"/v2/{_NAME}/(?:manifests|blobs|tags)/", request.path)
        action = "pull" if request.method in ("GET", "HEAD") else "push"
        return f"repository:{match['name']}:{action}" if match else ""

    def _knows(self, basic: str) -> bool:
        user, _, password = base64.b64decode(basic).decode().partition(":")
        return self._users.get(user) == password

    async def _token(self, request: Request) -> Response:
        """GET with basic authentication, or POST with a refresh token: "refresh:" and the user's password."""
        if request.method == "POST":
            form = {name: values[0] for name, values in parse_qs((await request.read()).decode()).items()}
            scopes = form.get("scope", "").split()
            known = form.get("refresh_token") in {f"refresh:{password}" for password in self._users.values()}
        else:
            scopes = request.scopes
            known = self._knows(request.headers.get("authorization", "").partition(" ")[2])
        if not known:
            raise Problem(401, "UNAUTHORIZED")
        token = os.urandom(16).hex()
        self._tokens[token] = scopes
        answer = {"token": token, "expires_in": 300}
        if "offline_token" in request.query:
            answer["refresh_token"] = f"refresh:{self._users[request.query['account']]}"
        return _json(200, answer)


def _covers(scopes: list[str], needed: str) -> bool:
    name, _, action = needed.rpartition(":")
    return any(scope.rpartition(":")[0] == name and action in scope.rpartition(":")[2].split(",") for scope in scopes)


_ROUTES = (
    ("GET|HEAD", r"/v2/?", "_base"),
    ("GET|HEAD", rf"/v2/{_NAME}/blobs/(?P<digest>sha256:[^/]+)", "_get_blob"),
    ("DELETE", rf"/v2/{_NAME}/blobs/(?P<digest>sha256:[^/]+)", "_delete_blob"),
    ("POST", rf"/v2/{_NAME}/blobs/uploads/", "_start_upload"),
    ("GET", rf"/v2/{_NAME}/blobs/uploads/(?P<upload>[a-f0-9]+)", "_upload_status"),
    ("PATCH", rf"/v2/{_NAME}/blobs/uploads/(?P<upload>[a-f0-9]+)", "_append_upload"),
    ("PUT", rf"/v2/{_NAME}/blobs/uploads/(?P<upload>[a-f0-9]+)", "_finish_upload"),
    ("DELETE", rf"/v2/{_NAME}/blobs/uploads/(?P<upload>[a-f0-9]+)", "_cancel_upload"),
    (
        "GET|HEAD",
        rf"/v2/{_NAME}/manifests/{_REFERENCE}",
        "_get_manifest",
    ),
    ("PUT", rf"/v2/{_NAME}/manifests/{_REFERENCE}", "_put_manifest"),
    (
        "DELETE",
        rf"/v2/{_NAME}/manifests/{_REFERENCE}",
        "_delete_manifest",
    ),
    ("GET|HEAD", rf"/v2/{_NAME}/tags/list", "_list_tags"),
)
