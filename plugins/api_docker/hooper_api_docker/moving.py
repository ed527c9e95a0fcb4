"""Moving containers: hooper's own endpoints, which no Docker client knows. See `hooper.api.moving`."""

from __future__ import annotations

import msgspec

from hooper.api.engine import Engine
from hooper.api.errors import InvalidArgument
from hooper.api.moving import VERSION, Begin, NetworkChoice, Offer, VolumeChoice, Wishes
from hooper_api_docker.bodies import read_json
from hooper_api_docker.http import Request, Response
from hooper_api_docker.streams import consume_body, send_produced

TAR = b"application/x-tar"
NO_CONTENT = Response(204)
KEEP_SECONDS = 120
"""How long a container that has arrived waits for its commit, if the client does not say."""
_begin = msgspec.json.Decoder(Begin)
_offer = msgspec.json.Decoder(Offer)


async def about(engine: Engine, request: Request) -> Response:
    return Response(200, {"version": VERSION, "engine": await engine.moving.engine_id()})


# The source


async def plan(engine: Engine, request: Request, name: str) -> Response:
    return Response(200, await engine.moving.plan(name))


async def save(engine: Engine, request: Request, name: str) -> None:
    await engine.containers.get(name)
    await send_produced(request, TAR, lambda output: engine.moving.save(name, output))


async def begin(engine: Engine, request: Request, name: str) -> Response:
    return Response(200, await engine.moving.begin(name, await read_json(request, _begin)))


async def send(engine: Engine, request: Request, name: str) -> None:
    transfer = _transfer(request)
    await send_produced(request, TAR, lambda output: engine.moving.send(name, transfer, output))


async def keep(engine: Engine, request: Request, name: str) -> Response:
    await engine.moving.keep(name, _transfer(request))
    return NO_CONTENT


async def seal(engine: Engine, request: Request, name: str) -> Response:
    await engine.moving.seal(name, _transfer(request))
    return NO_CONTENT


async def confirm(engine: Engine, request: Request, name: str) -> Response:
    await engine.moving.confirm(name, _transfer(request))
    return NO_CONTENT


async def undo(engine: Engine, request: Request, name: str) -> Response:
    return Response(200, {"started": await engine.moving.undo(name, _transfer(request))})


def _transfer(request: Request) -> str:
    return request.query.text("transfer")


# The target


async def check(engine: Engine, request: Request) -> Response:
    return Response(200, await engine.moving.check(await read_json(request, _offer)))


async def receive(engine: Engine, request: Request, transfer: str) -> Response:
    wishes = _wishes(request)
    keep = float(request.query.integer("keep", KEEP_SECONDS) or 0)
    await consume_body(request, lambda archive: engine.moving.receive(transfer, wishes, archive, keep_seconds=keep))
    return NO_CONTENT


async def commit(engine: Engine, request: Request, transfer: str) -> Response:
    return Response(200, await engine.moving.commit(transfer))


async def state(engine: Engine, request: Request, transfer: str) -> Response:
    return Response(200, await engine.moving.state(transfer))


async def abandon(engine: Engine, request: Request, transfer: str) -> Response:
    return Response(200, await engine.moving.abandon(transfer))


async def forget(engine: Engine, request: Request, transfer: str) -> Response:
    await engine.moving.forget(transfer)
    return NO_CONTENT


async def load(engine: Engine, request: Request) -> Response:
    wishes = _wishes(request)
    return Response(201, await consume_body(request, lambda archive: engine.moving.load(wishes, archive)))


def _wishes(request: Request) -> Wishes:
    query = request.query
    try:
        return Wishes(
            name=query.text("name"),
            volumes=msgspec.convert(query.text("volumes", "error"), VolumeChoice),
            networks=msgspec.convert(query.text("networks", "create"), NetworkChoice),
            allow_binds=query.flag("allow_binds"),
        )
    except msgspec.ValidationError as error:
        raise InvalidArgument("invalid parameter", str(error)) from None
