"""A process of a container that the monitor waits for, with its streams."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from hooper.api.isolation import Process
from hooper.runtime.loop import Loop
from hooper.runtime.streams import Ends, Log, Streams

HELD_OPEN_S = 2.0
"""How long output is awaited that an orphan of the process may still write."""
STALLED_S = 2.0
"""How long the end is held back for a client that takes nothing of what waits for it."""
_CHECKS = 4


class Owned:
    """`on_drained` is called once: the process has ended and all its output has been taken, before any client
    sees the end. Then `on_over`, once: the output is where it belongs or its clients stand still. `on_idle` is
    called when the last client has gone, which may be later."""

    def __init__(
        self,
        loop: Loop,
        ends: Ends,
        *,
        tty: bool,
        stdin: bool,
        stdin_once: bool,
        log: Log | None,
        on_drained: Callable[[Owned], None],
        on_over: Callable[[Owned], None],
        on_idle: Callable[[], None],
        on_detached: Callable[[], None],
    ) -> None:
        self._loop, self._on_drained, self._on_over, self._on_idle = loop, on_drained, on_over, on_idle
        self.streams = Streams(
            loop,
            ends,
            tty=tty,
            stdin=stdin,
            stdin_once=stdin_once,
            log=log,
            on_drained=self._drained,
            on_flushed=self._flushed,
            on_detached=on_detached,
        )
        self.process = Process(pid=0)
        self.exit_code = 0
        self.ended_ns = 0
        self.over = False
        self._is_drained = False
        self._timer = 0

    @property
    def running(self) -> bool:
        """It was made and has not been reaped."""
        return self.process.pid > 0 and not self.ended_ns

    def made(self, process: Process, size: tuple[int, int] | None) -> None:
        """The backend made it. `size` is (height, width) of its terminal."""
        self.process = process
        self.streams.opened(process)
        if size is not None:
            self.streams.resize(*size)

    def exited(self, status: int) -> None:
        """It was reaped with this wait status."""
        code = os.waitstatus_to_exitcode(status)
        self.exit_code = code if code >= 0 else 128 - code
        self.ended_ns = time.time_ns()
        self._timer = self._loop.call_later(HELD_OPEN_S, self.streams.cut)
        self.streams.ended()

    def _drained(self) -> None:
        self._loop.cancel(self._timer)
        self._tell_drained()
        self.streams.finish()
        if not self.over:
            self._timer = self._loop.call_later(STALLED_S / _CHECKS, lambda: self._check(self.streams.pending, _CHECKS))

    def _tell_drained(self) -> None:
        if not self._is_drained:
            self._is_drained = True
            self._on_drained(self)

    def end_now(self) -> None:
        """Whatever it is at: it is over, and has been told so."""
        if self.running:
            self.exited(signal.SIGKILL)
        if not self.over:
            self.streams.cut()
        self._tell_drained()
        self._end()

    def _check(self, pending: int, left: int) -> None:
        now = self.streams.pending
        if now < pending:
            left = _CHECKS + 1
        if left <= 1:
            self._end()
            return
        self._timer = self._loop.call_later(STALLED_S / _CHECKS, lambda: self._check(now, left - 1))

    def _flushed(self) -> None:
        self._end()
        self._on_idle()

    def _end(self) -> None:
        self._loop.cancel(self._timer)
        if not self.over:
            self.over = True
            self._on_over(self)
