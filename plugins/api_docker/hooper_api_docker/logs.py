"""GET /containers/{id}/logs."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote_plus

from hooper.api.engine import Engine
from hooper.api.errors import InvalidArgument
from hooper.api.logs import LogEntry, LogQuery
from hooper_api_docker.http import Request
from hooper_api_docker.query import Query
from hooper_api_docker.streams import stream_type
from hooper_api_docker.times import rfc3339_fixed

HEADS = {"stdout": b"\x01\x00\x00\x00", "stderr": b"\x02\x00\x00\x00"}


def log_query(query: Query) -> LogQuery:
    """InvalidArgument if neither stream is chosen."""
    stdout, stderr = query.flag("stdout"), query.flag("stderr")
    if not (stdout or stderr):
        raise InvalidArgument("Bad parameters: you must choose at least one stream")
    tail = query.text("tail")
    return LogQuery(
        stdout=stdout,
        stderr=stderr,
        since_ns=query.time_ns("since"),
        until_ns=query.time_ns("until"),
        # As dockerd has it, anything but a number of lines means all.
        tail=int(tail) if tail.isdigit() else None,
        follow=query.flag("follow"),
        details=query.flag("details"),
    )


class Encoder:
    """Entries as they go over the wire: framed, unless a tty wrote them."""

    def __init__(self, *, tty: bool, timestamps: bool, details: bool) -> None:
        self._tty, self._timestamps, self._details = tty, timestamps, details
        self._attributes: dict[str, str] | None = None
        self._prefix = b" "

    def encode(self, entries: Sequence[LogEntry]) -> bytes:
        """A batch."""
        parts: list[bytes] = []
        tty, plain = self._tty, not (self._details or self._timestamps)
        for entry in entries:
            data = entry.data if plain else self._decorated(entry)
            if tty:
                parts.append(data)
            else:
                parts += (HEADS[entry.stream], len(data).to_bytes(4, "big"), data)
        return b"".join(parts)

    def _decorated(self, entry: LogEntry) -> bytes:
        stamp = rfc3339_fixed(entry.time_ns).encode() + b" " if self._timestamps else b""
        return stamp + (self._shown(entry.attributes) if self._details else b"") + entry.data

    def _shown(self, attributes: dict[str, str] | None) -> bytes:
        """In order of name, as in a URL: `a=1,b=2 `. Those of one line are mostly those of the last."""
        if attributes != self._attributes:
            pairs = sorted((attributes or {}).items())
            self._attributes = attributes
            self._prefix = ",".join(f"{quote_plus(k)}={quote_plus(v)}" for k, v in pairs).encode() + b" "
        return self._prefix


async def logs(engine: Engine, request: Request, name: str) -> None:
    query = request.query
    container = await engine.containers.get(name)
    batches = await engine.containers.logs(name, log_query(query))
    tty = container.config.tty
    encoder = Encoder(tty=tty, timestamps=query.flag("timestamps"), details=query.flag("details"))
    await request.begin(stream_type(request, tty))
    async with request.while_connected():
        async for batch in batches:
            await request.write(encoder.encode(batch))
    await request.end()
