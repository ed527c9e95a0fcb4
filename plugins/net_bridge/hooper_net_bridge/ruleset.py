"""The table: its rules, which never change, and the elements that networks and ports put in its sets.

published4, …6         (protocol . port) to (address . port) of a container, on any address of this host
published4_at, …6_at   (address . protocol . port) likewise, on one address
bridges, internal      the interfaces of networks
same                   each bridge with itself
local4, local6         (subnet . bridge): what lives on which bridge
masqueraded4, …6       subnets that leave with the host's address
sources4, …6           subnet to the address that it leaves with, where that is fixed
open4, …6              the interfaces of networks that everybody may reach (nat-unprotected)
routed4, …6            the interfaces of networks whose containers are reached on their own addresses
allowed4, …6           (address . protocol . port): what is published there
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence

from hooper.api.network import Endpoint, Network, PortBinding
from hooper.linux import nftables as nft
from hooper.linux.netlink import Message
from hooper.linux.nftables import IFNAME, IPV4, IPV6, PORT, PROTOCOL, Element, Set
from hooper_net_bridge.options import Mode, Options
from hooper_net_bridge.ports import is_translated

PUBLISHED4 = Set("published4", (PROTOCOL, PORT), (IPV4, PORT))
PUBLISHED6 = Set("published6", (PROTOCOL, PORT), (IPV6, PORT))
PUBLISHED4_AT = Set("published4_at", (IPV4, PROTOCOL, PORT), (IPV4, PORT))
PUBLISHED6_AT = Set("published6_at", (IPV6, PROTOCOL, PORT), (IPV6, PORT))
BRIDGES = Set("bridges", (IFNAME,))
INTERNAL = Set("internal", (IFNAME,))
SAME = Set("same", (IFNAME, IFNAME))
LOCAL4 = Set("local4", (IPV4, IFNAME), interval=True)
LOCAL6 = Set("local6", (IPV6, IFNAME), interval=True)
MASQUERADED4 = Set("masqueraded4", (IPV4,), interval=True)
MASQUERADED6 = Set("masqueraded6", (IPV6,), interval=True)
SOURCES4 = Set("sources4", (IPV4,), (IPV4,), interval=True)
SOURCES6 = Set("sources6", (IPV6,), (IPV6,), interval=True)
OPEN4, OPEN6 = Set("open4", (IFNAME,)), Set("open6", (IFNAME,))
ROUTED4, ROUTED6 = Set("routed4", (IFNAME,)), Set("routed6", (IFNAME,))
ALLOWED4 = Set("allowed4", (IPV4, PROTOCOL, PORT))
ALLOWED6 = Set("allowed6", (IPV6, PROTOCOL, PORT))

PUBLISHED = (PUBLISHED4, PUBLISHED6, PUBLISHED4_AT, PUBLISHED6_AT)
ENDPOINTS = (*PUBLISHED, ALLOWED4, ALLOWED6)
"""What has elements for endpoints; the others are about networks."""
SETS = (
    *PUBLISHED, BRIDGES, INTERNAL, SAME, LOCAL4, LOCAL6, MASQUERADED4, MASQUERADED6,
    SOURCES4, SOURCES6, OPEN4, OPEN6, ROUTED4, ROUTED6, ALLOWED4, ALLOWED6,
)  # fmt: skip

Entry = tuple[Set, Element]
"""An element and where it belongs."""

_RAW, _DESTINATION, _FILTER, _SOURCE = -300, -100, 0, 100
_BASE_CHAINS = (
    ("guard", "filter", "prerouting", _RAW),
    ("prerouting", "nat", "prerouting", _DESTINATION),
    ("output", "nat", "output", _DESTINATION),
    ("postrouting", "nat", "postrouting", _SOURCE),
    ("forward", "filter", "forward", _FILTER),
)
_ANY = ("", "0.0.0.0", "::")
_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
_LOOPBACK6 = ipaddress.IPv6Address("::1").packed


def load(table: str) -> list[Message]:
    """Makes the table, or gives an existing one today's rules; the elements of its sets stay."""
    messages = [nft.add_table(table), nft.add_chain(table, "publish")]
    messages += [nft.add_base_chain(table, *chain) for chain in _BASE_CHAINS]
    messages += [nft.add_set(table, made, number) for number, made in enumerate(SETS, 1)]
    rules = _rules()
    messages += [nft.flush_chain(table, chain) for chain in rules]
    messages += [nft.add_rule(table, chain, rule) for chain, listed in rules.items() for rule in listed]
    return messages


