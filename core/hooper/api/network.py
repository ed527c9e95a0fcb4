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
    automatic: bool = False
    """The engine has chosen the subnet; users cannot choose addresses of it."""


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
    ipv4: bool = True
    ipv6: bool = False
    ipam_driver: str = ""
    """"" and "default": the engine's own; "null": the endpoints have no addresses."""
    ipam_options: dict[str, str] = {}
    config_only: bool = False
    """Only a template for other networks: nothing is made, and nothing can be connected to it."""
    config_from: str = ""
    """The name of the template whose pools and options it has."""
    bridge_name: str = ""
    """The interface on the host, where the driver has one; set by `create_network`."""


class PortBinding(msgspec.Struct, frozen=True, omit_defaults=True):
    """A published port. `host_port` 0 asks for any free one from the host's ephemeral range."""

    protocol: str
    """tcp, udp or sctp."""
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
    links: list[str] = []
    """NAME:ALIAS, or NAME: what this container alone may call others of the network."""
    address: str = ""
    """"172.17.0.2/16": with the length of the subnet's prefix. "" where the driver has no addresses."""
    gateway: str = ""
    address6: str = ""
    gateway6: str = ""
    link_local: list[str] = []
    """More addresses, with the length of their prefix, that are valid on the link alone."""
    mac: str = ""
    interface: str = "eth0"
    """The name inside the sandbox."""
    default_route: bool = True
    """The sandbox's IPv4 default route goes through `gateway`; to the link itself if that is "" and the
    endpoint has an address."""
    default_route6: bool = True
    """Likewise that of IPv6, through `gateway6`."""
    gw_priority: int = 0
    """The container's network with the highest has the default route."""
    sysctls: dict[str, str] = {}
    """Of the interface, to be set before it is up: "net/ipv4/conf/eth0/log_martians" to its value."""
    options: dict[str, str] = {}
    """The driver's own for this endpoint, as users typed them."""
    ports: list[PortBinding] = []
    held: bool = False
    """The host ports of `ports` are real ones, and the container's monitor holds them already."""


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
    default_pools: Sequence[Pool] = ()
    """Of its predefined networks; none: the engine chooses a subnet that is free."""
    default_ipv6: bool = False
    """Its predefined networks have IPv6."""
    user_defined: bool = True
    """Users may make networks of this driver."""
    publishes_ports: bool = True
    """False: its containers are reached on their own addresses alone."""
    hardware_addresses: bool = True
    """False: endpoints have no MAC addresses of their own."""

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

    async def publish(self, network: Network, endpoint: Endpoint) -> JoinResult:
        """The ports of a joined endpoint are now `endpoint.ports`, which are held: it takes over those of
        another endpoint of its container, or gives up its own; who gives up is told first. Returns those that
        are published.
        """
        return JoinResult()

    async def reconcile(self, network: Network, endpoints: Sequence[Endpoint]) -> None:
        """After a start of the daemon: these, with their real host ports, are the endpoints in use.

        What the driver finds on the host for this network beyond them is removed, what is missing is
        made again where that is possible without the sandbox.
        """
