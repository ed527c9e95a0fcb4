"""Exposed and published ports, from Docker's words to `PortBinding`s and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hooper.api.errors import InvalidArgument
from hooper.api.model import Container, PortMapping
from hooper.api.network import PortBinding

PROTOCOLS = ("tcp", "udp", "sctp")


def parse_port(text: str) -> tuple[int, str]:
    """ "80/tcp" or "80" as (80, "tcp"); InvalidArgument otherwise."""
    number, _, protocol = text.partition("/")
    protocol = protocol or "tcp"
    if not number.isdigit() or not 0 < int(number) < 65536 or protocol not in PROTOCOLS:
        raise InvalidArgument(
            f'invalid port specification: "{text}"', remedy='Write PORT[/PROTOCOL], such as "80/tcp".'
        )
    return int(number), protocol


def parse_exposed(text: str) -> list[tuple[int, str]]:
    """As `parse_port`, also for a range: "8000-8002/udp" is three ports."""
    numbers, slash, protocol = text.partition("/")
    first, dash, last = numbers.partition("-")
    begin, kind = parse_port(f"{first}{slash}{protocol}")
    end, _ = parse_port(f"{last}{slash}{protocol}") if dash else (begin, kind)
    if end < begin:
        raise InvalidArgument(f'invalid port range: "{text}"', remedy="Write FIRST-LAST with FIRST below LAST.")
    return [(number, kind) for number in range(begin, end + 1)]


def _exposed(container: Container) -> set[tuple[int, str]]:
    return {port for text in container.config.exposed_ports or () for port in parse_exposed(text)}


def wanted(container: Container) -> list[PortBinding]:
    """What is to be published: the bindings asked for, and with --publish-all every other exposed port."""
    host = container.host_config
    bindings = []
    for port, mappings in (host.port_bindings or {}).items():
        number, protocol = parse_port(port)
        for mapping in mappings if mappings else [PortMapping()]:
            first, last = _host_range(mapping.host_port)
            bindings.append(PortBinding(protocol, number, mapping.host_ip, first, last))
    if host.publish_all_ports:
        taken = {(binding.container_port, binding.protocol) for binding in bindings}
        bindings += [PortBinding(protocol, number) for number, protocol in sorted(_exposed(container) - taken)]
    return bindings


def _host_range(text: str) -> tuple[int, int]:
    if not text:
        return 0, 0
    first, _, last = text.partition("-")
    if not first.isdigit() or (last and not last.isdigit()) or not 0 <= int(first) < 65536:
        raise InvalidArgument(f'invalid host port "{text}"', remedy="Write a number up to 65535, or FIRST-LAST.")
    if last and not int(first) <= int(last) < 65536:
        raise InvalidArgument(f'invalid host port range "{text}"', remedy="Write FIRST-LAST with FIRST below LAST.")
    return int(first), int(last) if last else 0


def shown(container: Container, bound: Iterable[PortBinding]) -> dict[str, list[PortMapping] | None]:
    """NetworkSettings.Ports: None for a port that is exposed and not published. None at all without a network."""
    mode = container.host_config.network_mode
    if mode in ("none", "host") or mode.startswith("container:"):
        return {}
    exposed = sorted(_exposed(container)) if container.config.exposed_ports else ()
    ports: dict[str, list[PortMapping] | None] = {f"{number}/{protocol}": None for number, protocol in exposed}
    for binding in bound:
        key = f"{binding.container_port}/{binding.protocol}"
        mapping = PortMapping(host_ip=binding.host_ip or "0.0.0.0", host_port=str(binding.host_port))
        ports[key] = [*(ports.get(key) or []), mapping]
    return ports


def check(container: Container) -> Sequence[PortBinding]:
    """Raises for whatever is wrong with the ports that the container asks for."""
    _exposed(container)
    return wanted(container)
