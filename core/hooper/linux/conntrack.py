"""Forgetting tracked connections (ctnetlink; include/uapi/linux/netfilter/nfnetlink_conntrack.h).

A flow keeps the address translation that its first packet met. A UDP client that goes on sending would so
miss a port that is published later, and keep one that is not published any more.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

from hooper.linux.netlink import NETLINK_NETFILTER, NLM_F_DUMP, Message, NetlinkSocket, attribute, nested, parse

_SUBSYSTEM = 1
_GET, _DELETE = 1, 2
_ORIGINAL, _REPLY, _ID = 1, 2, 12
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_SOURCES, _PROTO_NUMBER, _DESTINATION_PORT = (1, 3), 1, 3
_NO_ENTRY = (errno.ENOENT, errno.ESTALE)


class Flow(NamedTuple):
    protocol: int
    """IPPROTO_UDP…"""
    port: int
    """Where the first packet was sent to, before any translation."""
    answered_by: str
    """The address of whoever it really reaches."""


def forget(unwanted: Callable[[Flow], bool]) -> int:
    """Deletes the flows, of both families, that are `unwanted`; returns how many.

    Raises OSError: EINVAL where the kernel cannot list flows (no nf_conntrack_netlink).
    """
    count = 0
    with NetlinkSocket(NETLINK_NETFILTER) as sock:
        for family in (socket.AF_INET, socket.AF_INET6):
            header = struct.pack("=BBH", family, 0, 0)
            for body in sock.query(Message(_SUBSYSTEM << 8 | _GET, NLM_F_DUMP, header)):
                parts = dict(parse(body[4:]))
                flow = _flow(family, parts)
                if flow is None or not unwanted(flow):
                    continue
                which = nested(_ORIGINAL, parts[_ORIGINAL]) + attribute(_ID, parts[_ID])
                count += _delete(sock, header + which)
    return count


def _delete(sock: NetlinkSocket, body: bytes) -> bool:
    try:
        sock.request([Message(_SUBSYSTEM << 8 | _DELETE, 0, body)])
    except OSError as error:
        if error.errno in _NO_ENTRY:
            return False
        raise
    return True


def _flow(family: int, parts: dict[int, bytes]) -> Flow | None:
    original, reply = dict(parse(parts.get(_ORIGINAL, b""))), dict(parse(parts.get(_REPLY, b"")))
    protocol, addresses = dict(parse(original.get(_TUPLE_PROTO, b""))), dict(parse(reply.get(_TUPLE_IP, b"")))
    source = next((addresses[kind] for kind in _SOURCES if kind in addresses), None)
    if source is None or _DESTINATION_PORT not in protocol:
        return None
    port = int.from_bytes(protocol[_DESTINATION_PORT], "big")
    return Flow(protocol[_PROTO_NUMBER][0], port, socket.inet_ntop(family, source))
