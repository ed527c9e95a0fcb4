"""Turns what the solver does with nodes into what a person wants to know of the steps of a recipe."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from hooper.api import build_events as events
from hooper.api.build_graph import Node
from hooper.api.builder import HistoryStep, Plan, Progress
from hooper.api.errors import StepFailed
from hooper.engine.build_image import Made
from hooper.engine.solver import Result

LAST_OUTPUT = 4096
"""Bytes of a failing command's output that go with its error."""


class StepReport:
    """For one build. A step may be several nodes (a download, and the copy of it): it begins with the first of them and
    is done with the last, and never before the steps of its stage that come before it.
    """

    def __init__(self, plan: Plan, progress: Progress, configured: Callable[[int], bool]) -> None:
        """`configured`: whether the configuration step of that number was there before."""
        self._plan, self._progress, self._configured = plan, progress, configured
        self._steps = plan.steps
        self._owner = _owners(plan.steps)
        self._open = Counter(self._owner.values())
        self._results: dict[Node, Result] = {}
        self._cached: set[Node] = set()
        self._begun: set[int] = set()
        self._waiting = _by_stage(plan.steps)
        self._said: dict[int, bytes] = {}
        self.failed_step: int | None = None
        self.failed_node: Node | None = None

    async def planned(self) -> None:
        """Tells the steps, the warnings, and what is done without any work."""
        told = tuple(
            events.PlannedStep(
                shown=step.shown, stage=step.stage, origin=step.origin, configures=step.node is None
            )
            for step in self._steps
        )  # fmt: skip
        await self._progress.event(events.Planned(steps=told))
        for warning in self._plan.warnings:
            await self._progress.event(
                events.Warned(rule=warning.rule, message=warning.message, url=warning.url, origin=warning.origin)
            )
        await self._advance()

    async def started(self, node: Node) -> None:
        """See solver.Report."""
        index = self._owner.get(node)
        if index is not None:
            await self._begin(index)

    async def output(self, node: Node, stream: int, data: bytes) -> None:
        """See solver.Report."""
        index = self._owner.get(node)
        if index is None:
            return
        self._said[index] = (self._said.get(index, b"") + data[-LAST_OUTPUT:])[-LAST_OUTPUT:]
        await self._progress.event(events.StepOutput(step=index, stream=stream, data=data, at=time.time_ns()))

    async def status(self, node: Node, text: str, current: int, total: int) -> None:
        """How far a download is."""
        index = self._owner.get(node)
        if index is not None:
            status = events.StepStatus(step=index, text=text, current=current, total=total, at=time.time_ns())
            await self._progress.event(status)

    async def done(self, node: Node, result: Result, *, cached: bool) -> None:
        """See solver.Report."""
        self._results[node] = result
        if cached:
            self._cached.add(node)
        index = self._owner.get(node)
        if index is not None:
            self._open[index] -= 1
        await self._advance()

    async def failed(self, node: Node, error: Exception) -> None:
        """See solver.Report. The event is the caller's, with `failure`."""
        self.failed_step = self._owner.get(node)
        self.failed_node = node

    def failure(self, error: Exception) -> events.StepFailed | None:
        """What to tell of the step that failed; None if none has begun."""
        if self.failed_step is None:
            return None
        said = self._said.get(self.failed_step, b"")
        return events.StepFailed(
            step=self.failed_step,
            at=time.time_ns(),
            error=str(error),
            exit_code=error.exit_code if isinstance(error, StepFailed) else 0,
            output=said.decode(errors="replace"),
        )

    async def _begin(self, index: int) -> None:
        if index not in self._begun:
            self._begun.add(index)
            await self._progress.event(events.StepStarted(step=index, at=time.time_ns()))

    async def _advance(self) -> None:
        """Tells each step that is done now, in the order of its stage."""
        for waiting in self._waiting.values():
            while waiting and self._is_done(waiting[0]):
                await self._tell_done(waiting.popleft())

    def _is_done(self, index: int) -> bool:
        node = self._steps[index].node
        return not self._open[index] and (node is None or node in self._results)

    async def _tell_done(self, index: int) -> None:
        node, now = self._steps[index].node, time.time_ns()
        if node is None:
            done = events.StepDone(step=index, at=now, configured=True, cached=self._configured(index))
        else:
            await self._begin(index)
            result = self._results[node]
            chain = result.chain if isinstance(result, Made) else ""
            done = events.StepDone(step=index, at=now, cached=node in self._cached, result=chain)
        await self._progress.event(done)


def _by_stage(steps: Sequence[HistoryStep]) -> dict[str, deque[int]]:
    stages: dict[str, deque[int]] = {}
    for index, step in enumerate(steps):
        stages.setdefault(step.stage, deque()).append(index)
    return stages


def _owners(steps: Sequence[HistoryStep]) -> dict[Node, int]:
    """Each node belongs to the first step that needs it."""
    owners: dict[Node, int] = {}
    for index, step in enumerate(steps):
        todo = [step.node] if step.node is not None else []
        while todo:
            node = todo.pop()
            if node not in owners:
                owners[node] = index
                todo += node.inputs()
    return owners