def _rules() -> dict[str, list[list[bytes]]]:
    return {
        "guard": [_guard()],
        "publish": [*_publish(4), *_publish(6)],
        "prerouting": [[nft.jump("publish")]],
        "output": [[nft.jump("publish")]],
        "postrouting": _postrouting(),
        "forward": _forward(),
    }


def _family(version: int) -> list[bytes]:
    protocol = socket.AF_INET if version == 4 else socket.AF_INET6
    return [nft.meta("nfproto"), nft.equal(bytes([protocol]))]


def _address(version: int, *, source: bool) -> bytes:
    if version == 4:
        return nft.network_header(12 if source else 16, 4)
    return nft.network_header(8 if source else 24, 16)


def _guard() -> list[bytes]:
    """With route_localnet a container could reach what listens on the host's loopback alone."""
    loopback = [nft.network_header(16, 1), nft.equal(b"\x7f")]
    return [nft.meta("iifname"), nft.lookup(BRIDGES), *_family(4), *loopback, nft.verdict(nft.DROP)]


def _publish(version: int) -> list[list[bytes]]:
    width = 1 if version == 4 else 4
    first = nft.REGISTER
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    send = nft.destination_nat(family, first, first + width)
    after = first + width
    at_address = [
        *_family(version),
        _address(version, source=False),
        nft.meta("l4proto", after),
        nft.transport_header(2, 2, after + 1),
        nft.lookup(PUBLISHED4_AT if version == 4 else PUBLISHED6_AT),
        send,
    ]
    # The kernel takes no answer for ::1 from outside: what is sent there is a relay's.
    beyond = [] if version == 4 else [_address(6, source=False), nft.unequal(_LOOPBACK6)]
    anywhere = [
        *_family(version),
        *beyond,
        *nft.destination_is_local(),
        nft.meta("l4proto"),
        nft.transport_header(2, 2, first + 1),
        nft.lookup(PUBLISHED4 if version == 4 else PUBLISHED6),
        send,
    ]
    return [at_address, anywhere]


def _postrouting() -> list[list[bytes]]:
    """What stays on its bridge keeps its source, unless it was sent there by a published port: the answer
    would go to the asker directly, from an address that it has not asked."""
    rules = []
    for version, local, masqueraded, sources in (
        (4, LOCAL4, MASQUERADED4, SOURCES4),
        (6, LOCAL6, MASQUERADED6, SOURCES6),
    ):
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        after = nft.REGISTER + (1 if version == 4 else 4)
        source = [*_family(version), _address(version, source=True)]
        at_home = [*source, nft.meta("oifname", after), nft.lookup(local)]
        rules += [
            [*at_home, *nft.conntrack_has("status", nft.DESTINATION_NAT), nft.masquerade()],
            [*at_home, nft.leave_chain()],
            [*source, nft.lookup(sources), nft.source_nat(family, nft.REGISTER)],
            [*source, nft.lookup(masqueraded), nft.masquerade()],
        ]
    loopback = [*_family(4), nft.network_header(12, 1), nft.equal(b"\x7f")]
    return [*rules, [*loopback, nft.meta("oifname"), nft.lookup(BRIDGES), nft.masquerade()]]


def _forward() -> list[list[bytes]]:
    pair = [nft.meta("iifname"), nft.meta("oifname", nft.REGISTER + 4), nft.lookup(SAME)]
    accept, drop = nft.verdict(nft.ACCEPT), nft.verdict(nft.DROP)
    to_bridge = [nft.meta("oifname"), nft.lookup(BRIDGES)]
    return [
        [*nft.conntrack_has("state", nft.ESTABLISHED_RELATED), accept],
        [*pair, accept],
        [nft.meta("iifname"), nft.lookup(INTERNAL), drop],
        [nft.meta("oifname"), nft.lookup(INTERNAL), drop],
        [*to_bridge, *nft.conntrack_has("status", nft.DESTINATION_NAT), accept],
        *_direct(4),
        *_direct(6),
        [*to_bridge, drop],
    ]


