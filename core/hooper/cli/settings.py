"""What a user has set in docker's config.json: formats of lists, keys that detach, proxies for containers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooper.client.home import settings

_PROXIES = {
    "httpProxy": "HTTP_PROXY",
    "httpsProxy": "HTTPS_PROXY",
    "noProxy": "NO_PROXY",
    "ftpProxy": "FTP_PROXY",
    "allProxy": "ALL_PROXY",
}


def setting(name: str) -> str:
    """A setting that is a word, such as psFormat or detachKeys; empty if it is not set. InvalidArgument."""
    value = settings().get(name)
    return value if isinstance(value, str) else ""


def proxies(address: str) -> dict[str, str]:
    """The variables that containers on the daemon at `address` get, in capitals and in small letters."""
    known = settings().get("proxies")
    if not isinstance(known, Mapping):
        return {}
    chosen: Any = known.get(address) or known.get("default") or {}
    given = {variable: str(chosen[key]) for key, variable in _PROXIES.items() if chosen.get(key)}
    return given | {variable.lower(): value for variable, value in given.items()}


def with_proxies(environment: list[str], address: str) -> list[str]:
    """KEY=value words, with the proxies that they do not name themselves."""
    named = {word.partition("=")[0] for word in environment}
    return [*environment, *(f"{key}={value}" for key, value in proxies(address).items() if key not in named)]
