"""nftables without its program or library: messages, and transactions over nfnetlink.

The names of expressions and attributes are the kernel's (include/uapi/linux/netfilter/nf_tables.h). All
numbers in messages are big-endian; register contents have the byte order that each expression gives them.
A transaction is one batch: all of it takes effect at once, or nothing does.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hooper.linux.netlink import (
    NETLINK_NETFILTER,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_DUMP,
    Message,
    NetlinkSocket,
    attribute,
    nested,
    parse,
    text,
)

INET = 1
"""NFPROTO_INET: a table of both families."""

_SUBSYSTEM = 10
_NEWTABLE, _GETTABLE, _DELTABLE = 0, 1, 2
_NEWCHAIN, _GETCHAIN = 3, 4
_NEWRULE, _DELRULE = 6, 8
_NEWSET = 9
_NEWSETELEM, _GETSETELEM, _DELSETELEM = 12, 13, 14

_INTERVAL, _MAP, _CONCAT = 0x4, 0x8, 0x80
_INTERVAL_END = 1

HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
ACCEPT, DROP = 1, 0
_JUMP, _RETURN = -3, -5


def be32(kind: int, value: int) -> bytes:
    """A number attribute."""
    return attribute(kind, value.to_bytes(4, "big", signed=value < 0))


class Type(NamedTuple):
    """A type of data: nft's number for it, so that the program can show the set, and its length in bytes."""

    number: int
    length: int


IPV4 = Type(7, 4)
IPV6 = Type(8, 16)
PROTOCOL = Type(12, 1)
PORT = Type(13, 2)
IFNAME = Type(41, 16)


def _padded(length: int) -> int:
    return length + 3 & ~3


@dataclass(frozen=True)
class Set:
    """A set, or with `data` a map, of concatenated types."""

    name: str
    key: tuple[Type, ...]
    data: tuple[Type, ...] = ()
    interval: bool = False

    def flags(self) -> int:
        return (
            (_INTERVAL if self.interval else 0) | (_MAP if self.data else 0) | (_CONCAT if self._ranged_concat() else 0)
        )

    def _ranged_concat(self) -> bool:
        return self.interval and len(self.key) > 1


def _length(types: tuple[Type, ...]) -> int:
    return types[0].length if len(types) == 1 else sum(_padded(one.length) for one in types)


def _number(types: tuple[Type, ...]) -> int:
    number = 0
    for one in types:
        number = number << 6 | one.number
    return number


def concat(*fields: bytes) -> bytes:
    """A concatenated key or datum: each field is padded to registers of four bytes."""
    return b"".join(field.ljust(_padded(len(field)), b"\0") for field in fields)


def interface(name: str) -> bytes:
    """An interface's name as an IFNAME field."""
    return name.encode().ljust(16, b"\0")


class Element(NamedTuple):
    """`end`: in a set of intervals, the last key (inclusive) of a concatenated one, else the first key
    beyond."""

    key: bytes
    data: bytes = b""
    end: bytes = b""


# --- messages -------------------------------------------------------------------------------------


def _message(kind: int, flags: int, *attributes: bytes) -> Message:
    body = struct.pack("=BBH", INET, 0, 0) + b"".join(attributes)
    return Message(_SUBSYSTEM << 8 | kind, flags, body, ack=False)


def add_table(table: str) -> Message:
    """Makes a table; one that exists is left as it is."""
    return _message(_NEWTABLE, NLM_F_CREATE, text(1, table), be32(2, 0))


def delete_table(table: str) -> Message:
    """With all that is in it. ENOENT if there is none."""
    return _message(_DELTABLE, 0, text(1, table))


def add_chain(table: str, chain: str) -> Message:
    """A chain to jump to."""
    return _message(_NEWCHAIN, NLM_F_CREATE, text(1, table), text(3, chain))


def add_base_chain(table: str, chain: str, kind: str, hook: str, priority: int) -> Message:
    """A chain that a hook calls, with policy accept. `kind` is filter or nat."""
    where = nested(4, be32(1, HOOKS[hook]), be32(2, priority))
    return _message(_NEWCHAIN, NLM_F_CREATE, text(1, table), text(3, chain), text(7, kind), be32(5, ACCEPT), where)


def flush_chain(table: str, chain: str) -> Message:
    """Removes its rules."""
    return _message(_DELRULE, 0, text(1, table), text(2, chain))


