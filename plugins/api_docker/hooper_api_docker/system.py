"""The engine itself: ping, version, info, disk usage, login, plugins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hooper.api.engine import USAGE_KINDS, CachedStep, DiskUsage, Engine
from hooper.api.errors import InvalidArgument, NotFound, Unauthorized
from hooper.api.model import Container
from hooper_api_docker.errors import message_of
from hooper_api_docker.http import Request, Response
from hooper_api_docker.router import MAX_VERSION, MIN_VERSION, version_text

_PING = Response(
    200,
    b"OK",
    b"text/plain; charset=utf-8",
    # The docker CLI builds with the classic builder where the daemon says 1.
    [(b"Builder-Version", b"1"), (b"Cache-Control", b"no-cache, no-store, must-revalidate"), (b"Pragma", b"no-cache")],
)


async def ping(engine: Engine, request: Request) -> Response:
    return _PING


async def version(engine: Engine, request: Request) -> Response:
    found = await engine.system.version()
    common = {
        "ApiVersion": version_text(MAX_VERSION),
        "MinAPIVersion": version_text(MIN_VERSION),
        "GitCommit": found.get("GitCommit", ""),
        "Os": found.get("Os", "linux"),
        "Arch": found.get("Arch", ""),
        "KernelVersion": found.get("KernelVersion", ""),
        "BuildTime": found.get("BuildTime", ""),
    }
    number = found.get("Version", "")
    experimental = found.get("Experimental", "false")
    engine_details = {**common, "Experimental": experimental, "GoVersion": ""}
    components = [{"Name": "Engine", "Version": number, "Details": engine_details}]
    about = {"Platform": {"Name": "hooper"}, "Components": components, "Version": number, **common, "GoVersion": ""}
    return Response(200, about | ({"Experimental": True} if experimental == "true" else {}))


def _info_defaults() -> dict[str, Any]:
    """What clients expect in /info, for whatever the engine does not say."""
    numbers = ("Containers", "ContainersRunning", "ContainersPaused", "ContainersStopped", "Images", "NFd",
               "NGoroutines", "NEventsListener", "NCPU", "MemTotal")  # fmt: skip
    abilities = ("MemoryLimit", "SwapLimit", "CpuCfsPeriod", "CpuCfsQuota", "CPUShares", "CPUSet", "PidsLimit",
                 "IPv4Forwarding", "OomKillDisable")  # fmt: skip
    texts = ("ID", "Driver", "SystemTime", "KernelVersion", "OperatingSystem", "OSVersion", "Architecture",
             "DockerRootDir", "HttpProxy", "HttpsProxy", "NoProxy", "Name", "ServerVersion", "DefaultRuntime",
             "CgroupDriver", "CgroupVersion", "Isolation", "InitBinary")  # fmt: skip
    commit = {"ID": "", "Expected": ""}
    return {
        **dict.fromkeys(numbers, 0),
        **dict.fromkeys(abilities, True),
        **dict.fromkeys(texts, ""),
        "DriverStatus": [],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null"],
            "Authorization": None,
            "Log": ["json-file"],
        },
        "Debug": False,
        "LoggingDriver": "json-file",
        "OSType": "linux",
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "AllowNondistributableArtifactsCIDRs": [],
            "AllowNondistributableArtifactsHostnames": [],
            "InsecureRegistryCIDRs": ["127.0.0.0/8", "::1/128"],
            "IndexConfigs": {"docker.io": {"Name": "docker.io", "Mirrors": [], "Secure": True, "Official": True}},
            "Mirrors": None,
        },
        "GenericResources": None,
        "Labels": [],
        "ExperimentalBuild": False,
        "Runtimes": {},
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": True,
        "ContainerdCommit": commit,
        "RuncCommit": commit,
        "InitCommit": commit,
        "SecurityOptions": [],
        "CDISpecDirs": [],
        "Warnings": None,
    }


async def info(engine: Engine, request: Request) -> Response:
    shown = _filled(_info_defaults(), await engine.system.info())
    if request.version < (1, 25):
        shown["ExecutionDriver"] = "<not supported>"
    return Response(200, shown)


def _filled(defaults: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What was found, and the defaults where it says nothing; objects are filled in the same way, but for Runtimes."""
    shown = defaults | found
    for name in ("RegistryConfig", "Swarm"):
        shown[name] = defaults[name] | found.get(name, {})
    return shown


