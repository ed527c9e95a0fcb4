"""Search: Docker Hub's (`GET /v1/search`), or what the catalogue of other registries has."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hooper.api.errors import Unauthorized, Unavailable, Unsupported
from hooper.api.registry import SearchResult
from hooper_registry_http.endpoint import Endpoint
from hooper_registry_http.failures import explanation
from hooper_registry_http.scopes import CATALOG

_PAGE, _PAGES = 1000, 100
_INDEX = {"docker.io": "https://index.docker.io/v1/search"}


class _One(msgspec.Struct):
    name: str
    description: str | None = None
    star_count: int | None = None
    is_official: bool | None = None
    is_automated: bool | None = None


class _Found(msgspec.Struct):
    results: list[_One] | None = None


class _Catalogue(msgspec.Struct):
    repositories: list[str] | None = None


async def search(endpoint: Endpoint, term: str, limit: int) -> Sequence[SearchResult]:
    """At most `limit` repositories; Unsupported if the registry has neither way."""
    from urllib.parse import urlencode

    path = f"{_INDEX.get(endpoint.host, '/v1/search')}?{urlencode({'q': term, 'n': limit})}"
    response = await endpoint.request("GET", path, ())
    if response.status_code == 200:
        found: _Found = endpoint.decode(response, _Found)
        return [_result(one) for one in found.results or ()][:limit]
    if response.status_code == 429 or response.status_code >= 500:
        raise Unavailable(f"cannot search {endpoint.host}", explanation(response), "Try again later.")
    return await _catalogue(endpoint, term, limit)


def _result(one: _One) -> SearchResult:
    return SearchResult(
        one.name, one.description or "", one.star_count or 0, bool(one.is_official), bool(one.is_automated)
    )


async def _catalogue(endpoint: Endpoint, term: str, limit: int) -> Sequence[SearchResult]:
    path, found = f"/v2/_catalog?n={_PAGE}", list[SearchResult]()
    for _ in range(_PAGES):
        response = await endpoint.request("GET", path, (CATALOG,))
        if response.status_code in (401, 403):
            raise Unauthorized(
                f"search of {endpoint.host} refused", explanation(response), f"Log in: docker login {endpoint.host}"
            )
        if response.status_code != 200:
            raise Unsupported(f"the registry {endpoint.host} has no search", explanation(response), "Pull by name.")
        catalogue: _Catalogue = endpoint.decode(response, _Catalogue)
        names = catalogue.repositories or ()
        found += [SearchResult(name=name) for name in names if term.lower() in name.lower()]
        path = response.links.get("next", {}).get("url", "")
        if not path or len(found) >= limit:
            break
    return found[:limit]
