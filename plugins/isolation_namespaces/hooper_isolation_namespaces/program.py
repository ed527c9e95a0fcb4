"""Finding and executing a program, with Docker's words for what goes wrong."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Sequence
from typing import NoReturn

from hooper.api.errors import StartFailed
from hooper.linux import syscalls as sys

_WHAT = "unable to start container process"
NOT_FOUND, NOT_EXECUTABLE = 127, 126


def environment(env: Sequence[str], home: str) -> dict[str, str]:
    """The environment as a mapping, with HOME where it is missing."""
    found = {}
    for item in env:
        name, given, value = item.partition("=")
        if given and name:
            found[name] = value
    if not found.get("HOME"):
        found["HOME"] = home or "/"
    return found


def find(name: str, path: str) -> str:
    """The file that `name` stands for: itself if it has a slash, else the first in `path` that can be executed.

    StartFailed as the contract of `IsolationBackend.start` says.
    """
    if "/" in name:
        _check_file(name)
        return name
    for directory in path.split(":") if name else ():
        candidate = os.path.join(directory or ".", name)
        try:
            found = os.stat(candidate)
        except OSError:
            continue
        if not stat.S_ISDIR(found.st_mode) and found.st_mode & 0o111:
            return candidate
    raise StartFailed(
        _WHAT,
        f'exec: "{name}": executable file not found in $PATH',
        "Check the command's spelling, and that the image has it.",
        NOT_FOUND,
    )


def _check_file(name: str) -> None:
    try:
        mode = os.stat(name).st_mode
    except OSError as error:
        code = NOT_EXECUTABLE if error.errno == errno.EACCES else NOT_FOUND
        raise StartFailed(_WHAT, f'exec: "{name}": stat {name}: {_text(error)}', "", code) from None
    if stat.S_ISDIR(mode):
        raise StartFailed(_WHAT, f'exec: "{name}": is a directory', "Name a program.", NOT_EXECUTABLE)
    if not mode & 0o111:
        raise StartFailed(
            _WHAT, f'exec: "{name}": permission denied', "Make the file executable (chmod +x).", NOT_EXECUTABLE
        )


def _text(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()


def execute(args: Sequence[str], env: dict[str, str]) -> NoReturn:
    """Becomes the program. StartFailed if it cannot."""
    path = find(args[0] if args else "", env.get("PATH", ""))
    try:
        os.execve(path, list(args), env)
    except OSError as error:
        name = args[0]
        if error.errno == errno.EACCES:
            raise StartFailed(_WHAT, f'exec: "{name}": permission denied', "", NOT_EXECUTABLE) from None
        code = NOT_FOUND if error.errno in (errno.ENOENT, errno.ENOTDIR) else NOT_EXECUTABLE
        remedy = ""
        if error.errno == errno.ENOEXEC:
            remedy = "The program is for another architecture, or a script without a #! line."
        elif error.errno == errno.ENOENT:
            remedy = "The interpreter that the file names in its first line or header is missing in the image."
        raise StartFailed(_WHAT, f"exec {path}: {_text(error)}", remedy, code) from None


def reset_signals() -> None:
    """Default actions and nothing blocked: what Python ignores (SIGPIPE) the program would ignore too."""
    signal.set_wakeup_fd(-1)
    sys.default_signals()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
