"""EXPOSE's ports."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hooper_builder_dockerfile.faults import Fault

_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?\Z")
_PROTOCOLS = ("tcp", "udp", "sctp")


def exposed(words: Iterable[str]) -> list[str]:
    """ "80-81", "53/udp" as "80/tcp", "81/tcp", "53/udp". Fault for what is no port."""
    found: list[str] = []
    for word in words:
        ports, _, protocol = word.partition("/")
        protocol = protocol.lower() or "tcp"
        if protocol not in _PROTOCOLS:
            raise Fault(f"invalid proto: {protocol}", f"There are {', '.join(_PROTOCOLS)}.")
        match = _RANGE.match(ports)
        first = int(match[1]) if match else 0
        last = int(match[2] or first) if match else 0
        if match is None or not first <= last <= 65535:
            raise Fault(f"invalid containerPort: {word}", "Write PORT, or FIRST-LAST, up to 65535.")
        found += [f"{port}/{protocol}" for port in range(first, last + 1)]
    return found
