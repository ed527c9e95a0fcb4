"""The body of POST /containers/create, as strict structs first and as lenient as dockerd second."""

from __future__ import annotations

from typing import Any

import msgspec

from hooper.api.engine import ContainerCreate
from hooper.api.errors import InvalidArgument
from hooper.api.model import ContainerConfig, HostConfig, NetworkingConfig
from hooper_api_docker.bodies import decode_json, read_json, without_nulls
from hooper_api_docker.http import Request


class CreateBody(ContainerConfig, kw_only=True):
    host_config: HostConfig | None = None
    networking_config: NetworkingConfig | None = None


_create = msgspec.json.Decoder(CreateBody)
_update = msgspec.json.Decoder(HostConfig)
_config = msgspec.json.Decoder(ContainerConfig)
_LISTS = (
    "Devices", "Ulimits", "Mounts", "BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps",
    "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps",
)  # fmt: skip
"""Fields of a HostConfig whose items are objects."""
_config_fields = ContainerConfig.__struct_fields__


async def read_create(request: Request) -> ContainerCreate:
    """InvalidArgument says which field is wrong."""
    body = await read_json(request, _create, _repair_create)
    # CreateBody is a ContainerConfig, but what the engine stores should be no more than that.
    config = ContainerConfig(**{field: getattr(body, field) for field in _config_fields})
    name = request.query.text("name")
    return ContainerCreate(
        config=config,
        host_config=body.host_config or HostConfig(),
        networking=body.networking_config or NetworkingConfig(),
        name=name if name == "/" else name.removeprefix("/"),
        platform=request.query.text("platform"),
    )


async def read_update(request: Request) -> HostConfig:
    return await read_json(request, _update, lambda raw: msgspec.convert(_lenient_host(raw), HostConfig))


async def read_config(request: Request) -> ContainerConfig | None:
    """The optional body of POST /commit."""
    data = await request.body()
    if not data.strip() or data.strip() == b"null":
        return None
    return decode_json(data, _config, lambda raw: msgspec.convert(_lenient_config(raw), ContainerConfig))


def _repair_create(raw: dict[str, Any] | None) -> CreateBody:
    if raw is None:
        raise InvalidArgument("config cannot be empty in order to create a container", remedy="Name an image.")
    raw = _lenient_config(raw)
    if "HostConfig" in raw:
        raw["HostConfig"] = _lenient_host(raw["HostConfig"])
    if "NetworkingConfig" in raw:
        endpoints = raw["NetworkingConfig"].get("EndpointsConfig") or {}
        raw["NetworkingConfig"] = {"EndpointsConfig": {k: v and lenient_endpoint(v) for k, v in endpoints.items()}}
    return msgspec.convert(raw, CreateBody)


def _lenient_config(raw: dict[str, Any]) -> dict[str, Any]:
    raw = without_nulls(raw)
    for field in ("Cmd", "Entrypoint"):
        if isinstance(raw.get(field), str):
            raw[field] = [raw[field]]
    for field in ("ExposedPorts", "Volumes"):
        if isinstance(raw.get(field), dict):
            raw[field] = {key: value or {} for key, value in raw[field].items()}
    if isinstance(raw.get("Healthcheck"), dict):
        raw["Healthcheck"] = without_nulls(raw["Healthcheck"])
    return raw


def _lenient_host(raw: dict[str, Any]) -> dict[str, Any]:
    raw = without_nulls(raw)
    for field in ("LogConfig", "RestartPolicy"):
        if field in raw:
            raw[field] = without_nulls(raw[field])
    for field in _LISTS:
        if field in raw:
            raw[field] = [without_nulls(item) for item in raw[field]]
    if "PortBindings" in raw:
        raw["PortBindings"] = {
            port: bindings and [without_nulls(binding) for binding in bindings]
            for port, bindings in raw["PortBindings"].items()
        }
    return raw


def lenient_endpoint(raw: dict[str, Any]) -> dict[str, Any]:
    raw = without_nulls(raw)
    if "IPAMConfig" in raw:
        raw["IPAMConfig"] = without_nulls(raw["IPAMConfig"])
    return raw
