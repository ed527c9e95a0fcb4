"""POST /build: the classic builder's interface."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from hooper.api.builder import BuildRequest, Progress
from hooper.api.engine import Engine
from hooper.api.errors import HooperError, Unsupported
from hooper.api.model import Ulimit
from hooper_api_docker.bodies import registry_config
from hooper_api_docker.http import Request, Response
from hooper_api_docker.query import Query
from hooper_api_docker.streams import JsonLines, consume_body

_USE_CLASSIC = "Set DOCKER_BUILDKIT=0, or use the classic builder of your client."


_KEPT_MESSAGES = 10_000


class _ToClient(Progress):
    """Sends a builder's progress on; a quiet build says nothing but its image, or all if it fails."""

    def __init__(self, lines: JsonLines, quiet: bool) -> None:
        self._lines, self._quiet = lines, quiet
        self._kept: deque[dict[str, Any]] = deque(maxlen=_KEPT_MESSAGES)
        self.told_success = self.told_id = False
        self.tagged: set[str] = set()

    async def stream(self, text: str) -> None:
        if text.startswith("Successfully built"):
            self.told_success = True
        elif text.startswith("Successfully tagged "):
            self.tagged.add(text.removeprefix("Successfully tagged ").strip())
        await self.message({"stream": text})

    async def aux(self, value: dict[str, Any]) -> None:
        self.told_id = self.told_id or "ID" in value
        await self.message({"aux": value})

    async def message(self, value: dict[str, Any]) -> None:
        if self._quiet:
            self._kept.append(value)
        else:
            await self._lines.send(value)

    async def fail(self) -> None:
        """Sends what a quiet build has kept back, the latest of it."""
        for value in self._kept:
            await self._lines.send(value)

    async def finish(self, image_id: str, tags: list[str]) -> None:
        """Says what clients look for and the builder has not said."""
        if self._quiet:
            await self._lines.send({"stream": f"{image_id}\n"})
            return
        if not self.told_id:
            await self.aux({"ID": image_id})
        if not self.told_success:
            await self.stream(f"Successfully built {image_id.removeprefix('sha256:')[:12]}\n")
        for tag in tags:
            if tag not in self.tagged:
                await self.stream(f"Successfully tagged {tag}\n")


async def build(engine: Engine, request: Request) -> None:
    query = request.query
    if query.text("version") == "2":
        raise Unsupported("cannot build with BuildKit", "this front-end has the classic builder", _USE_CLASSIC)
    if remote := query.text("remote"):
        if remote != "client-session":
            raise Unsupported(
                f"cannot build from {remote}",
                "only contexts that the client sends are built",
                "Fetch it, and build the local directory.",
            )
        raise Unsupported("cannot build from a session", "it belongs to BuildKit", _USE_CLASSIC)
    build_request = parse(query)
    build_request.credentials = registry_config(request)
    lines = JsonLines(request)
    async with engine.builds.context_directory() as directory:
        await consume_body(request, lambda archive: engine.builds.unpack_context(archive, directory))
        build_request.context = directory

        async def run() -> None:
            progress = _ToClient(lines, query.flag("q"))
            try:
                image_id = await engine.builds.build(build_request, progress)
            except HooperError:
                await progress.fail()
                raise
            await progress.finish(image_id, build_request.tags)

        await lines.run(run)


def parse(query: Query) -> BuildRequest:
    """InvalidArgument names the parameter that is wrong."""
    ulimits = query.json("ulimits", list[Ulimit])
    return BuildRequest(
        context=None,
        dockerfile=query.text("dockerfile") or "Dockerfile",
        tags=[tag if _has_tag(tag) else f"{tag}:latest" for tag in query.all("t") if tag],
        build_args=query.json("buildargs", dict[str, str | None]) or {},
        labels=query.json("labels", dict[str, str]) or {},
        target=query.text("target"),
        platform=query.text("platform"),
        no_cache=query.flag("nocache"),
        pull=query.flag("pull"),
        remove=query.flag("rm", default=True),
        network_mode=query.text("networkmode"),
        extra_hosts=_words(query, "extrahosts"),
        cache_from=query.json("cachefrom", list[str]) or [],
        squash=query.flag("squash"),
        memory=query.count("memory"),
        cpu_shares=query.count("cpushares"),
        cpu_quota=query.count("cpuquota"),
        cpu_period=query.count("cpuperiod"),
        cpuset_cpus=query.text("cpusetcpus"),
        shm_size=query.count("shmsize"),
        ulimits=[msgspec.to_builtins(ulimit) for ulimit in ulimits or ()],
    )


def _has_tag(reference: str) -> bool:
    return ":" in reference.rpartition("/")[2]


def _words(query: Query, name: str) -> list[str]:
    """A parameter that repeats (docker CLI), or is JSON or a list with commas (others)."""
    found: list[str] = []
    for value in query.all(name):
        found += msgspec.json.decode(value, type=list[str]) if value.startswith("[") else value.split(",")
    return [word for word in found if word]


async def prune(engine: Engine, request: Request) -> Response:
    pruned = await engine.builds.prune(request.query.filters(), all=request.query.flag("all"))
    return Response(200, {"CachesDeleted": list(pruned.items), "SpaceReclaimed": pruned.space})


async def buildkit(engine: Engine, request: Request) -> Response:
    raise Unsupported("cannot start a BuildKit session", "this front-end has the classic builder", _USE_CLASSIC)
