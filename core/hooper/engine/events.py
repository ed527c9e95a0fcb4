"""Events: a short memory, and a bounded queue a subscriber."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from hooper.api.engine import Events
from hooper.api.model import Event

REMEMBERED = 256
QUEUE = 1024


class EventService(Events):
    """A subscriber that does not keep up loses the newest events, never anybody else's time."""

    def __init__(self) -> None:
        self._memory: deque[Event] = deque(maxlen=REMEMBERED)
        self._queues: set[MemoryObjectSendStream[Event]] = set()

    def publish(self, event: Event) -> None:
        self._memory.append(event)
        for queue in tuple(self._queues):
            try:
                queue.send_nowait(event)
            except (anyio.WouldBlock, anyio.BrokenResourceError):
                continue

    def emit(self, type: str, action: str, id: str, attributes: Mapping[str, str] | None = None) -> None:
        """Publishes an event that happens now."""
        self.publish(Event(type, action, id, time.time_ns(), dict(attributes or {})))

    @asynccontextmanager
    async def subscribe(self, since_ns: int = 0) -> AsyncIterator[AsyncIterator[Event]]:
        send, receive = anyio.create_memory_object_stream[Event](QUEUE)
        past = [event for event in self._memory if since_ns and event.time_ns >= since_ns]
        self._queues.add(send)

        async def events() -> AsyncIterator[Event]:
            for event in past:
                yield event
            async for event in receive:
                yield event

        try:
            yield events()
        finally:
            self._queues.discard(send)
            send.close()
            receive.close()
