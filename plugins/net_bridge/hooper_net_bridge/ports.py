"""Reservation of host ports: a bound socket each, which no other program can bind beside.

Most ports are then translated by the packet filter. What it cannot translate a relay takes from the socket:
what comes to ::1, and IPv6 for an endpoint that has IPv4 alone.
"""

from __future__ import annotations

import errno
import itertools
import socket
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hooper.api.errors import Conflict, InvalidArgument, Unsupported
from hooper.api.network import Endpoint, PortBinding
from hooper_net_bridge.options import Mode, Options

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_SCTP = "sctp"
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_SCTP_TRACKING = Path("/proc/sys/net/netfilter/nf_conntrack_sctp_timeout_established")
LOOPBACK6, ANY4, ANY6 = "::1", "0.0.0.0", "::"

InUse = Callable[[str, str, int], bool]
"""The packet filter translates this protocol, address and port already."""


@dataclass(frozen=True)
class Relayed:
    """A socket of the host, and where what comes there goes."""

    held: socket.socket
    protocol: str
    address: str
    port: int


@dataclass
class Reserved:
    """Bindings with their real ports, and the sockets that hold them."""

    ports: list[PortBinding] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)
    relayed: list[Relayed] = field(default_factory=list)

    def close(self) -> None:
        for held in self.sockets:
            held.close()

    def detach(self) -> list[int]:
        """The descriptors, which are the caller's from now on."""
        return [held.detach() for held in self.sockets]


def is_translated(endpoint: Endpoint, port: PortBinding) -> bool:
    """The packet filter does it, not a relay."""
    return ":" not in port.host_ip or (port.host_ip != LOOPBACK6 and bool(endpoint.address6))


class PortReserver:
    """Remembers where it last found a free ephemeral port, so that one is not used again at once.

    `in_use` tells what is published of protocols that the host has no sockets for.
    """

    def __init__(self, in_use: InUse) -> None:
        self._in_use = in_use
        self._next = itertools.count()
        self._ephemeral = range(0)

    def reserve(self, endpoint: Endpoint, options: Options) -> Reserved:
        """All of the endpoint's ports, or Conflict and none. Those that are held have only their relays renewed."""
        reserved = Reserved()
        try:
            for binding in endpoint.ports:
                self._one(endpoint, binding, options, reserved)
        except BaseException:
            reserved.close()
            raise
        return reserved

    def _one(self, endpoint: Endpoint, binding: PortBinding, options: Options, reserved: Reserved) -> None:
        _check(endpoint, binding)
        if endpoint.held and binding.host_port and is_translated(endpoint, binding):
            if options.modes[_version(binding.host_ip)].translates:
                reserved.ports.append(binding)
            return
        wanted = _addresses(endpoint, binding, options.host_address)
        direct = [address for address in wanted if not _needs_socket(endpoint, address, options.modes)]
        reserved.ports += [PortBinding(binding.protocol, binding.container_port, address) for address in direct]
        if bound := [address for address in wanted if address not in direct]:
            self._bind_one(endpoint, binding, bound, reserved)

    def _bind_one(self, endpoint: Endpoint, binding: PortBinding, addresses: list[str], reserved: Reserved) -> None:
        served = {address for address in addresses if _is_served(endpoint, address)}
        for port in self._candidates(binding):
            try:
                held = self._bind(binding.protocol, addresses, port, served)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                raise _refused(endpoint, addresses[0], port, error) from error
            reserved.sockets += held
            made = [PortBinding(binding.protocol, binding.container_port, address, port) for address in addresses]
            reserved.ports += made
            for one, sock in zip(made, held, strict=False):
                reserved.relayed += _relayed(endpoint, one, sock)
            return
        raise _taken(endpoint, addresses[0], binding)

    def _candidates(self, binding: PortBinding) -> Iterator[int]:
        if binding.host_port:
            yield from range(binding.host_port, max(binding.host_port, binding.host_port_end) + 1)
            return
        if not self._ephemeral:
            first, last = map(int, _EPHEMERAL.read_text().split())
            self._ephemeral = range(first, last + 1)
        for _ in self._ephemeral:
            yield self._ephemeral[next(self._next) % len(self._ephemeral)]

    def _bind(self, protocol: str, addresses: Sequence[str], port: int, served: Collection[str]) -> list[socket.socket]:
        if protocol == _SCTP:
            for address in addresses:
                if self._in_use(protocol, address, port):
                    raise OSError(errno.EADDRINUSE, "port is already allocated")
            return _bind_sctp(addresses, port)
        # Old connections to an earlier relay must not keep a new one from its port. It listens at once: a socket
        # that does not could be bound beside. UDP has no such leftovers.
        reused = served if protocol == "tcp" else ()
        return _bind_all(lambda family: socket.socket(family, _KINDS[protocol]), addresses, port, reused)


