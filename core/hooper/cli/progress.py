"""Streams of progress (pull, push, build, load): bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

from hooper.client.errors import ApiError

Message = Mapping[str, Any]


def checked(messages: Iterable[Message]) -> Iterator[Message]:
    """The messages; ApiError for one that says that the work failed."""
    for message in messages:
        if "error" in message or "errorDetail" in message:
            detail = message.get("errorDetail") or {}
            raise ApiError(int(detail.get("code") or 500), detail.get("message") or message["error"])
        yield message


def show_progress(messages: Iterable[Message], file: TextIO | None = None) -> list[Any]:
    """Shows what comes and returns the `aux` objects; ApiError if the work failed."""
    file = file or sys.stdout
    aux: list[Any] = []
    if file.isatty():
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
    """A line a layer, with a bar where its size is known; other lines scroll above. Drawn from the first layer on."""

    def __init__(self, file: TextIO) -> None:
        self._lines = Lines(file)
        self._progress: Any = None
        self._file = file
        self._tasks: dict[str, Any] = {}

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

        columns = (TextColumn("{task.fields[layer]}: {task.description}"), BarColumn(40), DownloadColumn())
        self._progress = Progress(*columns, console=Console(file=self._file))
        self._progress.start()

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress:
            self._progress.stop()

    def show(self, message: Message) -> None:
        """Draws one message."""
        layer, status = message.get("id"), message.get("status", "")
        if "stream" in message or not layer or status.startswith("Pulling from"):
            self._show_line(message)
            return
        if not self._progress:
            self._start()
        if layer not in self._tasks:
            self._tasks[layer] = self._progress.add_task(status, total=None, layer=layer)
        detail = message.get("progressDetail") or {}
        total, current = detail.get("total"), detail.get("current")
        self._progress.update(self._tasks[layer], description=f"{status:<20}", total=total, completed=current)

    def _show_line(self, message: Message) -> None:
        if not self._progress:
            self._lines.show(message)
            return
        prefix = f"{message['id']}: " if message.get("id") else ""
        text = message.get("stream") or prefix + message.get("status", "")
        if text.strip():
            self._progress.console.out(text.rstrip("\n"), highlight=False)
