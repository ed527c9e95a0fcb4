"""Images as archives: save and load."""

from __future__ import annotations

from typing import Any

from hooper.api.engine import Engine
from hooper.api.errors import InvalidArgument
from hooper_api_docker.http import Request
from hooper_api_docker.images import platform_of
from hooper_api_docker.streams import JsonLines, consume_body, send_produced

TAR = b"application/x-tar"


async def save(engine: Engine, request: Request, name: str = "") -> None:
    """One image by its path, or several by `names`."""
    names = [name] if name else [n for value in request.query.all("names") for n in value.split(",") if n]
    if not names:
        raise InvalidArgument("cannot save images", "no image is named")
    platform = _platform(request)
    await send_produced(request, TAR, lambda output: engine.images.save(names, output, **platform))


def _platform(request: Request) -> dict[str, str]:
    found = platform_of(request)
    return {"platform": found} if found else {}


async def load(engine: Engine, request: Request) -> None:
    lines = JsonLines(request)
    quiet, platform = request.query.flag("quiet"), _platform(request)
    told: list[str] = []

    async def progress(message: dict[str, Any]) -> None:
        told.append(message.get("stream", ""))
        if not quiet or "stream" in message:
            await lines.send(message)

    # Progress is held back until the upload is read: an answer that begins earlier is not read by clients
    # that write first, and both would wait.
    held: list[dict[str, Any]] = []

    async def hold(message: dict[str, Any]) -> None:
        held.append(message)

    loaded = await consume_body(request, lambda archive: engine.images.load(archive, hold, **platform))

    async def run() -> None:
        for message in held:
            await progress(message)
        text = "".join(told)
        for name in loaded:
            if name not in text:
                kind = "Loaded image ID" if name.startswith("sha256:") else "Loaded image"
                await lines.send({"stream": f"{kind}: {name}\n"})

    await lines.run(run)
