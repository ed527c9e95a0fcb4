"""A monitor that is forked before there is a container for it, with a network namespace, so that a start waits for
neither. It ends when the launcher does."""

from __future__ import annotations

import os
import select
import socket
from typing import NamedTuple

from hooper.runtime import sandbox, wire
from hooper.runtime.protocol import NewNetns

QUIET_S = 0.02
"""The launcher forks a spare when nothing has been asked of it for so long: whoever starts many containers at once
needs the processors for those."""


class Netns(NamedTuple):
    """A network namespace that was made in advance, and how."""

    fd: int
    made_as: NewNetns


def is_quiet(channel: socket.socket) -> bool:
    """Waits for the next message, for `QUIET_S` at most; whether there was none."""
    # Not select(), which takes no descriptor from 1024 on: the channel has the number that it has in the daemon.
    waiting = select.poll()
    waiting.register(channel, select.POLLIN)
    return not waiting.poll(QUIET_S * 1000)


def wait(channel: socket.socket, like: NewNetns) -> tuple[bytes, list[int], Netns | None] | None:
    """In the process: the Spawn that comes one day, still encoded, its descriptors and a namespace; None if the
    launcher has ended."""
    wire.name_process("hooper-spare")
    with channel:
        made = _netns(like)
        received = wire.receive(channel)
    return None if received is None else (*received, made)


def _netns(like: NewNetns) -> Netns | None:
    try:
        return Netns(sandbox.make(like), like)
    except Exception:
        return None  # whoever needs one makes it, and tells what is wrong


def taken(made: Netns | None, wanted: NewNetns | None) -> int | None:
    """The descriptor of the namespace, if it is as it is wanted; otherwise it is closed."""
    if made is None:
        return None
    if made.made_as == wanted:
        return made.fd
    os.close(made.fd)
    return None
