"""The verbs of a registry over HTTP (OCI distribution-spec, end-1 to end-12)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from hooper.api.errors import (
    DataLoss,
    Forbidden,
    HooperError,
    InvalidArgument,
    NotFound,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from hooper.api.manifests import ACCEPTED, Index, digest_of
from hooper.api.reference import Reference, is_digest
from hooper.api.registry import Credentials, Descriptor, Manifest, RegistryClient
from hooper_registry_http.auth import Authenticator
from hooper_registry_http.config import HttpConfig
from hooper_registry_http.transport import Backoff, Transport, may_pass, unavailable

if TYPE_CHECKING:
    import httpx

_MANIFEST_MAX = 4 * 1024 * 1024
_REDIRECTS = 5


class HttpClient(RegistryClient):
    """One conversation: connections, scheme and tokens are found out at the first request and kept."""

    def __init__(self, host: str, credentials: Credentials | None, config: HttpConfig) -> None:
        self.host, self._credentials, self.config = host, credentials, config
        self._opened: tuple[Transport, Authenticator] | None = None

    async def aclose(self) -> None:
        if self._opened:
            await self._opened[0].aclose()

    async def resolve(self, repository: str, reference: str) -> Manifest:
        name = self._name(repository, reference)
        response = await self._get_manifest(repository, reference)
        if response.status_code == 404:
            raise NotFound(f"manifest for {name} not found", "manifest unknown", "Check the name and the tag.")
        self._check(response, (200,), repository, name)
        content = response.content
        digest = digest_of(content)
        if len(content) > _MANIFEST_MAX:
            raise DataLoss(f"the manifest of {name} is larger than {_MANIFEST_MAX} bytes")
        if is_digest(reference) and reference.startswith("sha256:") and reference != digest:
            raise DataLoss(f"the manifest of {name} is damaged", f"its digest is {digest}", "Push the image again.")
        media_type = response.headers.get("content-type", "").partition(";")[0].strip()
        return Manifest(Descriptor(media_type, digest, len(content)), content)

    async def _get_manifest(self, repository: str, reference: str) -> httpx.Response:
        headers = {"Accept": ", ".join(ACCEPTED)}
        return await self._request("GET", f"/v2/{repository}/manifests/{reference}", (pull(repository),), headers)

    @asynccontextmanager
    async def fetch(self, repository: str, blob: Descriptor, offset: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        download = _Download(self, repository, blob, offset)
        try:
            yield download.chunks()
        finally:
            await download.aclose()

    async def open_blob(self, repository: str, blob: Descriptor, offset: int) -> httpx.Response:
        """A streamed answer with the blob from `offset` on, or all of it (status 200)."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        url = f"/v2/{repository}/blobs/{blob.digest}"
        response = await self._request("GET", url, (pull(repository),), headers, stream=True)
        if response.status_code not in (200, 206):
            await response.aread()
            await response.aclose()
            self._check(response, (), repository, f"blob {blob.digest} of {self._name(repository)}")
        return response

    async def has_blob(self, repository: str, digest: str) -> bool:
        response = await self._request("HEAD", f"/v2/{repository}/blobs/{digest}", (push(repository),))
        if response.status_code == 404:
            return False
        self._check(response, (200,), repository, f"blob {digest}", pushing=True)
        return True

    async def mount_blob(self, repository: str, digest: str, source: str) -> bool:
        scopes = (push(repository), pull(source))
        path = f"/v2/{repository}/blobs/uploads/?mount={digest}&from={source}"
        response = await self._request("POST", path, scopes)
        if response.status_code == 202 and "location" in response.headers:
            await self._request("DELETE", response.headers["location"], scopes)
        return response.status_code == 201

    async def push_blob(self, repository: str, blob: Descriptor, read: Callable[[int], AsyncIterator[bytes]]) -> None:
        """In one PUT, which a registry takes whole or not at all: a failed one starts from the beginning."""
        name = f"blob {blob.digest} to {self._name(repository)}"
        for _ in range(1 + self.config.retries):
            opened = await self._request("POST", f"/v2/{repository}/blobs/uploads/", (push(repository),))
            self._check(opened, (202,), repository, name, pushing=True)
            location = opened.headers.get("location", "")
            target = f"{location}{'&' if '?' in location else '?'}digest={blob.digest}"
            headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
            response = await self._request("PUT", target, (push(repository),), headers, content=lambda: read(0))
            if response.status_code != 404:
                break
        if response.status_code == 400 and "DIGEST_INVALID" in response.text:
            raise DataLoss(f"cannot push {name}", "it arrived damaged", "Try again; check the disk and the memory.")
        self._check(response, (201, 204), repository, name, pushing=True)

    async def push_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        headers = {"Content-Type": manifest.descriptor.media_type}
        path = f"/v2/{repository}/manifests/{reference}"
        response = await self._request("PUT", path, (push(repository),), headers, content=manifest.content)
        self._check(response, (200, 201, 202), repository, self._name(repository, reference), pushing=True)

    async def tags(self, repository: str) -> Sequence[str]:
        found: list[str] = []
        path: str | None = f"/v2/{repository}/tags/list"
        while path:
            response = await self._request("GET", path, (pull(repository),))
            self._check(response, (200,), repository, f"tags of {self._name(repository)}")
            found += self._decode(response, dict[str, Any]).get("tags") or ()
            path = response.links.get("next", {}).get("url")
        return found

    async def delete(self, repository: str, reference: str) -> None:
        path = f"/v2/{repository}/manifests/{reference}"
        response = await self._request("DELETE", path, (f"repository:{repository}:delete,pull,push",))
        self._check(response, (200, 202), repository, self._name(repository, reference), pushing=True)

    async def referrers(self, repository: str, digest: str) -> Sequence[Descriptor]:
        """By the API, or else by the tag that stands in for it (distribution-spec, "Referrers Tag Schema")."""
        response = await self._request("GET", f"/v2/{repository}/referrers/{digest}", (pull(repository),))
        if response.status_code != 200:
            response = await self._get_manifest(repository, digest.replace(":", "-"))
            if response.status_code == 404:
                return ()
        self._check(response, (200,), repository, f"referrers of {digest}")
        index: Index = self._decode(response, Index)
        return index.manifests

    async def check_login(self) -> str:
        response = await self._request("GET", "/v2/", ())
        if response.status_code == 401:
            raise Unauthorized(
                f"login to {self.host} refused: unauthorized", "incorrect username or password", "Check both."
            )
        self._check(response, (200,), "", f"login to {self.host}")
        _, auth = await self._open()
        return await auth.login()

    # --- requests -------------------------------------------------------------------------------------

    async def _open(self) -> tuple[Transport, Authenticator]:
        if self._opened is None:
            transport = Transport(self.host, self.config)
            self._opened = transport, Authenticator(self.host, self._credentials, transport)
            await transport.settle_scheme()
        return self._opened

    async def _request(
        self,
        method: str,
        target: str,
        scopes: Sequence[str],
        headers: dict[str, str] | None = None,
        *,
        content: bytes | Callable[[], AsyncIterator[bytes]] | None = None,
        stream: bool = False,
    ) -> httpx.Response:
        """Follows redirects, carrying credentials to the registry alone, and answers challenges."""
        transport, auth = await self._open()
        url, redirects, challenged = transport.base.join(target), 0, False
        while True:
            sent = {**(headers or {}), **await auth.headers(url, scopes)}
            response = await transport.send(method, url, headers=sent, content=content, stream=stream)
            if response.status_code == 401 and not challenged and auth.challenged(response, scopes):
                challenged = True
                await response.aclose()
            elif response.has_redirect_location and method in ("GET", "HEAD") and redirects < _REDIRECTS:
                url, redirects = url.join(response.headers["location"]), redirects + 1
                await response.aclose()
            else:
                return response

    def _name(self, repository: str, reference: str = "") -> str:
        digest = is_digest(reference)
        parts = ("", reference) if digest else (reference, "")
        return Reference(self.host, repository, *parts).familiar

    def _decode(self, response: httpx.Response, wanted: Any) -> Any:
        try:
            return msgspec.json.decode(response.content, type=wanted)
        except msgspec.DecodeError as error:
            raise Unavailable(f"the registry {self.host} gave a damaged answer", str(error)) from error

    def _check(
        self, response: httpx.Response, good: Sequence[int], repository: str, what: str, *, pushing: bool = False
    ) -> None:
        """Raises the kind that an answer outside of `good` means."""
        status = response.status_code
        if status in good:
            return
        name, why = self._name(repository), _explanation(response)
        if status in (401, 403):
            raise _denied(name, self.host, status, why, pushing)
        if status == 404:
            raise NotFound(f"{what} not found", why)
        if status == 405:
            raise Unsupported(f"the registry {self.host} refused this for {what}", why)
        if status == 429:
            raise Unavailable(f"toomanyrequests: {why}", remedy=f"Wait, or log in: docker login {self.host}")
        if status >= 500:
            raise Unavailable(f"the registry {self.host} failed with {what}", why, "Try again later.")
        raise InvalidArgument(f"the registry {self.host} refused {what}", why)


