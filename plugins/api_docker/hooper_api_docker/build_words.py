"""What a build tells, in the words of Docker's classic builder.

That one does one step after the other, and its clients read so. Here steps may run side by side: one of them is in
front, the first of the recipe that is not done, and is shown live. What the others tell is kept back until they are
in front themselves.
"""

from __future__ import annotations

import codecs
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any

from hooper.api import build_events as events

Message = dict[str, Any]
KEPT = 64 * 1024
"""Characters of a step's output that are kept back, the latest ones."""
KEPT_OF_ALL = 4 << 20
"""The same, of all steps of a build."""


def _line(text: str) -> Message:
    return {"stream": text}


def _decoder() -> codecs.IncrementalDecoder:
    """Output comes in pieces that may end in the middle of a character."""
    return codecs.getincrementaldecoder("utf-8")("replace")


class _Kept:
    """The latest of an output that nobody sees yet."""

    def __init__(self) -> None:
        self.parts: deque[str] = deque()
        self.size = self.left_out = 0

    def add(self, text: str, limit: int) -> None:
        self.parts.append(text)
        self.size += len(text)
        self.cut(limit)

    def cut(self, limit: int) -> None:
        while self.size > limit:
            first = self.parts.popleft()
            gone = min(len(first), self.size - limit)
            if rest := first[gone:]:
                self.parts.appendleft(rest)
            self.size -= gone
            self.left_out += gone

    def take(self) -> list[str]:
        note = [f"[{self.left_out} characters of output left out here]\n"] if self.left_out else []
        taken = [*note, *self.parts]
        self.parts.clear()
        self.size = self.left_out = 0
        return taken


class _Step:
    def __init__(self, number: int, of: int, planned: events.PlannedStep) -> None:
        self.head = f"Step {number + 1}/{of} : {planned.shown}\n"
        self.stage = planned.stage
        word = planned.shown.partition(" ")[0].upper()
        self.is_run, self.is_from = word == "RUN" and not planned.configures, word == "FROM"
        self.kept = _Kept()
        self.decoders = {1: _decoder(), 2: _decoder()}
        self.begun = self.shown = False
        self.done: events.StepDone | None = None
        self.container = ""
        """What its container is called, once that has been told."""
        self.whole_line = True
        """Whether what was shown ends with a line's end."""
        self.status: Message | None = None
        self.status_shown = False


def _name() -> str:
    return secrets.token_hex(6)


