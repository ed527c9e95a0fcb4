"""Registers the drivers that connect nothing: the host's own network, another container's, none."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_network_drivers() -> Iterable[DriverSpec]:
    yield DriverSpec("host", "the host's own network", factory="hooper_net_host.driver:HostDriver", priority=20)
    yield DriverSpec("null", "loopback alone", factory="hooper_net_host.driver:NullDriver", priority=10)
    yield DriverSpec(
        "container", "the network of another container", factory="hooper_net_host.driver:ContainerDriver", priority=10
    )