_HOST_BYTE_ORDER = struct.pack("=BBI", 0, 4, 1)
"""Without this user data the nft program shows interfaces' names backwards."""


def add_set(table: str, made: Set, number: int) -> Message:
    """`number` tells the sets of one transaction apart."""
    parts = [text(1, table), text(2, made.name), be32(3, made.flags()), be32(4, _number(made.key))]
    parts.append(be32(5, _length(made.key)))
    if made.data:
        parts += [be32(6, _number(made.data)), be32(7, _length(made.data))]
    if made.interval and len(made.key) > 1:
        parts.append(nested(9, nested(2, *(nested(1, be32(1, one.length)) for one in made.key))))
    parts.append(be32(10, number))
    if made.key == (IFNAME,):
        parts.append(attribute(13, _HOST_BYTE_ORDER))
    return _message(_NEWSET, NLM_F_CREATE, *parts)


def add_elements(table: str, where: Set, elements: Iterable[Element]) -> Message:
    """EBUSY if a map has a key with other data; the same element again is harmless."""
    return _elements(_NEWSETELEM, NLM_F_CREATE, table, where, elements)


def delete_elements(table: str, where: Set, elements: Iterable[Element]) -> Message:
    """ENOENT if one is missing."""
    return _elements(_DELSETELEM, 0, table, where, elements)


def _elements(kind: int, flags: int, table: str, where: Set, elements: Iterable[Element]) -> Message:
    listed = b"".join(_element(where, element) for element in elements)
    return _message(kind, flags, text(1, table), text(2, where.name), nested(3, listed))


def _element(where: Set, element: Element) -> bytes:
    parts = [nested(1, attribute(1, element.key))]
    if where.data:
        parts.append(nested(2, attribute(1, element.data)))
    if not where.interval:
        return nested(1, *parts)
    if len(where.key) > 1:
        return nested(1, *parts, nested(10, attribute(1, element.end)))
    return nested(1, *parts) + nested(1, be32(3, _INTERVAL_END), nested(1, attribute(1, element.end)))


def add_rule(table: str, chain: str, expressions: Sequence[bytes]) -> Message:
    """Appends a rule."""
    return _message(_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, text(1, table), text(2, chain), nested(4, *expressions))


# --- expressions ----------------------------------------------------------------------------------
# Register 1 has 16 bytes; 8…23 are registers of 4 bytes over the same store: 8 is the start of 1.

REGISTER = 8
_META = {"nfproto": 15, "l4proto": 16, "iifname": 6, "oifname": 7}
_CT = {"state": 0, "status": 2}
ESTABLISHED_RELATED = 0x2 | 0x4
DESTINATION_NAT = 1 << 5
"""IPS_DST_NAT, a bit of ct status."""


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *attributes))


def meta(key: str, register: int = REGISTER) -> bytes:
    """Loads nfproto, l4proto, iifname or oifname."""
    return _expression("meta", be32(2, _META[key]), be32(1, register))


def network_header(offset: int, length: int, register: int = REGISTER) -> bytes:
    return _expression("payload", be32(1, register), be32(2, 1), be32(3, offset), be32(4, length))


def transport_header(offset: int, length: int, register: int = REGISTER) -> bytes:
    return _expression("payload", be32(1, register), be32(2, 2), be32(3, offset), be32(4, length))


def unequal(value: bytes, register: int = REGISTER) -> bytes:
    """Goes on only if the register does not begin with `value`."""
    return _expression("cmp", be32(1, register), be32(2, 1), nested(3, attribute(1, value)))


def equal(value: bytes, register: int = REGISTER) -> bytes:
    """Goes on only if the register begins with `value`."""
    return _expression("cmp", be32(1, register), be32(2, 0), nested(3, attribute(1, value)))


def conntrack_has(key: str, mask: int) -> list[bytes]:
    """Goes on only if `state` or `status` has one of the bits."""
    none = bytes(4)
    return [
        _expression("ct", be32(2, _CT[key]), be32(1, REGISTER)),
        _expression(
            "bitwise",
            be32(1, REGISTER),
            be32(2, REGISTER),
            be32(3, 4),
            nested(4, attribute(1, mask.to_bytes(4, sys.byteorder))),
            nested(5, attribute(1, none)),
        ),
        _expression("cmp", be32(1, REGISTER), be32(2, 1), nested(3, attribute(1, none))),
    ]


