"""Containers: /containers, but for their streams."""

from __future__ import annotations

from typing import Any

from hooper.api.engine import Engine
from hooper.api.errors import InvalidArgument, NotFound
from hooper.api.model import Container
from hooper_api_docker import container_shapes as shapes
from hooper_api_docker.create_body import read_create, read_update
from hooper_api_docker.http import JSON, Request, Response

NO_CONTENT = Response(204)
CONDITIONS = ("not-running", "next-exit", "removed")


async def create(engine: Engine, request: Request) -> Response:
    created = await engine.containers.create(await read_create(request))
    return Response(201, {"Id": created.id, "Warnings": list(created.warnings)})


async def start(engine: Engine, request: Request, name: str) -> Response:
    await engine.containers.start(name, detach_keys=request.query.text("detachKeys"))
    return NO_CONTENT


async def wait(engine: Engine, request: Request, name: str) -> None:
    """The head is sent as soon as the wait is registered: the CLI reads it before it starts the container."""
    condition = request.query.text("condition") or "not-running"
    if condition not in CONDITIONS:
        raise InvalidArgument(f'invalid condition: "{condition}"', "", f"Conditions are {', '.join(CONDITIONS)}.")
    waiter = await engine.containers.wait(name, condition)
    if request.version >= (1, 30):
        await request.begin(JSON)
    async with request.while_connected():
        result = await waiter
    answer: dict[str, Any] = {"StatusCode": result.exit_code}
    if result.error:
        answer["Error"] = {"Message": result.error}
    if not request.begun:
        await request.respond(Response(200, answer))
        return
    await request.write_last(answer)


async def remove(engine: Engine, request: Request, name: str) -> Response:
    if request.query.flag("link"):
        raise InvalidArgument(
            f"cannot remove the link {name}", "links between containers are not kept", "Use a network and its aliases."
        )
    await engine.containers.remove(name, force=request.query.flag("force"), volumes=request.query.flag("v"))
    return NO_CONTENT


async def list_containers(engine: Engine, request: Request) -> Response:
    query = request.query
    found = await engine.containers.list(all=query.flag("all"), limit=query.count("limit"), filters=query.filters())
    answer = [shapes.summary(container) for container in found]
    if query.flag("size"):
        answer = [item | shapes.sizes(*await _sizes(engine, c)) for c, item in zip(found, answer, strict=True)]
    return Response(200, answer)


async def _sizes(engine: Engine, container: Container) -> tuple[int, int]:
    """Bytes that the container has itself, and those of its image; 0 for what is gone meanwhile."""
    try:
        own = await engine.containers.size(container.id)
    except NotFound:
        own = 0
    return own, await image_size(engine, container)


async def image_size(engine: Engine, container: Container) -> int:
    """Bytes of its image; 0 if that is gone."""
    try:
        return (await engine.images.get(container.image_id)).size
    except NotFound:
        return 0


async def inspect(engine: Engine, request: Request, name: str) -> Response:
    container = await engine.containers.get(name)
    answer = shapes.inspect(container, request.version, await engine.containers.exec_ids(container.id))
    if request.query.flag("size"):
        own, image = await _sizes(engine, container)
        answer["SizeRw"], answer["SizeRootFs"] = own, image + own
    return Response(200, answer)


async def stop(engine: Engine, request: Request, name: str) -> Response:
    await engine.containers.stop(name, signal=request.query.text("signal"), timeout=request.query.integer("t"))
    return NO_CONTENT


async def restart(engine: Engine, request: Request, name: str) -> Response:
    await engine.containers.restart(name, signal=request.query.text("signal"), timeout=request.query.integer("t"))
    return NO_CONTENT


async def kill(engine: Engine, request: Request, name: str) -> Response:
    await engine.containers.kill(name, request.query.text("signal") or "SIGKILL")
    return NO_CONTENT


async def pause(engine: Engine, request: Request, name: str) -> Response:
    await engine.containers.pause(name)
    return NO_CONTENT


async def unpause(engine: Engine, request: Request, name: str) -> Response:
    await engine.containers.unpause(name)
    return NO_CONTENT


async def rename(engine: Engine, request: Request, name: str) -> Response:
    new_name = request.query.text("name").removeprefix("/")
    if not new_name:
        raise InvalidArgument("Neither old nor new names may be empty")
    await engine.containers.rename(name, new_name)
    return NO_CONTENT


async def update(engine: Engine, request: Request, name: str) -> Response:
    warnings = await engine.containers.update(name, await read_update(request))
    return Response(200, {"Warnings": list(warnings)})


async def resize(engine: Engine, request: Request, name: str) -> Response:
    await engine.containers.resize(name, *window(request))
    return Response(200, b"", b"text/plain")


def window(request: Request) -> tuple[int, int]:
    """Height and width; InvalidArgument if one is missing."""
    height, width = request.query.integer("h"), request.query.integer("w")
    if height is None or width is None or not (0 <= height < 65536 and 0 <= width < 65536):
        raise InvalidArgument("invalid size", "h and w must be numbers of lines and columns")
    return height, width


async def top(engine: Engine, request: Request, name: str) -> Response:
    titles, rows = await engine.containers.top(name, request.query.text("ps_args") or "-ef")
    return Response(200, {"Titles": titles, "Processes": rows})


async def changes(engine: Engine, request: Request, name: str) -> Response:
    found = await engine.containers.changes(name)
    return Response(200, [{"Path": change.path, "Kind": change.kind} for change in found])


async def prune(engine: Engine, request: Request) -> Response:
    pruned = await engine.containers.prune(request.query.filters())
    return Response(200, {"ContainersDeleted": list(pruned.items), "SpaceReclaimed": pruned.space})
