"""Blobs: pulled, pushed, mounted, deleted ("Pulling blobs", "Pushing blobs" and the following)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from hooper_registry_server import ranges
from hooper_registry_server.auth import Identity
from hooper_registry_server.http import FilePart, Request, Response, Streamed
from hooper_registry_server.names import HEX_DIGITS, check_digest, check_name
from hooper_registry_server.problems import Problem, missing_blob
from hooper_registry_server.store import Opened
from hooper_registry_server.uploads import Upload
from hooper_registry_server.wires import Gone

if TYPE_CHECKING:
    from hooper_registry_server.server import Server
    from hooper_registry_server.upstream import Download

_OCTETS = "application/octet-stream"


def _headers(digest: str) -> dict[str, str]:
    return {
        "content-type": _OCTETS,
        "docker-content-digest": digest,
        "etag": f'"{digest}"',
        "accept-ranges": "bytes",
        "cache-control": "max-age=31536000",
    }


async def get(server: Server, request: Request, identity: Identity, path: Mapping[str, str]) -> Response:
    name, digest = path["name"], path["digest"]
    server.gate.check(request, identity, name, "pull")
    check_digest(digest)
    headers = _headers(digest)
    if request.method == "HEAD":
        size = await _size(server, name, digest, pushing=identity.may(name, "push"))
        return Response(200, b"", {**headers, "content-length": str(size)})
    if server.upstream is None:
        found: Opened | Download = server.store.open_blob(name, digest)
    else:
        found = await server.upstream.blob(name, digest)
    if not isinstance(found, Opened):
        return _following(found, headers)
    return _part(request, found, headers)


async def _size(server: Server, name: str, digest: str, *, pushing: bool) -> int:
    if server.upstream is not None:
        size = await server.upstream.blob_size(name, digest)
    else:
        size = await server.store.blob_size(name, digest, pushing=pushing and server.settings.writable)
    if size is None:
        raise missing_blob(digest)
    return size


def _following(download: Download, headers: dict[str, str]) -> Response:
    """A blob that comes from upstream just now is given out from its beginning, whatever range is asked for."""
    descriptor = os.dup(download.descriptor)
    body = Streamed(download.chunks(descriptor), download.part.size, partial(os.close, descriptor))
    return Response(200, body, headers)


def _part(request: Request, found: Opened, headers: dict[str, str]) -> Response:
    close = partial(os.close, found.descriptor)
    if request.headers.get("if-none-match", "") in (headers["etag"], "*"):
        close()
        return Response(304, b"", headers)
    asked = request.headers.get("range", "")
    if request.headers.get("if-range", headers["etag"]) != headers["etag"]:
        asked = ""
    try:
        part = ranges.wanted(asked, found.size)
    except Problem:
        close()
        raise
    if part is None:
        return Response(200, FilePart(found.descriptor, 0, found.size, close), headers)
    first, count = part
    headers["content-range"] = f"bytes {first}-{first + count - 1}/{found.size}"
    return Response(206, FilePart(found.descriptor, first, count, close), headers)


async def delete(server: Server, request: Request, identity: Identity, path: Mapping[str, str]) -> Response:
    name, digest = path["name"], path["digest"]
    server.gate.check(request, identity, name, "delete")
    check_digest(digest)
    server.check_deletable()
    await server.store.unlink(name, digest)
    return Response(202, b"", {"docker-content-digest": digest})


# --- uploads ------------------------------------------------------------------------------------------


def _writable(server: Server, request: Request, identity: Identity, name: str) -> None:
    server.gate.check(request, identity, name, "push", "pull")
    server.check_writable()


def _created(name: str, digest: str) -> Response:
    return Response(201, b"", {"location": f"/v2/{name}/blobs/{digest}", "docker-content-digest": digest})


def _state(status: int, upload: Upload) -> Response:
    """Where an upload is. Of nothing the range is "0-0", as of one byte: that is how the first registry had it."""
    return Response(status, b"", _state_headers(upload))


def _state_headers(upload: Upload) -> dict[str, str]:
    return {
        "location": f"/v2/{upload.repository}/blobs/uploads/{upload.id}",
        "range": f"0-{max(upload.offset - 1, 0)}",
        "docker-upload-uuid": upload.id,
    }


async def start(server: Server, request: Request, identity: Identity, path: Mapping[str, str]) -> Response:
    """Begins an upload; with a digest it is one request, with `mount` the blob may come from another repository."""
    name = path["name"]
    _writable(server, request, identity, name)
    if mounted := request.get("mount"):
        if await _mount(server, request, identity, name, check_digest(mounted)):
            return _created(name, mounted)
        return _state(202, server.store.uploads.start(name))
    algorithm = request.get("digest-algorithm", "sha256")
    if algorithm not in HEX_DIGITS:
        raise Problem(400, "DIGEST_INVALID", f"unsupported digest algorithm; there are {', '.join(HEX_DIGITS)}")
    digest = request.get("digest")
    if digest:
        algorithm = check_digest(digest).partition(":")[0]
    upload = server.store.uploads.start(name, algorithm)
    if not digest:
        return _state(202, upload)
    try:
        async with upload.used():
            await _receive(request, upload)
            await server.store.commit(name, upload, digest)
    except BaseException:
        # Nobody knows this upload, and so nobody can go on with it.
        server.store.uploads.forget(upload)
        raise
    return _created(name, digest)


async def _mount(server: Server, request: Request, identity: Identity, name: str, digest: str) -> bool:
    if source := request.get("from"):
        check_name(source)
        sources = [source]
    else:
        sources = server.store.catalogue.holders(digest)
    allowed = [source for source in sources if identity.may(source, "pull")]
    return await server.store.mount(name, digest, allowed)


async def _receive(request: Request, upload: Upload) -> None:
    """The body as the upload's next chunk. 416 if it is another one."""
    asked = ranges.chunk(request.headers.get("content-range", ""), request.length)
    if asked is not None and asked[0] != upload.offset:
        message = f"the next chunk begins at {upload.offset}"
        raise Problem(416, "BLOB_UPLOAD_INVALID", message, None, _state_headers(upload))
    expected = asked[1] if asked is not None else request.length
    received = await upload.write(request.chunks(), expected)
    if expected is not None and received != expected:
        raise Gone("the body broke off")


async def _found(server: Server, request: Request, identity: Identity, path: Mapping[str, str]) -> Upload:
    _writable(server, request, identity, path["name"])
    return await server.store.uploads.find(path["name"], path["upload"])


async def status(server: Server, request: Request, identity: Identity, path: Mapping[str, str]) -> Response:
    return _state(204, await _found(server, request, identity, path))


async def append(server: Server, request: Request, identity: Identity, path: Mapping[str, str]) -> Response:
    upload = await _found(server, request, identity, path)
    async with upload.used():
        await _receive(request, upload)
    return _state(202, upload)


async def finish(server: Server, request: Request, identity: Identity, path: Mapping[str, str]) -> Response:
    """The end of an upload, with the last chunk or without a body."""
    upload = await _found(server, request, identity, path)
    digest = check_digest(request.get("digest"))
    async with upload.used():
        await _receive(request, upload)
        await server.store.commit(path["name"], upload, digest)
    return _created(path["name"], digest)


async def cancel(server: Server, request: Request, identity: Identity, path: Mapping[str, str]) -> Response:
    upload = await _found(server, request, identity, path)
    async with upload.used():
        server.store.uploads.forget(upload)
    return Response(204)