def pull(repository: str) -> str:
    """The scope of a token for reading."""
    return f"repository:{repository}:pull"


def push(repository: str) -> str:
    """The scope of a token for writing."""
    return f"repository:{repository}:pull,push"


def _denied(name: str, host: str, status: int, why: str, pushing: bool) -> HooperError:
    remedy = f"Log in with an account that may: docker login {host}"
    if pushing:
        kind: type[HooperError] = Unauthorized if status == 401 else Forbidden
        return kind(f"push access denied for {name}", why, remedy)
    denied = f"pull access denied for {name}, repository does not exist or may require 'docker login'"
    return Unauthorized(denied, why, remedy)


def _explanation(response: httpx.Response) -> str:
    """The registry's own words (distribution-spec, "Error Codes"), else the status."""
    try:
        errors = msgspec.json.decode(response.content, type=dict[str, Any])["errors"]
        texts = [str(item.get("message") or item.get("code", "")) for item in errors]
        return "; ".join(text for text in texts if text) or f"HTTP {response.status_code}"
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return f"HTTP {response.status_code}"


class _Download:
    """A blob's bytes, taken up again where they broke off."""

    def __init__(self, client: HttpClient, repository: str, blob: Descriptor, offset: int) -> None:
        self._client, self._repository, self._blob, self._position = client, repository, blob, offset
        self._response: httpx.Response | None = None

    async def aclose(self) -> None:
        if self._response is not None:
            await self._response.aclose()
            self._response = None

    async def chunks(self) -> AsyncIterator[bytes]:
        import httpx

        backoff = Backoff(self._client.config.retries)
        while self._position < self._blob.size:
            self._response = await self._client.open_blob(self._repository, self._blob, self._position)
            try:
                async for chunk in self._body(self._response):
                    self._advance(len(chunk))
                    backoff.progress()
                    yield chunk
                problem: Exception = httpx.RemoteProtocolError("the answer was too short")
            except httpx.TransportError as error:
                problem = error
            await self.aclose()
            if self._position < self._blob.size and (not may_pass(problem) or not await backoff.wait()):
                raise unavailable(self._client.host, problem) from problem

    async def _body(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """What follows the position; a registry that ignores ranges sends from the beginning."""
        skip = 0 if response.status_code == 206 else self._position
        async for chunk in response.aiter_raw():
            if skip >= len(chunk):
                skip -= len(chunk)
                continue
            yield chunk[skip:] if skip else chunk
            skip = 0

    def _advance(self, count: int) -> None:
        self._position += count
        if self._position > self._blob.size:
            raise DataLoss(f"blob {self._blob.digest} is larger than the {self._blob.size} bytes of its descriptor")