async def disk_usage(engine: Engine, request: Request) -> Response:
    kinds = request.query.all("type") if request.version >= (1, 42) else []
    for kind in kinds:
        if kind not in USAGE_KINDS:
            raise InvalidArgument(f"unknown object type: {kind}", "", f"There are: {', '.join(USAGE_KINDS)}.")
    kinds = kinds or list(USAGE_KINDS)
    usage = await engine.system.disk_usage(kinds)
    containers = await engine.containers.list(all=True)
    # As dockerd: null for what was not asked for.
    answer: dict[str, Any] = {"Images": None, "Containers": None, "Volumes": None, "BuildCache": None}
    if "image" in kinds:
        answer["LayersSize"] = usage.layers
        answer["Images"] = await _image_usage(engine, request, usage, containers)
    if "container" in kinds:
        answer["Containers"] = await _container_usage(engine, usage, containers)
    if "volume" in kinds:
        answer["Volumes"] = await _volume_usage(engine, usage)
    if "build-cache" in kinds:
        answer["BuildCache"] = [_step(step, request.version) for step in usage.steps]
        answer["BuilderSize"] = usage.builder
    return Response(200, answer)


async def _image_usage(
    engine: Engine, request: Request, usage: DiskUsage, containers: Sequence[Container]
) -> list[dict[str, Any]]:
    from hooper_api_docker import image_shapes

    used = Counter(container.image_id for container in containers)
    return [
        image_shapes.summary(image, request.version, used[image.id]) | {"SharedSize": usage.shared.get(image.id, 0)}
        for image in await engine.images.list()
    ]


async def _container_usage(engine: Engine, usage: DiskUsage, containers: Sequence[Container]) -> list[dict[str, Any]]:
    from hooper_api_docker import container_shapes

    images = {image.id: image.size for image in await engine.images.list(all=True)}
    return [
        container_shapes.summary(container)
        | container_shapes.sizes(usage.containers.get(container.id, 0), images.get(container.image_id, 0))
        for container in containers
    ]


async def _volume_usage(engine: Engine, usage: DiskUsage) -> list[dict[str, Any]]:
    from hooper_api_docker import volumes

    return [
        volumes.shape(volume)
        | {"UsageData": {"RefCount": await _users(engine, volume.name), "Size": usage.volumes.get(volume.name, -1)}}
        for volume in await engine.volumes.list()
    ]


def _step(step: CachedStep, version: tuple[int, int]) -> dict[str, Any]:
    from hooper_api_docker.times import rfc3339

    shown: dict[str, Any] = {
        "ID": step.key,
        "Type": step.type,
        "Description": step.description,
        "InUse": step.in_use,
        "Shared": step.shared,
        "Size": step.size,
        "CreatedAt": step.created,
        "LastUsedAt": rfc3339(int(step.last_used * 10**9)) if step.last_used else None,
        "UsageCount": step.usage_count,
    }
    if step.parents:
        # The one or the other: before 1.42 there was only one.
        shown |= {"Parents": list(step.parents)} if version >= (1, 42) else {"Parent": step.parents[0]}
    return shown


async def _users(engine: Engine, volume: str) -> int:
    """0 for one that was removed meanwhile."""
    try:
        return await engine.volumes.users(volume)
    except NotFound:
        return 0


async def auth(engine: Engine, request: Request) -> Response:
    from hooper_api_docker.bodies import check_content_type, login

    data = await request.body()
    check_content_type(request)
    host, credentials = login(data)
    try:
        token = await engine.images.login(host, credentials)
    except Unauthorized as error:
        return Response(401, {"message": message_of(error)})
    return Response(200, {"IdentityToken": token, "Status": "Login Succeeded"})


async def plugins(engine: Engine, request: Request) -> Response:
    return Response(200, list(await engine.system.plugins()))
