"""What is known of a running build, told from its events: the state behind every way to show it."""

from __future__ import annotations

from collections import deque
from typing import Any

from hooper.api import build_events as events

TAIL = 12
"""Lines of a running command that are remembered."""
PULL, PUSH = "Pulling from ", "The push refers to repository ["


class Step:
    """A line of progress. `state` is waiting, running, done, cached or failed; times are as those of events.

    `number` is its place among those that were shown, from 1; 0: not shown yet.
    """

    def __init__(self, label: str, planned: events.PlannedStep | None = None) -> None:
        self.label, self.planned = label, planned
        self.number = 0
        self.state = "waiting"
        self.began = self.ended = 0
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.amount = self.total = 0
        self.status = ""
        self._pending: dict[int, bytes] = {}

    @property
    def seconds(self) -> float:
        """How long it took."""
        return max(self.ended - self.began, 0) / 1e9

    def add_output(self, stream: int, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        *whole, self._pending[stream] = (self._pending.get(stream, b"") + data).split(b"\n")
        return self._keep(whole)

    def flush(self) -> list[str]:
        """The lines that lack their end."""
        left = [part for part in self._pending.values() if part]
        self._pending.clear()
        return self._keep(left)

    def _keep(self, lines: list[bytes]) -> list[str]:
        found = [shown_line(line) for line in lines]
        self.tail.extend(found)
        return found


def shown_line(line: bytes) -> str:
    """What a terminal shows of a line in the end: what comes after a carriage return replaces what was there."""
    return next((part for part in reversed(line.split(b"\r")) if part), b"").decode(errors="replace")


def labels(planned: events.Planned) -> list[str]:
    """[STAGE n/m] INSTRUCTION, where n and m count what changes files; a stage alone, without a name, has none."""
    counts: dict[str, int] = {}
    for step in planned.steps:
        if not step.configures:
            counts[step.stage] = counts.get(step.stage, 0) + 1
    only = len({step.stage for step in planned.steps}) == 1
    seen: dict[str, int] = {}
    found = []
    for step in planned.steps:
        if step.configures:
            found.append(step.shown)
            continue
        seen[step.stage] = seen.get(step.stage, 0) + 1
        name = f"stage-{step.stage}" if step.stage.isdigit() else step.stage
        stage = "" if only and step.stage.isdigit() else f"{name} "
        found.append(f"[{stage}{seen[step.stage]}/{counts[step.stage]}] {step.shown}")
    return found


class Transfer:
    """A pull or push: bytes by layer."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self._layers: dict[str, tuple[int, int]] = {}

    def add(self, message: dict[str, Any]) -> None:
        """Takes note of one message of a layer."""
        layer, detail = str(message.get("id", "")), message.get("progressDetail") or {}
        known = self._layers.get(layer, (0, 0))
        if detail.get("total"):
            self._layers[layer] = (int(detail.get("current") or 0), int(detail["total"]))
        elif str(message.get("status", "")).endswith(("complete", "Pushed")):
            self._layers[layer] = (known[1], known[1])
        self.step.amount = sum(current for current, _ in self._layers.values())
        self.step.total = sum(total for _, total in self._layers.values())


class Build:
    """All steps of one build. `feed` takes an event; what is running, done and told is then here."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.warnings: list[events.Warned] = []
        self.notes: list[str] = []
        self.exported: list[events.Exported] = []
        self.failed: events.StepFailed | None = None
        self.transfer: Transfer | None = None
        self._numbers = 0

    def shown(self, step: Step) -> bool:
        """Gives the step its number; whether it is new."""
        if step.number:
            return False
        self._numbers += 1
        step.number = self._numbers
        return True

    def feed(self, event: events.BuildEvent) -> Step | None:
        """The step that the event is about, None if it is about none that is shown."""
        if isinstance(event, events.Planned):
            pairs = zip(labels(event), event.steps, strict=True)
            self.steps = [Step(label, planned) for label, planned in pairs]
        elif isinstance(event, events.Warned):
            self.warnings.append(event)
        elif isinstance(event, events.Noted):
            self.notes.append(event.text)
        elif isinstance(event, events.ContextReceived):
            return _finished(Step("[internal] load build context"), event.began, event.at)
        elif isinstance(event, events.Exported):
            self.exported.append(event)
        elif isinstance(event, events.Pulling):
            return self._transferred(event.message)
        else:
            return self._stepped(event)
        return None

    def _transferred(self, message: dict[str, Any]) -> Step | None:
        status = str(message.get("status", ""))
        if status.startswith(PULL):
            tag = message.get("id")
            name = status.removeprefix(PULL)
            self._transfer(f"pull {name}{f':{tag}' if tag else ''}")
        elif status.startswith(PUSH):
            self._transfer(f"push {status.removeprefix(PUSH).rstrip(']')}")
        elif self.transfer and message.get("id"):
            self.transfer.add(message)
        return self.transfer.step if self.transfer else None

    def _transfer(self, label: str) -> None:
        step = Step(f"[internal] {label}")
        step.state = "running"
        self.transfer = Transfer(step)

    def _stepped(
        self,
        event: events.StepStarted | events.StepOutput | events.StepStatus | events.StepDone | events.StepFailed,
    ) -> Step | None:
        step = self.steps[event.step]
        if isinstance(event, events.StepStarted):
            step.state, step.began = "running", event.at
        elif isinstance(event, events.StepStatus):
            step.status, step.amount, step.total = event.text, event.current, event.total
        elif isinstance(event, events.StepDone):
            step.state, step.ended = "cached" if event.cached else "done", event.at
            step.began = step.began or event.at
        elif isinstance(event, events.StepFailed):
            step.state, step.ended, self.failed = "failed", event.at, event
            step.began = step.began or event.at
        return None if step.planned and step.planned.configures else step

    @property
    def running(self) -> list[Step]:
        """In the order of the recipe."""
        return [step for step in self.steps if step.state == "running"]

    @property
    def progress(self) -> tuple[int, int]:
        """How many of the steps that change files are done, and how many there are."""
        real = [step for step in self.steps if step.planned and not step.planned.configures]
        return sum(step.state in ("done", "cached") for step in real), len(real)


def _finished(step: Step, began: int, ended: int) -> Step:
    step.state, step.began, step.ended = "done", began, ended
    return step
