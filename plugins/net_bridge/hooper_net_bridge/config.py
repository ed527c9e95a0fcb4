"""Settings of the bridge driver."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

import msgspec

from hooper.api.errors import InvalidArgument
from hooper.api.network import Pool


class BridgeConfig(msgspec.Struct, frozen=True):
    """`[network.bridge]` of the host's configuration. All but the last two are about the network "bridge"."""

    bridge_name: str = ""
    """The interface; "" is hooper0, or hp and eight digits with another exec root."""
    subnet: str = ""
    """Its subnet; "" is the first pool that collides with nothing on this host."""
    bip: str = ""
    """The same with the bridge's own address: "192.168.5.1/24". As dockerd's."""
    fixed_cidr: str = ""
    """The part of the subnet that containers get addresses of."""
    ipv6: bool = False
    fixed_cidr_v6: str = ""
    """The IPv6 subnet; "" is a unique local one."""
    host_address: str = ""
    """Where ports are published that name no address; "" is everywhere. dockerd's `ip`."""
    icc: bool = True
    """Containers reach each other."""
    masquerade: bool = True
    """Packets leave the host with its address. dockerd's `ip-masq`."""
    table: str = ""
    """The nftables table; "" is hooper, or hooper_ and eight digits with another exec root."""
    mtu: int = 0
    """Of all networks that set none, in bytes; 0 is the kernel's default."""


def default_pools(config: BridgeConfig) -> Sequence[Pool]:
    """The pools of the network "bridge" that are configured. InvalidArgument."""
    if config.bip and config.subnet:
        raise InvalidArgument("[network.bridge] has both bip and subnet", remedy="Leave one of them out.")
    pools = []
    if given := config.bip or config.subnet:
        try:
            interface = ipaddress.ip_interface(given)
        except ValueError as error:
            raise InvalidArgument(
                f'[network.bridge] has "{given}"', str(error), 'Write for example bip = "192.168.5.1/24".'
            ) from error
        gateway = str(interface.ip) if interface.ip != interface.network.network_address else ""
        pools.append(Pool(str(interface.network), gateway, config.fixed_cidr))
    elif config.fixed_cidr:
        pools.append(Pool(config.fixed_cidr))
    if config.ipv6 and config.fixed_cidr_v6:
        pools.append(Pool(config.fixed_cidr_v6))
    return pools
