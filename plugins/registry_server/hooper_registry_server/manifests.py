"""Checks of manifests that are pushed, and what they name (image-spec manifest.md, image-index.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from hooper.api.manifests import DOCKER_INDEX, DOCKER_MANIFEST, NO_JSON, OCI_INDEX, OCI_MANIFEST
from hooper_registry_server.catalogue import Part, Stored
from hooper_registry_server.names import is_digest
from hooper_registry_server.problems import Problem

MAX_SIZE = 4 << 20
"""Bytes: the least that the spec wants everybody to support, and what other registries allow."""
_IMAGES = (OCI_MANIFEST, DOCKER_MANIFEST)
_INDEXES = (OCI_INDEX, DOCKER_INDEX)
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")


def parse(content: bytes, content_type: str, digest: str) -> Stored:
    """A manifest with the header `content_type`, if any, and its digest. MANIFEST_INVALID says what is wrong.

    Of media types that are not known here only that they are JSON objects is asked; what they name in the members
    that images, indexes and artifacts have is kept as long as they are.
    """
    try:
        document = msgspec.json.decode(content)
    except NO_JSON as error:
        raise _invalid(f"it is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise _invalid("it is not a JSON object")
    media_type = _media_type(document, content_type)
    if document.get("schemaVersion") == 1 or media_type.endswith(
        (".v1+prettyjws", "docker.distribution.manifest.v1+json")
    ):
        raise _invalid("the obsolete schema version 1 is not supported; push it with a current tool")
    if media_type in (*_IMAGES, *_INDEXES):
        _check_known(document, media_type)
    subject = document.get("subject")
    return Stored(
        digest,
        media_type,
        content,
        _descriptor(subject, "subject").digest if subject is not None else "",
        _artifact_type(document),
        _annotations(document),
        tuple(_parts(document)),
    )


def _invalid(why: str) -> Problem:
    return Problem(400, "MANIFEST_INVALID", f"manifest invalid: {why}")


def _media_type(document: dict[str, Any], content_type: str) -> str:
    given = content_type.partition(";")[0].strip()
    said = document.get("mediaType", "")
    if not isinstance(said, str):
        raise _invalid("mediaType is not a string")
    if said and given and said != given:
        raise _invalid(f"its mediaType is {said[:200]}, and the Content-Type {given[:200]}")
    found = said or given
    if not found or found == "application/json":
        found = OCI_INDEX if "manifests" in document else OCI_MANIFEST
    if not _MEDIA_TYPE.fullmatch(found):
        raise _invalid("its media type is none")
    return found


def _check_known(document: dict[str, Any], media_type: str) -> None:
    if document.get("schemaVersion") != 2:
        raise _invalid("its schemaVersion is not 2")
    if media_type in _INDEXES:
        if "manifests" not in document or "layers" in document or "config" in document:
            raise _invalid("an index has manifests, and neither layers nor a config")
    elif "config" not in document or "layers" not in document or "manifests" in document:
        raise _invalid("an image manifest has a config and layers, and no manifests")


def _descriptor(value: Any, where: str, *, is_manifest: bool = False) -> Part:
    if not isinstance(value, dict):
        raise _invalid(f"{where} is not a descriptor")
    digest, size, media_type = value.get("digest"), value.get("size"), value.get("mediaType", "")
    if not isinstance(digest, str) or not is_digest(digest):
        raise _invalid(f"the digest of {where} is none that is supported")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or size >= 1 << 63:
        raise _invalid(f"the size of {where} is no number of bytes")
    if not isinstance(media_type, str):
        raise _invalid(f"the mediaType of {where} is not a string")
    elsewhere = bool(value.get("urls")) or "nondistributable" in media_type or "foreign" in media_type
    return Part(digest, media_type, size, is_manifest, not elsewhere)


def _parts(document: dict[str, Any]) -> Iterator[Part]:
    seen: set[str] = set()
    members = [("config", [document["config"]] if document.get("config") is not None else [])]
    members += [(name, document.get(name) or []) for name in ("layers", "blobs", "manifests")]
    for name, values in members:
        if not isinstance(values, list):
            raise _invalid(f"{name} is not a list")
        for value in values:
            part = _descriptor(value, name, is_manifest=name == "manifests")
            if part.digest not in seen:
                seen.add(part.digest)
                yield part


def _artifact_type(document: dict[str, Any]) -> str:
    """Its own, or else that of its configuration; an index has its own alone ("Listing Referrers")."""
    own = document.get("artifactType")
    if isinstance(own, str) and own:
        return own
    config = document.get("config")
    media_type = config.get("mediaType") if isinstance(config, dict) else None
    return media_type if isinstance(media_type, str) else ""


def _annotations(document: dict[str, Any]) -> dict[str, str]:
    found = document.get("annotations") or {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise _invalid("its annotations are not strings by name")
    return found
