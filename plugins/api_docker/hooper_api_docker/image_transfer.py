"""Images to and from registries: pull, push, distribution."""

from __future__ import annotations

from hooper.api.engine import Engine
from hooper.api.errors import InvalidArgument, Unsupported
from hooper.api.reference import Reference
from hooper_api_docker.bodies import registry_auth
from hooper_api_docker.http import Request, Response
from hooper_api_docker.images import joined
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
    reference = Reference.parse(joined(name, query.text("tag")))
    lines = JsonLines(request)

    async def run() -> None:
        await engine.images.pull(
            str(reference),
            lines.send,
            platform=query.text("platform"),
            all_tags=not (reference.tag or reference.digest),
            credentials=registry_auth(request),
        )

    await lines.run(run)


async def _import(engine: Engine, request: Request, source: str) -> None:
    if source != "-":
        raise Unsupported(f"cannot import {source}", "only uploads are imported", "Download it and import the file.")
    query = request.query
    image_id = await consume_body(
        request,
        lambda archive: engine.images.import_tar(
            archive,
            reference=joined(query.text("repo"), query.text("tag")),
            message=query.text("message"),
            changes=[line for value in query.all("changes") for line in value.split("\n") if line.strip()],
            platform=query.text("platform"),
        ),
    )
    lines = JsonLines(request)
    await lines.run(lambda: lines.send({"status": image_id}))


async def push(engine: Engine, request: Request, name: str) -> None:
    lines = JsonLines(request)
    reference = joined(name, request.query.text("tag"))

    async def run() -> None:
        await engine.images.push(reference, lines.send, credentials=registry_auth(request))

    await lines.run(run)


async def distribution(engine: Engine, request: Request, name: str) -> Response:
    descriptor, platforms = await engine.images.distribution(name, registry_auth(request))
    return Response(200, {"Descriptor": descriptor, "Platforms": list(platforms)})
