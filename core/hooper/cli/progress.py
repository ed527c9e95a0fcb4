"""Streams of progress (pull, push, build, load): bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

from hooper.cli import humanise
from hooper.client.errors import ApiError

_STEP = re.compile(r"Step (\d+)/(\d+) : ")
_DONE = ("Pull complete", "Already exists", "Download complete", "Pushed", "Layer already exists")
Message = Mapping[str, Any]


def checked(messages: Iterable[Message]) -> Iterator[Message]:
    """The messages; ApiError for one that says that the work failed."""
    for message in messages:
        if "error" in message or "errorDetail" in message:
            detail = message.get("errorDetail") or {}
            raise ApiError(int(detail.get("code") or 500), detail.get("message") or message["error"])
        yield message


def show_progress(messages: Iterable[Message], file: TextIO | None = None, style: str = "auto") -> list[Any]:
    """Shows what comes and returns the `aux` objects; ApiError if the work failed.

    `style`: "plain" for lines even on a terminal, "tty" for bars even elsewhere, "rawjson" for what the daemon says.
    """
    file = file or sys.stdout
    aux: list[Any] = []
    if style == "rawjson":
        _run(messages, lambda message: print(json.dumps(message), file=file, flush=True), aux)
    elif style == "tty" or (style == "auto" and file.isatty()):
        with _Bars(file) as bars:
            _run(messages, bars.show, aux)
    else:
        _run(messages, Lines(file).show, aux)
    return aux


def _run(messages: Iterable[Message], show: Any, aux: list[Any]) -> None:
    for message in checked(messages):
        if message.get("aux") is not None:
            aux.append(message["aux"])
        show(message)


class Lines:
    """Every state of a layer once, a line each."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def show(self, message: Message) -> None:
        """Prints one message, unless it only tells how far something is."""
        if "stream" in message:
            print(message["stream"], end="", file=self._file, flush=True)
            return
        if message.get("progressDetail") or "status" not in message:
            return
        prefix = f"{message['id']}: " if message.get("id") else ""
        print(f"{prefix}{message['status']}", file=self._file, flush=True)


class _Bars:
    """A line a layer, with a bar where its size is known, and one for the steps of a build; other lines scroll above.

    Drawn from the first layer or step on.
    """

    def __init__(self, file: TextIO) -> None:
        self._lines = Lines(file)
        self._progress: Any = None
        self._file = file
        self._tasks: dict[str, Any] = {}
        self._pending = ""

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self._print("\n" if self._pending else "")
        if self._progress:
            self._progress.stop()

    def show(self, message: Message) -> None:
        """Draws one message."""
        layer, status = message.get("id"), message.get("status", "")
        if "stream" in message:
            self._show_stream(message["stream"])
        elif not layer or status.startswith("Pulling from"):
            self._print((f"{layer}: " if layer else "") + status + "\n" if status else "")
        else:
            self._show_layer(layer, status, message.get("progressDetail") or {})

    def _show_layer(self, layer: str, status: str, detail: Mapping[str, Any]) -> None:
        total, current = detail.get("total") or None, detail.get("current") or 0
        amount = f"{humanise.size(current, 3)}/{humanise.size(total, 3)}" if total else ""
        if total is None and status in _DONE:
            total = current = 1
        self._update(layer, f"{layer}: {status:<18}", total, current, amount)

    def _show_stream(self, text: str) -> None:
        if step := _STEP.match(text):
            number, count = int(step[1]), int(step[2])
            self._update("build", "Step", count, number - 1, f"{number}/{count}")
        elif text.startswith("Successfully built") and "build" in self._tasks:
            self._progress.update(self._tasks["build"], completed=self._progress.tasks[self._tasks["build"]].total)
        self._print(text)

    def _update(self, key: str, title: str, total: int | None, current: int, amount: str) -> None:
        if not self._progress:
            self._start()
        if key not in self._tasks:
            self._tasks[key] = self._progress.add_task(title, total=total, amount=amount)
        self._progress.update(self._tasks[key], description=title, total=total, completed=current, amount=amount)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (TextColumn("{task.description}"), BarColumn(40), TextColumn("{task.fields[amount]}"))
        self._progress = Progress(*columns, console=Console(file=self._file))
        self._progress.start()

    def _print(self, text: str) -> None:
        """Prints whole lines above the bars; a piece of a line waits for the rest of it."""
        if not self._progress:
            self._file.write(text)
            self._file.flush()
            return
        *whole, self._pending = (self._pending + text).split("\n")
        for line in whole:
            self._progress.console.out(line, highlight=False)
