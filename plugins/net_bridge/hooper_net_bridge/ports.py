"""Reservation of host ports: a bound socket each, which no other program can bind beside."""

from __future__ import annotations

import errno
import itertools
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from hooper.api.errors import Conflict, InvalidArgument, Unsupported
from hooper.api.network import Endpoint, PortBinding

EPHEMERAL = range(32768, 61000)
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


@dataclass
class Reserved:
    """Bindings with their real ports, and the sockets that hold them."""

    ports: list[PortBinding] = field(default_factory=list)
    sockets: list[socket.socket] = field(default_factory=list)

    def close(self) -> None:
        for held in self.sockets:
            held.close()

    def detach(self) -> list[int]:
        """The descriptors, which are the caller's from now on."""
        return [held.detach() for held in self.sockets]


class PortReserver:
    """Remembers where it last found a free ephemeral port, so that one is not used again at once."""

    def __init__(self) -> None:
        self._next = itertools.count()

    def reserve(self, endpoint: Endpoint, host_address: str = "") -> Reserved:
        """All of the endpoint's ports, or Conflict and none. `host_address` is for those that name no
        address."""
        reserved = Reserved()
        try:
            for binding in endpoint.ports:
                self._one(endpoint, binding, _addresses(endpoint, binding, host_address), reserved)
        except BaseException:
            reserved.close()
            raise
        return reserved

    def _one(self, endpoint: Endpoint, binding: PortBinding, addresses: list[str], reserved: Reserved) -> None:
        for port in self._candidates(binding):
            try:
                held = _bind(binding.protocol, addresses, port)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    continue
                raise _refused(endpoint, addresses[0], port, error) from error
            reserved.sockets += held
            reserved.ports += [
                PortBinding(binding.protocol, binding.container_port, address, port) for address in addresses
            ]
            return
        raise _taken(endpoint, addresses[0], binding)

    def _candidates(self, binding: PortBinding) -> Iterator[int]:
        if binding.host_port:
            yield from range(binding.host_port, max(binding.host_port, binding.host_port_end) + 1)
            return
        for _ in EPHEMERAL:
            yield EPHEMERAL[next(self._next) % len(EPHEMERAL)]


def _addresses(endpoint: Endpoint, binding: PortBinding, host_address: str) -> list[str]:
    if binding.protocol not in _KINDS:
        raise Unsupported(
            f"publishing {binding.container_port}/{binding.protocol} of {endpoint.container_name}",
            f"the bridge driver publishes {' and '.join(_KINDS)} alone",
            "Leave the port out, or use the host network.",
        )
    wanted = binding.host_ip or host_address
    if not wanted:
        return [*(["0.0.0.0"] if endpoint.address else []), *(["::"] if endpoint.address6 else [])] or ["0.0.0.0"]
    if ":" in wanted and not endpoint.address6:
        raise Unsupported(
            f"publishing {binding.container_port}/{binding.protocol} of {endpoint.container_name} on [{wanted}]",
            "its network has no IPv6",
            "Use a network made with --ipv6, or an IPv4 address.",
        )
    return [wanted]


def _bind(protocol: str, addresses: Sequence[str], port: int) -> list[socket.socket]:
    held: list[socket.socket] = []
    try:
        for address in addresses:
            version6 = ":" in address
            made = socket.socket(socket.AF_INET6 if version6 else socket.AF_INET, _KINDS[protocol])
            held.append(made)
            if version6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind((address, port))
    except BaseException:
        _close(held)
        raise
    return held


def _close(sockets: Iterable[socket.socket]) -> None:
    for one in sockets:
        one.close()


def _what(endpoint: Endpoint) -> str:
    return f"driver failed programming external connectivity on endpoint {endpoint.container_name}"


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
