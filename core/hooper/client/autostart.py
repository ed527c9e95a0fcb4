"""Starts a daemon on demand, so that hooper works without anything having been set up."""

from __future__ import annotations

import os
import socket
import sys
import time

from hooper.client.address import Address
from hooper.client.errors import ConnectionFailed

_PATIENCE = 15.0
_POLL = 0.01


def connect(address: Address, *, start: bool) -> socket.socket:
    """A connection to the daemon at `address`; the caller closes it.

    With `start`, a daemon is started where none answers, and awaited for 15 s at most.
    ConnectionFailed says why there is no connection.
    """
    try:
        return address.connect()
    except ConnectionFailed as failure:
        if not start or not isinstance(failure.__cause__, FileNotFoundError | ConnectionRefusedError):
            raise
    directory = os.path.dirname(address.path)
    with _Lock(os.path.join(directory, "autostart.lock")):
        return _start(address, os.path.join(directory, "daemon.log"))


class _Lock:
    """An exclusive lock on a file, so that two clients start one daemon."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> None:
        import fcntl

        try:
            os.makedirs(os.path.dirname(self._path), mode=0o755, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConnectionFailed(
                f"no daemon answers, and one cannot be started: {os.path.dirname(self._path)}",
                error.strerror or str(error),
                "Make that directory writable, or give a daemon's address with -H or HOOPER_HOST.",
            ) from error
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _start(address: Address, log: str) -> socket.socket:
    """With the lock held: perhaps another client was quicker."""
    import subprocess

    try:
        return address.connect()
    except ConnectionFailed:
        pass
    with open(log, "ab") as output:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "hooper", "daemon"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
        )
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            return address.connect()
        except ConnectionFailed:
            if daemon.poll() is not None:
                raise _gave_up(log, f"it ended with status {daemon.returncode}") from None
            time.sleep(_POLL)
    raise _gave_up(log, f"it does not answer at {address} after {_PATIENCE:.0f} s")


def _gave_up(log: str, why: str) -> ConnectionFailed:
    with open(log, encoding="utf-8", errors="replace") as file:
        lines = file.read().strip().splitlines()[-5:]
    said = "".join(f"\n  {line}" for line in lines)
    return ConnectionFailed("the daemon could not be started", why + said, f"The whole log is in {log}.")