class ClassicWords:
    """Of one build. `feed` takes its events as they come, and returns what is to be said now.

    `removes`: containers of steps are removed, and that is told. They are not to be found under the names that are
    told here, which come from `name`: a step's container lives only as long as its command, and is no container of
    the engine's lists.
    """

    def __init__(
        self, *, removes: bool = True, kept: int = KEPT, kept_of_all: int = KEPT_OF_ALL, name: Callable[[], str] = _name
    ) -> None:
        self._removes, self._limit, self._limit_of_all, self._name = removes, kept, kept_of_all, name
        self._steps: list[_Step] = []
        self._front = 0
        self._states: dict[str, str] = {}
        self._last: list[str] = []
        self._exported: list[events.Exported] = []
        self._ended = False
        self._said: list[Message] = []

    def feed(self, event: events.BuildEvent) -> list[Message]:
        """What to say on account of it. Nothing is said after a StepFailed, or after `end`."""
        if not self._ended:
            self._take(event)
        return self._taken()

    def end(self, image_id: str, tags: list[str]) -> list[Message]:
        """The last words of a build that has succeeded; `image_id` is "" if it made no image.

        `tags` are the names to tell if no event has told which the image has got.
        """
        if self._ended:
            return []
        self._ended = True
        for step in self._steps[self._front :]:
            self._show(step)
            self._close(step)
        if image_id:
            self._said.append({"aux": {"ID": image_id}})
        self._said += map(_line, self._last)
        if image_id:
            self._said.append(_line(f"Successfully built {_short(image_id)}\n"))
        named = [name for one in self._exported if one.type == "image" for name in one.names]
        for name in dict.fromkeys(named if self._exported else tags):
            self._said.append(_line(f"Successfully tagged {name}\n"))
        for one in self._exported:
            if one.type != "image":
                self._said.append(_line(f"Successfully exported {one.type}\n"))
        return self._taken()

    def _taken(self) -> list[Message]:
        said, self._said = self._said, []
        return said

    def _take(self, event: events.BuildEvent) -> None:
        match event:
            case events.StepOutput():
                self._output(self._steps[event.step], event.stream, event.data)
            case events.StepStarted():
                self._begin(self._steps[event.step])
            case events.StepDone():
                self._steps[event.step].done = event
                self._advance()
            case events.StepStatus():
                self._status(self._steps[event.step], event)
            case events.Planned():
                self._steps = [_Step(number, len(event.steps), one) for number, one in enumerate(event.steps)]
            case events.StepFailed():
                self._fail(event)
            case events.Pulling():
                self._said.append(event.message)
            case events.Warned():
                self._remark(_warning(event))
            case events.Noted():
                self._remark(event.text if event.text.endswith("\n") else f"{event.text}\n")
            case events.Exported():
                self._exported.append(event)
            case events.ContextReceived():
                pass  # the client has sent it, and says so itself

    def _remark(self, text: str) -> None:
        """What belongs to no step is told before them, or after all."""
        if self._front == 0 and not (self._steps and self._steps[0].shown):
            self._said.append(_line(text))
        else:
            self._last.append(text)

    # --- steps ----------------------------------------------------------------------------------------

    def _is_front(self, step: _Step) -> bool:
        return self._front < len(self._steps) and self._steps[self._front] is step

    def _begin(self, step: _Step) -> None:
        step.begun = True
        if self._is_front(step):
            self._show(step)

    def _output(self, step: _Step, stream: int, data: bytes) -> None:
        self._write(step, step.decoders[stream].decode(data))

    def _write(self, step: _Step, text: str) -> None:
        if not text:
            return
        step.begun = True
        if step.shown or self._is_front(step):
            self._show(step)
            self._say(step, text)
        else:
            step.kept.add(text, self._limit)
            self._make_room()

    def _make_room(self) -> None:
        """Cuts where most is kept."""
        held = [step.kept for step in self._steps if step.kept.size]
        too_much = sum(kept.size for kept in held) - self._limit_of_all
        if too_much > 0:
            longest = max(held, key=lambda kept: kept.size)
            longest.cut(max(0, longest.size - max(too_much, longest.size // 2)))

    def _status(self, step: _Step, event: events.StepStatus) -> None:
        step.begun = True
        message: Message = {"status": event.text}
        if event.current or event.total:
            progress = {"current": event.current, "total": event.total}
            message["progressDetail"] = {name: value for name, value in progress.items() if value}
        step.status = message
        if self._is_front(step):
            self._show(step)

    def _show(self, step: _Step) -> None:
        """All that there is of a step, up to now."""
        if not step.shown:
            step.shown = True
            self._said.append(_line(step.head))
        if step.status:
            self._said.append(step.status)
            step.status, step.status_shown = None, True
        for text in step.kept.take():
            self._say(step, text)

    def _say(self, step: _Step, text: str) -> None:
        if step.is_run:
            self._tell_container(step)
        self._said.append(_line(text))
        step.whole_line = text.endswith("\n")

    def _tell_container(self, step: _Step) -> None:
        if not step.container:
            step.container = self._name()
            self._said.append(_line(f" ---> Running in {step.container}\n"))

    def _close(self, step: _Step) -> None:
        """The end of a step's output, and how it is done."""
        for decoder in step.decoders.values():
            if rest := decoder.decode(b"", True):
                self._say(step, rest)
        if step.status_shown or not step.whole_line:
            self._said.append(_line("\n"))
        done = step.done
        if done is None:
            return
        if done.cached and not step.is_from:
            self._said.append(_line(" ---> Using cache\n"))
        elif step.is_run:
            self._tell_container(step)
            if self._removes:
                self._said.append(_line(f"Removing intermediate container {step.container}\n"))
        state = _short(done.result) or self._states.get(step.stage, "")
        if state:
            self._states[step.stage] = state
            self._said.append(_line(f" ---> {state}\n"))

    def _advance(self) -> None:
        """Goes on to the first step that is not done."""
        while self._front < len(self._steps):
            step = self._steps[self._front]
            if step.begun or step.done:
                self._show(step)
            if not step.done:
                return
            self._close(step)
            self._front += 1

    def _fail(self, event: events.StepFailed) -> None:
        """Shows what comes before the step that failed, and then that one. What stands behind it was in vain."""
        self._ended = True
        failed = self._steps[event.step]
        for step in self._steps[self._front : event.step]:
            if step.begun or step.done:
                self._show(step)
                self._close(step)
        self._show(failed)
        if failed.is_run:
            self._tell_container(failed)
        self._close(failed)


def _short(identifier: str) -> str:
    return identifier.removeprefix("sha256:")[:12]


def _warning(event: events.Warned) -> str:
    where = f" ({event.origin})" if event.origin else ""
    return f"[Warning] {event.rule}: {event.message}{where}\n"
