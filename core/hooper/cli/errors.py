"""Errors and exit codes of the command line, in one place."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from hooper.api.errors import HooperError, InvalidArgument

GENERIC = 1
USAGE = 125
"""A flag that is unknown or has a bad value, and any failure of the daemon under `run` and `create`."""
NOT_EXECUTABLE = 126
NOT_FOUND = 127
RED, BOLD, DIM, GREEN, YELLOW = 31, 1, 2, 32, 33


class BadFlag(InvalidArgument):
    """A flag's value cannot be understood. `example` is a flag with a good value."""

    def __init__(self, flag: str, value: str, why: str, example: str = "") -> None:
        remedy = f"For example: {example}" if example else ""
        super().__init__(f'invalid argument "{value}" for {flag}', why, remedy)


class NoTerminal(InvalidArgument):
    """A terminal is needed, and there is none."""


def start_failure_code(text: str, otherwise: int = USAGE) -> int:
    """The code that a shell would give for a process that could not be started, told from the daemon's text.

    `otherwise` is the code of every other failure.
    """
    lowered = text.lower()
    if any(
        sign in lowered for sign in ("executable file not found", "no such file or directory", "system cannot find")
    ):
        return NOT_FOUND
    if any(sign in lowered for sign in ("permission denied", "is a directory", "not a directory", "exec format")):
        return NOT_EXECUTABLE
    return otherwise


def report(error: HooperError | str, prefix: str = "hooper: ") -> None:
    """Tells the user what went wrong, or something else that is no output, on stderr."""
    sys.stdout.flush()
    print(f"{coloured(prefix, RED)}{error}", file=sys.stderr)
    if client := getattr(error, "client", None):
        from hooper.cli.suggest import nearest

        if near := nearest(client, str(error)):
            print(f"Did you mean {near}?", file=sys.stderr)


LEVELS = ("debug", "info", "warn", "error", "fatal")
_level = "info"


def set_level(level: str) -> None:
    """The least weight of what is told besides errors; BadFlag for none of LEVELS."""
    global _level
    if level not in LEVELS:
        raise BadFlag("--log-level", level, f"it is none of {', '.join(LEVELS)}", "--log-level warn")
    _level = level


def debugging() -> bool:
    """Whether the user wants to know every detail."""
    return _level == "debug"


def warn(text: str) -> None:
    """Tells the user, on stderr, of something that is no error; not from the level error on."""
    if LEVELS.index(_level) <= LEVELS.index("warn"):
        report(f"{coloured('WARNING: ', YELLOW)}{text}")


def coloured(text: str, code: int, stream: TextIO | None = None) -> str:
    """`text` in a colour (an SGR code) if `stream` (stderr by default) is a terminal that shows some.

    NO_COLOR, if set to anything, forbids it (https://no-color.org).
    """
    stream = sys.stderr if stream is None else stream
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty()
    return text if plain or not text else f"\033[{code}m{text}\033[0m"