def destination_is_local() -> list[bytes]:
    """Goes on only if the destination is an address of this host (fib daddr type local)."""
    load = _expression("fib", be32(1, REGISTER), be32(2, 3), be32(3, 2))
    return [load, equal((2).to_bytes(4, sys.byteorder))]


def lookup(where: Set, register: int = REGISTER) -> bytes:
    """Goes on only if the set has the key that begins at the register; a map's datum then replaces it."""
    data = [be32(3, register)] if where.data else []
    return _expression("lookup", text(1, where.name), be32(2, register), *data)


def load(value: bytes, register: int) -> bytes:
    """Puts a constant into the register."""
    return _expression("immediate", be32(1, register), nested(2, attribute(1, value)))


def destination_nat(family: int, address: int, port: int) -> bytes:
    """Sends the connection to the address and port in these registers."""
    return _expression("nat", be32(1, 1), be32(2, family), be32(3, address), be32(5, port))


def source_nat(family: int, address: int) -> bytes:
    """Lets the connection come from the address in this register."""
    return _expression("nat", be32(1, 0), be32(2, family), be32(3, address))


def masquerade() -> bytes:
    return _expression("masq")


def verdict(code: int) -> bytes:
    """ACCEPT or DROP."""
    return _expression("immediate", be32(1, 0), nested(2, nested(2, be32(1, code))))


def leave_chain() -> bytes:
    """The verdict "return"."""
    return verdict(_RETURN)


def jump(chain: str) -> bytes:
    return _expression("immediate", be32(1, 0), nested(2, nested(2, be32(1, _JUMP), text(2, chain))))


# --- transactions and questions -------------------------------------------------------------------

_BATCH_BODY = struct.pack(">BBH", 0, 0, _SUBSYSTEM)
_BEGIN = Message(16, 0, _BATCH_BODY, ack=False)
_END = Message(17, 0, _BATCH_BODY, ack=False)


@dataclass(frozen=True)
class Chain:
    family: int
    """NFPROTO: 1 inet, 2 IPv4, 10 IPv6."""
    table: str
    name: str
    hook: int | None
    """One of HOOKS' values for a base chain of these families."""
    policy: int


class Nftables:
    """A socket to the packet filter of one network namespace (None: the caller's)."""

    def __init__(self, netns: int | None = None) -> None:
        self._socket = NetlinkSocket(NETLINK_NETFILTER, netns)

    def commit(self, messages: Sequence[Message]) -> None:
        """All of the messages as one transaction. Raises OSError, and nothing has changed."""
        self._socket.request([_BEGIN, *messages[:-1], messages[-1]._replace(ack=True), _END])

    def has_table(self, table: str) -> bool:
        try:
            self._socket.query(_message(_GETTABLE, 0, text(1, table)))
        except FileNotFoundError:
            return False
        return True

    def elements(self, table: str, where: Set) -> list[Element]:
        """What a set or map holds; of intervals the first keys alone. Raises FileNotFoundError."""
        found = []
        for body in self._socket.query(_message(_GETSETELEM, NLM_F_DUMP, text(1, table), text(2, where.name))):
            listed = dict(parse(body[4:])).get(3, b"")
            found += [one for _, raw in parse(listed) if (one := _read_element(raw))]
        return found

    def chains(self) -> list[Chain]:
        """Those of every table, ours or not."""
        query = Message(_SUBSYSTEM << 8 | _GETCHAIN, NLM_F_DUMP, bytes(4))
        return [_read_chain(body) for body in self._socket.query(query)]

    def close(self) -> None:
        self._socket.close()


def _read_element(raw: bytes) -> Element | None:
    values = dict(parse(raw))
    if int.from_bytes(values.get(3, b""), "big") & _INTERVAL_END:
        return None
    datum = dict(parse(values.get(2, b""))).get(1, b"")
    return Element(dict(parse(values.get(1, b""))).get(1, b""), datum, dict(parse(values.get(10, b""))).get(1, b""))


def _read_chain(body: bytes) -> Chain:
    values = dict(parse(body[4:]))
    hook = dict(parse(values[4])) if 4 in values else {}
    return Chain(
        family=body[0],
        table=values.get(1, b"").rstrip(b"\0").decode(),
        name=values.get(3, b"").rstrip(b"\0").decode(),
        hook=int.from_bytes(hook[1], "big") if 1 in hook else None,
        policy=int.from_bytes(values.get(5, b"\0\0\0\1"), "big"),
    )
