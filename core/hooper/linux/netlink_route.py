"""Links, addresses and routes: rtnetlink(7) messages, built by functions and sent by `NetlinkSocket`.

Addresses are text, as `ipaddress` takes it; interfaces are numbered unless a parameter says name.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from dataclasses import dataclass

from hooper.linux.netlink import (
    NETLINK_ROUTE,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    Message,
    NetlinkSocket,
    attribute,
    nested,
    parse,
    text,
    u32,
)

_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _GETROUTE = 24, 26

IFF_UP = 1
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_LINKINFO, _IFLA_AF_SPEC, _IFLA_NET_NS_FD = 18, 26, 28
_ADDR_GEN_MODE, _ADDR_GEN_NONE = 8, 1
IPV6_MIN_MTU = 1280
"""RFC 8200, section 5. The kernel has no IPv6 on a link with less."""
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_MACVLAN_MODE, _VLAN_ID = 1, 1
_IPVLAN_MODE, _IPVLAN_FLAGS = 1, 2
_VETH_PEER = 1
_BRPORT_MODE, _BRPORT_ISOLATED = 4, 33
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_NODAD = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_TABLE = 1, 4, 5, 15
_RT_TABLE_MAIN, _RTPROT_BOOT, _RTN_UNICAST = 254, 3, 1
_SCOPE_LINK = 253

MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}


@dataclass(frozen=True)
class Link:
    index: int
    name: str
    up: bool
    master: int
    kind: str
    """"bridge", "veth"…; "" for hardware and lo."""
    mac: str
    parent: int = 0
    """The link that it is made on, such as a VLAN's; 0: none."""


@dataclass(frozen=True)
class Address:
    index: int
    address: str
    """With the length of its prefix."""


@dataclass(frozen=True)
class Route:
    index: int
    destination: str
    """"0.0.0.0/0" for a default route."""
    gateway: str


def _mac(value: str) -> bytes:
    return bytes.fromhex(value.replace(":", ""))


