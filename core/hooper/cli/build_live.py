"""A build's progress on a terminal: what is done scrolls by above, what runs has a line that moves.

Under a running command are the last lines that it wrote; they go when it ends. The lines are drawn anew ten times
a second and with every event, each cut at the edge of the terminal.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TextIO

from rich.cells import cell_len, set_cell_size

from hooper.api import build_events as events
from hooper.cli import humanise, terminal
from hooper.cli.build_plain import KINDS, closing_lines, context_text, export_lines
from hooper.cli.build_steps import Build, Step
from hooper.cli.errors import DIM, GREEN, RED, YELLOW, coloured

_INTERVAL = 0.1
_TAIL, _BAR = 6, 20
_USUAL = (24, 80)
_NOISE = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


class Glyphs:
    """The signs that the terminal's encoding has."""

    def __init__(self, encoding: str) -> None:
        try:
            "✔✘│━…⠋".encode(encoding)
            self.done, self.failed, self.tail, self.bar, self.cut = "✔", "✘", "│", "━", "…"
            self.spinner = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
        except UnicodeEncodeError:
            self.done, self.failed, self.tail, self.bar, self.cut, self.spinner = "*", "!", "|", "=", ".", "-\\|/"


def clean(text: str) -> str:
    """`text` without what would move the cursor or change colours."""
    return _NOISE.sub("", text.expandtabs(8))


def fitted(text: str, width: int, cut: str) -> str:
    """`text` in at most `width` cells."""
    return text if cell_len(text) <= width else set_cell_size(text, max(width - 1, 0)) + cut if width > 0 else ""


def row(left: str, right: str, columns: int, cut: str = "…") -> str:
    """`left`, and `right` at the edge; on a narrow terminal `right` goes first."""
    room = columns - 1 - cell_len(right)
    if room < 16:
        return fitted(left, columns - 1, cut)
    left = fitted(left, room - 1, cut)
    return left + " " * (room - cell_len(left)) + right


