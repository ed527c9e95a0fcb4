"""Lets containers go that end while no daemon is there to say so.

A socket keeps its network namespace alive, with all links in it. So as long as no daemon is connected, a process in
each served namespace is watched; when it ends and none other is found, the container is dropped.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from hooper.dns.serving import Clients
from hooper.linux.syscalls import pidfd_open
from hooper.runtime.loop import READ, Loop

GRACE_S = 10.0
"""A container that was being started when the daemon died may not have its first process yet."""


class Orphans:
    """`dropped` is called after containers were let go."""

    def __init__(self, loop: Loop, clients: Clients, dropped: Callable[[], None]) -> None:
        self._loop, self._clients, self._dropped = loop, clients, dropped
        self._watched: dict[str, int] = {}
        """Container id to pidfd."""
        self._timer = 0

    def found(self) -> None:
        """A daemon is there: it knows who lives."""
        self._loop.cancel(self._timer)
        for pidfd in self._watched.values():
            self._loop.unwatch(pidfd)
            os.close(pidfd)
        self._watched.clear()

    def lost(self) -> None:
        """The daemon is gone."""
        if self._watch():
            self._timer = self._loop.call_later(GRACE_S, self._sweep)

    def _watch(self) -> set[str]:
        """Watches a process of each container that has none watched; returns those for which there is none."""
        missing = {
            namespace: container_id
            for container_id, namespace in self._clients.namespaces().items()
            if container_id not in self._watched
        }
        for pid in os.listdir("/proc") if missing else ():
            namespace = _namespace(pid) if pid.isdigit() else None
            if namespace in missing and (pidfd := _opened(int(pid))) >= 0:
                container_id = missing.pop(namespace)
                self._watched[container_id] = pidfd
                self._loop.watch(pidfd, READ, partial(self._ended, container_id))
        return set(missing.values())

    def _ended(self, container_id: str, _: int) -> None:
        pidfd = self._watched.pop(container_id)
        self._loop.unwatch(pidfd)
        os.close(pidfd)
        self._sweep()

    def _sweep(self) -> None:
        """A process that is about to end may be found again; then its end is heard once more."""
        gone = self._watch()
        for container_id in gone:
            self._clients.drop(container_id)
        if gone:
            self._dropped()


def _namespace(pid: str) -> tuple[int, int] | None:
    """None for a process that has ended."""
    try:
        status = os.stat(f"/proc/{pid}/ns/net")
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _opened(pid: int) -> int:
    """A pidfd, or -1 if the process has ended."""
    try:
        return pidfd_open(pid)
    except OSError:
        return -1
