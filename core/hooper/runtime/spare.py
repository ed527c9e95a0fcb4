"""Monitors that wait for a container, so that a start has to wait for neither their fork nor their network namespace.

One is forked in advance. Others have had a container before: a monitor whose container is over, and that has nothing
open any more, offers itself again, because its pages are its own already: a fork would have to copy them once more.
All of them end when the launcher does.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from hooper.api.errors import HooperError
from hooper.runtime import sandbox, wire
from hooper.runtime.protocol import NewNetns

QUIET_S = 0.02
"""A spare is forked when nothing has been asked of the launcher for so long: whoever starts many containers at once
needs the processors for those."""
IDLE_S = 30.0
"""After so long without a start all but one are sent away."""
MOST = 16
"""How many wait at most: as many as have ended a container while others were started."""


class Netns(NamedTuple):
    """A network namespace that was made in advance, and how."""

    fd: int
    made_as: NewNetns


class Told:
    """What a monitor has waited for: a Spawn, still encoded, the descriptors that came with it, and a namespace."""

    def __init__(self, data: bytes, fds: list[int], netns: Netns | None) -> None:
        self.data, self.fds, self.netns = data, fds, netns

    def taken(self) -> bytes:
        """The data, of which nothing is left here: it is more than a monitor keeps of it."""
        data, self.data = self.data, b""
        return data


# --- in the launcher ---


class Spares:
    """Those that wait."""

    def __init__(self, fork: Callable[[], socket.socket]) -> None:
        """`fork` makes one that has had no container, and returns the way to it; OSError if there can be none."""
        self._fork = fork
        self._waiting: list[socket.socket] = []
        self._offers, self.door = wire.pair()
        """What monitors offer themselves on: `door` is their end."""
        self._wants_one = True

    @property
    def channels(self) -> list[socket.socket]:
        """Those that are this process's alone."""
        return [*self._waiting, self._offers]

    def attend(self, channel: socket.socket) -> None:
        """Looks after them until something comes on the channel of the daemon, and no offer waits."""
        # Not select(), which takes no descriptor from 1024 on: the channel has the number that it has in the daemon.
        poll = select.poll()
        poll.register(channel, select.POLLIN)
        poll.register(self._offers, select.POLLIN)
        idle_from = time.monotonic() + IDLE_S
        while True:
            ready = {fd for fd, _ in poll.poll(self._patience_ms(idle_from))}
            if self._offers.fileno() in ready:
                self._take_offer()
            elif ready:
                return
            elif self._wants_one:
                self._add()
            else:
                self._send_away(self._waiting[:-1])

    def _send_away(self, channels: list[socket.socket]) -> None:
        for channel in channels:
            self._waiting.remove(channel)
            channel.close()

    def _patience_ms(self, idle_from: float) -> float | None:
        if self._wants_one:
            return QUIET_S * 1000
        return max(0.0, idle_from - time.monotonic()) * 1000 if len(self._waiting) > 1 else None

    def _add(self) -> None:
        self._wants_one = False  # also where it fails: whoever is to have a monitor will hear of it
        try:
            self._waiting.append(self._fork())
        except OSError:
            pass

    def _take_offer(self) -> None:
        try:
            received = wire.receive(self._offers)
        except HooperError:
            return  # there is no descriptor left to take it with, and so its sender ends
        for fd in received[1] if received else ():
            end = socket.socket(fileno=fd)
            if len(self._waiting) < MOST:
                self._waiting.append(end)
                self._wants_one = False
            else:
                end.close()

    def give(self, data: bytes, fds: list[int]) -> bool:
        """Passes a Spawn on to the one that has waited least; False if there is none."""
        while self._waiting:
            with self._waiting.pop() as channel:
                self._wants_one = not self._waiting
                try:
                    wire.send(channel, data, fds)
                except OSError:
                    continue
                return True
        self._wants_one = True
        return False


# --- in the process ---


def offer(door: socket.socket) -> socket.socket | None:
    """What to wait on; None if the launcher is gone."""
    ours, theirs = wire.pair()
    with theirs:
        try:
            wire.send(door, b"again", [theirs.fileno()])
        except OSError:
            ours.close()
            return None
    return ours


def wait(channel: socket.socket, like: NewNetns) -> Told | None:
    """Waits for a container, with a namespace as it probably needs; None if there will be none."""
    wire.name_process("hooper-spare")
    with channel:
        made = _netns(like)
        received = wire.receive(channel)
    if received is None:
        return None
    return Told(*received, made)


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
