"""Forks, and the channel to a forked process that waits to be told what to become."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence

from hooper.runtime import wire


def fork(become: Callable[[], None], closing: Sequence[socket.socket]) -> None:
    """Forks a process whose life `become` is. It closes what is the parent's alone, first of all.

    OSError if there can be no further process.
    """
    if os.fork():
        return
    code = 1
    try:
        for end in closing:
            end.close()
        become()
        code = 0
    finally:
        os._exit(code)


def descriptors() -> set[int]:
    """Those that this process has open."""
    # The one that the listing itself needs is among them, and closed by now.
    return {fd for fd in map(int, os.listdir("/proc/self/fd")) if _is_open(fd)}


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


class Forked:
    """A process that reads from a channel, and ends when that is closed."""

    def __init__(self, live: Callable[[socket.socket], None], closing: Sequence[socket.socket]) -> None:
        """Forks it; `live` is its life, on its end. See `fork`."""
        self.channel, theirs = wire.pair()
        try:
            with theirs:
                fork(lambda: live(theirs), [*closing, self.channel])
        except OSError:
            self.channel.close()
            raise

    def give(self, data: bytes, fds: Sequence[int]) -> bool:
        """Passes a message on; the caller still closes its own descriptors. False if the process is gone."""
        try:
            wire.send(self.channel, data, fds)
        except OSError:
            return False
        return True
