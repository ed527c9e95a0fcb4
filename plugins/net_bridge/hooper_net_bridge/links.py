"""Bridges and veth pairs, made over one rtnetlink socket."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from hooper.api.errors import Conflict, Internal, InvalidArgument
from hooper.api.network import Endpoint, Network
from hooper.linux import netlink_route as route
from hooper.linux import sandbox_link
from hooper.linux.netlink import NETLINK_ROUTE, NetlinkSocket
from hooper_net_bridge import naming
from hooper_net_bridge.options import Options

_SYSCTL = Path("/proc/sys/net")


class Links:
    """The host's side of all networks of the driver. Its calls block, for a millisecond mostly."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(NETLINK_ROUTE)
        self._bridges: dict[str, int] = {}
        self._ipv6 = os.path.exists("/proc/net/if_inet6")

    def close(self) -> None:
        self._socket.close()

    def has(self, name: str) -> bool:
        return route.find_link(self._socket, name) is not None

    def ensure_bridge(self, name: str, network: Network, options: Options) -> None:
        """Makes the bridge if it is missing, and gives it the network's gateways. Conflict if the name is
        that of another kind of interface."""
        link = route.find_link(self._socket, name)
        if link is None:
            gateway = next((pool.gateway for pool in network.pools if pool.gateway and ":" not in pool.gateway), "")
            mac = naming.mac(gateway) if gateway else ""
            self._socket.request([route.new_bridge(name, mac=mac, mtu=options.mtu)])
            link = route.find_link(self._socket, name)
        if link is None or link.kind != "bridge":
            raise Conflict(
                f"network {network.name}: cannot use the interface {name}",
                "it exists and is not a bridge",
                "Give another name with the option com.docker.network.bridge.name.",
            )
        _set(f"ipv6/conf/{name}/disable_ipv6", "0" if network.ipv6 else "1")
        _set(f"ipv6/conf/{name}/accept_ra", "0")
        gateways = [
            f"{pool.gateway}/{pool.subnet.partition('/')[2]}"
            for pool in network.pools
            if pool.gateway and options.has_address(6 if ":" in pool.gateway else 4)
        ]
        messages = [route.add_address(link.index, gateway) for gateway in gateways]
        self._socket.request([*messages, route.set_up(link.index)])
        _set(f"ipv4/conf/{name}/route_localnet", "1")
        self._bridges[name] = link.index

    def delete(self, name: str) -> None:
        """Removes a link; harmless if there is none."""
        self._bridges.pop(name, None)
        try:
            self._socket.request([route.delete_link(name)])
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    def connect(
        self, bridge: str, network: Network, endpoint: Endpoint, netns: int, mtu: int, *, isolated: bool
    ) -> None:
        """Makes the endpoint's veth pair and configures its inside. Nothing is left of one that fails."""
        name = naming.veth(endpoint)
        messages = [route.new_veth(name, self._index(bridge), endpoint.interface, netns, mac=endpoint.mac, mtu=mtu)]
        if self._ipv6 and (not mtu or mtu >= route.IPV6_MIN_MTU):
            # It is a port of a bridge: an address of it would serve nobody, and the kernel would announce it.
            messages.append(route.no_address_of_its_own(name))
        if isolated or endpoint.ports:
            messages.append(route.bridge_port(name, isolated=isolated, hairpin=bool(endpoint.ports)))
        try:
            self._socket.request(messages)
            sandbox_link.configure(netns, endpoint)
        except OSError as error:
            with suppress(OSError):
                self.delete(name)
            raise _failed(network, endpoint, error) from error

    def set_hairpin(self, endpoint: Endpoint, *, isolated: bool) -> None:
        """What the container sends to its own published ports comes back to it, if it has any. Raises OSError."""
        hairpin = bool(endpoint.ports)
        self._socket.request([route.bridge_port(naming.veth(endpoint), isolated=isolated, hairpin=hairpin)])

    def _index(self, bridge: str) -> int:
        if bridge not in self._bridges:
            link = route.find_link(self._socket, bridge)
            if link is None:
                raise OSError(errno.ENODEV, f"the bridge {bridge} is gone")
            self._bridges[bridge] = link.index
        return self._bridges[bridge]

    def on(self, bridges: Collection[str]) -> set[str]:
        """The names of all links that are on one of these bridges."""
        found = route.links(self._socket)
        indices = {link.index for link in found if link.name in bridges}
        return {link.name for link in found if link.master in indices}

    def remove_strangers(self, bridge: str, known: Collection[str]) -> list[str]:
        """Deletes our veths on the bridge that are not `known`; returns their names."""
        index = self._index(bridge)
        strangers = [
            link.name
            for link in route.links(self._socket)
            if link.master == index and link.name.startswith(naming.VETH_PREFIX) and link.name not in known
        ]
        for name in strangers:
            self.delete(name)
        return strangers


def _failed(network: Network, endpoint: Endpoint, error: OSError) -> Exception:
    what = f"cannot connect {endpoint.container_name} to the network {network.name}"
    if error.errno in (errno.EINVAL, errno.EADDRNOTAVAIL) and endpoint.mac:
        return InvalidArgument(what, f"{error.strerror}; the MAC address is {endpoint.mac}", "Leave the address out.")
    return Internal(
        what, error.strerror or str(error), f"See that the interface {endpoint.interface} is not there yet."
    )


def _set(name: str, value: str) -> None:
    """Sets a sysctl of one of our own interfaces; a kernel without IPv6 has not all of them."""
    with suppress(FileNotFoundError):
        (_SYSCTL / name).write_text(value)


def switch_on(name: str) -> bool:
    """Sets a sysctl to 1; False if it was."""
    path = _SYSCTL / name
    if path.read_text().strip() != "0":
        return False
    path.write_text("1")
    return True