def elapsed(seconds: float) -> str:
    """1.2s, 1m02s, 1h02m."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


class LiveView:
    """Draws on `file`. `received` tells how many bytes of contexts went to the daemon so far."""

    def __init__(
        self, file: TextIO, received: Callable[[], int] = lambda: 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.build = Build()
        self._file, self._received, self._clock = file, received, clock
        self._glyphs = Glyphs(getattr(file, "encoding", None) or "utf-8")
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._painter = threading.Thread(target=self._paint, daemon=True)
        self._began = clock()
        self._since: dict[Step, float] = {}
        self._widths: list[int] = []

    def __enter__(self) -> LiveView:
        self._painter.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._painter.join()
        with self._lock:
            self._write([*self._end_of_transfer(), *self._halted(broken=kind is not None)], [])

    def show(self, event: events.BuildEvent) -> None:
        """Takes note of an event, and draws."""
        with self._lock:
            finished = [] if isinstance(event, events.Pulling) else list(self._end_of_transfer())
            step = self.build.feed(event)
            finished += self._finished(event, step)
            self._write(finished, self.frame())

    def end(self) -> None:
        """Prints what is told at the end: the time it took, warnings and notes."""
        done, count = self.build.progress
        lines = [f" {elapsed(self._clock() - self._began)}, {done}/{count} steps", *closing_lines(self.build)]
        with self._lock:
            self._write([clean(line) for line in lines], [])

    def frame(self) -> list[str]:
        """The lines that move, as they are to be now."""
        rows, columns = terminal.size()
        rows, columns = rows or _USUAL[0], columns or _USUAL[1]
        lines: list[str] = []
        running = self.build.running
        transfer = self.build.transfer.step if self.build.transfer else None
        moving = [*([transfer] if transfer else []), *running]
        room = max(rows - 2 - len(moving), 0)
        tail = min(_TAIL, room // max(len(running), 1))
        for step in moving:
            lines.append(self._moving(step, columns))
            lines += [self._said(line, columns) for line in list(step.tail)[-tail:]] if tail else []
        return [*lines[: max(rows - 2, 1)], self._foot(columns)]

    def _moving(self, step: Step, columns: int) -> str:
        now = self._clock()
        since = self._since.setdefault(step, now)
        sign = self._glyphs.spinner[int(now * 10) % len(self._glyphs.spinner)]
        right = elapsed(now - since)
        if step.total:
            whole = min(step.amount * _BAR // step.total, _BAR)
            amount = f"{humanise.size(step.amount, 3)}/{humanise.size(step.total, 3)}"
            right = f"{(self._glyphs.bar * whole).ljust(_BAR)} {amount} {right}"
        return row(f" {sign} {clean(step.label)}", right, columns, self._glyphs.cut)

    def _said(self, line: str, columns: int) -> str:
        text = fitted(f"   {self._glyphs.tail} {clean(line)}", columns - 1, self._glyphs.cut)
        return coloured(text, DIM, self._file)

    def _foot(self, columns: int) -> str:
        done, count = self.build.progress
        steps = f"{done}/{count}" if count else ""
        sent = self._received()
        if not count and sent:
            steps = f"context {humanise.size(sent, 3)}"
        return row(f" building {steps}", elapsed(self._clock() - self._began), columns, self._glyphs.cut)

    def _finished(self, event: events.BuildEvent, step: Step | None) -> Iterator[str]:
        """The lines that stay of an event."""
        if isinstance(event, events.ContextReceived) and step:
            yield self._mark(step, f"{context_text(event)} {elapsed(step.seconds)}")
        elif isinstance(event, events.Exported):
            yield self._static(KINDS.get(event.type, f"exporting to {event.type}"))
            columns = terminal.size()[1] or _USUAL[1]
            yield from (fitted(f"   {line}", columns - 1, self._glyphs.cut) for line in export_lines(event))
        elif isinstance(event, events.StepOutput) and step:
            step.add_output(event.stream, event.data)
        elif isinstance(event, events.StepDone | events.StepFailed) and step:
            step.flush()
            self._since.pop(step, None)
            yield self._mark(step, "cached" if step.state == "cached" else elapsed(step.seconds))

    def _end_of_transfer(self) -> Iterator[str]:
        if self.build.transfer:
            step = self.build.transfer.step
            self.build.transfer = None
            since = self._since.pop(step, self._clock())
            step.state = "done"
            yield self._mark(step, elapsed(self._clock() - since))

    def _halted(self, *, broken: bool) -> Iterator[str]:
        """What was running when all ended."""
        for step in self.build.running if broken else ():
            yield self._static(f"{step.label}   stopped", self._glyphs.failed, YELLOW)

    def _mark(self, step: Step, right: str) -> str:
        if step.state == "failed":
            return self._static(step.label, self._glyphs.failed, RED, right)
        return self._static(step.label, self._glyphs.done, GREEN, right)

    def _static(self, label: str, sign: str = "", colour: int = GREEN, right: str = "") -> str:
        columns = terminal.size()[1] or _USUAL[1]
        sign = sign or self._glyphs.done
        text = row(f" {sign} {clean(label)}", right, columns, self._glyphs.cut).rstrip()
        return text.replace(sign, coloured(sign, colour, self._file), 1)

    def _paint(self) -> None:
        while not self._stop.wait(_INTERVAL):
            with self._lock:
                self._write([], self.frame())

    def _write(self, finished: Iterable[str], frame: list[str]) -> None:
        """Replaces the lines that moved by `finished`, which stay, and `frame`."""
        columns = terminal.size()[1] or _USUAL[1]
        # A terminal that was made narrower has broken the lines that are there.
        up = sum(max(-(-width // columns), 1) for width in self._widths)
        start = f"\033[{up}A\r\033[J" if up else ""
        text = "".join(f"{line}\n" for line in [*finished, *frame])
        self._widths = [cell_len(clean(line)) for line in frame]
        if start or text:
            self._file.write(start + text)
            self._file.flush()
