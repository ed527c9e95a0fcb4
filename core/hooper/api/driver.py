"""What all drivers have in common, and what the engine hands to them."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec


class HostInfo(msgspec.Struct, frozen=True):
    """What a probe may want to know about this host."""

    root: bool
    """The engine runs with all of root's rights in the initial user namespace."""
    cgroup_version: int
    """1 (also hybrid) or 2."""
    kernel: tuple[int, int]
    architecture: str
    """In Go's words, as images have it: amd64, arm64…"""
    data_root: Path
    exec_root: Path
    """Volatile state: sockets, bundles. Gone after a reboot."""


class KeyValueStore(Protocol):
    """Small durable state of one driver, kept in the engine's database.

    Values are bytes. A `put` is durable when it returns. Keys sort as strings.
    """

    def get(self, key: str) -> bytes | None: ...
    def put(self, key: str, value: bytes) -> None: ...
    def delete(self, key: str) -> None: ...
    def items(self, prefix: str = "") -> Sequence[tuple[str, bytes]]: ...


class Workers(Protocol):
    """Runs blocking or risky work in a process of its own, away from the event loop."""

    async def run(self, function: str, arguments: Mapping[str, Any], fds: Sequence[int] = ()) -> Any:
        """Calls "module:function" as `function(arguments, fds)` in a fresh forked process.

        `arguments` and the result are made of what msgpack has (None, bool, int, float, str,
        bytes, list, dict). `fds` are duplicated into the child, which gets its own numbers in
        the same order; the caller still closes its own. A `HooperError` raised there is raised
        here again; a child that dies raises Internal. Cancelling kills the child.
        """


class DriverContext(msgspec.Struct, frozen=True):
    """What a driver is given when it is made, before `probe`."""

    name: str
    config: Any
    """The driver's settings: an instance of its `DriverSpec.config`, or None."""
    host: HostInfo
    data_dir: Path
    """A directory of the driver's own, durable. It exists after `open`, not in `probe`."""
    exec_dir: Path
    """The same, volatile."""
    state: KeyValueStore
    workers: Workers
    log: Any
    """A structlog logger, bound to the driver's name."""


class Driver(ABC):
    """The base of the drivers that live in the daemon.

    Life: made with its context, `probe`, `open`, its verbs, `aclose`. Verbs may be called
    concurrently; one task's cancellation must leave the driver consistent.
    """

    def __init__(self, context: DriverContext) -> None:
        self.context = context

    async def probe(self) -> None:
        """Raises SkipDriver with the reason if the driver cannot work on this host.

        It changes nothing that lasts. The default finds every host good.
        """

    async def open(self) -> None:
        """Prepares the driver for its verbs; it may find the state of an earlier run."""

    async def aclose(self) -> None:
        """Releases what `open` took. Calling it twice is harmless."""
