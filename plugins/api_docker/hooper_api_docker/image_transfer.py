"""Images to and from registries: pull, push, distribution."""

from __future__ import annotations

from typing import Any

from hooper.api.engine import Engine
from hooper.api.errors import InvalidArgument
from hooper.api.reference import Reference
from hooper_api_docker.bodies import registry_auth
from hooper_api_docker.http import Request, Response
from hooper_api_docker.images import joined, platform_of
from hooper_api_docker.streams import JsonLines, consume_body


async def create(engine: Engine, request: Request) -> None:
    """POST /images/create: a pull, or an import."""
    if request.query.text("fromImage"):
        await _pull(engine, request)
    elif source := request.query.text("fromSrc"):
        await _import(engine, request, source)
    else:
        raise InvalidArgument("cannot create an image", "neither fromImage nor fromSrc is given")


async def _pull(engine: Engine, request: Request) -> None:
    query = request.query
    name = query.text("fromImage")
    text = joined(name, query.text("tag"))
    reference = Reference.parse(text)
    lines = JsonLines(request)

    async def run() -> None:
        await engine.images.pull(
            text,
            lines.send,
            platform=query.text("platform"),
            all_tags=not (reference.tag or reference.digest),
            credentials=registry_auth(request),
        )

    await lines.run(run)


async def _import(engine: Engine, request: Request, source: str) -> None:
    query = request.query
    wanted: dict[str, Any] = {
        "reference": joined(query.text("repo"), query.text("tag")),
        "message": query.text("message"),
        "changes": [line for value in query.all("changes") for line in value.split("\n") if line.strip()],
        "platform": query.text("platform"),
    }
    lines = JsonLines(request)
    if source != "-":
        await lines.run(lambda: _import_url(engine, lines, source, wanted))
        return
    image_id = await consume_body(request, lambda archive: engine.images.import_tar(archive, **wanted))
    await lines.run(lambda: lines.send({"status": image_id}))


async def _import_url(engine: Engine, lines: JsonLines, url: str, wanted: dict[str, Any]) -> None:
    """A URL without a scheme is HTTP's, as for dockerd."""
    full = url if "://" in url else f"http://{url}"
    await lines.send({"status": await engine.images.import_url(full, lines.send, **wanted)})


async def push(engine: Engine, request: Request, name: str) -> None:
    lines = JsonLines(request)
    reference = joined(name, request.query.text("tag"))
    platform = platform_of(request)

    async def run() -> None:
        more = {"platform": platform} if platform else {}
        await engine.images.push(reference, lines.send, credentials=registry_auth(request), **more)

    await lines.run(run)


async def distribution(engine: Engine, request: Request, name: str) -> Response:
    descriptor, platforms = await engine.images.distribution(name, registry_auth(request))
    return Response(200, {"Descriptor": descriptor, "Platforms": list(platforms)})
