"""POST /build, as Docker's classic builder and hooper's own client speak it, and what goes with it.

The parameters are in `build_request`, sessions in `build_sessions`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio

from hooper.api.build_events import ContextReceived, Warned
from hooper.api.build_session import BuildSession, NoSession
from hooper.api.engine import BuildContext, Engine
from hooper.api.errors import Conflict, InvalidArgument, Unsupported
from hooper_api_docker.build_progress import EventWords, QuietWords, ToClient, Words
from hooper_api_docker.build_request import BY_SESSION, USE_CLASSIC, Asked, read_request
from hooper_api_docker.build_sessions import find_session
from hooper_api_docker.build_words import ClassicWords
from hooper_api_docker.http import Request, Response
from hooper_api_docker.query import Query
from hooper_api_docker.streams import JsonLines, body_pipe

_PRUNE_FILTERS = ("until", "unused-for", "id", "parent", "type", "description", "inuse", "shared", "private")
_LABELS = ("label", "label!")

_running: dict[str, list[anyio.CancelScope]] = {}
"""Of this process, by the client's id of the build."""


async def build(engine: Engine, request: Request) -> None:
    """All that can be refused without the context is refused before it is read."""
    asked = read_request(request)
    session = find_session(asked.session) if asked.session else NoSession()
    lines, began = JsonLines(request), time.time_ns()
    with _cancellable(asked.build_id):
        if asked.remote:
            await lines.run(lambda: _with_remote(engine, asked, session, lines, began))
            return
        async with body_pipe(request) as body, engine.builds.context_of_archive(body.archive) as context:
            await body.close()
            await lines.run(lambda: _work(engine, asked, context, session, lines, began))


async def _with_remote(engine: Engine, asked: Asked, session: BuildSession, lines: JsonLines, began: int) -> None:
    builds = engine.builds
    opened = builds.context_of_session(session) if asked.remote == BY_SESSION else builds.context_of_url(asked.remote)
    async with opened as context:
        await _work(engine, asked, context, session, lines, began)


async def _work(
    engine: Engine, asked: Asked, context: BuildContext, session: BuildSession, lines: JsonLines, began: int
) -> None:
    received = ContextReceived(
        files=context.files, size=context.size, sent=context.sent, began=began, at=time.time_ns()
    )
    with _cancellable(asked.build_id):
        async with _telling(asked, lines) as progress:
            await progress.event(received)
            if asked.check:
                for warning in await engine.builds.check(asked.request, context, session):
                    await progress.event(
                        Warned(rule=warning.rule, message=warning.message, url=warning.url, origin=warning.origin)
                    )
                await progress.finish("", [])
            else:
                outcome = await engine.builds.build(asked.request, progress, context, session)
                await progress.finish(outcome.image_id, asked.request.tags)


@asynccontextmanager
async def _telling(asked: Asked, lines: JsonLines) -> AsyncIterator[ToClient]:
    words: Words = EventWords() if asked.events else ClassicWords(removes=asked.request.remove)
    progress = ToClient(lines, QuietWords(words) if asked.quiet and not asked.check else words)
    async with anyio.create_task_group() as group:
        group.start_soon(progress.keep_telling)
        try:
            yield progress
        except Exception:
            await progress.give_up()
            raise
        group.cancel_scope.cancel()


@contextmanager
def _cancellable(build_id: str) -> Iterator[None]:
    """Conflict if POST /build/cancel ends the block. The innermost block of a build is the one to end."""
    if not build_id:
        yield
        return
    scopes = _running.setdefault(build_id, [])
    with anyio.CancelScope() as scope:
        scopes.append(scope)
        try:
            yield
        finally:
            scopes.remove(scope)
            if not scopes:
                _running.pop(build_id, None)
    if scope.cancelled_caught:
        raise Conflict("the build was cancelled", "a client has asked for that")


async def cancel(engine: Engine, request: Request) -> Response:
    """Of a build that is not there, or no longer, nothing is to be done: as dockerd has it."""
    build_id = request.query.text("id")
    if not build_id:
        raise InvalidArgument("build ID not provided", "", "Give the buildid of a POST /build as id.")
    if scopes := _running.get(build_id):
        scopes[-1].cancel()
    return Response(200)


async def prune(engine: Engine, request: Request) -> Response:
    query = request.query
    keep = _bytes(query, "keep-storage")
    if request.version >= (1, 48):
        keep = _bytes(query, "reserved-space") or keep
    pruned = await engine.builds.prune(
        _prune_filters(query),
        all=query.flag("all"),
        keep=keep,
        max_used=_bytes(query, "max-used-space"),
        min_free=_bytes(query, "min-free-space"),
    )
    return Response(200, {"CachesDeleted": list(pruned.items), "SpaceReclaimed": pruned.space})


def _bytes(query: Query, name: str) -> int:
    """0 if it is missing. InvalidArgument."""
    value = query.count(name)
    if value < 0:
        raise InvalidArgument(f"invalid parameter {name}={value}", "it is a number of bytes, and less than 0")
    return value


def _prune_filters(query: Query) -> dict[str, list[str]]:
    """A label, which no step has, is passed over, as by dockerd; a filter without a value means true."""
    filters = query.filters()
    for name in filters:
        if name not in (*_PRUNE_FILTERS, *_LABELS):
            raise InvalidArgument(f"invalid filter '{name}'", "", f"There are: {', '.join(_PRUNE_FILTERS)}.")
    times = [*filters.get("until", ()), *filters.get("unused-for", ())]
    if len(times) > 1:
        raise InvalidArgument("invalid filter 'until'", "it is given twice (unused-for is the same)", "Give one time.")
    return {name: values or [""] for name, values in filters.items() if name not in _LABELS}


async def buildkit(engine: Engine, request: Request) -> Response:
    raise Unsupported("cannot start a BuildKit session", "this front-end has the classic builder", USE_CLASSIC)
