"""Netlink sockets and messages, without a library (netlink(7); kernel Documentation/userspace-api/netlink).

A request is a batch: several messages in one `sendmsg`. The kernel handles a batch before `sendmsg`
returns, so the answers are there at once and nothing here ever waits for them.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800

NLA_F_NESTED = 0x8000
_NLA_TYPE = 0x3FFF

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_CAPPED = 0x100
_HAS_TEXT = 0x200
_ERROR_TEXT = 1

_SOL_NETLINK = 270
_CAP_ACK = 10
_EXT_ACK = 11
_RECEIVE = 1 << 17
_CLONE_NEWNET = 0x40000000

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")

_libc = ctypes.CDLL(None, use_errno=True)


class Message(NamedTuple):
    """One request: `body` is the family's fixed header followed by attributes. `ack` False: errors only."""

    type: int
    flags: int
    body: bytes
    ack: bool = True


def attribute(kind: int, value: bytes) -> bytes:
    """A padded attribute (struct nlattr)."""
    length = len(value)
    return _ATTRIBUTE.pack(length + 4, kind) + value + _PADDING[length & 3]


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """A string attribute, ended by a zero byte."""
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    """An unsigned number in the host's byte order."""
    return attribute(kind, value.to_bytes(4, sys.byteorder))


def parse(data: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
    """The attributes in `data`: (type without flags, value)."""
    offset, end = 0, len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            return
        yield kind & _NLA_TYPE, bytes(data[offset + 4 : offset + length])
        offset += length + 3 & ~3


class NetlinkSocket:
    """A socket of one netlink family; safe for use by several threads.

    `netns` is a descriptor of the network namespace that it works in (borrowed for this call), None for
    the caller's.
    """

    def __init__(self, protocol: int, netns: int | None = None) -> None:
        if netns is None:
            self._socket = _open(protocol)
        else:
            with entered(netns):
                self._socket = _open(protocol)
        self._sequence = itertools.count(1)
        self._lock = threading.Lock()

    def request(self, messages: Sequence[Message]) -> None:
        """Sends a batch. Raises OSError, with the kernel's text, for the first message that failed.

        The kernel goes on after a message that failed, unless the family has transactions.
        """
        with self._lock:
            first = next(self._sequence)
            numbers = itertools.chain([first], self._sequence)
            pairs = [(next(numbers), message) for message in messages]
            self._socket.send(b"".join([_encode(message, number) for number, message in pairs]))
            waiting = {number for number, message in pairs if message.ack}
            failure = self._collect(first, waiting)
        if failure:
            raise failure

    def _collect(self, first: int, waiting: set[int]) -> OSError | None:
        failure: OSError | None = None
        while True:
            try:
                data = self._socket.recv(_RECEIVE)
            except BlockingIOError:
                if waiting and failure is None:
                    return OSError(errno.EPROTO, "netlink: the kernel did not acknowledge a message")
                return failure
            for kind, flags, number, body in _messages(data):
                if number < first or kind != _NLMSG_ERROR:
                    continue
                waiting.discard(number)
                failure = failure or error_of(flags, body)

    def query(self, message: Message) -> list[bytes]:
        """The bodies that answer one message: all of a dump's, or the one asked for. Raises OSError."""
        with self._lock:
            number = next(self._sequence)
            self._socket.send(_encode(message._replace(ack=False), number))
            bodies: list[bytes] = []
            while True:
                for kind, flags, sequence, body in _messages(self._socket.recv(_RECEIVE)):
                    if sequence != number:
                        continue
                    if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                        if failure := error_of(flags, body):
                            raise failure
                        return bodies
                    bodies.append(body)
                if message.flags & NLM_F_DUMP != NLM_F_DUMP:
                    return bodies

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open(protocol: int) -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
    try:
        made.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        made.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
    except OSError:
        made.close()
        raise
    return made


def _encode(message: Message, number: int) -> bytes:
    kind, flags, body, ack = message
    flags |= NLM_F_REQUEST | (NLM_F_ACK if ack else 0)
    return _HEADER.pack(len(body) + 16, kind, flags, number, 0) + body + _PADDING[len(body) & 3]


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    offset, end = 0, len(data)
    while offset + 16 <= end:
        length, kind, flags, number, _ = _HEADER.unpack_from(data, offset)
        yield kind, flags, number, data[offset + 16 : offset + length]
        offset += length + 3 & ~3


def error_of(flags: int, body: bytes) -> OSError | None:
    """What an NLMSG_ERROR or NLMSG_DONE says; None for success."""
    code = -int.from_bytes(body[:4], sys.byteorder, signed=True) if len(body) >= 4 else 0
    if code <= 0:
        return None
    said = os.strerror(code)
    if flags & _HAS_TEXT:
        start = 20 if flags & _CAPPED else 4 + int.from_bytes(body[4:8], sys.byteorder)
        for kind, value in parse(body[start:]):
            if kind == _ERROR_TEXT:
                said = f"{said} ({value.rstrip(bytes(1)).decode(errors='replace')})"
    return OSError(code, said)


@contextmanager
def entered(netns: int) -> Iterator[None]:
    """Moves this thread into a network namespace and back. Nothing may be awaited within.

    Raises OSError. The home namespace belongs to the thread, so other threads do not notice.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(netns)
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)


def _setns(netns: int) -> None:
    if _libc.setns(netns, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")
