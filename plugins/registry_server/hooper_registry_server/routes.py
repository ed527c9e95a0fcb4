"""From a request to what answers it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec

from hooper_registry_server import blob_requests, listing_requests, manifest_requests
from hooper_registry_server.auth import Identity, credentials_of
from hooper_registry_server.http import JSON, Request, Response
from hooper_registry_server.names import check_name
from hooper_registry_server.problems import Problem

if TYPE_CHECKING:
    from hooper_registry_server.server import Server

Handler = Callable[["Server", Request, Identity, Mapping[str, str]], Awaitable[Response]]
_MAX_FORM = 64 * 1024


async def _base(server: Server, request: Request, identity: Identity, path: Mapping[str, str]) -> Response:
    server.gate.check_base(request, identity)
    return Response(200, b"{}", {"content-type": JSON})


_NAME = r"/v2/(?P<name>.+)"
_PATTERNS: tuple[tuple[str, dict[str, Handler]], ...] = (
    (r"/v2/?", {"GET": _base}),
    (r"/v2/_catalog", {"GET": listing_requests.catalog}),
    (rf"{_NAME}/tags/list", {"GET": listing_requests.tags}),
    (rf"{_NAME}/referrers/(?P<digest>[^/]+)", {"GET": listing_requests.referrers}),
    (
        rf"{_NAME}/manifests/(?P<reference>[^/]+)",
        {"GET": manifest_requests.get, "PUT": manifest_requests.put, "DELETE": manifest_requests.delete},
    ),
    (rf"{_NAME}/blobs/uploads/?", {"POST": blob_requests.start}),
    (
        rf"{_NAME}/blobs/uploads/(?P<upload>[^/]+)",
        {
            "GET": blob_requests.status,
            "PATCH": blob_requests.append,
            "PUT": blob_requests.finish,
            "DELETE": blob_requests.cancel,
        },
    ),
    (rf"{_NAME}/blobs/(?P<digest>[^/]+)", {"GET": blob_requests.get, "DELETE": blob_requests.delete}),
)
_ROUTES = tuple((re.compile(pattern), handlers) for pattern, handlers in _PATTERNS)


async def answer(server: Server, request: Request) -> Response:
    """Problems are raised."""
    if request.path == "/token" and server.settings.issues_tokens:
        return await _token(server, request)
    for pattern, handlers in _ROUTES:
        found = pattern.fullmatch(request.path)
        if found is None:
            continue
        method = "GET" if request.method == "HEAD" else request.method
        if method not in handlers:
            allowed = ", ".join(sorted(handlers))
            raise Problem(405, "UNSUPPORTED", "the operation is unsupported", None, {"allow": allowed})
        path = found.groupdict()
        identity = await server.gate.identify(request)
        request.user = identity.user
        if "name" in path:
            check_name(path["name"])
        return await handlers[method](server, request, identity, path)
    raise Problem(404, "UNSUPPORTED", "there is nothing here; the registry is below /v2/")


async def _token(server: Server, request: Request) -> Response:
    """Docker's token specification, and its OAuth2 form."""
    assert server.gate.tokens is not None
    if request.method == "POST":
        form = parse_qs((await request.body(_MAX_FORM)).decode("utf-8", "replace"))
        if form.get("grant_type", [""])[0] != "password":
            raise Problem(400, "UNSUPPORTED", "grant_type is password here")
        user, password = form.get("username", [""])[0], form.get("password", [""])[0]
        scopes = " ".join(form.get("scope", [])).split()
        given = True
    elif request.method == "GET":
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        given = bool(kind)
        user, password = credentials_of(value.strip()) if kind.lower() == "basic" else ("", "")
        scopes = " ".join(request.query.get("scope", [])).split()
    else:
        raise Problem(405, "UNSUPPORTED", "the operation is unsupported", None, {"allow": "GET, POST"})
    known = given and await server.gate.knows(user, password)
    if not known and (given or not server.gate.pulled_by_all):
        raise Problem(
            401, "UNAUTHORIZED", "authentication required", None, {"www-authenticate": 'Basic realm="registry"'}
        )
    request.user = user
    service = server.gate.service(request)
    made: dict[str, Any] = server.gate.tokens.issue(
        user, service, scopes, everything=known, pulls=server.gate.pulled_by_all
    )
    return Response(200, msgspec.json.encode(made), {"content-type": JSON, "cache-control": "no-store"})
