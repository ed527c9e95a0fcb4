"""--link on the default bridge, where containers do not find each other by name: entries of /etc/hosts and variables.

Names and forms are those of Docker's legacy links.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hooper.api.errors import Conflict, InvalidArgument, NotFound
from hooper.api.model import Container
from hooper.engine.ports import parse_port
from hooper.engine.store import ContainerStore


def parse(text: str) -> tuple[str, str]:
    """ "name:alias" or "name" as (name, alias); InvalidArgument."""
    name, _, alias = text.partition(":")
    if not name or ":" in alias or text.endswith(":"):
        raise InvalidArgument(f"bad format for links: {text}", remedy="Write NAME:ALIAS.")
    return name, (alias or name).rpartition("/")[2]


def check(store: ContainerStore, links: Sequence[str]) -> None:
    """InvalidArgument for a container that is not there."""
    for text in links:
        name, _ = parse(text)
        try:
            store.get(name.removeprefix("/"))
        except NotFound as error:
            raise InvalidArgument(f"could not get container for {name}: {error.what}", remedy=error.remedy) from error


def linked(store: ContainerStore, container: Container) -> list[tuple[str, Container]]:
    """Alias and container of each link. Conflict if one does not run."""
    found = []
    for text in container.host_config.links or ():
        name, alias = parse(text)
        other = store.get(name.removeprefix("/"))
        if not other.state.running:
            raise Conflict(
                f"Cannot link to a non running container: /{other.name} AS /{container.name}/{alias}",
                remedy=f"Start it first: hooper start {other.name}",
            )
        found.append((alias, other))
    return found


def hosts(others: Sequence[tuple[str, Container]]) -> list[tuple[str, str]]:
    """(address, names) for /etc/hosts."""
    lines = []
    for alias, other in others:
        names = dict.fromkeys([alias, other.config.hostname, other.name])
        lines.append((_address(other), " ".join(names)))
    return lines


def variables(container: Container, others: Sequence[tuple[str, Container]]) -> list[str]:
    """What the program finds in its environment of each linked container and its exposed ports."""
    found = []
    for alias, other in others:
        prefix = alias.replace("-", "_").upper()
        found.append(f"{prefix}_NAME=/{container.name}/{alias}")
        ports = sorted(map(parse_port, other.config.exposed_ports or ()), key=lambda port: (port[1] != "tcp", *port))
        for number, (port, protocol) in enumerate(ports):
            address = _address(other)
            url = f"{protocol}://{address}:{port}"
            if number == 0:
                found.append(f"{prefix}_PORT={url}")
            base = f"{prefix}_PORT_{port}_{protocol.upper()}"
            found += [f"{base}={url}", f"{base}_ADDR={address}", f"{base}_PORT={port}", f"{base}_PROTO={protocol}"]
        own = _variables(other.config.env or ())
        found += [f"{prefix}_ENV_{name}={value}" for name, value in own.items() if name not in ("HOME", "PATH")]
    return found


def _variables(env: Sequence[str]) -> Mapping[str, str]:
    return dict(item.split("=", 1) for item in env if "=" in item)


def _address(other: Container) -> str:
    endpoint = other.networks.get("bridge")
    return endpoint.ip_address if endpoint else ""
