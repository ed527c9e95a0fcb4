"""Network drivers: what a container's network namespace is connected to.

A *sandbox* is a network namespace that exists before its container. The engine chooses subnets and
addresses (see `NetworkDriver.addresses`); a driver makes links, routes and published ports.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from hooper.api.driver import Driver


class Pool(msgspec.Struct, frozen=True, omit_defaults=True):
    """One IPAM pool of a network, as text: "172.18.0.0/16", "172.18.0.1"."""

    subnet: str
    gateway: str = ""
    ip_range: str = ""
    auxiliary: dict[str, str] = {}
    """Names to addresses that no endpoint is given."""


class Network(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A network as the engine stores it."""

    id: str
    """64 hex digits."""
    name: str
    driver: str
    created: float
    pools: list[Pool] = []
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    internal: bool = False
    attachable: bool = False
    ipv6: bool = False
    bridge_name: str = ""
    """The interface on the host, where the driver has one; set by `create_network`."""


class PortBinding(msgspec.Struct, frozen=True, omit_defaults=True):
    """A published port. `host_port` 0 asks for any free one from the host's ephemeral range."""

    protocol: str
    """tcp or udp."""
    container_port: int
    host_ip: str = ""
    """"" is every address, of IPv4 and, where the host has it, of IPv6."""
    host_port: int = 0
    host_port_end: int = 0
    """Not 0: any free one of host_port…host_port_end."""


class Endpoint(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A container's place in a network. What the engine has chosen is filled in before `join`."""

    id: str
    """64 hex digits."""
    network_id: str
    container_id: str
    container_name: str
    aliases: list[str] = []
    address: str = ""
    """"172.17.0.2/16": with the length of the subnet's prefix. "" where the driver has no addresses."""
    gateway: str = ""
    address6: str = ""
    gateway6: str = ""
    mac: str = ""
    interface: str = "eth0"
    """The name inside the sandbox."""
    default_route: bool = True
    ports: list[PortBinding] = []


class JoinResult(msgspec.Struct):
    """What `join` made.

    `ports` are the bindings with their real host ports. `reservations` are descriptors of
    sockets bound to them: the container's monitor keeps them open, so that the ports are taken
    as long as the container lives, whatever becomes of the daemon. The engine takes them over.
    """

    ports: list[PortBinding] = []
    reservations: list[int] = []
    interface: str = ""


class SandboxMode(StrEnum):
    NEW = "new"
    """A namespace of the container's own."""
    HOST = "host"
    """The host's: there is nothing to join."""
    SHARED = "shared"
    """That of another container."""


class Sandbox(msgspec.Struct, frozen=True):
    """A live network namespace. `netns` is a descriptor of it, valid during the call."""

    container_id: str
    netns: int


class NetworkDriver(Driver):
    """Errors: Conflict (port or subnet in use: it names both), Unsupported (an option or ability that
    the driver lacks), InvalidArgument. A verb that raises leaves nothing made."""

    addresses: bool = True
    """The engine allocates a pool to each of its networks and an address to each endpoint."""
    sandbox: SandboxMode = SandboxMode.NEW
    predefined: Sequence[str] = ()
    """Names of networks that exist from the start, one for each (bridge, host, none)."""
    default_subnet: str = ""
    """Of its predefined networks; "": the engine chooses one that is free."""
    user_defined: bool = True
    """Users may make networks of this driver."""

    @abstractmethod
    async def create_network(self, network: Network) -> Network:
        """Makes what the host needs for it and returns it, completed.

        Called again with the same network after a restart of the host or daemon: it then makes what
        is missing and leaves the rest.
        """

    @abstractmethod
    async def delete_network(self, network: Network) -> None:
        """Removes all of it from the host. Harmless if some is missing."""

    @abstractmethod
    async def join(self, network: Network, endpoint: Endpoint, sandbox: Sandbox) -> JoinResult:
        """Connects the sandbox: after it returns, packets flow and ports are published."""

    @abstractmethod
    async def leave(self, network: Network, endpoint: Endpoint, sandbox: Sandbox | None) -> None:
        """Undoes `join`; `sandbox` is None if its namespace is gone. Harmless if nothing is left."""

    async def reconcile(self, network: Network, endpoints: Sequence[Endpoint]) -> None:
        """After a start of the daemon: these, with their real host ports, are the endpoints in use.

        What the driver finds on the host for this network beyond them is removed, what is missing is
        made again where that is possible without the sandbox.
        """
