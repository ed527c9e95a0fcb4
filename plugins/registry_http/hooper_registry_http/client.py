"""The verbs of a registry over HTTP (OCI distribution-spec, end-1 to end-12)."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import msgspec

from hooper.api.errors import DataLoss, HooperError, NotFound, Unauthorized, Unavailable
from hooper.api.manifests import ACCEPTED, Index, as_referrer, digest_of
from hooper.api.reference import Reference, is_digest
from hooper.api.registry import Credentials, Descriptor, Manifest, RegistryClient, SearchResult
from hooper_registry_http import referrers
from hooper_registry_http.config import HttpConfig
from hooper_registry_http.download import Download
from hooper_registry_http.endpoint import Endpoint
from hooper_registry_http.failures import check
from hooper_registry_http.routes import Route, check_blocked, routes
from hooper_registry_http.scopes import delete, pull, push
from hooper_registry_http.transports import Transports
from hooper_registry_http.upload import Upload

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
_MANIFEST_MAX = 4 * 1024 * 1024
_MIRROR_RETRIES = 1
_PAGES = 10_000
_REST = 60.0


class _Tags(msgspec.Struct):
    tags: list[str] | None = None


class HttpClient(RegistryClient):
    """One conversation; a place that does not answer is not asked again in it."""

    def __init__(
        self,
        host: str,
        credentials: Credentials | None,
        config: HttpConfig,
        transports: Transports,
        resting: dict[str, float],
    ) -> None:
        """`resting`: mirrors that did not answer, and until when (monotonic seconds) they are not asked."""
        self.host, self._credentials, self.config = host, credentials, config
        self._transports, self._resting = transports, resting
        self._endpoints: dict[tuple[str, str], Endpoint] = {}
        self._given: dict[str, int] = {}
        """By blob: how often it was fetched from its beginning. Who does so again found it damaged."""

    def close(self) -> None:
        for (_, host), endpoint in self._endpoints.items():
            if endpoint.failure is not None and host != self.host:
                self._resting[host] = self._resting.get(host) or monotonic() + _REST
            endpoint.close()

    # --- pulling --------------------------------------------------------------------------------------

    async def resolve(self, repository: str, reference: str) -> Manifest:
        return await self._anywhere(
            repository, lambda endpoint, there: self._resolve(endpoint, there, repository, reference)
        )

    async def _resolve(self, endpoint: Endpoint, there: str, repository: str, reference: str) -> Manifest:
        name = self._name(repository, reference)
        response = await self._get_manifest(endpoint, there, reference)
        if response.status_code == 404:
            raise NotFound(f"manifest for {name} not found", "manifest unknown", "Check the name and the tag.")
        self._check(endpoint, response, (200,), repository, name)
        content = response.content
        if len(content) > _MANIFEST_MAX:
            raise DataLoss(f"the manifest of {name} is larger than {_MANIFEST_MAX} bytes")
        _verify(content, reference if is_digest(reference) else "", name)
        _verify(content, response.headers.get("docker-content-digest", ""), name)
        media_type = response.headers.get("content-type", "").partition(";")[0].strip()
        return Manifest(Descriptor(media_type, digest_of(content), len(content)), content)

    @staticmethod
    async def _get_manifest(endpoint: Endpoint, there: str, reference: str) -> httpx.Response:
        headers = {"Accept": ", ".join(ACCEPTED)}
        return await endpoint.request("GET", f"/v2/{there}/manifests/{reference}", (pull(there),), headers)

    @asynccontextmanager
    async def fetch(self, repository: str, blob: Descriptor, offset: int = 0) -> AsyncIterator[AsyncIterator[bytes]]:
        places = [(self._endpoint(route), route.repository) for route in self._routes(repository)]
        places = [place for place in places if place[0].failure is None] or places[-1:]
        if not offset and len(places) > 1:
            times = self._given[blob.digest] = self._given.get(blob.digest, -1) + 1
            turn = times % len(places)
            places = places[turn:] + places[:turn]
        download = Download(places, self._name(repository), blob, offset)
        try:
            yield download.chunks()
        finally:
            await download.aclose()

    async def tags(self, repository: str) -> Sequence[str]:
        async def ask(endpoint: Endpoint, there: str) -> list[str]:
            pages = self._pages(
                endpoint, there, repository, f"/v2/{there}/tags/list", f"tags of {self._name(repository)}"
            )
            return [tag async for page in pages for tag in page.tags or ()]

        return await self._anywhere(repository, ask)

    async def referrers(self, repository: str, digest: str) -> Sequence[Descriptor]:
        """By the API, or else by the tag that stands in for it (distribution-spec, "Referrers Tag Schema")."""

        async def ask(endpoint: Endpoint, there: str) -> Sequence[Descriptor]:
            path, found = f"/v2/{there}/referrers/{digest}", list[Descriptor]()
            for _ in range(_PAGES):
                response = await endpoint.request("GET", path, (pull(there),))
                if response.status_code != 200:
                    response = await self._get_manifest(endpoint, there, referrers.fallback_tag(digest))
                    if response.status_code == 404:
                        return ()
                self._check(endpoint, response, (200,), repository, f"referrers of {digest}")
                index: Index = endpoint.decode(response, Index)
                found += index.manifests
                path = response.links.get("next", {}).get("url", "")
                if not path:
                    break
            return found

        return await self._anywhere(repository, ask)

    async def _pages(
        self, endpoint: Endpoint, there: str, repository: str, path: str, what: str
    ) -> AsyncIterator[_Tags]:
        for _ in range(_PAGES):
            response = await endpoint.request("GET", path, (pull(there),))
            self._check(endpoint, response, (200,), repository, what)
            yield endpoint.decode(response, _Tags)
            path = response.links.get("next", {}).get("url", "")
            if not path:
                return

    # --- pushing --------------------------------------------------------------------------------------

    async def has_blob(self, repository: str, digest: str) -> bool:
        endpoint, there = self._itself(repository)
        response = await endpoint.request("HEAD", f"/v2/{there}/blobs/{digest}", (push(there),))
        if response.status_code == 404:
            return False
        self._check(endpoint, response, (200,), repository, f"blob {digest}", pushing=True)
        return True

    async def has_manifest(self, repository: str, reference: str, digest: str) -> bool:
        endpoint, there = self._itself(repository)
        headers = {"Accept": ", ".join(ACCEPTED)}
        response = await endpoint.request("HEAD", f"/v2/{there}/manifests/{reference}", (push(there),), headers)
        return response.status_code == 200 and response.headers.get("docker-content-digest") == digest

    async def mount_blob(self, repository: str, digest: str, source: str) -> bool:
        endpoint, there = self._itself(repository)
        other, origin = self._itself(source)
        if other is not endpoint:
            return False
        scopes = (push(there), pull(origin))
        path = f"/v2/{there}/blobs/uploads/?mount={digest}&from={origin}"
        response = await endpoint.request("POST", path, scopes)
        if response.status_code == 202 and "location" in response.headers:
            await endpoint.request("DELETE", response.headers["location"], scopes)
        return response.status_code == 201

    async def push_blob(self, repository: str, blob: Descriptor, read: Callable[[int], AsyncIterator[bytes]]) -> None:
        endpoint, there = self._itself(repository)
        await Upload(endpoint, there, self._name(repository), blob, read).run()

    async def push_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        endpoint, there = self._itself(repository)
        headers = {"Content-Type": manifest.descriptor.media_type}
        path = f"/v2/{there}/manifests/{reference}"
        response = await endpoint.request("PUT", path, (push(there),), headers, content=manifest.content)
        name = self._name(repository, reference)
        self._check(endpoint, response, (200, 201, 202), repository, name, pushing=True)
        subject, referrer = as_referrer(manifest)
        # With this header a registry says that it lists referrers by itself.
        if subject and "oci-subject" not in response.headers:
            await referrers.add(endpoint, there, self._name(repository), subject, referrer)

    async def delete(self, repository: str, reference: str) -> None:
        endpoint, there = self._itself(repository)
        response = await endpoint.request("DELETE", f"/v2/{there}/manifests/{reference}", (delete(there),))
        self._check(endpoint, response, (200, 202), repository, self._name(repository, reference), pushing=True)

    # --- the registry itself --------------------------------------------------------------------------

    async def check_login(self) -> str:
        check_blocked(self.config, self.host)
        endpoint = self._endpoint(Route(self.host, "", ""))
        response = await endpoint.request("GET", "/v2/", ())
        transport, auth = await endpoint.open()
        if response.status_code == 401:
            attempt = f"login attempt to {transport.base.join('/v2/')} failed with status: 401 Unauthorized"
            raise Unauthorized(attempt, "incorrect username or password", "Check both.")
        check(response, (200,), self.host, self.host, f"login to {self.host}")
        return await auth.login()

    async def search(self, term: str, limit: int) -> Sequence[SearchResult]:
        from hooper_registry_http.search import search

        check_blocked(self.config, self.host)
        return await search(self._endpoint(Route(self.host, "", "")), term, limit)

    # --- places ---------------------------------------------------------------------------------------

    def _routes(self, repository: str, *, mirrors: bool = True) -> list[Route]:
        return routes(self.config, self.host, repository, mirrors=mirrors)

    def _itself(self, repository: str) -> tuple[Endpoint, str]:
        """Where pushes go, and what the repository is called there."""
        route = self._routes(repository, mirrors=False)[-1]
        return self._endpoint(route), route.repository

    def _endpoint(self, route: Route) -> Endpoint:
        key = route.scheme, route.host
        if key not in self._endpoints:
            own = route.host == self.host
            credentials = self._credentials if own else None
            retries = None if own else min(_MIRROR_RETRIES, self.config.retries)
            self._endpoints[key] = Endpoint(
                route.host, route.scheme, credentials, self.config, self._transports, retries=retries
            )
            if not own:
                self._endpoints[key].failure = self._rest_of(route.host)
        return self._endpoints[key]

    async def _anywhere(self, repository: str, verb: Callable[[Endpoint, str], Awaitable[T]]) -> T:
        """What the first place gives that has it; the last one's error, and of mirrors those that say more."""
        *mirrors, last = self._routes(repository)
        for route in mirrors:
            endpoint = self._endpoint(route)
            if endpoint.failure is not None:
                continue
            try:
                return await verb(endpoint, route.repository)
            except HooperError as error:
                if isinstance(error, Unavailable):
                    endpoint.failure = error
        try:
            return await verb(self._endpoint(last), last.repository)
        except Unavailable as error:
            failed = [e for route in mirrors if (e := self._endpoint(route).failure) is not None]
            if not failed:
                raise
            why = "; ".join([error.why, *(f"{e.what}: {e.why}" for e in failed)])
            raise Unavailable(error.what, why, error.remedy) from error

    def _rest_of(self, host: str) -> HooperError | None:
        """Why a mirror is not asked now."""
        if self._resting.get(host, 0.0) > monotonic():
            return Unavailable(f"the mirror {host} is not asked", f"it did not answer within the last {_REST:.0f} s")
        self._resting.pop(host, None)
        return None

    def _name(self, repository: str, reference: str = "") -> str:
        digest = is_digest(reference)
        parts = ("", reference) if digest else (reference, "")
        return Reference(self.host, repository, *parts).familiar

    def _check(
        self,
        endpoint: Endpoint,
        response: httpx.Response,
        good: Sequence[int],
        repository: str,
        what: str,
        *,
        pushing: bool = False,
    ) -> None:
        check(response, good, endpoint.host, self._name(repository), what, pushing=pushing)


def _verify(content: bytes, digest: str, name: str) -> None:
    """DataLoss if there is a digest, and it is not the content's."""
    algorithm, _, wanted = digest.partition(":")
    if algorithm not in ("sha256", "sha512"):
        return
    found = hashlib.new(algorithm, content).hexdigest()
    if found != wanted:
        raise DataLoss(
            f"the manifest of {name} is damaged", f"its digest is {algorithm}:{found}, not {digest}", "Push it again."
        )
