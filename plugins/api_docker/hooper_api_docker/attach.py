"""POST /containers/{id}/attach: the connection is given to the container."""

from __future__ import annotations

from collections.abc import AsyncIterator

from hooper.api import detach_keys
from hooper.api.engine import AttachOptions, Engine
from hooper.api.errors import Conflict, HooperError
from hooper.api.logs import LogQuery
from hooper.api.model import Container
from hooper_api_docker.errors import message_of
from hooper_api_docker.http import Request
from hooper_api_docker.streams import frame, stream_type


async def attach(engine: Engine, request: Request, name: str) -> None:
    """What can be refused is refused before the head is sent; later errors are told in the stream."""
    container = await engine.containers.get(name)
    check(container)
    options = read_options(request)
    tty = container.config.tty
    with engine.containers.attaching(container.id):
        connection, received = await request.hijack(stream_type(request, tty))
        try:
            if options.logs:
                async for data in logged(engine, container, options, framed=not tty):
                    await request.send_raw(data)
            if options.stream or not options.logs:
                await engine.containers.attach(container.id, options, connection, received)
            else:
                connection.close()
        except HooperError as error:
            text = f"{message_of(error)}\r\n".encode()
            await request.send_raw(text if tty else frame(2, text))


def check(container: Container) -> None:
    if container.state.status in ("paused", "restarting"):
        raise Conflict(
            f"cannot attach to container {container.name}", f"it is {container.state.status}", "Wait until it runs."
        )


def read_options(request: Request) -> AttachOptions:
    """InvalidArgument for detach keys that are none."""
    query = request.query
    detach_keys.parse(query.text("detachKeys"))
    return AttachOptions(
        stdin=query.flag("stdin"),
        stdout=query.flag("stdout"),
        stderr=query.flag("stderr"),
        detach_keys=query.text("detachKeys"),
        logs=query.flag("logs"),
        stream=query.flag("stream"),
    )


async def logged(engine: Engine, container: Container, options: AttachOptions, *, framed: bool) -> AsyncIterator[bytes]:
    """What the container has written up to now, as it goes over the wire."""
    from hooper_api_docker.logs import Encoder

    if not (options.stdout or options.stderr):
        return
    query = LogQuery(stdout=options.stdout, stderr=options.stderr)
    encoder = Encoder(tty=not framed, timestamps=False, details=False)
    async for batch in await engine.containers.logs(container.id, query):
        yield encoder.encode(batch)
