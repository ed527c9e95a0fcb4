"""From method and path to a handler: one regular expression a method, compiled once."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from importlib import import_module
from typing import Any, cast
from urllib.parse import unquote

from hooper.api.engine import Engine
from hooper.api.errors import InvalidArgument, NotFound
from hooper_api_docker.http import Request, Response

MIN_VERSION = (1, 24)
MAX_VERSION = (1, 50)
_VERSIONED = re.compile(r"/v(\d{1,3})\.(\d{1,3})(/.*)")

Handler = Callable[..., Awaitable[Response | None]]
"""Called with engine, request and the parameters of the path."""
Route = tuple[str, str, str]
"""Method, pattern ("{}" is a part of the path, "{*}" may have slashes), "module:function"."""


def version_text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


class Router:
    """Routes are tried in the order of the table. Handlers are imported when first used."""

    def __init__(self, routes: Iterable[Route]) -> None:
        table: dict[str, list[tuple[str, str]]] = {}
        for method, pattern, target in routes:
            table.setdefault(method, []).append((pattern, target))
        self._methods = {method: _Method(entries) for method, entries in table.items()}

    def preload(self, target: str) -> None:
        """Imports a handler's module ahead of its first request."""
        _load(target)

    async def handle(self, engine: Engine, request: Request) -> Response | None:
        """InvalidArgument for a version that is not spoken, NotFound for an unknown path."""
        path = request.path
        match = _VERSIONED.fullmatch(path)
        if match:
            request.version = int(match[1]), int(match[2])
            _check_version(request.version)
            path = match[3]
        else:
            request.version = MAX_VERSION
        if "%" in path:
            path = unquote(path)
        method = self._methods.get(request.method)
        found = method.find(path) if method else None
        if found is None:
            raise NotFound("page not found")
        handler, parameters = found
        return await handler(engine, request, *parameters)


class _Method:
    def __init__(self, entries: list[tuple[str, str]]) -> None:
        self._fixed = {pattern: target for pattern, target in entries if "{" not in pattern}
        with_parameters = [entry for entry in entries if "{" in entry[0]]
        self._targets = [target for _, target in with_parameters]
        # Each alternative ends in an empty group, whose number tells which one matched.
        self._pattern = re.compile("|".join(f"{_regex(pattern)}()" for pattern, _ in with_parameters), re.DOTALL)
        self._groups: dict[int, tuple[int, int, int]] = {}
        group = 0
        for number, (pattern, _) in enumerate(with_parameters):
            count = pattern.count("{")
            self._groups[group + count + 1] = (number, group + 1, group + count + 1)
            group += count + 1
        self._loaded: dict[str, Handler] = {}

    def find(self, path: str) -> tuple[Handler, tuple[Any, ...]] | None:
        target = self._fixed.get(path)
        if target is not None:
            return self._handler(target), ()
        match = self._pattern.fullmatch(path) if self._targets else None
        if match is None or match.lastindex is None:
            return None
        number, first, last = self._groups[match.lastindex]
        return self._handler(self._targets[number]), match.groups()[first - 1 : last - 1]

    def _handler(self, target: str) -> Handler:
        handler = self._loaded.get(target)
        if handler is None:
            handler = self._loaded[target] = _load(target)
        return handler


def _load(target: str) -> Handler:
    module, _, name = target.partition(":")
    return cast(Handler, getattr(import_module(f"hooper_api_docker.{module}"), name))


def _regex(pattern: str) -> str:
    return "".join(
        {"{}": "([^/]+)", "{*}": "(.+)"}.get(part) or re.escape(part) for part in re.split(r"({\*?})", pattern)
    )


def _check_version(version: tuple[int, int]) -> None:
    if version > MAX_VERSION:
        raise InvalidArgument(
            f"client version {version_text(version)} is too new. "
            f"Maximum supported API version is {version_text(MAX_VERSION)}"
        )
    if version < MIN_VERSION:
        raise InvalidArgument(
            f"client version {version_text(version)} is too old. Minimum supported API version is "
            f"{version_text(MIN_VERSION)}, please upgrade your client to a newer version"
        )
