"""Published and exposed ports: [[HOST:]PORTS:]PORTS[/PROTOCOL], PORTS being one or FIRST-LAST."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.cli.errors import BadFlag

PROTOCOLS = ("tcp", "udp", "sctp")
Bindings = dict[str, list[dict[str, str]]]
_EXAMPLE = "--publish 127.0.0.1:8080:80/tcp"


def published(items: Iterable[str]) -> Bindings:
    """The values of --publish as the API's PortBindings; BadFlag."""
    bindings: Bindings = {}
    for item in items:
        for port, binding in _bindings(item):
            bindings.setdefault(port, []).append(binding)
    return bindings


def exposed(items: Iterable[str]) -> list[str]:
    """The values of --expose as port/protocol; BadFlag."""
    ports: list[str] = []
    for item in items:
        numbers, protocol = _protocol("--expose", item)
        first, last = _range("--expose", item, numbers)
        ports += [f"{port}/{protocol}" for port in range(first, last + 1)]
    return ports


def _bindings(item: str) -> list[tuple[str, dict[str, str]]]:
    if "=" in item:
        item = _long_form(item)
    rest, protocol = _protocol("--publish", item)
    address, host, container = _split(item, rest)
    first, last = _range("--publish", item, container)
    inside = range(first, last + 1)
    if not host:
        return [(f"{port}/{protocol}", {"HostIp": address, "HostPort": ""}) for port in inside]
    low, high = _range("--publish", item, host)
    if len(inside) == 1 and high > low:
        return [(f"{first}/{protocol}", {"HostIp": address, "HostPort": f"{low}-{high}"})]
    if high - low != last - first:
        raise BadFlag("--publish", item, "the ranges of ports differ in length", "--publish 8000-8002:80-82")
    return [
        (f"{port}/{protocol}", {"HostIp": address, "HostPort": str(low + index)}) for index, port in enumerate(inside)
    ]


def _split(item: str, text: str) -> tuple[str, str, str]:
    """(address, host's ports, container's ports)."""
    if text.startswith("["):
        address, bracket, rest = text[1:].partition("]:")
        if not bracket:
            raise BadFlag("--publish", item, "a ] is missing", "--publish [::1]:8080:80")
        host, _, container = rest.rpartition(":")
        return address, host, container
    *before, container = text.rsplit(":", 2)
    host = before[-1] if before else ""
    address = before[0] if len(before) > 1 else ""
    if address and not _is_address(address):
        raise BadFlag("--publish", item, f'"{address}" is not an IP address', _EXAMPLE)
    return address, host, container


def _is_address(text: str) -> bool:
    import socket

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
        except OSError:
            continue
        return True
    return False


def _protocol(flag: str, item: str) -> tuple[str, str]:
    numbers, slash, protocol = item.partition("/")
    if slash and protocol.lower() not in PROTOCOLS:
        raise BadFlag(flag, item, f'"{protocol}" is none of {", ".join(PROTOCOLS)}', f"{flag} 53/udp")
    return numbers, protocol.lower() or "tcp"


def _range(flag: str, item: str, text: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    for number in (first, last) if dash else (first,):
        if not number.isdecimal() or int(number) > 65535:
            raise BadFlag(flag, item, f'"{number}" is not a port (0 to 65535)', f"{flag} 8080")
    low, high = int(first), int(last or first)
    if low > high:
        raise BadFlag(flag, item, f"the range {text} ends before it starts", f"{flag} 8000-8010")
    return low, high


def _long_form(item: str) -> str:
    """target=80,published=8080,protocol=tcp in the short form."""
    fields = dict(part.partition("=")[::2] for part in item.split(","))
    unknown = set(fields) - {"target", "published", "protocol", "mode"}
    if unknown or "target" not in fields:
        why = f'there is no key "{min(unknown)}"' if unknown else "the key target is missing"
        raise BadFlag("--publish", item, why, "--publish target=80,published=8080")
    host = f"{fields['published']}:" if "published" in fields else ""
    return f"{host}{fields['target']}/{fields.get('protocol', 'tcp')}"
