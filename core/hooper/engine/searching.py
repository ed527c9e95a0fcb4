"""Search for images in registries, with Docker's filters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from hooper.api.errors import HooperError, InvalidArgument
from hooper.api.reference import DEFAULT_HOST, Reference
from hooper.api.registry import Credentials, RegistryDriver, SearchResult
from hooper.engine import filters as docker_filters

_FILTERS = ("is-automated", "is-official", "stars")
_MOST = 100


async def search(
    term: str,
    limit: int,
    filters: Mapping[str, Sequence[str]],
    credentials: Credentials | None,
    registry_for: Callable[[str], Awaitable[RegistryDriver]],
    places: Sequence[str],
) -> Sequence[SearchResult]:
    """In the registry that the term begins with, else in all that short names are looked for in; the error of the last
    one that fails if nothing is found. The credentials are for that registry, or Docker Hub, and go to no other."""
    if not 1 <= limit <= _MOST:
        raise InvalidArgument(f"limit {limit} is outside the range of [1, {_MOST}]")
    wanted = _Wanted(filters)
    host, words = _split(term)
    given = host or DEFAULT_HOST
    hosts = [host] if host else list(dict.fromkeys(place.partition("/")[0] for place in places)) or [DEFAULT_HOST]
    found: list[SearchResult] = []
    failure: HooperError | None = None
    for each in hosts:
        try:
            async with (await registry_for(each)).connect(each, credentials if each == given else None) as client:
                found += [_named(each, one) for one in await client.search(words, limit)]
        except HooperError as error:
            failure = error
    if failure is not None and not found:
        raise failure
    return [one for one in found if wanted.has(one)][:limit]


def _split(term: str) -> tuple[str, str]:
    first, slash, rest = term.partition("/")
    if slash and (any(c in first for c in ".:") or first == "localhost"):
        return Reference.parse(f"{first}/x").host, rest
    return "", term.removeprefix("library/")


def _named(host: str, found: SearchResult) -> SearchResult:
    """With the name as it is pulled."""
    if host == DEFAULT_HOST:
        return found
    return SearchResult(f"{host}/{found.name}", found.description, found.stars, found.official, found.automated)


class _Wanted:
    def __init__(self, filters: Mapping[str, Sequence[str]]) -> None:
        docker_filters.check(filters, _FILTERS)
        self._stars = max((_count(value) for value in filters.get("stars", ())), default=0)
        self._official = _flag("is-official", filters)
        self._automated = _flag("is-automated", filters)

    def has(self, one: SearchResult) -> bool:
        return (
            one.stars >= self._stars
            and self._official in (None, one.official)
            and self._automated in (None, one.automated)
        )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise InvalidArgument(f"invalid filter 'stars={text}'", remedy="Give a whole number.")
    return int(text)


def _flag(name: str, filters: Mapping[str, Sequence[str]]) -> bool | None:
    values = [value.lower() for value in filters.get(name, ())]
    if any(value not in ("0", "1", "true", "false") for value in values):
        raise InvalidArgument(f"invalid filter '{name}=[{' '.join(values)}]'", remedy="Give true or false.")
    return values[0] in ("1", "true") if values else None
