"""POST /containers/{id}/attach: the connection is given to the container."""

from __future__ import annotations

from hooper.api.engine import AttachOptions, Engine
from hooper.api.errors import Conflict, HooperError, Unsupported
from hooper_api_docker.errors import message_of
from hooper_api_docker.http import Request
from hooper_api_docker.streams import frame, stream_type


async def attach(engine: Engine, request: Request, name: str) -> None:
    """What can be refused is refused before the head is sent; later errors are told in the stream."""
    container = await engine.containers.get(name)
    if container.state.status in ("paused", "restarting"):
        raise Conflict(
            f"cannot attach to container {container.name}", f"it is {container.state.status}", "Wait until it runs."
        )
    query = request.query
    options = AttachOptions(
        stdin=query.flag("stdin"),
        stdout=query.flag("stdout"),
        stderr=query.flag("stderr"),
        detach_keys=query.text("detachKeys"),
        logs=query.flag("logs"),
        stream=query.flag("stream"),
    )
    tty = container.config.tty
    connection, received = await request.hijack(stream_type(request, tty))
    try:
        await engine.containers.attach(container.id, options, connection, received)
    except HooperError as error:
        text = f"{message_of(error)}\r\n".encode()
        await request.send_raw(text if tty else frame(2, text))


async def attach_websocket(engine: Engine, request: Request, name: str) -> None:
    raise Unsupported(
        f"cannot attach to container {name} through a websocket",
        "this front-end speaks HTTP only",
        f"Use POST /containers/{name}/attach.",
    )
