"""Log drivers: where the output of a container goes, and how it is read again.

A driver has two sides. The *writer* runs in the container's monitor (see `hooper.api.isolation` for what
that asks of it), the *reader* in the daemon. What several drivers need is in `log_options` (values that users
type), `log_writing` (lines out of chunks, patience with a destination), `log_files` (rotation) and
`log_reading` (files that may be rotated meanwhile).

Not a driver's concern are the options that each container's log has, whatever its driver: `mode`,
`max-buffer-size` and `cache-*`. The core takes them out and acts on them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec

from hooper.api.errors import Unsupported

CACHE = "log-cache"
"""A capability of a `DriverSpec`: the driver may keep a copy of what one that cannot be read is given, so that
`docker logs` works all the same. The first such driver that works on a host is taken."""


class LogTarget(msgspec.Struct, frozen=True):
    """What a writer or reader works on.

    `directory` is durable and the container's own. `options` are the driver's own among LogConfig.Config
    of the container (strings, as users typed them).
    """

    container_id: str
    container_name: str
    image: str
    directory: Path
    options: dict[str, str] = {}
    attributes: dict[str, str] = {}
    """The container's labels and variables that the options `labels`, `labels-regex`, `env` and `env-regex` name."""
    tag: str = ""
    """The option `tag`, filled in; "" where it was not given."""
    buffer: int = 0
    """For the core: bytes that wait for a slow driver before more is dropped; 0 makes the container wait."""
    cache: str = ""
    """For the core: the driver that keeps a readable copy, or ""."""
    cache_options: dict[str, str] = {}

    @property
    def tag_or_id(self) -> str:
        """The tag, as drivers have it that need one: the short id where none was given."""
        return self.tag or self.container_id[:12]


class LogWriter(ABC):
    @abstractmethod
    def write(self, stream: str, data: bytes, time_ns: int) -> None:
        """Takes what one read gave: any number of lines, the last maybe incomplete.

        `stream` is "stdout" or "stderr", `time_ns` since the epoch. Raises OSError if the
        destination is full or gone; the monitor then counts the loss and goes on. The container's output
        stands still while it runs: a destination that hangs is given up after about a second.
        """

    @abstractmethod
    def close(self) -> None:
        """Writes what is pending and leaves nothing open or running: the process may have another log to write.
        No more writes follow."""


class LogEntry(msgspec.Struct, frozen=True):
    """One line, or a part of a very long one; `data` has its newline if the line had one."""

    stream: str
    data: bytes
    time_ns: int
    attributes: dict[str, str] | None = None
    """As `LogTarget.attributes`, with the tag, where the driver keeps them; None unless they were asked for."""


class LogQuery(msgspec.Struct, frozen=True, kw_only=True):
    stdout: bool = True
    stderr: bool = True
    since_ns: int = 0
    """Inclusive; 0 is no bound."""
    until_ns: int = 0
    tail: int | None = None
    """The last so many lines of what is chosen; None is all."""
    follow: bool = False
    details: bool = False
    """`LogEntry.attributes` are wanted."""


class LogDriver(ABC):
    """Made once per process with the driver's configuration, or None."""

    readable: bool = True
    """`read` works: `docker logs` can be answered. May be set by `probe`."""

    def __init__(self, name: str, config: object) -> None:
        self.name, self.config = name, config

    def probe(self) -> None:
        """Runs in the daemon. Raises SkipDriver with the reason if the driver cannot work on this host."""

    @abstractmethod
    def check(self, options: Mapping[str, str]) -> None:
        """Runs in the daemon at create. InvalidArgument names the option and what is allowed."""

    @abstractmethod
    def writer(self, target: LogTarget) -> LogWriter:
        """Opens for writing at the end of what is there. An error of any kind is the failure of the start."""

    def read(self, target: LogTarget, query: LogQuery, running: Running) -> AsyncIterator[list[LogEntry]]:
        """Entries in order of writing, in batches. With `follow` it goes on until `running()` is
        False and all is read.

        The first batch is empty and comes when the log is open: a container that is removed from then on takes nothing
        away from who reads its log, but for files that are rotated."""
        raise not_readable(self.name)


def not_readable(name: str) -> Unsupported:
    """The error of reading from a driver that keeps nothing."""
    return Unsupported(
        "configured logging driver does not support reading",
        remedy=f'The log driver "{name}" keeps nothing here; json-file and local do.',
    )


class Running(ABC):
    """Tells a following reader whether more can come."""

    @abstractmethod
    def __call__(self) -> bool: ...

    @abstractmethod
    async def changed(self, seconds: float) -> None:
        """Returns when the container ended, or after so many seconds."""
