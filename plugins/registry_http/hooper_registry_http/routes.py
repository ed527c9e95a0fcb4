"""Where the repository of a name is asked for: rewritten places, mirrors, and what is blocked."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

from hooper.api.errors import Forbidden
from hooper_registry_http.config import HttpConfig


class Route(NamedTuple):
    host: str
    """HOST[:PORT]."""
    scheme: str
    """"" where it is to be found out."""
    repository: str
    """As it is called there."""


def routes(config: HttpConfig, host: str, repository: str, *, mirrors: bool) -> list[Route]:
    """The places in the order that they are tried; the last is the registry itself, or where it was rewritten to.

    Forbidden, with the reason, if the name or its rewritten place is blocked.
    """
    check_blocked(config, host, repository)
    target = _rewritten(config, host, repository)
    check_blocked(config, target.host, target.repository)
    return [*(_mirrors(config, target) if mirrors else ()), target]


def check_blocked(config: HttpConfig, host: str, repository: str = "") -> None:
    """Forbidden if `blocked` names the repository, or what it is in."""
    parts = [host, *repository.split("/")] if repository else [host]
    names = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    for pattern, reason in config.blocked.items():
        if any(fnmatchcase(name, pattern.rstrip("/")) for name in names):
            raise Forbidden(
                f"{names[-1]} is blocked",
                reason or "the configuration says so",
                f'The entry is "{pattern}" in registry.http.blocked.',
            )


def _rewritten(config: HttpConfig, host: str, repository: str) -> Route:
    name = f"{host}/{repository}"
    fitting = [prefix for prefix in config.rewrites if f"{name}/".startswith(f"{prefix.rstrip('/')}/")]
    if not fitting:
        return Route(host, "", repository)
    prefix = max(fitting, key=len)
    rest = name[len(prefix.rstrip("/")) :].strip("/")
    return _route(config.rewrites[prefix], rest)


def _mirrors(config: HttpConfig, target: Route) -> list[Route]:
    return [_route(mirror, target.repository) for mirror in config.of(target.host).mirrors]


def _route(place: str, repository: str) -> Route:
    """`place` is [SCHEME://]HOST[:PORT][/PREFIX]."""
    scheme, separator, rest = place.partition("://")
    host, _, prefix = (rest if separator else place).strip("/").partition("/")
    parts = [part for part in (prefix.strip("/"), repository) if part]
    return Route(host, scheme if separator else "", "/".join(parts))
