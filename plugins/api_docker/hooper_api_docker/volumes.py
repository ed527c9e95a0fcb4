"""Volumes: /volumes."""

from __future__ import annotations

from typing import Any

import msgspec

from hooper.api.engine import Engine
from hooper.api.errors import Unavailable
from hooper.api.model import DockerStruct, Volume
from hooper_api_docker.bodies import read_json
from hooper_api_docker.http import Request, Response


class VolumeBody(DockerStruct, kw_only=True):
    name: str | None = None
    driver: str | None = None
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None


_create = msgspec.json.Decoder(VolumeBody)


def shape(volume: Volume) -> dict[str, Any]:
    return {
        "CreatedAt": volume.created_at,
        "Driver": volume.driver,
        "Labels": volume.labels,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": volume.options,
        "Scope": volume.scope,
    }


async def list_volumes(engine: Engine, request: Request) -> Response:
    found = await engine.volumes.list(request.query.filters())
    return Response(200, {"Volumes": [shape(volume) for volume in found], "Warnings": None})


async def inspect(engine: Engine, request: Request, name: str) -> Response:
    return Response(200, shape(await engine.volumes.get(name)))


async def create(engine: Engine, request: Request) -> Response:
    body = await read_json(request, _create)
    volume = Volume(
        name=body.name or "",
        driver=body.driver or "",
        labels=body.labels,
        options=body.driver_opts,
        anonymous=not body.name,
    )
    return Response(201, shape(await engine.volumes.create(volume)))


async def update(engine: Engine, request: Request, name: str) -> Response:
    raise Unavailable(
        "This node is not a swarm manager",
        f"volume {name} cannot change: only cluster volumes do",
        "Make another volume with the options that you want.",
    )


async def remove(engine: Engine, request: Request, name: str) -> Response:
    await engine.volumes.remove(name, force=request.query.flag("force"))
    return Response(204)


async def prune(engine: Engine, request: Request) -> Response:
    """Before API 1.42 this took all unused volumes, since then the anonymous ones."""
    filters = request.query.filters()
    if request.version < (1, 42):
        filters.setdefault("all", ["true"])
    pruned = await engine.volumes.prune(filters)
    return Response(200, {"VolumesDeleted": list(pruned.items), "SpaceReclaimed": pruned.space})
