"""Manifests: pulled, pushed, deleted ("Pulling manifests", "Pushing Manifests", "Deleting tags")."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from hooper_registry_server.auth import Identity
from hooper_registry_server.catalogue import Catalogue
from hooper_registry_server.http import Request, Response
from hooper_registry_server.manifests import MAX_SIZE, parse
from hooper_registry_server.names import check_digest, check_tag, digest_of, looked_up
from hooper_registry_server.problems import Problem

if TYPE_CHECKING:
    from hooper_registry_server.server import Server

_MAX_TAGS = 100


async def get(server: Server, request: Request, identity: Identity, path: Mapping[str, str]) -> Response:
    name = path["name"]
    server.gate.check(request, identity, name, "pull")
    reference = looked_up(path["reference"])
    source = server.store if server.upstream is None else server.upstream
    found = await source.manifest(name, reference)
    headers = {
        "content-type": found.media_type,
        "docker-content-digest": found.digest,
        "etag": f'"{found.digest}"',
    }
    if request.headers.get("if-none-match", "").strip('"') == found.digest:
        return Response(304, b"", headers)
    return Response(200, found.content, headers)


async def put(server: Server, request: Request, identity: Identity, path: Mapping[str, str]) -> Response:
    """By tag, or by digest with any number of tags; `If-Match` and `If-None-Match: *` are heeded for a tag."""
    name, reference = path["name"], path["reference"]
    server.gate.check(request, identity, name, "push", "pull")
    server.check_writable()
    by_digest = ":" in reference
    tags = request.query.get("tag", []) if by_digest else [check_tag(reference)]
    if len(tags) > _MAX_TAGS:
        raise Problem(414, "UNSUPPORTED", f"there are more than {_MAX_TAGS} tags")
    for tag in tags:
        check_tag(tag)
    algorithm = check_digest(reference).partition(":")[0] if by_digest else "sha256"
    content = await request.body(MAX_SIZE)
    digest = digest_of(content, algorithm)
    if by_digest and digest != reference:
        raise Problem(400, "DIGEST_INVALID", "provided digest did not match uploaded content", {"digest": digest})
    manifest = parse(content, request.headers.get("content-type", ""), digest)
    if server.settings.references != "none":
        await server.store.check_references(name, manifest, manifests=server.settings.references == "all")
    condition = None if by_digest else _condition(server.store.catalogue, request, name, reference)

    def check() -> None:
        if condition is not None:
            condition()
        if server.settings.references != "none":
            server.store.check_links(name, manifest)

    await server.store.put_manifest(name, manifest, tags, check)
    headers = {"location": f"/v2/{name}/manifests/{reference}", "docker-content-digest": digest}
    if manifest.subject:
        headers["oci-subject"] = manifest.subject
    if by_digest and tags:
        headers["oci-tag"] = ", ".join(tags)
    return Response(201, b"", headers)


def _condition(catalogue: Catalogue, request: Request, name: str, tag: str) -> Callable[[], None] | None:
    matching, other = request.headers.get("if-match", ""), request.headers.get("if-none-match", "")
    return partial(_check, catalogue, name, tag, matching, other) if matching or other else None


def _check(catalogue: Catalogue, name: str, tag: str, matching: str, other: str) -> None:
    rows = catalogue.current("SELECT digest FROM tags WHERE repository=? AND tag=?", name, tag)
    present = rows[0][0] if rows else ""
    fits = not matching or (bool(present) if matching == "*" else matching.strip('"') == present)
    if other:
        fits = fits and (not present if other == "*" else other.strip('"') != present)
    if not fits:
        raise Problem(412, "DENIED", "the tag has changed meanwhile", {"digest": present})


async def delete(server: Server, request: Request, identity: Identity, path: Mapping[str, str]) -> Response:
    name = path["name"]
    server.gate.check(request, identity, name, "delete")
    reference = looked_up(path["reference"])
    server.check_deletable()
    await server.store.delete_manifest(name, reference)
    return Response(202)
