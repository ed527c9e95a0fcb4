"""The options of networks of these drivers, with Docker's names; others are ignored."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from hooper.api.errors import InvalidArgument
from hooper.api.network import Network

_MTU = "com.docker.network.driver.mtu"
_VLAN = re.compile(r"(.+)\.([0-9]{1,4})\Z")


def choice(network: Network, option: str, allowed: Collection[str], default: str) -> str:
    """The option's value. InvalidArgument if it is none of `allowed`."""
    value = network.options.get(option, "") or default
    if value not in allowed:
        raise InvalidArgument(
            f"requested {option.replace('_', ' ')} '{value}' is not valid, '{default}' {option.partition('_')[2]} is"
            f" the {network.driver} driver default",
            remedy=f"There are: {', '.join(allowed)}.",
        )
    return value


def mtu(network: Network) -> int:
    """In bytes; 0 is the parent's. InvalidArgument."""
    value = network.options.get(_MTU, "")
    if value and not (value.isdigit() and 68 <= int(value) <= 65535):
        raise InvalidArgument(f"failed to parse {_MTU} value: {value}", remedy="Write a number from 68 to 65535.")
    return int(value or 0)


class Vlan(NamedTuple):
    parent: str
    number: int


def parent(network: Network) -> str:
    """The host's interface; "" if the option is not there. InvalidArgument for one that cannot be it."""
    name = network.options.get("parent", "")
    if name == "lo":
        raise InvalidArgument(
            f"loopback interface is not a valid {network.driver} parent link", remedy="Name another with -o parent=…"
        )
    if len(name) > 15 or "/" in name or name.split() != ([name] if name else []):
        raise InvalidArgument(
            f'invalid parent interface "{name}"', remedy="An interface's name has up to 15 characters."
        )
    return name


def vlan(name: str) -> Vlan:
    """ "eth0.10" as ("eth0", 10). InvalidArgument for what is no such name."""
    match = _VLAN.match(name)
    if not match:
        raise InvalidArgument(
            f"invalid subinterface vlan name {name}, example formatting is eth0.10",
            "there is no interface of this name on the host either",
            "`ip link` shows those there are.",
        )
    number = int(match[2])
    if not 0 < number < 4095:
        raise InvalidArgument(
            f"vlan id must be between 1-4094, received: {number}", remedy="Write for example parent=eth0.10."
        )
    return Vlan(match[1], number)
