"""Layouts of images, whose files somebody else has written, and what else comes as JSON."""

from __future__ import annotations

import base64
import os

import httpx

from fuzz.checks import Target, hold, only
from hooper.api.errors import DataLoss, InvalidArgument, NotFound
from hooper.api.layout import INDEX, blob_path
from hooper.api.manifests import parse_manifest
from hooper.api.reference import is_digest
from hooper.api.registry import Descriptor, Manifest
from hooper_api_docker.bodies import login
from hooper_registry_http.failures import explanation
from hooper_registry_layout.files import Part
from hooper_registry_layout.index import DOCKER_MANIFEST, docker_entries, docker_index, load_index, names_of

_DIGITS = "0123456789abcdef"


class _Files:
    """The first part is what lists the images; which of the others is a blob, its name tells: none is verified."""

    def __init__(self, data: bytes) -> None:
        self._index, *blobs = data.split(b"\0")
        self._blobs = blobs or [self._index]

    def has(self, name: str) -> bool:
        return name in (INDEX, DOCKER_MANIFEST) or name.startswith("blobs/")

    def open(self, name: str) -> Part:
        if not self.has(name):
            raise NotFound(f"there is no {name[:100]}")
        number = _DIGITS.find(name[-1]) % len(self._blobs)
        content = self._index if name in (INDEX, DOCKER_MANIFEST) else self._blobs[number]
        descriptor = os.memfd_create("part")
        os.write(descriptor, content)
        return Part(descriptor, 0, len(content))

    def close(self) -> None:
        """Nothing is held open."""


def feed_layout(data: bytes) -> None:
    files = _Files(data)
    with only(DataLoss, NotFound):
        index = load_index(files, "name")
        for name in [name for entry in index.manifests for name in names_of(entry)]:
            hold(name, "a name is not empty", index)
        for written in docker_entries(files, index):
            hold(all(written["Layers"]) and written["Config"] != blob_path(""), "files have names", written)
    with only(DataLoss, NotFound):
        archived = docker_index(files, "name")
        for digest, content in archived.manifests.items():
            with only(DataLoss):
                hold(is_digest(digest), "a manifest has a digest", digest)
                parse_manifest(Manifest(Descriptor("", digest, len(content)), content), "name")


def feed_answer(data: bytes) -> None:
    """What a registry says that has failed, and what a client of the engine's API sends to log in."""
    said = explanation(httpx.Response(500, content=data))
    hold(said and len(said) <= 500, "an explanation is short", said)
    with only(InvalidArgument):
        host, credentials = login(data)
        hold(host, "a host has a name", host, credentials)


_DIGEST = "sha256:" + "0a" * 31 + "0"
_ENTRY = '{"mediaType":"application/vnd.oci.image.%s.v1+json","digest":"%s%d","size":2,"annotations":{"%s":"a/b:1"}}'
_NAME = "org.opencontainers.image.ref.name"


def _listing(*entries: str) -> bytes:
    return b'{"schemaVersion":2,"manifests":[%s]}' % ",".join(entries).encode()


_IMAGE = '{"schemaVersion":2,"config":%s,"layers":[]}' % (_ENTRY % ("config", _DIGEST, 1, "a"))
_AGAIN = _listing(_ENTRY % ("index", _DIGEST, 0, _NAME), _ENTRY % ("index", _DIGEST, 2, _NAME))
_NESTED = b"[" * 5000 + b"]" * 5000
LAYOUT = Target(
    feed_layout,
    (
        b"",
        _listing(_ENTRY % ("manifest", _DIGEST, 0, _NAME)) + b"\0" + _IMAGE.encode() + b"\0{}",
        b'[{"Config":"blobs/sha256/00","RepoTags":["a:1"],"Layers":["blobs/sha256/01"]}]\0{"rootfs":{"type":"layers",'
        b'"diff_ids":["%s1"]}}\0\x1f\x8b' % _DIGEST.encode(),
        # Indexes that list themselves, a blob that is no JSON, a list that is none, and characters that are none.
        _AGAIN + b"\0" + _AGAIN,
        _listing(_ENTRY % ("manifest", _DIGEST, 0, _NAME)) + b"\0[",
        _NESTED,
        b'{"schemaVersion":2,"mediaType":"\xff","manifests":[]}',
    ),
)
ANSWER = Target(
    feed_answer,
    (
        b"",
        b'{"errors":[{"code":"UNKNOWN","message":"a"}]}',
        b'{"username":"a","password":"b","serveraddress":"https://a.b/v1/"}',
        b'{"auth":"%s"}' % base64.b64encode(b"a:b"),
        # Characters that base64 has not, and JSON that is nested too deeply.
        '{"auth":"\u00e9"}'.encode(),
        b'{"errors":' + _NESTED + b"}",
    ),
)
