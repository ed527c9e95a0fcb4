"""Images between registries and layouts: hooper's own endpoints. See `hooper.api.image_places`."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import anyio.to_thread
import msgspec

from hooper.api.engine import Engine, ProgressSink
from hooper.api.errors import InvalidArgument
from hooper.api.image_places import ListEntry
from hooper.api.layout import STREAM, Layout
from hooper_api_docker.bodies import build_credentials, read_json
from hooper_api_docker.errors import ClientGone, in_band, unwrap
from hooper_api_docker.http import Request, Response
from hooper_api_docker.streams import JsonLines, consume_body, send_produced

_TAR = b"application/x-tar"
_CHUNK = 1 << 20


class _List(msgspec.Struct, rename="pascal"):
    target: str
    entries: list[ListEntry]
    oci: bool = False


_list = msgspec.json.Decoder(_List)


async def pull(engine: Engine, request: Request) -> None:
    query = request.query
    source, platform = _needed(request, "from"), query.text("platform")
    name, file = query.text("name"), query.text("file")
    await _with_archive(
        request,
        _streams(source),
        lambda archive, tell: engine.places.pull(
            source, tell, archive=archive, name=name, file=file, platform=platform
        ),
    )


async def push(engine: Engine, request: Request) -> None:
    name, target = _needed(request, "name"), _needed(request, "to")
    if not _streams(target):
        lines = JsonLines(request)
        await lines.run(lambda: engine.places.push(name, target, lines.send))
        return
    await send_produced(request, _TAR, lambda output: engine.places.push(name, target, _untold, output=output))


async def copy(engine: Engine, request: Request) -> None:
    query = request.query
    source, target = _needed(request, "from"), _needed(request, "to")
    every, platform, credentials = query.flag("all"), query.text("platform"), build_credentials(request)
    preserve = query.flag("preserve")

    async def work(archive: int, tell: ProgressSink, output: int = -1) -> None:
        await engine.places.copy(
            source, target, tell,
            every=every, preserve=preserve, platform=platform, credentials=credentials, archive=archive, output=output,
        )  # fmt: skip

    if not _streams(target):
        await _with_archive(request, _streams(source), work)
    elif _streams(source):
        with engine.places.temporary() as kept:
            await consume_body(request, lambda archive: anyio.to_thread.run_sync(_pour, archive, kept))
            os.lseek(kept, 0, os.SEEK_SET)
            await send_produced(request, _TAR, lambda output: work(kept, _untold, output))
    else:
        await send_produced(request, _TAR, lambda output: work(-1, _untold, output))


async def manifest(engine: Engine, request: Request) -> Response:
    """The bytes as they are, in text, for whoever verifies their digest."""
    found = await engine.places.manifest(_needed(request, "name"), build_credentials(request))
    return Response(200, {"Descriptor": found.descriptor, "Content": found.content.decode()})


async def push_list(engine: Engine, request: Request) -> Response:
    wanted = await read_json(request, _list)
    digest = await engine.places.push_list(wanted.target, wanted.entries, build_credentials(request), oci=wanted.oci)
    return Response(200, {"Digest": digest})


async def diff(engine: Engine, request: Request) -> Response:
    return Response(200, await engine.places.diff(_needed(request, "first"), _needed(request, "second")))


def _needed(request: Request, name: str) -> str:
    text = request.query.text(name)
    if not text:
        raise InvalidArgument(f"the parameter {name} is missing")
    return text


def _streams(text: str) -> bool:
    layout = Layout.parse(text)
    return layout is not None and layout.path == STREAM


def _pour(source: int, target: int) -> None:
    while os.splice(source, target, _CHUNK):
        pass


async def _untold(message: dict[str, object]) -> None:
    """The answer is an archive, which has no place for progress."""


async def _with_archive(request: Request, sent: bool, work: Callable[[int, ProgressSink], Awaitable[object]]) -> None:
    """Work that reads the request's body, if it is an archive, and then tells how far it is."""
    lines = JsonLines(request)

    async def plain() -> None:
        await work(-1, lines.send)

    if not sent:
        await lines.run(plain)
        return
    try:
        await consume_body(request, lambda archive: work(archive, lines.send))
    except ClientGone:
        raise
    except Exception as raised:
        error = unwrap(raised)
        if isinstance(error, ClientGone) or not request.begun:
            raise error from None
        await lines.send(in_band(error))
    await lines.run(_nothing)


async def _nothing() -> None:
    """All has been told."""
