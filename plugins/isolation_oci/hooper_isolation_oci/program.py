"""Running the runtime program, and understanding what it says."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hooper.api.errors import HooperError, Internal, StartFailed
from hooper.api.isolation import Stdio

_WHAT = "unable to start container process"
_NOT_FOUND = ("executable file not found", "no such file or directory", "not a directory")
_NOT_EXECUTABLE = ("permission denied", "is a directory", "exec format error")


class LogLine(msgspec.Struct):
    """A line of the program's log (--log-format json)."""

    level: str = ""
    msg: str = ""


_line = msgspec.json.Decoder(LogLine)


def find(name: str) -> str | None:
    """The program's path: `name` itself if it has a slash, else the first in $PATH."""
    if "/" in name:
        return name if os.access(name, os.X_OK) else None
    for directory in os.environ.get("PATH", os.defpath).split(":"):
        candidate = os.path.join(directory, name)
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
    return None


def run(path: str, arguments: Sequence[str], stdio: Stdio) -> int:
    """Runs a program to its end and returns its exit code; missing descriptors are /dev/null."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        actions = [
            (os.POSIX_SPAWN_DUP2, null if fd is None else fd, number)
            for number, fd in enumerate((stdio.stdin, stdio.stdout, stdio.stderr))
        ]
        pid = os.posix_spawn(
            path,
            [path, *arguments],
            os.environ,
            file_actions=actions,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
    finally:
        os.close(null)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def last_error(log: Path) -> str:
    """The last error in the program's log; empty if there is none."""
    try:
        lines = log.read_bytes().splitlines()
    except FileNotFoundError:
        return ""
    found = ""
    for line in lines:
        try:
            entry = _line.decode(line)
        except msgspec.DecodeError:
            continue
        if entry.level in ("error", "fatal"):
            found = entry.msg
    return found


def start_failure(message: str) -> HooperError:
    """What the program said about a process that it could not start, as an error with Docker's text."""
    if not message:
        return Internal(_WHAT, "the runtime program failed and did not say why")
    _, found, why = message.partition(f"{_WHAT}: ")
    why = why if found else message
    code = 128
    if why.startswith("exec"):
        if any(text in why for text in _NOT_FOUND):
            code = 127
        elif any(text in why for text in _NOT_EXECUTABLE):
            code = 126
    return StartFailed(_WHAT, why, "", code)
