"""Networks: /networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hooper.api.engine import Engine, SubnetStatus
from hooper.api.errors import Forbidden, InvalidArgument, NotFound
from hooper.api.model import DockerStruct, EndpointSettings
from hooper.api.network import Endpoint, Network, Pool
from hooper_api_docker.bodies import read_json, without_nulls
from hooper_api_docker.create_body import lenient_endpoint
from hooper_api_docker.http import Request, Response
from hooper_api_docker.times import rfc3339

Json = dict[str, Any]


_POOL_NAMES = {"subnet": "Subnet", "ip_range": "IPRange", "gateway": "Gateway", "auxiliary": "AuxiliaryAddresses"}
_BODY_NAMES = {
    "name": "Name",
    "driver": "Driver",
    "internal": "Internal",
    "attachable": "Attachable",
    "enable_ipv4": "EnableIPv4",
    "enable_ipv6": "EnableIPv6",
    "scope": "Scope",
    "ingress": "Ingress",
    "config_only": "ConfigOnly",
    "config_from": "ConfigFrom",
    "ipam": "IPAM",
    "options": "Options",
    "labels": "Labels",
}


class IpamPool(msgspec.Struct, kw_only=True, rename=_POOL_NAMES):
    subnet: str | None = None
    ip_range: str | None = None
    gateway: str | None = None
    auxiliary: dict[str, str] | None = None


class Ipam(DockerStruct, kw_only=True):
    driver: str | None = None
    config: list[IpamPool] | None = None
    options: dict[str, str] | None = None


class ConfigFrom(DockerStruct, kw_only=True):
    network: str = ""


class NetworkBody(msgspec.Struct, kw_only=True, rename=_BODY_NAMES):
    name: str = ""
    driver: str | None = None
    internal: bool | None = None
    attachable: bool | None = None
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None
    scope: str | None = None
    ingress: bool | None = None
    config_only: bool | None = None
    config_from: ConfigFrom | None = None
    ipam: Ipam | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class ConnectBody(DockerStruct, kw_only=True):
    container: str = ""
    endpoint_config: EndpointSettings | None = None


class DisconnectBody(DockerStruct, kw_only=True):
    container: str = ""
    force: bool | None = None


_create = msgspec.json.Decoder(NetworkBody)
_connect = msgspec.json.Decoder(ConnectBody)
_disconnect = msgspec.json.Decoder(DisconnectBody)


def _repair_connect(raw: Json) -> ConnectBody:
    raw = without_nulls(raw)
    if "EndpointConfig" in raw:
        raw["EndpointConfig"] = lenient_endpoint(raw["EndpointConfig"])
    return msgspec.convert(raw, ConnectBody)


def shape(
    network: Network, endpoints: Sequence[Endpoint] = (), status: Mapping[str, SubnetStatus] | None = None
) -> Json:
    """Docker's NetworkInspect; `status` adds what API 1.52 has as Status."""
    shown: Json = {
        "Name": network.name,
        "Id": network.id,
        "Created": rfc3339(int(network.created * 1e9)),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": network.ipv4,
        "EnableIPv6": network.ipv6,
        "IPAM": {
            "Driver": network.ipam_driver or "default",
            "Options": network.ipam_options,
            "Config": [_pool(pool) for pool in network.pools],
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": network.config_from},
        "ConfigOnly": network.config_only,
        "Containers": {endpoint.container_id: _endpoint(endpoint) for endpoint in endpoints},
        "Options": network.options,
        "Labels": network.labels,
    }
    if status is not None:
        subnets = {name: {"IPsInUse": found.used, "DynamicIPsAvailable": found.free} for name, found in status.items()}
        shown["Status"] = {"IPAM": {"Subnets": subnets}}
    return shown


def _pool(pool: Pool) -> Json:
    fields = {name: getattr(pool, name) for name in _POOL_NAMES}
    shown: Json = msgspec.to_builtins(IpamPool(**fields))
    return {key: value for key, value in shown.items() if value}


def _wanted(pool: IpamPool) -> Pool:
    return Pool(pool.subnet or "", pool.gateway or "", pool.ip_range or "", pool.auxiliary or {})


def _endpoint(endpoint: Endpoint) -> Json:
    return {
        "Name": endpoint.container_name,
        "EndpointID": endpoint.id,
        "MacAddress": endpoint.mac,
        "IPv4Address": endpoint.address,
        "IPv6Address": endpoint.address6,
    }


async def list_networks(engine: Engine, request: Request) -> Response:
    return Response(200, [shape(network) for network in await engine.networks.list(request.query.filters())])


async def inspect(engine: Engine, request: Request, name: str) -> Response:
    network = await engine.networks.get(name)
    if (scope := request.query.text("scope")) not in ("", "local"):
        raise NotFound(f"network {name} not found", f"this engine has no networks of scope {scope}")
    endpoints, status = await engine.networks.endpoints(network), await engine.networks.status(network)
    return Response(200, shape(network, endpoints, status))


async def create(engine: Engine, request: Request) -> Response:
    body = await read_json(request, _create)
    if not body.name:
        raise InvalidArgument("cannot create a network", "it has no name")
    if body.ingress:
        raise Forbidden("Ingress network can only be global scope network", "this engine has no swarm")
    if body.scope not in (None, "", "local"):
        raise Forbidden(f"cannot create a {body.scope} scoped network when swarm is not active")
    ipam = body.ipam or Ipam()
    network = Network(
        id="",
        name=body.name,
        driver=body.driver or "",
        created=0.0,
        pools=[_wanted(pool) for pool in ipam.config or ()],
        ipam_driver=ipam.driver or "",
        ipam_options=ipam.options or {},
        config_only=bool(body.config_only),
        config_from=body.config_from.network if body.config_from else "",
        ipv4=body.enable_ipv4 is not False,
        options=body.options or {},
        labels=body.labels or {},
        internal=bool(body.internal),
        attachable=bool(body.attachable),
        ipv6=bool(body.enable_ipv6),
    )
    made, warnings = await engine.networks.create(network)
    return Response(201, {"Id": made.id, "Warning": "\n".join(warnings)})


async def connect(engine: Engine, request: Request, name: str) -> Response:
    body = await read_json(request, _connect, _repair_connect)
    await engine.networks.connect(name, body.container, body.endpoint_config or EndpointSettings())
    return Response(200, b"", b"text/plain")


async def disconnect(engine: Engine, request: Request, name: str) -> Response:
    body = await read_json(request, _disconnect)
    await engine.networks.disconnect(name, body.container, force=bool(body.force))
    return Response(200, b"", b"text/plain")


async def remove(engine: Engine, request: Request, name: str) -> Response:
    await engine.networks.remove(name)
    return Response(204)


async def prune(engine: Engine, request: Request) -> Response:
    pruned = await engine.networks.prune(request.query.filters())
    return Response(200, {"NetworksDeleted": list(pruned.items)})
