"""Registers the drivers that put containers on a network of the host."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_network_drivers() -> Iterable[DriverSpec]:
    yield DriverSpec(
        "macvlan",
        "containers on an interface of the host, each with a MAC address of its own",
        factory="hooper_net_macvlan.driver:MacvlanDriver",
        priority=8,
    )
    yield DriverSpec(
        "ipvlan",
        "containers on an interface of the host, with its MAC address",
        factory="hooper_net_macvlan.driver:IpvlanDriver",
        priority=7,
    )
