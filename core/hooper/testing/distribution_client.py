"""A client for the conformance suite of registries: plain requests, with the credentials that are asked for."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
ACCEPTED = (MANIFEST, INDEX, DOCKER_MANIFEST, "*/*")
OCTETS = "application/octet-stream"
ABSENT = "sha256:" + "0" * 64
CODES = {
    "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED", "DENIED",
    "UNSUPPORTED", "TOOMANYREQUESTS",
}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """The registry to test. `verify`: a CA file, or False for any certificate."""

    url: str
    username: str = ""
    password: str = ""
    verify: str | bool = True


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def descriptor(content: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **more}


class Client:
    """Sends requests. Bearer tokens are fetched as the challenge says, basic authentication is sent at once."""

    def __init__(self, target: Target) -> None:
        self.target = target
        # Reading all certificates of the host takes long, and plain HTTP needs none.
        verify = target.verify if target.url.startswith("https") else False
        self._http = httpx.Client(verify=verify, timeout=30, trust_env=False)
        self._auth = (target.username, target.password) if target.username else None
        self._token = ""

    def close(self) -> None:
        self._http.close()

    def send(self, method: str, path: str, content: Any = None, **headers: str) -> httpx.Response:
        """A request; `path` may be a Location. Names of headers are written with underscores."""
        url = urljoin(self.target.url, path)
        fields = {"accept": ", ".join(ACCEPTED), **{name.replace("_", "-"): value for name, value in headers.items()}}
        response = self._try(method, url, content, fields)
        challenge = response.headers.get("www-authenticate", "")
        if response.status_code == 401 and challenge.lower().startswith("bearer") and not callable(content):
            self._token = self._fetch_token(challenge)
            response = self._try(method, url, content, fields)
        return response

    def _try(self, method: str, url: str, content: Any, fields: dict[str, str]) -> httpx.Response:
        auth = None
        if self._token:
            fields = {**fields, "authorization": f"Bearer {self._token}"}
        elif self._auth:
            auth = self._auth
        return self._http.request(method, url, content=content, headers=fields, auth=auth)

    def _fetch_token(self, challenge: str) -> str:
        fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        realm = fields.pop("realm")
        answer = self._http.get(realm, params=fields, auth=self._auth)
        content = answer.json()
        return str(content.get("token") or content["access_token"])


class Repository:
    """A repository of its own for one test, and how things get into it."""

    def __init__(self, client: Client, name: str) -> None:
        self.client, self.name = client, name

    @property
    def base(self) -> str:
        return f"/v2/{self.name}"

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.client.send("GET", f"{self.base}/{path}", **headers)

    def head(self, path: str) -> httpx.Response:
        return self.client.send("HEAD", f"{self.base}/{path}")

    def delete(self, path: str) -> httpx.Response:
        return self.client.send("DELETE", f"{self.base}/{path}")

    def start(self, query: str = "") -> str:
        """Begins an upload; its location."""
        response = self.client.send("POST", f"{self.base}/blobs/uploads/{query}", content_length="0")
        assert response.status_code == 202, response.text
        return str(response.headers["location"])

    def patch(self, location: str, content: bytes, first: int) -> httpx.Response:
        last = first + len(content) - 1
        return self.client.send("PATCH", location, content, content_type=OCTETS, content_range=f"{first}-{last}")

    def finish(self, location: str, digest: str, content: bytes = b"", **headers: str) -> httpx.Response:
        url = f"{location}{'&' if '?' in location else '?'}digest={digest}"
        return self.client.send("PUT", url, content, content_type=OCTETS, **headers)

    def push_blob(self, content: bytes, algorithm: str = "sha256") -> str:
        digest = digest_of(content, algorithm)
        response = self.finish(self.start(), digest, content)
        assert response.status_code == 201, response.text
        return digest

    def put_manifest(
        self, reference: str, content: bytes, media_type: str = MANIFEST, query: str = "", **headers: str
    ) -> httpx.Response:
        path = f"{self.base}/manifests/{reference}{query}"
        return self.client.send("PUT", path, content, content_type=media_type, **headers)

    def push_manifest(self, document: dict[str, Any], tag: str = "") -> str:
        """By tag, or by digest."""
        content = json.dumps(document).encode()
        response = self.put_manifest(tag or digest_of(content), content, document["mediaType"])
        assert response.status_code == 201, response.text
        return digest_of(content)

    def image(self, **more: Any) -> dict[str, Any]:
        """An image manifest whose blobs are pushed; each is another."""
        config, layer = json.dumps({"nonce": os.urandom(8).hex()}).encode(), os.urandom(2000)
        for blob in (config, layer):
            self.push_blob(blob)
        return {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(config, CONFIG),
            "layers": [descriptor(layer, LAYER)],
            **more,
        }


def check_error(response: httpx.Response, *codes: str) -> None:
    """ "Error Codes": the body, if it is JSON, has the spec's shape, and one of the codes, if any are given."""
    if "json" not in response.headers.get("content-type", ""):
        return
    errors = response.json()["errors"]
    assert errors and all(error["code"] in CODES for error in errors), errors
    assert not codes or errors[0]["code"] in codes, errors


class Base:
    """What all parts of the suite have: see `hooper.testing.distribution`."""

    unsupported: dict[str, str] = {}
    """Tests that are skipped, by name, and why."""

    @pytest.fixture(autouse=True)
    def _skipped(self, request: pytest.FixtureRequest) -> None:
        name = getattr(request.node, "originalname", request.node.name)
        if name in self.unsupported:
            pytest.skip(self.unsupported[name])

    @pytest.fixture
    def client(self, target: Target) -> Any:
        client = Client(target)
        yield client
        client.close()

    @pytest.fixture
    def repository(self, client: Client) -> Repository:
        return Repository(client, f"conformance/{os.urandom(6).hex()}")

    @pytest.fixture
    def other(self, client: Client) -> Repository:
        """A second one."""
        return Repository(client, f"conformance/other-{os.urandom(6).hex()}")
