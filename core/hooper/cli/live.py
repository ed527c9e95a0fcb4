"""`hooper top` without a container: all containers and what they use, kept up to date."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from hooper.api.errors import HooperError
from hooper.cli import terminal
from hooper.cli.errors import BOLD, RED, YELLOW, BadFlag, coloured
from hooper.cli.output import print_cells
from hooper.cli.pump import write_all
from hooper.cli.usage_rates import ORDERS, TITLES, Sampler, Usage
from hooper.cli.values import one_of
from hooper.client.api import ApiClient

_KEYS = {"c": "cpu", "m": "memory", "n": "net", "i": "io", "p": "pids", "a": "name"}
_QUIT = ("q", "Q", "\x03", "\x04")
_FOOT = "q quit   order: c CPU  m memory  n network  i disk I/O  p processes  a name   r reverse"
_ENTER, _LEAVE = b"\033[?1049h\033[?25l", b"\033[?25h\033[?1049l"
_WIDTHS = (6, 9, 5, 9, 9, 9, 10, 5)
"""Of the columns between the name and the status."""
_NAME, _STATUS = (12, 40), 15
_BUSY, _HOT = 50.0, 90.0
_FIRST = 0.5
"""Seconds until the second look: there are no rates before it."""


def watch(client: ApiClient, *, sort: str, interval: float, once: bool) -> None:
    """Shows all containers until the user has enough; plain lines where stdout is no terminal. BadFlag."""
    one_of("--sort", sort, tuple(ORDERS))
    if interval <= 0:
        raise BadFlag("--interval", str(interval), "it is not a number of seconds above 0", "--interval 2")
    if sys.stdout.isatty() and not once:
        with _screen() as wake:
            _Board(client, sort, interval, wake).run()
    else:
        _print(Sampler(client), sort, interval, once=once)


def _print(sampler: Sampler, sort: str, interval: float, *, once: bool) -> None:
    sampler.sample()
    time.sleep(min(interval, _FIRST))
    while True:
        print_cells([TITLES, *(usage.cells for usage in ordered(sampler.sample(), sort))])
        sys.stdout.flush()
        if once:
            return
        time.sleep(interval)


def ordered(found: Sequence[Usage], sort: str, *, reverse: bool = False) -> list[Usage]:
    """By one of ORDERS, and by name where that makes no difference."""
    key = ORDERS[sort]
    return sorted(found, key=lambda one: (key(one), one.name), reverse=reverse)


@contextmanager
def _screen() -> Iterator[int]:
    """The terminal's other screen, its keys one by one; yields a descriptor that is readable after a resize."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    handler = signal.signal(signal.SIGWINCH, _wake_up)
    interactive = os.isatty(terminal.STDIN)
    sys.stdout.flush()
    write_all(terminal.STDOUT, _ENTER)
    try:
        if interactive:
            with terminal.raw_mode(terminal.STDIN):
                yield reading
        else:
            yield reading
    finally:
        write_all(terminal.STDOUT, _LEAVE)
        signal.signal(signal.SIGWINCH, handler)
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)


def _wake_up(_number: int, _frame: FrameType | None) -> None:
    """The descriptor that is told of signals does the work."""


class _Board:
    """The live view: what is shown, in which order, and since when."""

    def __init__(self, client: ApiClient, sort: str, interval: float, wake: int) -> None:
        self._client, self._sampler = client, Sampler(client)
        self._sort, self._interval, self._wake = sort, interval, wake
        self._reverse = False
        self._found: list[Usage] = []
        self._trouble = ""

    def run(self) -> None:
        """Looks, draws and listens to keys until one of them ends it."""
        pause = min(_FIRST, self._interval)
        while True:
            self._look()
            until = time.monotonic() + pause
            pause = self._interval
            self._draw()
            while (left := until - time.monotonic()) > 0:
                if not self._listen(left):
                    return
                self._draw()

    def _look(self) -> None:
        try:
            self._found, self._trouble = self._sampler.sample(), ""
        except (HooperError, OSError) as error:
            # A daemon that is started anew answers again soon.
            self._trouble = str(error).partition("\n")[0]

    def _listen(self, seconds: float) -> bool:
        """Waits for a key, a resize or the end of the time; False if the user has enough."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if os.isatty(terminal.STDIN):
            poll.register(terminal.STDIN, select.POLLIN)
        for fd, _ in poll.poll(max(seconds * 1000, 1)):
            data = os.read(fd, 64)
            if fd == terminal.STDIN and (not data or not self._key(data.decode(errors="replace"))):
                return False
        return True

    def _key(self, keys: str) -> bool:
        if keys in ("\033", *_QUIT):
            return False
        for key in keys:
            self._sort = _KEYS.get(key, self._sort)
            self._reverse ^= key == "r"
        return True

    def _draw(self) -> None:
        rows, columns = terminal.size()
        rows, columns = rows or 24, columns or 80
        lines = [self._head()[:columns], "", coloured(_line(TITLES, columns), BOLD, sys.stdout)]
        shown = ordered(self._found, self._sort, reverse=self._reverse)
        room = max(rows - len(lines) - 1, 0)
        lines += [_coloured_row(usage, columns) for usage in shown[:room]]
        if len(shown) > room and room:
            lines[-1] = f"… and {len(shown) - room + 1} more"[:columns]
        lines += [""] * (rows - 1 - len(lines))
        text = "".join(f"{line}\033[K\r\n" for line in lines[: rows - 1])
        write_all(terminal.STDOUT, f"\033[H{text}{_FOOT[: columns - 1]}\033[K".encode())

    def _head(self) -> str:
        if self._trouble:
            return f"hooper top   {self._trouble}"
        total = sum(usage.cpu for usage in self._found)
        order = f"{self._sort}{' reversed' if self._reverse else ''}"
        clock = time.strftime("%H:%M:%S")
        return f"hooper top   {clock}   {len(self._found)} running   CPU {total:.1f} %   by {order}"


def _line(cells: Sequence[str], columns: int) -> str:
    """Cells at the widths of the board, cut at the edge of the terminal; names take what is left of it."""
    left = columns - sum(_WIDTHS) - len(_WIDTHS) - _STATUS
    name = min(max(left, _NAME[0]), _NAME[1])
    first = cells[0] if len(cells[0]) < name else f"{cells[0][: name - 2]}…"
    numbers = "".join(f"{cell:>{width}} " for cell, width in zip(cells[1:-1], _WIDTHS, strict=True))
    return f"{first:<{name}}{numbers} {cells[-1]}"[:columns]


def _coloured_row(usage: Usage, columns: int) -> str:
    line = _line(usage.cells, columns)
    if usage.cpu < _BUSY:
        return line
    return coloured(line, RED if usage.cpu >= _HOT else YELLOW, sys.stdout)
