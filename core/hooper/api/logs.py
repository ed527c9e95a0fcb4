"""Log drivers: where the output of a container goes, and how it is read again.

A driver has two sides. The *writer* runs in the container's monitor (see `hooper.api.isolation` for what
that asks of it), the *reader* in the daemon.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec

from hooper.api.errors import Unsupported


class LogTarget(msgspec.Struct, frozen=True):
    """What a writer or reader works on.

    `directory` is durable and the container's own. `options` are the LogConfig.Config of the
    container (strings, as users typed them).
    """

    container_id: str
    container_name: str
    image: str
    directory: Path
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


class LogWriter(ABC):
    @abstractmethod
    def write(self, stream: str, data: bytes, time_ns: int) -> None:
        """Takes what one read gave: any number of lines, the last maybe incomplete.

        `stream` is "stdout" or "stderr", `time_ns` since the epoch. Raises OSError if the
        destination is full or gone; the monitor then counts the loss and goes on.
        """

    @abstractmethod
    def close(self) -> None:
        """Writes what is pending. No more writes follow."""


class LogEntry(msgspec.Struct, frozen=True):
    """One line, or a part of a very long one; `data` has its newline if the line had one."""

    stream: str
    data: bytes
    time_ns: int


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    stdout: bool = True
    stderr: bool = True
    since_ns: int = 0
    """Inclusive; 0 is no bound."""
    until_ns: int = 0
    tail: int | None = None
    """The last so many lines of what is chosen; None is all."""
    follow: bool = False


class LogDriver(ABC):
    """Made once per process with the driver's configuration, or None."""

    readable: bool = True
    """`read` works: `docker logs` can be answered."""

    def __init__(self, name: str, config: object) -> None:
        self.name, self.config = name, config

    @abstractmethod
    def check(self, options: Mapping[str, str]) -> None:
        """Runs in the daemon at create. InvalidArgument names the option and what is allowed."""

    @abstractmethod
    def writer(self, target: LogTarget) -> LogWriter:
        """Opens for writing at the end of what is there."""

    def read(self, target: LogTarget, query: LogQuery, running: Running) -> AsyncIterator[list[LogEntry]]:
        """Entries in order of writing, in batches. With `follow` it goes on until `running()` is
        False and all is read."""
        raise Unsupported(
            f"logs of container {target.container_name}",
            f'the log driver "{self.name}" does not keep what it is given',
            "Use the log driver json-file to read logs with hooper.",
        )


class Running(ABC):
    """Tells a following reader whether more can come."""

    @abstractmethod
    def __call__(self) -> bool: ...

    @abstractmethod
    async def changed(self, seconds: float) -> None:
        """Returns when the container ended, or after so many seconds."""
