"""A small event loop on epoll: descriptors, timers and the end of children."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
CLOSED = select.EPOLLHUP | select.EPOLLERR
"""The peer is gone in both directions; always watched for."""

Callback = Callable[[int], None]


class Loop:
    """`on_error` takes what a callback raises; the loop goes on."""

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callback] = {}
        self._events: dict[int, int] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._timer_ids = 0
        self._on_error = on_error
        self._stopped = False
        self._wakeup: tuple[int, int] | None = None

    def watch(self, fd: int, events: int, callback: Callback) -> None:
        """Calls back with the events that happened; watching again changes events and callback."""
        if fd not in self._events:
            self._epoll.register(fd, events)
        elif self._events[fd] != events:
            self._epoll.modify(fd, events)
        self._events[fd] = events
        self._callbacks[fd] = callback

    def unwatch(self, fd: int) -> None:
        """To be called before the descriptor is closed; harmless if it is not watched."""
        if self._events.pop(fd, None) is not None:
            del self._callbacks[fd]
            self._epoll.unregister(fd)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> int:
        """Returns a number for `cancel`."""
        self._timer_ids += 1
        self._timers.append((time.monotonic() + seconds, self._timer_ids, callback))
        self._timers.sort(key=lambda timer: timer[:2])
        return self._timer_ids

    def cancel(self, timer: int) -> None:
        """Harmless after it has run."""
        self._timers = [kept for kept in self._timers if kept[1] != timer]

    def watch_children(self, callback: Callable[[], None]) -> None:
        """Calls back when a child may have ended. For one loop of a process at a time."""
        reader, writer = self._wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

        def woken(_: int) -> None:
            os.read(reader, 512)
            callback()

        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _ignore)
        self.watch(reader, READ, woken)

    def stop(self) -> None:
        """`run` returns after the present callback."""
        self._stopped = True

    def close(self) -> None:
        """The end of the loop; children that end from now on are nobody's concern."""
        if self._wakeup is not None:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            for fd in self._wakeup:
                os.close(fd)
        self._epoll.close()

    def run(self) -> None:
        """Goes on until `stop`."""
        while not self._stopped:
            for fd, events in self._epoll.poll(self._timeout()):
                callback = self._callbacks.get(fd)
                if callback is not None and not self._stopped:
                    self._call(callback, events)
            self._run_timers()

    def _timeout(self) -> float:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now and not self._stopped:
            callback = self._timers.pop(0)[2]
            self._call(lambda _, run=callback: run(), 0)  # type: ignore[misc]

    def _call(self, callback: Callback, events: int) -> None:
        try:
            callback(events)
        # One broken exchange must not end the owner of a container.
        except Exception as error:
            self._on_error(error)


def _ignore(*_: object) -> None:
    """A handler, so that the signal wakes the loop up."""
