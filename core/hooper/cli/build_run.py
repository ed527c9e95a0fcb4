"""A build by a hooper daemon: the request, the events that come back, and what is made of them."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, Protocol, TextIO

import msgspec

from hooper.api import build_events as events
from hooper.cli.build import step_code
from hooper.cli.build_classic import archive, compressed
from hooper.cli.build_context import Source
from hooper.cli.build_plain import PlainLines, failure_lines
from hooper.cli.build_request import BuildFlags, hooper_query
from hooper.cli.build_serving import Serving
from hooper.cli.build_steps import Build
from hooper.cli.credentials import all_auths
from hooper.cli.errors import report
from hooper.cli.progress import checked
from hooper.cli.session import Session
from hooper.client.build_session import ServedSession
from hooper.client.errors import ApiError

_KNOWN = {str(kind.__struct_config__.tag) for kind in events.BuildEvent.__args__}


class View(Protocol):
    """A way to show a build."""

    build: Build

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: Any) -> None: ...

    def show(self, event: events.BuildEvent) -> None:
        """Shows an event."""

    def end(self) -> None:
        """Shows what is told at the end."""


class RawLines:
    """The events as the daemon sends them, a line each."""

    def __init__(self, file: TextIO) -> None:
        self.build = Build()
        self._file = file

    def __enter__(self) -> RawLines:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.flush()

    def show(self, event: events.BuildEvent) -> None:
        """Prints it."""
        self.build.feed(event)
        print(msgspec.json.encode(event).decode(), file=self._file, flush=True)

    def end(self) -> None:
        """The events have told all."""


def run_build(session: Session, source: Source, flags: BuildFlags, options: Mapping[str, Any]) -> int:
    """Builds, or checks; the exit code."""
    trace = None
    if options["trace"]:
        from hooper.cli.build_trace import Trace

        trace = Trace()
    kept = io.StringIO()
    with Serving(flags, source) as serving:
        view = _view(flags, kept, lambda: serving.sent)
        identifier, failure = "", None
        try:
            with ServedSession(session.client, serving.handlers) if serving.needed else nullcontext() as served:
                messages = _messages(session, source, flags, options, served.id if served else "")
                with view:
                    for message in checked(messages):
                        identifier = (message.get("aux") or {}).get("ID") or identifier
                        if event := _event(message):
                            if trace:
                                trace.add(event)
                            view.show(event)
        except ApiError as error:
            failure = error
        finally:
            if trace:
                trace.write(options["trace"])
        serving.warn()
    if failure:
        return _failed(session, view, failure, kept)
    if flags.check:
        from hooper.cli.build_check import print_check

        return print_check(view.build.warnings)
    view.end()
    if flags.quiet and identifier:
        print(identifier)
    _write_facts(options, identifier, view.build)
    return 0


def _failed(session: Session, view: View, failure: ApiError, kept: io.StringIO) -> int:
    """Tells why; opens a shell in the state before the step if that was asked for."""
    view.end()
    sys.stderr.write(kept.getvalue())
    for line in failure_lines(view.build):
        print(line, file=sys.stderr)
    report(failure)
    if view.build.failed and view.build.failed.debug_image:
        from hooper.cli.build_debug import enter

        enter(session, view.build.failed)
    return step_code(failure)


def _view(flags: BuildFlags, kept: io.StringIO, received: Callable[[], int]) -> View:
    """All but what is asked for goes to stderr, and nothing to `kept` unless the build is to be quiet."""
    if flags.quiet or flags.check:
        return PlainLines(kept)
    if flags.style == "rawjson":
        return RawLines(sys.stderr)
    live = flags.style == "tty" or (flags.style == "auto" and sys.stderr.isatty() and os.environ.get("TERM") != "dumb")
    if live:
        from hooper.cli.build_live import LiveView

        return LiveView(sys.stderr, received)
    return PlainLines(sys.stderr)


def _messages(
    session: Session, source: Source, flags: BuildFlags, options: Mapping[str, Any], served: str
) -> Iterator[Any]:
    query = {**hooper_query(flags), "session": served or None, "dockerfile": source.name or None}
    body = None
    if source.directory:
        query["remote"] = "hooper-session"
    elif source.remote:
        query["remote"] = source.remote
    else:
        body = archive(source)
        body = compressed(body) if body and options["compress"] and source.archive is None else body
    headers = {"Content-Type": "application/x-tar", **all_auths()}
    return session.client.json_lines("POST", "/build", query, body=body, headers=headers)


def _event(message: Mapping[str, Any]) -> events.BuildEvent | None:
    """The event of a message; None if it has none, or one of a newer daemon that is not known here."""
    content = message.get("hooper")
    if not isinstance(content, dict) or content.get("type") not in _KNOWN:
        return None
    return msgspec.convert(content, events.BuildEvent)  # type: ignore[no-any-return]


def _write_facts(options: Mapping[str, Any], identifier: str, build: Build) -> None:
    """--iidfile and --metadata-file."""
    if options["iidfile"]:
        _write(options["iidfile"], identifier)
    if not options["metadata_file"]:
        return
    exported = build.exported
    digest = next((one.digest for one in exported if one.digest), "")
    names = list(dict.fromkeys(name for one in exported for name in one.names))
    facts = {
        "containerimage.config.digest": identifier,
        "containerimage.digest": digest or identifier,
        "image.name": ",".join(names),
    }
    _write(options["metadata_file"], json.dumps({key: value for key, value in facts.items() if value}, indent=2))


def _write(path: str, content: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(content)
