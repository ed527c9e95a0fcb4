"""Images: what is stored here. Their transfer is in image_transfer and image_archives."""

from __future__ import annotations

import msgspec

from hooper.api.engine import Engine
from hooper.api.errors import InvalidArgument
from hooper.api.manifests import NO_JSON, platform_name
from hooper.api.model import ImageSummary
from hooper.api.registry import Platform
from hooper_api_docker import image_shapes as shapes
from hooper_api_docker.bodies import registry_auth
from hooper_api_docker.create_body import read_config
from hooper_api_docker.http import Request, Response

_SEARCH_LIMIT = 25


async def list_images(engine: Engine, request: Request) -> Response:
    filters = request.query.filters()
    if name := request.query.text("filter"):
        # Before API 1.25 a reference had a parameter of its own.
        filters["reference"] = [name]
    found = await engine.images.list(all=request.query.flag("all"), filters=filters)
    shown = [shapes.summary(image, request.version) for image in found]
    if request.query.flag("manifests"):
        for image, one in zip(found, shown, strict=True):
            one["Manifests"] = [shapes.variant(each) for each in await engine.images.variants(image)]
    return Response(200, shown)


def platform_of(request: Request, name: str = "platform") -> str:
    """The parameter as OS/ARCHITECTURE/VARIANT, from the API's JSON or as it is; "" if it is missing."""
    return _platform_text(request.query.text(name))


def _platform_text(text: str) -> str:
    if not text.startswith("{"):
        return text
    try:
        found = msgspec.json.decode(text, type=Platform)
    except NO_JSON as error:
        raise InvalidArgument("invalid platform", str(error), "Send a JSON object with os and architecture.") from None
    return platform_name(found)


async def _wanted(engine: Engine, request: Request, name: str) -> ImageSummary:
    platform = platform_of(request)
    return await (engine.images.get(name, platform=platform) if platform else engine.images.get(name))


async def inspect(engine: Engine, request: Request, name: str) -> Response:
    image = await _wanted(engine, request, name)
    driver = str((await engine.system.info()).get("Driver", ""))
    return Response(200, shapes.inspect(image, request.version, driver))


async def history(engine: Engine, request: Request, name: str) -> Response:
    image = await _wanted(engine, request, name)
    return Response(200, shapes.history(image, await engine.images.layer_sizes(image)))


async def search(engine: Engine, request: Request) -> Response:
    query = request.query
    term = query.text("term")
    if not term:
        raise InvalidArgument("cannot search", "the parameter term is missing")
    found = await engine.images.search(
        term,
        limit=query.integer("limit") or _SEARCH_LIMIT,
        filters=query.filters(),
        credentials=registry_auth(request),
    )
    return Response(
        200,
        [
            {
                "name": one.name,
                "description": one.description,
                "star_count": one.stars,
                "is_official": one.official,
                "is_automated": one.automated,
            }
            for one in found
        ],
    )


def joined(repository: str, tag: str) -> str:
    """A reference from two parameters; the tag may be a digest."""
    if not repository or not tag:
        return repository
    return f"{repository}{'@' if ':' in tag else ':'}{tag}"


async def tag(engine: Engine, request: Request, name: str) -> Response:
    reference = joined(request.query.text("repo"), request.query.text("tag"))
    if not reference:
        raise InvalidArgument(f"cannot tag {name}", "the parameter repo is missing")
    await engine.images.tag(name, reference)
    return Response(201, b"", b"text/plain")


async def remove(engine: Engine, request: Request, name: str) -> Response:
    query = request.query
    platforms = [_platform_text(text) for text in query.all("platforms")]
    more = {"platforms": platforms} if platforms else {}
    done = await engine.images.remove(name, force=query.flag("force"), prune=not query.flag("noprune"), **more)
    return Response(200, [{"Untagged": d.untagged} if d.untagged else {"Deleted": d.deleted} for d in done])


async def prune(engine: Engine, request: Request) -> Response:
    pruned = await engine.images.prune(request.query.filters())
    deleted = [{"Deleted" if item.startswith("sha256:") else "Untagged": item} for item in pruned.items]
    return Response(200, {"ImagesDeleted": deleted, "SpaceReclaimed": pruned.space})


async def commit(engine: Engine, request: Request) -> Response:
    query = request.query
    image_id = await engine.containers.commit(
        query.text("container"),
        reference=joined(query.text("repo"), query.text("tag")),
        comment=query.text("comment"),
        author=query.text("author"),
        pause=query.flag("pause", default=True),
        changes=[line for value in query.all("changes") for line in value.split("\n") if line.strip()],
        config=await read_config(request),
    )
    return Response(201, {"Id": image_id})
