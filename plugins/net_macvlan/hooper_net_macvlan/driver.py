"""The drivers "macvlan" and "ipvlan": the container's interface is a part of one of the host's.

Containers are machines on the network that the parent interface leads to. So there is nothing to translate and
no port to publish; by the kernel's design the host itself does not reach them through the parent.
"""

from __future__ import annotations

import errno
from abc import abstractmethod
from contextlib import suppress

import anyio.to_thread
import msgspec

from hooper.api.driver import DriverContext
from hooper.api.errors import Conflict, HooperError, Internal, InvalidArgument, SkipDriver, Unavailable, Unsupported
from hooper.api.network import Endpoint, JoinResult, Network, NetworkDriver, Sandbox
from hooper.linux import netlink_route as route
from hooper.linux import sandbox_link
from hooper.linux.netlink import NETLINK_ROUTE, Message, NetlinkSocket
from hooper_net_macvlan import options
from hooper_net_macvlan.parents import Parents


class _ParentDriver(NetworkDriver):
    """Verbs run in a worker thread: netlink takes the kernel's rtnl lock."""

    publishes_ports = False

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self._parents: Parents | None = None

    async def probe(self) -> None:
        if not self.context.host.root:
            raise SkipDriver(
                f"{self.context.name} interfaces cannot be made", "that needs root", "Start hooper as root."
            )

    async def open(self) -> None:
        self._parents = Parents(self.context.state)

    async def aclose(self) -> None:
        """Parents stay: containers outlive the daemon."""
        if self._parents is not None:
            self._parents.close()
            self._parents = None

    def _open_parents(self) -> Parents:
        if self._parents is None:
            raise Internal(f"the {self.context.name} driver", "it is not open")
        return self._parents

    # --- networks ---------------------------------------------------------------------------------

    @abstractmethod
    def _new_link(self, network: Network, endpoint: Endpoint, parent: int, netns: int) -> Message:
        """Makes the endpoint's interface in the sandbox. InvalidArgument for an option that is not right."""

    @abstractmethod
    def _mode(self, network: Network) -> str:
        """InvalidArgument for one that there is not."""

    async def create_network(self, network: Network) -> Network:
        return await anyio.to_thread.run_sync(self._create, network)

    def _create(self, network: Network) -> Network:
        parents, name, mode = self._open_parents(), options.parent(network), self._mode(network)
        options.mtu(network)
        self._check_kernel()
        try:
            network.bridge_name = parents.claim(network, name, exclusive=mode == "passthru")
        except OSError as error:
            raise Internal(f"cannot make the network {network.name}", error.strerror or str(error)) from error
        network.internal = network.internal or not name
        return network

    def _check_kernel(self) -> None:
        """The kernel says what it misses: a parent, or all that this driver needs."""
        message = route.new_child_of_nothing(self.context.name)
        try:
            with NetlinkSocket(NETLINK_ROUTE) as sock:
                sock.request([message])
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                raise Unsupported(
                    f"networks of the driver {self.context.name}",
                    "this kernel has no such interfaces",
                    f"Load the module: modprobe {self.context.name}",
                ) from error

    async def delete_network(self, network: Network) -> None:
        await anyio.to_thread.run_sync(self._open_parents().release, network)

    # --- endpoints --------------------------------------------------------------------------------

    async def join(self, network: Network, endpoint: Endpoint, sandbox: Sandbox) -> JoinResult:
        return await anyio.to_thread.run_sync(self._join, network, endpoint, sandbox.netns)

    def _join(self, network: Network, endpoint: Endpoint, netns: int) -> JoinResult:
        made = False
        try:
            message = self._new_link(network, endpoint, self._open_parents().index(network.bridge_name), netns)
            with NetlinkSocket(NETLINK_ROUTE) as sock:
                sock.request([message])
            made = True
            sandbox_link.configure(netns, endpoint)
        except OSError as error:
            if made:
                with suppress(OSError):
                    sandbox_link.remove(netns, endpoint.interface)
            raise _failed(network, endpoint, error) from error
        return JoinResult(interface=endpoint.interface)

    async def leave(self, network: Network, endpoint: Endpoint, sandbox: Sandbox | None) -> None:
        """The interface of a sandbox that is gone went with it."""
        if sandbox is not None:
            await anyio.to_thread.run_sync(sandbox_link.remove, sandbox.netns, endpoint.interface)


def _failed(network: Network, endpoint: Endpoint, error: OSError) -> HooperError:
    what = f"cannot connect {endpoint.container_name} to the network {network.name}"
    why = error.strerror or str(error)
    if error.errno == errno.EBUSY:
        return Conflict(what, f"{network.bridge_name} is in use by something that excludes it: {why}", _OTHER)
    if error.errno == errno.ENODEV:
        return Unavailable(what, why, f"Bring the interface {network.bridge_name} back.")
    if error.errno == errno.EINVAL and network.options.get("macvlan_mode") == "passthru":
        return Conflict(what, f"one container has all of {network.bridge_name} in the mode passthru", _OTHER)
    if error.errno in (errno.EADDRNOTAVAIL, errno.EINVAL) and endpoint.mac:
        return InvalidArgument(what, f"{why}; the MAC address is {endpoint.mac}", "Leave the address out.")
    return Internal(what, why, f"See that the interface {endpoint.interface} is not there yet.")


_OTHER = "macvlan and ipvlan cannot share a parent, and passthru takes all of one. Choose another parent."


class MacvlanDriver(_ParentDriver):
    """Modes: bridge (containers reach each other), private, vepa (through a switch that sends back), passthru
    (one container has all of the parent)."""

    def _mode(self, network: Network) -> str:
        return options.choice(network, "macvlan_mode", route.MACVLAN_MODES, "bridge")

    def _new_link(self, network: Network, endpoint: Endpoint, parent: int, netns: int) -> Message:
        mode, size = self._mode(network), options.mtu(network)
        # In this mode the parent's address would change with the container's.
        mac = "" if mode == "passthru" else endpoint.mac
        return route.new_macvlan(endpoint.interface, parent, netns, mode, mac=mac, mtu=size)


class IpvlanDriver(_ParentDriver):
    """Modes: l2, l3 (the host's kernel routes, and nobody hears ARP), l3s (likewise, with the packet filter)."""

    hardware_addresses = False

    def _mode(self, network: Network) -> str:
        return options.choice(network, "ipvlan_mode", route.IPVLAN_MODES, "l2")

    def _create(self, network: Network) -> Network:
        options.choice(network, "ipvlan_flag", route.IPVLAN_FLAGS, "bridge")
        made = super()._create(network)
        if self._mode(network) != "l2":
            # There is no neighbour to be a gateway: all goes to the interface.
            made.pools = [msgspec.structs.replace(pool, gateway="") for pool in made.pools]
        return made

    def _new_link(self, network: Network, endpoint: Endpoint, parent: int, netns: int) -> Message:
        flag = options.choice(network, "ipvlan_flag", route.IPVLAN_FLAGS, "bridge")
        mode, size = self._mode(network), options.mtu(network)
        return route.new_ipvlan(endpoint.interface, parent, netns, mode, flag=flag, mtu=size)
