"""Whether the other end of a connection has read what was sent to it.

Clients of Python's http.client lose what comes into their buffer together with a head: nothing may follow the head of
a raw stream before the client has taken it.
"""

from __future__ import annotations

import fcntl
import socket
import sys

_SIOCOUTQ = 0x5411
"""unix(7): bytes that the peer has not read."""
PAUSES = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Seconds between looks: a client that waits for a head has it after the first ones, on a busy host after a later one;
after the last nobody waits."""


def is_unread(sock: socket.socket) -> bool:
    """False for clients on other hosts, of whom it cannot be known."""
    if sock.family != socket.AF_UNIX:
        return False
    return int.from_bytes(fcntl.ioctl(sock, _SIOCOUTQ, bytes(4)), sys.byteorder) > 0
