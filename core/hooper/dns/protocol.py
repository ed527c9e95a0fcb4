"""What the daemon and the resolver say to each other.

A SOCK_SEQPACKET unix socket; one datagram is one message (msgpack, tagged). Each request is answered by a `Done` with
its number, in order. The resolver listens on `SOCKET` in the daemon's exec root, in the hands of at most one process,
the one that holds the lock of `LOCK`.
"""

from __future__ import annotations

import msgspec

ADDRESS = "127.0.0.11"
"""Where containers find their name server."""

VERSION = 1
"""Of these messages. A resolver that hears another ends, and the daemon starts its own."""

SOCKET = "dns.sock"
LOCK = "dns.lock"
MESSAGE_MAX = 128 * 1024
"""Bytes; SO_SNDBUF's usual default is 208 KiB."""


class Message(msgspec.Struct, tag=True, omit_defaults=True):
    pass


class Place(msgspec.Struct, omit_defaults=True):
    """A container's place in a network whose members find each other by name."""

    network_id: str
    network: str
    """Its name: members may also be asked for as MEMBER.NETWORK."""
    names: list[str]
    """How the others find it; the first is its own."""
    addresses: list[str] = []
    """Without prefix length."""
    links: dict[str, str] = {}
    """Names that only this container knows, to names in the network."""


class Served(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A container that asks, and may be asked for."""

    id: str
    places: list[Place] = []
    """In the order in which its questions are tried."""
    servers: list[str] = []
    """Addresses to ask for other names, from the container's own network namespace; empty: the host's servers, from
    the host's."""
    outside: bool = True
    """The host's servers may be asked for it; not so for a container of internal networks alone."""
    ndots: bool = False
    """Its user chose ndots: a name without dots is for the search list, never for a server outside."""


class Hello(Message):
    version: int
    number: int = 0


class Serve(Message):
    """With a descriptor of the container's network namespace, except to change what is known of one already served.

    Known and the same namespace: the sockets there stay."""

    number: int
    served: Served


class Drop(Message):
    """Serve it no more. Answered when nothing holds its namespace any longer; harmless if it is not served."""

    number: int
    id: str


class Keep(Message):
    """Drop all but these."""

    number: int
    ids: list[str]


class Done(Message):
    """`error` is empty for success. `unknown`: a change of a container that is not served."""

    number: int
    error: str = ""
    unknown: bool = False


class Trouble(Message):
    """For the daemon's log."""

    text: str


Request = Hello | Serve | Drop | Keep
Report = Done | Trouble
