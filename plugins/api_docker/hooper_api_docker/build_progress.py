"""From a build's events to lines of its answer: few of them, however much there is to tell."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import anyio
from msgspec.structs import replace

from hooper.api.build_events import BuildEvent, StepOutput, StepStatus
from hooper.api.builder import Progress
from hooper_api_docker.streams import JsonLines

Message = dict[str, Any]
PAUSE = 0.05
"""Seconds from one write to the next, but for the last."""
MOST_PENDING = 256 * 1024
"""Bytes of output that wait for the next write; the build waits with more of them."""
QUIET_KEPT = 4 << 20
"""Characters of what a quiet build has not said, the latest of it."""


class Words(Protocol):
    """A way to tell a build (`ClassicWords`, `EventWords`)."""

    def feed(self, event: BuildEvent) -> list[Message]: ...

    def end(self, image_id: str, tags: list[str]) -> list[Message]: ...


class EventWords:
    """The events as they are."""

    def feed(self, event: BuildEvent) -> list[Message]:
        """See Words."""
        return [{"hooper": event}]

    def end(self, image_id: str, tags: list[str]) -> list[Message]:
        """See Words. The id is where Docker's clients look for it."""
        return [{"aux": {"ID": image_id}}] if image_id else []


class QuietWords:
    """Says nothing but the image's id; all that `words` had to say is in `kept`."""

    def __init__(self, words: Words) -> None:
        self._words, self._size = words, 0
        self.kept: deque[Message] = deque()

    def feed(self, event: BuildEvent) -> list[Message]:
        """See Words."""
        for message in self._words.feed(event):
            self.kept.append(message)
            self._size += len(message.get("stream", ""))
        while self._size > QUIET_KEPT or len(self.kept) > 10_000:
            self._size -= len(self.kept.popleft().get("stream", ""))
        return []

    def end(self, image_id: str, tags: list[str]) -> list[Message]:
        """See Words."""
        return [{"stream": f"{image_id}\n"}]


class _Pending:
    """Events that were not told yet. Output of one stream of a step that nothing stands between is one of them."""

    def __init__(self) -> None:
        self._events: list[BuildEvent | list[StepOutput]] = []
        self._output: dict[int, list[StepOutput]] = {}
        self._status: dict[int, int] = {}
        self.size = 0

    def add(self, event: BuildEvent) -> None:
        step = getattr(event, "step", None)
        if isinstance(event, StepOutput):
            self._add_output(event)
            return
        if isinstance(event, StepStatus):
            place = self._status.setdefault(event.step, len(self._events))
            if place < len(self._events):
                self._events[place] = event
                return
        elif step is not None:
            self._status.pop(step, None)
        if step is not None:
            self._output.pop(step, None)
        self._events.append(event)

    def _add_output(self, event: StepOutput) -> None:
        self.size += len(event.data)
        parts = self._output.get(event.step)
        if parts is None or parts[0].stream != event.stream:
            parts = self._output[event.step] = []
            self._events.append(parts)
        parts.append(event)

    def take(self) -> Sequence[BuildEvent]:
        events, self._events = self._events, []
        self._output, self._status, self.size = {}, {}, 0
        return [_joined(event) if isinstance(event, list) else event for event in events]


def _joined(parts: list[StepOutput]) -> StepOutput:
    return parts[0] if len(parts) == 1 else replace(parts[0], data=b"".join(part.data for part in parts))


class ToClient(Progress):
    """Tells the client what happens, at once and then every `PAUSE`; a task runs `keep_telling` meanwhile."""

    def __init__(self, lines: JsonLines, words: Words) -> None:
        self._lines, self._words = lines, words
        self._pending = _Pending()
        self._something = anyio.Event()
        self._turn = anyio.Lock()

    async def event(self, event: BuildEvent) -> None:
        """See Progress. It waits for a client that reads slowly."""
        self._pending.add(event)
        self._something.set()
        if self._pending.size >= MOST_PENDING:
            await self._flush()

    async def keep_telling(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._something.wait()
            self._something = anyio.Event()
            await self._flush()
            await anyio.sleep(PAUSE)

    async def finish(self, image_id: str, tags: list[str]) -> None:
        """Tells the rest, and the outcome."""
        await self._flush()
        await self._lines.send(*self._words.end(image_id, tags))

    async def give_up(self) -> None:
        """Tells the rest of a build that failed, and what a quiet one has kept back."""
        await self._flush()
        if isinstance(self._words, QuietWords):
            await self._lines.send(*self._words.kept)

    async def _flush(self) -> None:
        async with self._turn:
            messages = [message for event in self._pending.take() for message in self._words.feed(event)]
            await self._lines.send(*messages)