def _packed(address: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def _ifinfo(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return _IFINFO.pack(0, 0, index, flags, change)


def new_bridge(name: str, *, mac: str = "", mtu: int = 0) -> Message:
    """Makes a bridge, up. EEXIST if the name is taken. `mtu` 0 is the kernel's default."""
    body = _ifinfo(0, IFF_UP, IFF_UP) + text(_IFLA_IFNAME, name)
    body += attribute(_IFLA_ADDRESS, _mac(mac)) if mac else b""
    body += u32(_IFLA_MTU, mtu) if mtu else b""
    body += nested(_IFLA_LINKINFO, text(_INFO_KIND, "bridge"))
    return Message(_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def new_veth(name: str, master: int, peer_name: str, netns: int, *, mac: str = "", mtu: int = 0) -> Message:
    """Makes a pair: `name`, up, on the bridge `master`, and the peer in `netns`.

    `mac` is the peer's; `netns` a descriptor. EEXIST if either name is taken. The peer is not up: a veth
    refuses that (ENOTCONN) until the pair is complete.
    """
    size = u32(_IFLA_MTU, mtu) if mtu else b""
    peer = _ifinfo() + text(_IFLA_IFNAME, peer_name) + size
    peer += attribute(_IFLA_ADDRESS, _mac(mac)) if mac else b""
    peer += u32(_IFLA_NET_NS_FD, netns)
    body = _ifinfo(0, IFF_UP, IFF_UP) + text(_IFLA_IFNAME, name) + size
    body += nested(_IFLA_LINKINFO, text(_INFO_KIND, "veth"), nested(_INFO_DATA, nested(_VETH_PEER, peer)))
    body += u32(_IFLA_MASTER, master) if master else b""
    return Message(_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def new_macvlan(name: str, parent: int, netns: int, mode: str, *, mac: str = "", mtu: int = 0) -> Message:
    """Makes a macvlan on `parent` in `netns` (a descriptor), not up. `mode` is one of MACVLAN_MODES.

    EBUSY if the parent is in use by something that excludes it; EEXIST if the name is taken there.
    """
    data = u32(_MACVLAN_MODE, MACVLAN_MODES[mode])
    return _new_child("macvlan", data, name, parent, netns, mac=mac, mtu=mtu)


def new_ipvlan(name: str, parent: int, netns: int, mode: str, *, flag: str = "bridge", mtu: int = 0) -> Message:
    """Likewise an ipvlan, which has its parent's MAC address. `mode`, `flag`: of IPVLAN_MODES and IPVLAN_FLAGS."""
    data = _u16(_IPVLAN_MODE, IPVLAN_MODES[mode]) + _u16(_IPVLAN_FLAGS, IPVLAN_FLAGS[flag])
    return _new_child("ipvlan", data, name, parent, netns, mtu=mtu)


def _new_child(kind: str, data: bytes, name: str, parent: int, netns: int, *, mac: str = "", mtu: int = 0) -> Message:
    body = _ifinfo() + text(_IFLA_IFNAME, name) + u32(_IFLA_LINK, parent) + u32(_IFLA_NET_NS_FD, netns)
    body += attribute(_IFLA_ADDRESS, _mac(mac)) if mac else b""
    body += u32(_IFLA_MTU, mtu) if mtu else b""
    body += nested(_IFLA_LINKINFO, text(_INFO_KIND, kind), nested(_INFO_DATA, data))
    return Message(_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def new_child_of_nothing(kind: str) -> Message:
    """Never makes anything: a kernel that has the kind says that the parent is missing (EINVAL), another that it
    does not have it (EOPNOTSUPP)."""
    body = _ifinfo() + nested(_IFLA_LINKINFO, text(_INFO_KIND, kind))
    return Message(_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def new_vlan(name: str, parent: int, number: int) -> Message:
    """Makes the VLAN (802.1Q) of that number on `parent`, up. EOPNOTSUPP if the kernel has no VLANs."""
    body = _ifinfo(0, IFF_UP, IFF_UP) + text(_IFLA_IFNAME, name) + u32(_IFLA_LINK, parent)
    body += nested(_IFLA_LINKINFO, text(_INFO_KIND, "vlan"), nested(_INFO_DATA, _u16(_VLAN_ID, number)))
    return Message(_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def new_dummy(name: str) -> Message:
    """Makes an interface that leads nowhere, up. EOPNOTSUPP if the kernel has none."""
    body = _ifinfo(0, IFF_UP, IFF_UP) + text(_IFLA_IFNAME, name) + nested(_IFLA_LINKINFO, text(_INFO_KIND, "dummy"))
    return Message(_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)


def _u16(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(2, sys.byteorder))


def set_up(index: int) -> Message:
    return Message(_NEWLINK, 0, _ifinfo(index, IFF_UP, IFF_UP))


def bridge_port(name: str, *, isolated: bool = False, hairpin: bool = False) -> Message:
    """Sets flags of a bridge's port. `isolated`: unable to reach the bridge's other isolated ports.
    `hairpin`: a frame may leave where it came in."""
    flags = attribute(_BRPORT_ISOLATED, bytes([isolated])) + attribute(_BRPORT_MODE, bytes([hairpin]))
    info = nested(_IFLA_LINKINFO, text(_INFO_SLAVE_KIND, "bridge"), nested(_INFO_SLAVE_DATA, flags))
    return Message(_NEWLINK, 0, _ifinfo() + text(_IFLA_IFNAME, name) + info)


def no_address_of_its_own(name: str) -> Message:
    """A link that is not in use yet will get no link-local IPv6 address, and so speak of none. EAFNOSUPPORT without
    IPv6, and for a link whose MTU is below IPV6_MIN_MTU."""
    mode = nested(socket.AF_INET6, attribute(_ADDR_GEN_MODE, bytes([_ADDR_GEN_NONE])))
    return Message(_NEWLINK, 0, _ifinfo() + text(_IFLA_IFNAME, name) + nested(_IFLA_AF_SPEC, mode))


def delete_link(name: str) -> Message:
    """ENODEV if there is none. Deleting one end of a veth pair deletes both."""
    return Message(_DELLINK, 0, _ifinfo() + text(_IFLA_IFNAME, name))


def add_address(index: int, address: str, *, on_link: bool = False) -> Message:
    """`address` with its prefix length. One that the interface has already is left as it is.

    IPv6 addresses are usable at once: duplicates are not looked for. `on_link`: valid on this link alone.
    """
    flags = u32(_IFA_FLAGS, _IFA_F_NODAD) if ":" in address else b""
    body = _address_body(index, address, _SCOPE_LINK if on_link else 0)
    return Message(_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, body + flags)


def delete_address(index: int, address: str) -> Message:
    """EADDRNOTAVAIL if the interface does not have it."""
    return Message(_DELADDR, 0, _address_body(index, address))


def _address_body(index: int, address: str, scope: int = 0) -> bytes:
    bare, _, length = address.partition("/")
    family, packed = _packed(bare)
    body = _IFADDR.pack(family, int(length), 0, scope, index)
    return body + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)


def add_default_route(index: int, gateway: str) -> Message:
    """Through `gateway`, which must be reachable on the interface; in place of the default route there is."""
    family, packed = _packed(gateway)
    body = _default(family, 0) + attribute(_RTA_GATEWAY, packed) + u32(_RTA_OIF, index)
    return Message(_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)


def add_default_link(index: int, version: int) -> Message:
    """A default route of IP version 4 or 6 that has no gateway: everybody is on the link."""
    body = _default(socket.AF_INET if version == 4 else socket.AF_INET6, _SCOPE_LINK) + u32(_RTA_OIF, index)
    return Message(_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, body)


def _default(family: int, scope: int) -> bytes:
    return _RTMSG.pack(family, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, scope, _RTN_UNICAST, 0)


def find_link(sock: NetlinkSocket, name: str) -> Link | None:
    """The link of that name, or None."""
    try:
        bodies = sock.query(Message(_GETLINK, 0, _ifinfo() + text(_IFLA_IFNAME, name)))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return _link(bodies[0])


def links(sock: NetlinkSocket) -> list[Link]:
    return [_link(body) for body in sock.query(Message(_GETLINK, NLM_F_DUMP, _ifinfo()))]


def _link(body: bytes) -> Link:
    _, _, index, flags, _ = _IFINFO.unpack_from(body)
    found = dict(parse(body[16:]))
    info = dict(parse(found.get(_IFLA_LINKINFO, b"")))
    return Link(
        index=index,
        name=_name(found.get(_IFLA_IFNAME, b"")),
        up=bool(flags & IFF_UP),
        master=int.from_bytes(found.get(_IFLA_MASTER, b""), sys.byteorder),
        kind=_name(info.get(_INFO_KIND, b"")),
        mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
        parent=int.from_bytes(found.get(_IFLA_LINK, b""), sys.byteorder),
    )


def _name(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def addresses(sock: NetlinkSocket) -> list[Address]:
    found = []
    for body in sock.query(Message(_GETADDR, NLM_F_DUMP, _IFADDR.pack(0, 0, 0, 0, 0))):
        family, length, _, _, index = _IFADDR.unpack_from(body)
        values = dict(parse(body[8:]))
        packed = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
        if packed and family in (socket.AF_INET, socket.AF_INET6):
            found.append(Address(index, f"{socket.inet_ntop(family, packed)}/{length}"))
    return found


def routes(sock: NetlinkSocket) -> list[Route]:
    """Unicast routes of the main table, both families."""
    found = []
    for body in sock.query(Message(_GETROUTE, NLM_F_DUMP, _RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0))):
        family, length, _, _, table, _, _, kind, _ = _RTMSG.unpack_from(body)
        if table != _RT_TABLE_MAIN or kind != _RTN_UNICAST or family not in (socket.AF_INET, socket.AF_INET6):
            continue
        values = dict(parse(body[12:]))
        zero = bytes(16 if family == socket.AF_INET6 else 4)
        destination = socket.inet_ntop(family, values.get(_RTA_DST, zero))
        gateway = socket.inet_ntop(family, values[_RTA_GATEWAY]) if _RTA_GATEWAY in values else ""
        found.append(
            Route(int.from_bytes(values.get(_RTA_OIF, b""), sys.byteorder), f"{destination}/{length}", gateway)
        )
    return found


def host_subnets() -> list[str]:
    """Subnets that this host uses: of its addresses and routes, without default routes and link-local ones."""
    with NetlinkSocket(NETLINK_ROUTE) as sock:
        used = {address.address for address in addresses(sock)}
        used |= {route.destination for route in routes(sock) if not route.destination.endswith("/0")}
    return sorted(subnet for subnet in used if not subnet.startswith("fe80:"))
