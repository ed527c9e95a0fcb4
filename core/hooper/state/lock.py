"""One daemon a data root and an exec root."""

from __future__ import annotations

import fcntl
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from hooper.api.errors import Conflict, Forbidden


class RootLock(AbstractContextManager["RootLock"]):
    """Makes both directories and holds a lock in each. Conflict names the daemon that has one."""

    def __init__(self, data_root: Path, exec_root: Path) -> None:
        self._roots = (data_root, exec_root)
        self._held: list[int] = []

    def __enter__(self) -> Self:
        try:
            for root in self._roots:
                self._held.append(_locked(root))
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._release()

    def _release(self) -> None:
        while self._held:
            os.close(self._held.pop())


def _locked(root: Path) -> int:
    try:
        root.mkdir(mode=0o711, parents=True, exist_ok=True)
        descriptor = os.open(root / "daemon.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Forbidden(
            f"cannot use the directory {root}", error.strerror or str(error), "Run as root, or name another directory."
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise Conflict(
            f"the directory {root} is in use",
            f"another hooper daemon, pid {owner}, has it" if owner else "another hooper daemon has it",
            "Stop that daemon, or give this one another --data-root and --exec-root.",
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
