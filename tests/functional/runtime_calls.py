"""Functions that the tests of the workers call."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

from hooper.api.errors import Conflict


def echo(arguments: Any, fds: Sequence[int]) -> Any:
    return arguments


def pids(arguments: Any, fds: Sequence[int]) -> list[int]:
    return [os.getpid(), os.getppid()]


def copy(arguments: Any, fds: Sequence[int]) -> int:
    data = os.read(fds[0], 100)
    return os.write(fds[1], data.upper())


def conflict(arguments: Any, fds: Sequence[int]) -> None:
    raise Conflict("what", "why", "remedy")


def bug(arguments: Any, fds: Sequence[int]) -> None:
    if "root" in arguments:
        os.chroot(arguments["root"])
    raise ZeroDivisionError("zero")


def die(arguments: Any, fds: Sequence[int]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave(arguments: Any, fds: Sequence[int]) -> None:
    os._exit(0)


def hang(arguments: Any, fds: Sequence[int]) -> None:
    os.write(fds[0], str(os.getpid()).encode())
    time.sleep(100)
