"""Files of containers as tar streams: archive and export."""

from __future__ import annotations

import base64

import msgspec

from hooper.api.engine import Engine, PathStat
from hooper.api.errors import InvalidArgument
from hooper_api_docker.http import Request, Response
from hooper_api_docker.streams import consume_body, send_produced

TAR = b"application/x-tar"


async def export(engine: Engine, request: Request, name: str) -> None:
    await engine.containers.get(name)
    await send_produced(request, b"application/octet-stream", lambda output: engine.containers.export(name, output))


def _path(request: Request) -> str:
    path = request.query.text("path")
    if not path:
        raise InvalidArgument("bad parameter: path cannot be empty")
    return path


def stat_header(value: PathStat) -> tuple[bytes, bytes]:
    shown = {
        "name": value.name,
        "size": value.size,
        "mode": value.mode,
        "mtime": value.mtime,
        "linkTarget": value.link_target,
    }
    return b"X-Docker-Container-Path-Stat", base64.b64encode(msgspec.json.encode(shown))


async def stat(engine: Engine, request: Request, name: str) -> Response:
    found = await engine.containers.stat_path(name, _path(request))
    return Response(200, headers=[stat_header(found)])


async def get(engine: Engine, request: Request, name: str) -> None:
    path = _path(request)
    found = await engine.containers.stat_path(name, path)
    await send_produced(
        request, TAR, lambda output: engine.containers.get_archive(name, path, output), [stat_header(found)]
    )


async def put(engine: Engine, request: Request, name: str) -> Response:
    path, query = _path(request), request.query
    await engine.containers.get(name)
    await consume_body(
        request,
        lambda archive: engine.containers.put_archive(
            name,
            path,
            archive,
            no_overwrite_dir_non_dir=query.flag("noOverwriteDirNonDir"),
            copy_uid_gid=query.flag("copyUIDGID"),
        ),
    )
    return Response(200, b"", b"text/plain")
