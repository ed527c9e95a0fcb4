"""EXPOSE's ports: [[IP:]HOST-PORT:]PORT[-PORT][/PROTOCOL], of which only port and protocol count."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from hooper_builder_dockerfile.faults import Fault

_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?\Z")
_PROTOCOLS = ("tcp", "udp", "sctp")
_LIMIT = 3 * 65536
"""Ports that an instruction may name, with those that it names twice."""


def exposed(words: Iterable[str]) -> list[str]:
    """ "80-81", "53/udp" as "80/tcp", "81/tcp", "53/udp". Fault for what is no port."""
    found: dict[str, None] = {}
    count = 0
    for word in words:
        address, host, port, protocol = _parts(word)
        _check_address(address, word)
        first, last = _range(port, "containerPort", word)
        if host:
            start, end = _range(host, "hostPort", word)
            if end - start != last - first and last != first:
                raise Fault(
                    f"invalid ranges specified for container and host Ports: {port} and {host}",
                    "Write PORT alone: EXPOSE does not publish.",
                    word,
                )
        count += last - first + 1
        if count > _LIMIT:
            raise Fault(f"EXPOSE names more than {_LIMIT} ports", "Name each once.", word)
        found.update((f"{number}/{protocol}", None) for number in range(first, last + 1))
    return list(found)


def _parts(word: str) -> tuple[str, str, str, str]:
    """Address, port of the host, port and protocol."""
    mapping, _, protocol = word.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in _PROTOCOLS:
        raise Fault(f"invalid proto: {protocol}", f"There are {', '.join(_PROTOCOLS)}.", word)
    rest, _, port = mapping.rpartition(":")
    address, _, host = rest.rpartition(":")
    return address, host, port, protocol


def _check_address(address: str, word: str) -> None:
    if not address:
        return
    try:
        ipaddress.ip_address(address.removeprefix("[").removesuffix("]"))
    except ValueError as error:
        raise Fault(f"invalid IP address: {address}", "Write PORT alone: EXPOSE does not publish.", word) from error


def _range(text: str, what: str, word: str) -> tuple[int, int]:
    match = _RANGE.match(text)
    first = int(match[1]) if match else 0
    last = int(match[2] or first) if match else 0
    if match is None or not first <= last <= 65535:
        raise Fault(f"invalid {what}: {text or word}", "Write PORT, or FIRST-LAST, up to 65535.", word)
    return first, last
