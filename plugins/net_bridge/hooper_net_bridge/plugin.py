"""Registers the bridge driver."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_network_drivers() -> Iterable[DriverSpec]:
    yield DriverSpec(
        "bridge",
        "a Linux bridge on this host, with NAT and published ports",
        factory="hooper_net_bridge.driver:BridgeDriver",
        config="hooper_net_bridge.config:BridgeConfig",
        priority=100,
    )
