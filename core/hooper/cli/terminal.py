"""The user's terminal: raw mode that is always undone, its size, and the keys that detach."""

from __future__ import annotations

import os
import signal
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from hooper.cli.errors import BadFlag

STDIN, STDOUT, STDERR = 0, 1, 2
DEFAULT_KEYS = "ctrl-p,ctrl-q"
_ENDING = (signal.SIGTERM, signal.SIGHUP)
_CONTROL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


@contextmanager
def raw_mode(fd: int) -> Iterator[None]:
    """The terminal `fd` passes on every key as it is; afterwards it is as before, whatever ends the block."""
    before = termios.tcgetattr(fd)
    handlers = [(number, signal.signal(number, _leave)) for number in _ENDING]
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        for number, handler in handlers:
            signal.signal(number, handler)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def size() -> tuple[int, int]:
    """(rows, columns) of the terminal on stdout or stdin; (0, 0) if there is none."""
    for fd in (STDOUT, STDIN):
        try:
            columns, rows = os.get_terminal_size(fd)
        except OSError:
            continue
        return rows, columns
    return 0, 0


@contextmanager
def on_resize(resize: Callable[[int, int], object]) -> Iterator[None]:
    """Calls `resize(rows, columns)` now and whenever the terminal's size changes, within the block."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        resize(*size())

    previous = signal.signal(signal.SIGWINCH, handle)
    try:
        handle(signal.SIGWINCH, None)
        yield
    finally:
        signal.signal(signal.SIGWINCH, previous)


def tried_again(action: Callable[[], object], errors: type[Exception], times: int = 10, pause: float = 0.01) -> None:
    """Runs `action` until it succeeds, `times` at most: a terminal may not be there yet just after a start."""
    for _ in range(times):
        try:
            action()
        except errors:
            time.sleep(pause)
        else:
            return


def parse_keys(text: str) -> bytes:
    """The bytes of "ctrl-p,ctrl-q" or "a,b"; BadFlag."""
    codes = []
    for key in text.split(","):
        letter = key.removeprefix("ctrl-")
        if key != letter and len(letter) == 1 and (letter.lower().isalpha() and letter.isascii()):
            codes.append(ord(letter.lower()) - 96)
        elif key != letter and letter in _CONTROL:
            codes.append(_CONTROL[letter])
        elif len(key) == 1 and key.isascii():
            codes.append(ord(key))
        else:
            raise BadFlag(
                "--detach-keys", text, f'"{key}" is neither a letter nor ctrl-LETTER', "--detach-keys ctrl-a,d"
            )
    return bytes(codes)


class DetachKeys:
    """Looks for a sequence of keys in what is typed; keys that turn out not to be it go through."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what goes through, whether the sequence is complete)."""
        out = bytearray()
        for byte in data:
            if self._keys and byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    return bytes(out), True
                continue
            out += self._keys[: self._matched]
            self._matched = 0
            if self._keys and byte == self._keys[0]:
                self._matched = 1
            else:
                out.append(byte)
        return bytes(out), False
