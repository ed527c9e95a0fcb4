"""`hooper build --trace FILE`: a timeline in Chrome's trace event format, which Perfetto and chrome://tracing open.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU describes it: complete events ("X")
with times in microseconds, on tracks that metadata events ("M") name.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

from hooper.api import build_events as events
from hooper.cli.build_steps import Build
from hooper.cli.errors import BadFlag

_PROCESS = 1
_CLIENT = "context, pulls and exports"


def check_trace(path: str) -> None:
    """BadFlag if a file at `path` cannot be written."""
    directory = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path) or not os.access(directory, os.W_OK):
        why = f"{path} is a directory" if os.path.isdir(path) else f"{directory} cannot be written to"
        raise BadFlag("--trace", path, why, "--trace build.json")


class Trace:
    """Gathers the events of one build. A track is a stage; what overlaps there has a further one."""

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._build = Build()
        self._clock, self._skew = clock, 0
        self._found: list[dict[str, Any]] = []
        self._tracks: dict[tuple[str, int], int] = {}
        self._free: dict[str, list[int]] = {}
        self._lanes: dict[int, tuple[str, int]] = {}
        self._pull: tuple[str, int, int] | None = None
        self._last = self._first = 0

    def add(self, event: events.BuildEvent) -> None:
        """Takes note of an event."""
        if at := getattr(event, "at", 0):
            # The daemon's clock may be another host's.
            self._skew = self._clock() - at
        self._build.feed(event)
        if isinstance(event, events.Pulling):
            self._transferred()
            return
        self._end_transfer()
        if isinstance(event, events.ContextReceived):
            sizes = {"files": event.files, "bytes": event.size, "sent": event.sent}
            self._complete("load build context", _CLIENT, event.began, event.at, sizes)
        elif isinstance(event, events.Exported):
            facts = {"image": event.image_id, "names": list(event.names), "digest": event.digest}
            self._complete(f"export {event.type}", _CLIENT, self._last, event.at, facts)
        elif isinstance(event, events.StepStarted):
            self._take_lane(event.step)
        elif isinstance(event, events.StepDone | events.StepFailed):
            self._ended(event)
        self._last = max(self._last, at)

    def write(self, path: str) -> None:
        """Writes the file, which appears only when it is complete."""
        self._end_transfer()
        self._unfinished()
        partial = f"{path}.{os.getpid()}.partial"
        try:
            with open(partial, "w", encoding="utf-8") as file:
                json.dump({"traceEvents": self.content(), "displayTimeUnit": "ms"}, file, ensure_ascii=False)
            os.replace(partial, path)
        except BaseException:
            if os.path.exists(partial):
                os.unlink(partial)
            raise

    def content(self) -> list[dict[str, Any]]:
        """The events of the format: names of tracks, then all else in the order of time."""
        named = [_metadata("process_name", 0, {"name": "hooper build"})]
        for (name, lane), track in self._tracks.items():
            shown = f"{name} ({lane + 1})" if lane else name
            named.append(_metadata("thread_name", track, {"name": shown}))
            named.append(_metadata("thread_sort_index", track, {"sort_index": track}))
        return [*named, *sorted(self._found, key=lambda one: float(one["ts"]))]

    def _ended(self, event: events.StepDone | events.StepFailed) -> None:
        step = self._build.steps[event.step]
        planned = step.planned
        if planned is None or planned.configures:
            return
        facts: dict[str, Any] = {"instruction": planned.shown}
        if planned.origin:
            facts["line"] = str(planned.origin)
        if isinstance(event, events.StepFailed):
            facts |= {"error": event.error, "exit_code": event.exit_code}
        else:
            facts |= {"cached": event.cached, "result": event.result}
        if event.step not in self._lanes:
            self._take_lane(event.step)
        stage, lane = self._lanes.pop(event.step)
        category = "failed" if step.state == "failed" else "cached" if step.state == "cached" else "step"
        self._complete(step.label, stage, step.began, event.at, facts, lane, category)
        self._free[stage].append(lane)
        if category == "failed":
            self._instant(f"failed: {step.label}", self._track(stage, lane), event.at, facts)
        elif category == "cached":
            self._instant("cached", self._track(stage, lane), event.at, {})

    def _unfinished(self) -> None:
        """Steps that were running when the build ended."""
        end = max(self._last, self._clock() - self._skew)
        for number, (stage, lane) in self._lanes.items():
            step = self._build.steps[number]
            self._complete(step.label, stage, step.began, end, {"stopped": True}, lane, "stopped")
        self._lanes.clear()

    def _transferred(self) -> None:
        now = self._clock() - self._skew
        label = self._build.transfer.step.label if self._build.transfer else ""
        if self._pull and self._pull[0] == label:
            self._pull = (label, self._pull[1], now)
            return
        self._end_transfer()
        if label:
            self._pull = (label, now, now)

    def _end_transfer(self) -> None:
        if self._pull:
            label, began, ended = self._pull
            self._pull = None
            self._complete(label.removeprefix("[internal] "), _CLIENT, began, ended, {})

    def _take_lane(self, step: int) -> None:
        planned = self._build.steps[step].planned
        if planned and not planned.configures:
            self._lanes[step] = self._lane(planned.stage)

    def _lane(self, stage: str) -> tuple[str, int]:
        """The first lane of a stage where nothing runs."""
        name = f"stage {stage}"
        free = self._free.setdefault(name, [])
        if not free:
            used = sum(1 for track in self._tracks if track[0] == name)
            free.append(used)
        free.sort()
        lane = free.pop(0)
        self._track(name, lane)
        return name, lane

    def _track(self, name: str, lane: int) -> int:
        return self._tracks.setdefault((name, lane), len(self._tracks) + 1)

    def _complete(
        self, name: str, track: str, began: int, ended: int, facts: dict[str, Any], lane: int = 0, category: str = "io"
    ) -> None:
        began = began or ended
        self._found.append({
            "name": name, "cat": category, "ph": "X", "ts": began / 1000, "dur": max(ended - began, 0) / 1000,
            "pid": _PROCESS, "tid": self._track(track, lane), "args": facts,
        })  # fmt: skip

    def _instant(self, name: str, track: int, at: int, facts: dict[str, Any]) -> None:
        self._found.append(
            {"name": name, "ph": "i", "s": "t", "ts": at / 1000, "pid": _PROCESS, "tid": track, "args": facts}
        )


def _metadata(name: str, track: int, facts: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "ph": "M", "pid": _PROCESS, "tid": track, "args": facts}
