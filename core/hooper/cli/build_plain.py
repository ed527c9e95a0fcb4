"""A build's progress as lines: for logs, pipes and those who ask for --progress=plain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from hooper.api import build_events as events
from hooper.api.build_graph import Origin
from hooper.cli import humanise
from hooper.cli.build_steps import Build, Step

_RULE, _EXCERPT_LINES = "-" * 20, 12
KINDS = {
    "image": "exporting to image",
    "local": "exporting to client directory",
    "tar": "exporting to client tarball",
    "oci": "exporting to OCI image format",
    "docker": "exporting to docker image format",
}


class PlainLines:
    """Every step with a number of its own; its output by lines with the seconds since it began."""

    def __init__(self, file: TextIO) -> None:
        self.build = Build()
        self._file = file
        self._last = 0

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.flush()

    def show(self, event: events.BuildEvent) -> None:
        """Prints what an event tells."""
        step = self.build.feed(event)
        if isinstance(event, events.ContextReceived) and step:
            self._head(step)
            self._line(step, f"transferring context: {context_text(event)}")
            self._line(step, f"DONE {step.seconds:.1f}s")
        elif isinstance(event, events.Exported):
            self._export(event)
        elif isinstance(event, events.Pulling):
            self._transfer(event, step)
        elif step:
            self._step(event, step)
        self._file.flush()

    def end(self) -> None:
        """Prints what is told at the end: warnings and notes."""
        for line in closing_lines(self.build):
            print(line, file=self._file)

    def _step(self, event: events.BuildEvent, step: Step) -> None:
        self._head(step)
        if isinstance(event, events.StepOutput):
            self._output(step, step.add_output(event.stream, event.data), event.at)
        elif isinstance(event, events.StepStatus) and not event.current:
            self._line(step, event.text)
        elif isinstance(event, events.StepDone):
            self._output(step, step.flush(), event.at)
            self._line(step, "CACHED" if event.cached else f"DONE {step.seconds:.1f}s")
        elif isinstance(event, events.StepFailed):
            self._output(step, step.flush(), event.at)
            # Why is told at the end, once.
            self._line(step, f"ERROR: exit code: {event.exit_code}" if event.exit_code else "ERROR")

    def _output(self, step: Step, lines: list[str], at: int) -> None:
        for line in lines:
            self._line(step, f"{max(at - step.began, 0) / 1e9:.3f} {line}")

    def _transfer(self, event: events.Pulling, step: Step | None) -> None:
        message = event.message
        status = message.get("status")
        if not status or message.get("progressDetail"):
            return
        if step is None:
            print(status, file=self._file)
            return
        fresh = not step.number
        self._head(step)
        if not fresh:
            layer = message.get("id")
            self._line(step, f"{layer}: {status}" if layer else status)

    def _export(self, event: events.Exported) -> None:
        step = Step(KINDS.get(event.type, f"exporting to {event.type}"))
        self._head(step)
        for line in export_lines(event):
            self._line(step, line)
        self._line(step, "DONE")

    def _head(self, step: Step) -> None:
        if self.build.shown(step):
            if step.number > 1:
                print(file=self._file)
            self._line(step, step.label)
        elif self._last != step.number:
            print(file=self._file)
            self._line(step, step.label)

    def _line(self, step: Step, text: str) -> None:
        self._last = step.number
        print(f"#{step.number} {text}", file=self._file)


def context_text(event: events.ContextReceived) -> str:
    """What came of a context."""
    files = "1 file" if event.files == 1 else f"{event.files} files"
    return f"{humanise.size(event.sent, 4)} sent of {humanise.size(event.size, 4)} in {files}"


def export_lines(event: events.Exported) -> Iterator[str]:
    """What an outcome is and how it is called."""
    if event.image_id:
        yield f"writing image {event.image_id}"
    if event.digest and event.digest != event.image_id:
        yield f"manifest {event.digest}"
    for name in event.names:
        yield f"naming to {name}"


def closing_lines(build: Build) -> Iterator[str]:
    """Warnings, with their rules and lines, and notes."""
    if count := len(build.warnings):
        yield ""
        yield f"{count} warning{'s' if count > 1 else ''} found (`hooper build --check` shows more):"
    for warning in build.warnings:
        place = f" ({place_of(warning.origin)})" if warning.origin else ""
        yield f" - {warning.rule}: {warning.message}{place}"
    if build.notes:
        yield ""
    yield from build.notes


def failure_lines(build: Build) -> Iterator[str]:
    """What goes before the error of a step that failed: the last lines of its command, and its place in the recipe."""
    failed = build.failed
    if failed is None:
        return
    step = build.steps[failed.step]
    said = failed.output.rstrip("\n").split("\n") if failed.output.strip() else list(step.tail)
    if said:
        yield "------"
        yield f" > {step.label}:"
        yield from said[-_EXCERPT_LINES:]
        yield "------"
    # A daemon's error may show the place by itself.
    if step.planned and (origin := step.planned.origin) and str(origin) not in failed.error:
        yield from excerpt(origin)


def place_of(origin: Origin) -> str:
    """FILE:LINE, or FILE:FIRST-LAST."""
    return str(origin) if origin.last <= origin.first else f"{origin}-{origin.last}"


def excerpt(origin: Origin) -> Iterator[str]:
    """FILE:LINE and the lines that are there."""
    yield str(origin)
    lines = origin.text.rstrip("\n").split("\n") if origin.text else []
    if lines:
        yield _RULE
        for number, line in enumerate(lines, start=origin.first):
            yield f"{number:4d} | >>> {line}".rstrip()
        yield _RULE