def _direct(version: int) -> list[list[bytes]]:
    """Who may reach containers on their own addresses."""
    width = 1 if version == 4 else 4
    icmp = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    family, to_interface, accept = _family(version), nft.meta("oifname"), nft.verdict(nft.ACCEPT)
    service = [
        _address(version, source=False),
        nft.meta("l4proto", nft.REGISTER + width),
        nft.transport_header(2, 2, nft.REGISTER + width + 1),
        nft.lookup(ALLOWED4 if version == 4 else ALLOWED6),
    ]
    routed = nft.lookup(ROUTED4 if version == 4 else ROUTED6)
    return [
        [*family, to_interface, nft.lookup(OPEN4 if version == 4 else OPEN6), accept],
        [*family, to_interface, routed, nft.meta("l4proto"), nft.equal(bytes([icmp])), accept],
        [*family, *service, accept],
    ]


def network_entries(network: Network, bridge: str, options: Options) -> list[Entry]:
    """What a network puts in the sets."""
    name = nft.interface(bridge)
    entries: list[Entry] = [(BRIDGES, Element(name)), (SAME, Element(name + name))]
    entries += [(SAME, Element(nft.interface(trusted) + name)) for trusted in options.trusted]
    for mode, four, six in ((Mode.UNPROTECTED, OPEN4, OPEN6), (Mode.ROUTED, ROUTED4, ROUTED6)):
        entries += [
            (where, Element(name)) for version, where in ((4, four), (6, six)) if options.modes[version] is mode
        ]
    if network.internal:
        entries.append((INTERNAL, Element(name)))
    for pool in network.pools:
        subnet = ipaddress.ip_network(pool.subnet)
        first, last = subnet.network_address, subnet.broadcast_address
        local, masqueraded = (LOCAL4, MASQUERADED4) if subnet.version == 4 else (LOCAL6, MASQUERADED6)
        entries.append((local, Element(first.packed + name, end=last.packed + name)))
        if not options.masquerade or network.internal or not options.modes[subnet.version].translates:
            continue
        if source := options.sources[subnet.version]:
            fixed = SOURCES4 if subnet.version == 4 else SOURCES6
            entries.append((fixed, Element(first.packed, ipaddress.ip_address(source).packed, (last + 1).packed)))
        else:
            entries.append((masqueraded, Element(first.packed, end=(last + 1).packed)))
    return entries


def port_entries(endpoint: Endpoint, ports: Iterable[PortBinding]) -> list[Entry]:
    """What an endpoint's published ports, with their real host ports, put in the maps."""
    return [_port_entry(endpoint, port) for port in ports if is_translated(endpoint, port)]


def _port_entry(endpoint: Endpoint, port: PortBinding) -> Entry:
    version6 = ":" in port.host_ip
    address = ipaddress.ip_address((endpoint.address6 if version6 else endpoint.address).partition("/")[0]).packed
    protocol, inner = bytes([_PROTOCOLS[port.protocol]]), port.container_port.to_bytes(2, "big")
    if not port.host_port:
        return (ALLOWED6 if version6 else ALLOWED4), Element(nft.concat(address, protocol, inner))
    target = nft.concat(address, inner)
    where, key = key_of(port.protocol, port.host_ip, port.host_port)
    return where, Element(key, target)


def key_of(protocol: str, address: str, port: int) -> tuple[Set, bytes]:
    """Where a port of the host is published, and under which key."""
    service = bytes([_PROTOCOLS[protocol]]), port.to_bytes(2, "big")
    version6 = ":" in address
    if address in _ANY:
        return (PUBLISHED6 if version6 else PUBLISHED4), nft.concat(*service)
    return (PUBLISHED6_AT if version6 else PUBLISHED4_AT), nft.concat(ipaddress.ip_address(address).packed, *service)


def target_address(where: Set, element: Element) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The container's address in an element of one of ENDPOINTS."""
    held = element.data[: where.data[0].length] if where.data else element.key[: where.key[0].length]
    return ipaddress.ip_address(held)


def add(table: str, entries: Sequence[Entry]) -> list[Message]:
    return [nft.add_elements(table, where, [element]) for where, element in entries]


def delete(table: str, entries: Sequence[Entry]) -> list[Message]:
    return [nft.delete_elements(table, where, [element]) for where, element in entries]
