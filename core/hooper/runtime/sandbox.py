"""A network namespace for a container."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

from hooper.api.errors import InvalidArgument
from hooper.linux import syscalls
from hooper.runtime.protocol import NewNetns

_PROC_SYS = "/proc/sys/"
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_IFREQ = "16sH22x"


def make(how: NewNetns) -> int:
    """A descriptor of a new namespace with lo up; the caller stays in its own.

    InvalidArgument for a sysctl that is not of the network's, not known or not accepted.
    """
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        try:
            made = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                _furnish(how)
            except BaseException:
                os.close(made)
                raise
            return made
        finally:
            syscalls.setns(home, syscalls.CLONE_NEWNET)
    finally:
        os.close(home)


def _furnish(how: NewNetns) -> None:
    if how.disable_ipv6:
        for scope in ("all", "default"):
            try:
                _write(f"net/ipv6/conf/{scope}/disable_ipv6", "1")
            except FileNotFoundError:
                # A kernel without IPv6.
                break
    _link_up(b"lo")
    for name, value in how.sysctls.items():
        _set(name, value)


def _link_up(name: bytes) -> None:
    """netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, struct.pack(_IFREQ, name, 0))
        flags = struct.unpack(_IFREQ, answer)[1]
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack(_IFREQ, name, flags | _IFF_UP))


def _set(name: str, value: str) -> None:
    path = name if "/" in name else name.replace(".", "/")
    what = f'cannot set sysctl "{name}" to "{value}"'
    if not path.startswith("net/") or ".." in path.split("/"):
        raise InvalidArgument(
            what, "it is not one of the network namespace", 'Only names that begin with "net." can be set.'
        )
    try:
        _write(path, value)
    except OSError as error:
        raise InvalidArgument(what, error.strerror or str(error), "Correct the name or the value.") from error


def _write(path: str, value: str) -> None:
    fd = os.open(_PROC_SYS + path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
