"""Settings of the bridge driver."""

from __future__ import annotations

import msgspec


class BridgeConfig(msgspec.Struct, frozen=True):
    """`[network.bridge]` of the host's configuration."""

    bridge_name: str = ""
    """The interface of the network "bridge"; "" is hooper0, or hp and eight digits with another exec root."""
    subnet: str = ""
    """Of the network "bridge"; "" is the first pool that collides with nothing on this host."""
    table: str = ""
    """The nftables table; "" is hooper, or hooper_ and eight digits with another exec root."""
    mtu: int = 0
    """Of all networks that set none, in bytes; 0 is the kernel's default."""