def _bind_sctp(addresses: Sequence[str], port: int) -> list[socket.socket]:
    """No sockets on a host that has no SCTP of its own: then there is nothing that could have the port."""
    try:
        return _bind_all(lambda f: socket.socket(f, socket.SOCK_STREAM, socket.IPPROTO_SCTP), addresses, port)
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
            return []
        raise


def _bind_all(
    make: Callable[[int], socket.socket], addresses: Sequence[str], port: int, reused: Collection[str] = ()
) -> list[socket.socket]:
    held: list[socket.socket] = []
    try:
        for address in addresses:
            version6 = ":" in address
            made = make(socket.AF_INET6 if version6 else socket.AF_INET)
            held.append(made)
            if version6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if address in reused:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((address, port))
    except BaseException:
        _close(held)
        raise
    return held


def _is_served(endpoint: Endpoint, address: str) -> bool:
    """A relay listens there, if only for what comes to ::1."""
    return address == ANY6 or not is_translated(endpoint, PortBinding("", 0, address))


def _relayed(endpoint: Endpoint, binding: PortBinding, held: socket.socket) -> list[Relayed]:
    if not _is_served(endpoint, binding.host_ip):
        return []
    target = (endpoint.address6 or endpoint.address).partition("/")[0]
    return [Relayed(held, binding.protocol, target, binding.container_port)]


def _check(endpoint: Endpoint, binding: PortBinding) -> None:
    if binding.protocol in _KINDS:
        return
    what = f"publishing {binding.container_port}/{binding.protocol} of {endpoint.container_name}"
    if binding.protocol != _SCTP:
        raise Unsupported(what, f"the bridge driver publishes {', '.join(_KINDS)} and sctp", "Leave the port out.")
    if not _SCTP_TRACKING.exists():
        raise Unsupported(what, "this kernel does not track SCTP", "Use the host network.")
    if ":" in binding.host_ip and not is_translated(endpoint, binding):
        raise Unsupported(what, f"SCTP cannot be relayed from [{binding.host_ip}]", "Use a network with --ipv6.")


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _needs_socket(endpoint: Endpoint, address: str, modes: Mapping[int, Mode]) -> bool:
    relayed = not is_translated(endpoint, PortBinding("", 0, address))
    return relayed or modes[_version(address)].translates


def _addresses(endpoint: Endpoint, binding: PortBinding, host_address: str) -> list[str]:
    wanted = binding.host_ip or host_address
    if wanted:
        return [wanted]
    return [*([ANY4] if endpoint.address else []), *([ANY6] if endpoint.address6 else [])] or [ANY4]


def _close(sockets: Iterable[socket.socket]) -> None:
    for one in sockets:
        one.close()


def _what(endpoint: Endpoint) -> str:
    return f"driver failed programming external connectivity on endpoint {endpoint.container_name} ({endpoint.id})"


def _shown(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _taken(endpoint: Endpoint, address: str, binding: PortBinding) -> Conflict:
    if not binding.host_port:
        return Conflict(_what(endpoint), "all ephemeral ports are allocated", "Stop containers that publish ports.")
    where = _shown(address, binding.host_port) + (f"-{binding.host_port_end}" if binding.host_port_end else "")
    return Conflict(
        _what(endpoint),
        f"Bind for {where} failed: port is already allocated",
        f"Publish another host port, or stop what uses it: ss -lnp 'sport = :{binding.host_port}' names a program,"
        f" hooper ps --filter publish={binding.host_port} a container.",
    )


def _refused(endpoint: Endpoint, address: str, port: int, error: OSError) -> InvalidArgument:
    return InvalidArgument(
        _what(endpoint),
        f"Bind for {_shown(address, port)} failed: {(error.strerror or str(error)).lower()}",
        "Publish on an address that this host has.",
    )
