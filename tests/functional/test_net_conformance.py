"""The bundled network drivers against the kit."""

from __future__ import annotations

from pathlib import Path

from hooper.api.network import NetworkDriver
from hooper.testing.network import NetworkConformance, make_context
from hooper_net_bridge.driver import BridgeDriver
from hooper_net_host.driver import HostDriver, NullDriver


class TestBridge(NetworkConformance):
    def make(self, root: Path) -> NetworkDriver:
        return BridgeDriver(make_context(root, "bridge"))


class TestHost(NetworkConformance):
    def make(self, root: Path) -> NetworkDriver:
        return HostDriver(make_context(root, "host"))


class TestNull(NetworkConformance):
    def make(self, root: Path) -> NetworkDriver:
        return NullDriver(make_context(root, "null"))
