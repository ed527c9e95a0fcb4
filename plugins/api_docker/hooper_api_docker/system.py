"""The engine itself: ping, version, info, disk usage, login, plugins."""

from __future__ import annotations

from typing import Any

from hooper.api.engine import Engine
from hooper.api.errors import NotFound, Unauthorized
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
    engine_details = {**common, "Experimental": "false", "GoVersion": ""}
    components = [{"Name": "Engine", "Version": number, "Details": engine_details}]
    return Response(
        200, {"Platform": {"Name": "hooper"}, "Components": components, "Version": number, **common, "GoVersion": ""}
    )


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
            "AllowNondistributableArtifactsCIDRs": None,
            "AllowNondistributableArtifactsHostnames": None,
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
    return Response(200, _info_defaults() | await engine.system.info())


async def disk_usage(engine: Engine, request: Request) -> Response:
    from hooper_api_docker import container_shapes, image_shapes, volumes

    wanted = request.query.all("type") or ["image", "container", "volume", "build-cache"]
    sizes = await engine.system.disk_usage()
    answer: dict[str, Any] = {"LayersSize": sizes.get("LayersSize", 0), "BuilderSize": sizes.get("BuilderSize", 0)}
    containers = await engine.containers.list(all=True)
    if "image" in wanted:
        used = [container.image_id for container in containers]
        answer["Images"] = [
            image_shapes.summary(image, request.version, used.count(image.id)) for image in await engine.images.list()
        ]
    if "container" in wanted:
        answer["Containers"] = [container_shapes.summary(container) for container in containers]
    if "volume" in wanted:
        answer["Volumes"] = [
            volumes.shape(volume) | {"UsageData": {"RefCount": await _users(engine, volume.name), "Size": -1}}
            for volume in await engine.volumes.list()
        ]
    if "build-cache" in wanted:
        answer["BuildCache"] = []
    return Response(200, answer)


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
