"""A container as Docker shows it: in a list, and inspected."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from hooper.api.model import Container, ContainerConfig, EndpointSettings, MountPoint
from hooper.linux import defaults
from hooper_api_docker.router import MAX_VERSION
from hooper_api_docker.times import human_duration, parse_ns, parse_seconds

Json = dict[str, Any]

CONFIG_DEFAULTS: Json = {
    "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": False,
    "AttachStderr": False, "Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": None, "Cmd": None,
    "Image": "", "Volumes": None, "WorkingDir": "", "Entrypoint": None, "OnBuild": None, "Labels": {},
}  # fmt: skip
"""What dockerd always shows of a Config; the other fields only where they are set."""
_HOST_OMITTED = ("Annotations", "StorageOpt", "Tmpfs", "Sysctls", "Init", "Mounts")


def config(value: ContainerConfig) -> Json:
    return CONFIG_DEFAULTS | msgspec.to_builtins(value)  # type: ignore[no-any-return]


def host_config(container: Container, version: tuple[int, int] = MAX_VERSION) -> Json:
    """With Docker's values where the request said nothing."""
    value = container.host_config
    shown: Json = msgspec.to_builtins(value)
    shown["ConsoleSize"] = shown["ConsoleSize"] or [0, 0]
    shown["OomKillDisable"] = bool(shown["OomKillDisable"])
    shown["LogConfig"]["Config"] = shown["LogConfig"]["Config"] or {}
    if not value.privileged:
        for key, paths in (("MaskedPaths", defaults.MASKED_PATHS), ("ReadonlyPaths", defaults.READONLY_PATHS)):
            shown[key] = list(paths) if shown[key] is None else shown[key]
    for key in _HOST_OMITTED:
        if not shown[key]:
            del shown[key]
    if "Mounts" in shown:
        shown["Mounts"] = [_request(item) for item in shown["Mounts"]]
    if value.links:
        shown["Links"] = [_link(container, text) for text in value.links]
    if version >= (1, 42):
        del shown["KernelMemory"], shown["KernelMemoryTCP"]
    return shown


def _request(shown: Json) -> Json:
    """A mount as it was asked for: what was not said is not shown."""
    return {key: item for key, item in shown.items() if item or key in ("Type", "Target")}


def _link(container: Container, text: str) -> str:
    name, _, alias = text.partition(":")
    name = name.removeprefix("/")
    return f"/{name}:/{container.name}/{alias or name}"


def endpoint(value: EndpointSettings) -> Json:
    shown: Json = msgspec.to_builtins(value)
    if shown["IPAMConfig"]:
        shown["IPAMConfig"] = {key: item for key, item in shown["IPAMConfig"].items() if item}
    return shown


def mount(value: MountPoint) -> Json:
    shown: Json = msgspec.to_builtins(value)
    for key in ("Subpath", "Anonymous", "Options", "Recursion"):
        del shown[key]
    for key in ("Name", "Driver"):
        if not shown[key]:
            del shown[key]
    return shown


def ports(container: Container) -> list[Json]:
    """As in a list: an object for each address that a port is published at."""
    found: list[Json] = []
    for port, bindings in container.ports.items():
        number, _, protocol = port.partition("/")
        private = {"PrivatePort": int(number), "Type": protocol or "tcp"}
        for binding in bindings or ():
            found.append({"IP": binding.host_ip, "PublicPort": int(binding.host_port or 0), **private})
        if not bindings:
            found.append(private)
    return found


def status(container: Container) -> str:
    """ "Up 3 minutes", "Exited (0) 2 hours ago": the STATUS column of docker ps."""
    state = container.state
    if state.status == "created":
        return "Created"
    if state.status == "removing":
        return "Removal In Progress"
    if state.status == "dead":
        return "Dead"
    if state.status in ("running", "paused"):
        return f"Up {_age(state.started_at)}{_remark(container)}"
    word = "Restarting" if state.status == "restarting" else "Exited"
    return f"{word} ({state.exit_code}) {_age(state.finished_at)} ago"


