"""A container's first process in the foreground: its streams, its signals, its exit code."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

from hooper.api.errors import HooperError
from hooper.cli import terminal
from hooper.cli.errors import NoTerminal, report
from hooper.cli.pump import Pump
from hooper.cli.settings import setting
from hooper.client.api import ApiClient, Hijacked
from hooper.client.errors import ApiError, ConnectionFailed
from hooper.client.http import Response

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Foreground:
    """What is attached to a container. `streams` has some of stdin, stdout and stderr."""

    def __init__(self, client: ApiClient, container: str, streams: set[str], *, tty: bool, detach_keys: str) -> None:
        self.client, self.container, self.streams, self.tty = client, container, streams, tty
        self.keys_text = detach_keys or setting("detachKeys")
        self.keys = terminal.parse_keys(self.keys_text or terminal.DEFAULT_KEYS) if tty else b""

    def attach(self, *, logs: bool = False) -> Hijacked:
        """Opens the stream, before the start so that nothing is missed. `logs`: what came before is shown first."""
        query = dict.fromkeys(sorted(self.streams), True)
        return self.client.hijack(
            f"/containers/{self.container}/attach",
            {"stream": True, "logs": logs or None, "detachKeys": self.keys_text or None, **query},
        )

    def copy(self, stream: Hijacked, *, proxy_signals: bool) -> bool:
        """Copies until the output ends; True if the user detached."""
        outputs = frozenset(fd for fd, name in ((1, "stdout"), (2, "stderr")) if name in self.streams)
        stdin = "stdin" in self.streams
        pump = Pump(stream, framed=not self.tty, stdin=stdin, outputs=outputs, keys=self.keys)
        raw = terminal.raw_mode(terminal.STDIN) if self.tty and stdin and os.isatty(terminal.STDIN) else nullcontext()
        sizes = terminal.on_resize(self._resize) if self.tty else nullcontext()
        signals = forwarded_signals(self.client, self.container) if proxy_signals and not self.tty else nullcontext()
        with raw, sizes, signals:
            detached = pump.run()
        if detached:
            report("read escape sequence", prefix="")
        return detached

    def _resize(self, rows: int, columns: int) -> None:
        resize_tty(self.client, f"/containers/{self.container}/resize", rows, columns)


def check_tty(*, tty: bool, stdin: bool) -> None:
    """NoTerminal if a terminal is asked for and stdin, which is to be attached, is none."""
    if tty and stdin and not os.isatty(terminal.STDIN):
        raise NoTerminal("the input device is not a TTY", remedy="Leave out --tty, or run the command in a terminal.")


def resize_tty(client: ApiClient, path: str, rows: int, columns: int) -> None:
    """Gives a tty of the daemon the size of the user's. A process that is gone by then needs none."""
    if rows and columns:
        # The shared connection may be in the middle of something when the signal comes.
        fresh = client.sibling()
        terminal.tried_again(lambda: fresh.post(path, query={"h": rows, "w": columns}), HooperError)
        fresh.close()


@contextmanager
def forwarded_signals(client: ApiClient, container: str) -> Iterator[None]:
    """Signals that the client gets go to the container's first process instead, within the block."""

    def forward(number: int, _frame: FrameType | None) -> None:
        fresh = client.sibling()
        try:
            fresh.post(f"/containers/{container}/kill", query={"signal": signal.Signals(number).name})
        except (ApiError, ConnectionFailed):
            # The process ended first: its exit code is what matters now.
            return
        finally:
            fresh.close()

    previous = [(number, signal.signal(number, forward)) for number in _FORWARDED]
    try:
        yield
    finally:
        for number, handler in previous:
            signal.signal(number, handler)


RECONNECT_S = 30.0
"""How long a daemon that went away is looked for again."""


class Waiting:
    """A question for a container's exit code, asked; the daemon has taken note of it."""

    def __init__(self, client: ApiClient, container: str, condition: str) -> None:
        self._client, self._container, self._condition = client, container, condition
        self._response = self._ask(client, condition)

    def answer(self) -> bytes:
        """The daemon's answer, when there is one. A daemon that dies leaves its containers running, so that the one
        that comes after it is asked again."""
        try:
            return self._response.read()
        except (ConnectionFailed, OSError):
            pass  # asked again below
        finally:
            self._response.close()
        deadline = time.monotonic() + RECONNECT_S
        condition = self._condition if self._condition == "removed" else "not-running"
        while True:
            try:
                again = self._ask(self._client.sibling(), condition)
                try:
                    return again.read()
                finally:
                    again.close()
            except (ConnectionFailed, OSError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _ask(self, client: ApiClient, condition: str) -> Response:
        return client.stream("POST", f"/containers/{self._container}/wait", {"condition": condition})


def wait_for(client: ApiClient, container: str, condition: str) -> Waiting:
    """Asks for the exit code; the daemon has taken note when this returns, and answers when there is one."""
    return Waiting(client, container, condition)


def exit_code(waiting: Waiting) -> int:
    """The exit code that `wait_for` asked for; ApiError if the container could not be waited for."""
    import json

    answer = json.loads(waiting.answer())
    failure = answer.get("Error") or {}
    if failure.get("Message"):
        raise ApiError(500, failure["Message"])
    return int(answer["StatusCode"])
