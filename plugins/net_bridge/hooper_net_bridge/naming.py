"""Names and hardware addresses: derived, so that several daemons on one host keep apart."""

from __future__ import annotations

import hashlib
import ipaddress
from pathlib import Path

from hooper.api.network import Endpoint, Network

_DEFAULT_ROOT = Path("/run/hooper")


def suffix(exec_root: Path) -> str:
    """ "" for the default daemon of a host, eight hex digits for another."""
    if exec_root == _DEFAULT_ROOT:
        return ""
    return hashlib.sha256(str(exec_root).encode()).hexdigest()[:8]


def table(exec_root: Path) -> str:
    own = suffix(exec_root)
    return f"hooper_{own}" if own else "hooper"


def default_bridge(exec_root: Path) -> str:
    own = suffix(exec_root)
    return f"hp{own}" if own else "hooper0"


def bridge(network: Network) -> str:
    """Of a user's network. An interface's name has at most 15 characters."""
    return f"hp-{network.id[:12]}"


VETH_PREFIX = "hpv"


def veth(endpoint: Endpoint) -> str:
    """The host's end of an endpoint's pair."""
    return VETH_PREFIX + endpoint.id[:10]


def mac(address: str) -> str:
    """02:42 and the four bytes of the IPv4 address (with or without prefix length), as Docker has it."""
    return "02:42:" + ipaddress.IPv4Address(address.partition("/")[0]).packed.hex(":")