def _remark(container: Container) -> str:
    state = container.state
    if state.status == "paused":
        return " (Paused)"
    if state.health is None:
        return ""
    return " (health: starting)" if state.health.status == "starting" else f" ({state.health.status})"


def _age(moment: str) -> str:
    try:
        return human_duration(max(0.0, time.time() - parse_ns(moment) / 1e9))
    except ValueError:
        return human_duration(0)


def command(container: Container) -> str:
    words = [container.path, *container.args]
    return " ".join(f"'{word}'" if " " in word else word for word in words if word)


def sizes(own: int, image: int) -> Json:
    """Of an item of a list: bytes that the container has itself, if any, and those of all its files."""
    return ({"SizeRw": own} if own else {}) | {"SizeRootFs": image + own}


def summary(container: Container) -> Json:
    """An item of GET /containers/json."""
    annotations = container.host_config.annotations
    return {
        "Id": container.id,
        "Names": [f"/{container.name}"],
        "Image": container.config.image,
        "ImageID": container.image_id,
        "Command": command(container),
        "Created": parse_seconds(container.created),
        "Ports": ports(container),
        "Labels": container.config.labels or {},
        "State": container.state.status,
        "Status": status(container),
        "HostConfig": {
            "NetworkMode": container.host_config.network_mode or "default",
            **({"Annotations": annotations} if annotations else {}),
        },
        "NetworkSettings": {"Networks": {name: endpoint(value) for name, value in container.networks.items()}},
        "Mounts": [mount(value) for value in container.mounts],
    }


def state(container: Container) -> Json:
    value = container.state
    shown = {
        "Status": value.status,
        "Running": value.running,
        "Paused": value.status == "paused",
        "Restarting": value.status == "restarting",
        "OOMKilled": value.oom_killed,
        "Dead": value.status == "dead",
        "Pid": value.pid,
        "ExitCode": value.exit_code,
        "Error": value.error,
        "StartedAt": value.started_at,
        "FinishedAt": value.finished_at,
    }
    if value.health is not None:
        shown["Health"] = msgspec.to_builtins(value.health)
    return shown


def network_settings(container: Container) -> Json:
    """With the fields at the top that repeat the default network's endpoint."""
    first = container.networks.get("bridge", EndpointSettings())
    return {
        "Bridge": "",
        "SandboxID": container.sandbox_id,
        "SandboxKey": "",
        "Ports": {
            port: bindings if bindings is None else [msgspec.to_builtins(b) for b in bindings]
            for port, bindings in container.ports.items()
        },
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": first.endpoint_id,
        "Gateway": first.gateway,
        "GlobalIPv6Address": first.global_ipv6_address,
        "GlobalIPv6PrefixLen": first.global_ipv6_prefix_len,
        "IPAddress": first.ip_address,
        "IPPrefixLen": first.ip_prefix_len,
        "IPv6Gateway": first.ipv6_gateway,
        "MacAddress": first.mac_address,
        "Networks": {name: endpoint(value) for name, value in container.networks.items()},
    }


def inspect(container: Container, version: tuple[int, int], exec_ids: Sequence[str] = ()) -> Json:
    """The answer of GET /containers/{id}/json. `exec_ids` are those of the execs that run."""
    shown_config = config(container.config)
    if version < (1, 44):
        shown_config.setdefault("MacAddress", next((e.mac_address for e in container.networks.values()), ""))
    return {
        "Id": container.id,
        "Created": container.created,
        "Path": container.path,
        "Args": container.args,
        "State": state(container),
        "Image": container.image_id,
        "ResolvConfPath": container.resolv_conf_path,
        "HostnamePath": container.hostname_path,
        "HostsPath": container.hosts_path,
        "LogPath": container.log_path,
        "Name": f"/{container.name}",
        "RestartCount": container.restart_count,
        "Driver": container.driver,
        "Platform": container.platform,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": container.apparmor_profile,
        "ExecIDs": list(exec_ids) or None,
        "HostConfig": host_config(container, version),
        "GraphDriver": {"Data": None, "Name": container.driver},
        "Mounts": [mount(value) for value in container.mounts],
        "Config": shown_config,
        "NetworkSettings": network_settings(container),
    }
