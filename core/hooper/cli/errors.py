"""Errors and exit codes of the command line, in one place."""

from __future__ import annotations

import sys

from hooper.api.errors import HooperError, InvalidArgument

GENERIC = 1
USAGE = 125
"""A flag that is unknown or has a bad value, and any failure of the daemon under `run` and `create`."""
NOT_EXECUTABLE = 126
NOT_FOUND = 127


class BadFlag(InvalidArgument):
    """A flag's value cannot be understood. `example` is a flag with a good value."""

    def __init__(self, flag: str, value: str, why: str, example: str = "") -> None:
        remedy = f"For example: {example}" if example else ""
        super().__init__(f'invalid argument "{value}" for {flag}', why, remedy)


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


def report(error: HooperError | str) -> None:
    """Tells the user what went wrong, on stderr."""
    sys.stdout.flush()
    print(f"hooper: {error}", file=sys.stderr)
