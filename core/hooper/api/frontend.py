"""API front-ends: what speaks a protocol to clients and calls the engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence

import anyio.abc
import msgspec

from hooper.api.driver import DriverContext
from hooper.api.engine import Engine
from hooper.api.model import Event


class Listener(msgspec.Struct, frozen=True):
    """An address to serve: "unix:///run/hooper.sock", "tcp://127.0.0.1:2375", "fd://3"."""

    address: str
    group: str = "hooper"
    """Group of a unix socket, if the host has it."""


class Frontend(ABC):
    """One instance serves all its listeners."""

    def __init__(self, context: DriverContext, engine: Engine) -> None:
        self.context, self.engine = context, engine

    @abstractmethod
    async def serve(
        self,
        listeners: Sequence[Listener],
        *,
        task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serves until cancelled; `task_status.started()` once clients can connect.

        Conflict or InvalidArgument names the listener that cannot be had.
        """


class Subscriber(ABC):
    """A plugin that is told events. It has a bounded queue: if it is slow it loses the newest."""

    def __init__(self, context: DriverContext) -> None:
        self.context = context

    @abstractmethod
    async def run(self, events: AsyncIterator[Event], engine: Engine) -> None:
        """Runs as long as the daemon; an exception ends this subscriber alone."""
