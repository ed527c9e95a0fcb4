"""What there is: tags, referrers, repositories ("Content Discovery")."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec

from hooper.api.manifests import OCI_INDEX
from hooper_registry_server.auth import Identity
from hooper_registry_server.catalogue import Stored
from hooper_registry_server.http import JSON, Request, Response
from hooper_registry_server.names import check_digest
from hooper_registry_server.problems import Problem

if TYPE_CHECKING:
    from hooper_registry_server.server import Server

_MOST = 1000
"""Entries of one answer; what follows has a `Link`."""
_REFERRERS_BYTES = 2 << 20
"""Of one answer: clients take 4 MiB as a manifest."""


def _page(request: Request, entries: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The entries after `last`, `n` at most, and the header for more. `entries` are in the order of their bytes."""
    text = request.get("n", str(_MOST))
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise Problem(400, "UNSUPPORTED", "n is not a number")
    count = min(int(text), _MOST)
    last = request.get("last")
    rest = [entry for entry in entries if entry > last] if last else list(entries)
    if count == 0 or len(rest) <= count:
        return rest[:count], {}
    return rest[:count], {"link": _link(request, n=count, last=rest[count - 1])}


def _link(request: Request, **query: Any) -> str:
    """RFC 5988."""
    return f'<{request.path}?{urlencode(query)}>; rel="next"'


async def tags(server: Server, request: Request, identity: Identity, path: Mapping[str, str]) -> Response:
    name = path["name"]
    server.gate.check(request, identity, name, "pull")
    found = server.store.tags(name) if server.upstream is None else await server.upstream.tags(name)
    page, headers = _page(request, found)
    return Response(200, msgspec.json.encode({"name": name, "tags": page}), {"content-type": JSON, **headers})


async def catalog(server: Server, request: Request, identity: Identity, path: Mapping[str, str]) -> Response:
    """Docker's; the distribution-spec has none."""
    server.gate.check_catalog(request, identity)
    page, headers = _page(request, server.store.repositories())
    return Response(200, msgspec.json.encode({"repositories": page}), {"content-type": JSON, **headers})


async def referrers(server: Server, request: Request, identity: Identity, path: Mapping[str, str]) -> Response:
    """An index of the manifests whose subject it is; an empty one if there is none, also in a repository without
    anything: a client would take a 404 as the lack of this API."""
    name, digest = path["name"], check_digest(path["digest"])
    server.gate.check(request, identity, name, "pull")
    kind, last = request.get("artifactType"), request.get("last")
    entries: list[dict[str, Any]] = []
    size, headers = 0, {"content-type": OCI_INDEX}
    if kind:
        headers["oci-filters-applied"] = "artifactType"
    for manifest, length in server.store.catalogue.referrers(name, digest):
        if manifest.digest <= last or (kind and manifest.artifact_type != kind):
            continue
        entry = _entry(manifest, length)
        size += len(msgspec.json.encode(entry))
        if entries and (size > _REFERRERS_BYTES or len(entries) == _MOST):
            more = {"artifactType": kind} if kind else {}
            headers["link"] = _link(request, **more, last=entries[-1]["digest"])
            break
        entries.append(entry)
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return Response(200, msgspec.json.encode(index), headers)


def _entry(manifest: Stored, size: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"mediaType": manifest.media_type, "size": size, "digest": manifest.digest}
    if manifest.artifact_type:
        entry["artifactType"] = manifest.artifact_type
    if manifest.annotations:
        entry["annotations"] = manifest.annotations
    return entry
