"""Messages with descriptors on SOCK_SEQPACKET sockets; see `hooper.runtime.protocol`."""

from __future__ import annotations

import array
import fcntl
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from hooper.api.errors import Internal
from hooper.runtime.protocol import INLINE_MAX, Message

MAX_FDS = 253
"""SCM_MAX_FD, unix(7)."""

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_ANCILLARY = socket.CMSG_SPACE(MAX_FDS * 4)
_INT = array.array("i").itemsize
# Plain numbers: to combine the members of the module's enumeration takes longer than to send a message.
DONTWAIT = int(socket.MSG_DONTWAIT)
_NOSIGNAL, _CLOEXEC = int(socket.MSG_NOSIGNAL), int(socket.MSG_CMSG_CLOEXEC)
_TRUNCATED = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_RIGHTS = (int(socket.SOL_SOCKET), int(socket.SCM_RIGHTS))


def _to_wire(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _from_wire(kind: type, value: Any) -> Any:
    return kind(value)


_encoder = msgspec.msgpack.Encoder(enc_hook=_to_wire)
_json_encoder = msgspec.json.Encoder(enc_hook=_to_wire)


def decoder(types: Any) -> msgspec.msgpack.Decoder[Any]:
    """A decoder of one message type or a union of them."""
    return msgspec.msgpack.Decoder(types, dec_hook=_from_wire)


def encode(message: Message) -> bytes:
    """The message as it travels."""
    return _encoder.encode(message)


def pack(value: Any) -> msgspec.Raw:
    """A value to be unpacked later than the message that it is part of."""
    return msgspec.Raw(_encoder.encode(value))


def to_json(value: Any) -> bytes:
    """For what travels as an argument or lies in a file."""
    return _json_encoder.encode(value)


def from_json(data: bytes, kind: Any) -> Any:
    """The inverse of `to_json`."""
    return msgspec.json.decode(data, type=kind, dec_hook=_from_wire)


def _ancillary(fds: Sequence[int]) -> list[tuple[int, int, array.array[int]]]:
    return [(*_RIGHTS, array.array("i", fds))] if fds else []


def send(sock: socket.socket, data: bytes, fds: Sequence[int] = (), flags: int = 0) -> None:
    """Sends one encoded message. OSError if the peer is gone; BlockingIOError on a full socket."""
    if len(data) <= INLINE_MAX:
        sock.sendmsg([data], _ancillary(fds), flags | _NOSIGNAL)
        return
    sealed = os.memfd_create("hooper-message", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(sealed, view) :]
        fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, _SEALS)
        sock.sendmsg([b""], _ancillary([sealed, *fds]), flags | _NOSIGNAL)
    finally:
        os.close(sealed)


def _received(sock: socket.socket, flags: int) -> Any:
    try:
        return sock.recvmsg(INLINE_MAX, _ANCILLARY, flags)
    except ConnectionResetError:
        # The peer ended without having read all. The kernel says so once, before it gives what the peer had sent.
        return sock.recvmsg(INLINE_MAX, _ANCILLARY, flags)


def receive(sock: socket.socket, flags: int = 0) -> tuple[bytes, list[int]] | None:
    """One message, still encoded, and its descriptors, now the caller's; None at the end.

    Internal if it was truncated: too many descriptors, or none left in this process.
    """
    try:
        data, ancillary, status, _ = _received(sock, flags | _CLOEXEC)
    except ConnectionResetError:
        return None
    fds = array.array("i")
    for level, kind, rights in ancillary:
        if (level, kind) == _RIGHTS:
            fds.frombytes(rights[: len(rights) - len(rights) % _INT])
    if status & _TRUNCATED:
        close_all(fds)
        raise Internal(
            "cannot receive a message", "it came truncated", "Raise the limit of open files (RLIMIT_NOFILE)."
        )
    if data:
        return data, list(fds)
    if not fds:
        return None
    try:
        return _contents(fds[0]), list(fds[1:])
    finally:
        os.close(fds[0])


def _contents(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    parts = []
    offset = 0
    while offset < size:
        part = os.pread(fd, size - offset, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
    return b"".join(parts)


def close_all(fds: Sequence[int]) -> None:
    """Closes descriptors."""
    for fd in fds:
        os.close(fd)


def name_process(name: str) -> None:
    """The name that ps shows for this process; 15 bytes at most."""
    fd = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, name.encode())
    finally:
        os.close(fd)


def pair() -> tuple[socket.socket, socket.socket]:
    """A connected pair; both ends are closed at exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
