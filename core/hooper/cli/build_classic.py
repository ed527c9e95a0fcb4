"""Builds by a daemon that is not hooper: the context goes as one tar, what is told comes as lines of text."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from hooper.api.errors import InvalidArgument, Unsupported
from hooper.cli.build_context import Source
from hooper.cli.build_request import BuildFlags
from hooper.cli.credentials import all_auths
from hooper.cli.progress import checked, show_progress
from hooper.cli.session import Session
from hooper.client.errors import ApiError


def build_classic(session: Session, source: Source, flags: BuildFlags, options: Mapping[str, Any]) -> str:
    """The image's id; ApiError with the exit code of a step as its status if that failed."""
    if beyond := flags.beyond_classic():
        raise Unsupported(
            f"cannot build with {', '.join(beyond)}",
            "the daemon is not hooper, and of BuildKit's features this client brings none to it",
            "Leave the flag out, or build by a hooper daemon.",
        )
    body = archive(source)
    if options["compress"] and body and source.archive is None:
        body = compressed(body)
    query = {
        **flags.parameters,
        "dockerfile": source.name or None,
        "remote": source.remote or None,
        "q": flags.quiet or None,
    }
    headers = {"Content-Type": "application/x-tar", **all_auths()}
    messages = session.client.json_lines("POST", "/build", query, body=body, headers=headers)
    return _quiet(messages) if flags.quiet else _identifier(show_progress(messages, style=flags.style))


def archive(source: Source) -> Iterator[bytes] | None:
    """The context as a tar; None if the daemon fetches it."""
    from hooper.cli.context import END, pack, pack_file

    if source.remote or source.archive is not None:
        return source.archive
    if not source.directory:
        return chain(pack_file(source.name, source.recipe or b""), [END])
    return pack(source)


def compressed(parts: Iterator[bytes]) -> Iterator[bytes]:
    """A stream in gzip's format."""
    import zlib

    packer = zlib.compressobj(wbits=31)
    for part in parts:
        if data := packer.compress(part):
            yield data
    yield packer.flush()


def _identifier(aux: list[Any]) -> str:
    return next((item["ID"] for item in reversed(aux) if isinstance(item, dict) and "ID" in item), "")


def _quiet(messages: Iterator[Any]) -> str:
    """What was printed is shown only if the build fails."""
    printed: list[str] = []
    aux: list[Any] = []
    try:
        for message in checked(messages):
            printed.append(message.get("stream", ""))
            aux.append(message.get("aux"))
    except ApiError:
        sys.stderr.write("".join(printed))
        raise
    found = _identifier(aux) or "".join(printed).strip()
    if not found:
        raise InvalidArgument("the daemon names no image", "its answer to the build ended early")
    return found
