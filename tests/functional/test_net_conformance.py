"""The bundled network drivers against the kit."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from hooper.api.network import NetworkDriver
from hooper.linux import netlink_route as route
from hooper.linux.netlink import NETLINK_ROUTE, NetlinkSocket
from hooper.testing.network import NetworkConformance, make_context
from hooper_net_bridge.driver import BridgeDriver
from hooper_net_host.driver import HostDriver, NullDriver
from hooper_net_macvlan.driver import IpvlanDriver, MacvlanDriver


class TestBridge(NetworkConformance):
    def make(self, root: Path) -> NetworkDriver:
        return BridgeDriver(make_context(root, "bridge"))


class TestHost(NetworkConformance):
    def make(self, root: Path) -> NetworkDriver:
        return HostDriver(make_context(root, "host"))


class TestNull(NetworkConformance):
    def make(self, root: Path) -> NetworkDriver:
        return NullDriver(make_context(root, "null"))


class TestMacvlan(NetworkConformance):
    def make(self, root: Path) -> NetworkDriver:
        return MacvlanDriver(make_context(root, "macvlan"))


class TestIpvlan(NetworkConformance):
    def make(self, root: Path) -> NetworkDriver:
        with NetlinkSocket(NETLINK_ROUTE) as sock, pytest.raises(OSError, match=r"\w") as refusal:
            sock.request([route.new_child_of_nothing("ipvlan")])
        if refusal.value.errno == errno.EOPNOTSUPP:
            pytest.skip("this kernel has no ipvlan")
        return IpvlanDriver(make_context(root, "ipvlan"))
