"""The options of a network that this driver knows; others are ignored, as dockerd does."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from hooper.api.errors import InvalidArgument
from hooper.api.network import Network

_PREFIX = "com.docker.network.bridge."
_MTU = "com.docker.network.driver.mtu"
_TRUE, _FALSE = ("1", "t", "true"), ("0", "f", "false")


@dataclass(frozen=True)
class Options:
    bridge_name: str = ""
    inter_container: bool = True
    """Containers of the network reach each other."""
    masquerade: bool = True
    host_address: str = ""
    """Where ports are published that name no address."""
    mtu: int = 0


def parse(network: Network, mtu: int = 0) -> Options:
    """InvalidArgument for a value that is none. `mtu` is the default."""
    given = network.options
    name = given.get(f"{_PREFIX}name", "")
    if len(name) > 15 or "/" in name or name.strip() != name:
        raise _invalid(network, f"{_PREFIX}name", name, "an interface's name of at most 15 characters")
    address = given.get(f"{_PREFIX}host_binding_ipv4", "")
    if address:
        try:
            ipaddress.ip_address(address)
        except ValueError as error:
            raise _invalid(network, f"{_PREFIX}host_binding_ipv4", address, "an IP address") from error
    size = given.get(_MTU, "")
    if size and not (size.isdigit() and 68 <= int(size) <= 65535):
        raise _invalid(network, _MTU, size, "a number of bytes from 68 to 65535")
    return Options(
        bridge_name=name,
        inter_container=_boolean(network, "enable_icc"),
        masquerade=_boolean(network, "enable_ip_masquerade"),
        host_address="" if address == "0.0.0.0" else address,
        mtu=int(size) if size else mtu,
    )


def _boolean(network: Network, name: str) -> bool:
    value = network.options.get(_PREFIX + name, "true").lower()
    if value not in _TRUE + _FALSE:
        raise _invalid(network, _PREFIX + name, value, "true or false")
    return value in _TRUE


def _invalid(network: Network, option: str, value: str, wanted: str) -> InvalidArgument:
    return InvalidArgument(
        f"network {network.name}: option {option}", f'"{value}" is not {wanted}', "Correct the option or leave it out."
    )
