"""GET /containers/{id}/logs."""

from __future__ import annotations

from collections.abc import Sequence

from hooper.api.engine import Engine
from hooper.api.errors import InvalidArgument
from hooper.api.logs import LogEntry, LogQuery
from hooper.api.model import Container
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
    )


def details(container: Container) -> bytes:
    """The labels and variables that the log options name, as `docker logs --details` shows them."""
    options = container.host_config.log_config.config or {}
    labels = container.config.labels or {}
    variables = dict(entry.partition("=")[::2] for entry in container.config.env or ())
    chosen = [(k, labels) for k in options.get("labels", "").split(",")]
    chosen += [(k, variables) for k in options.get("env", "").split(",")]
    return ",".join(sorted(f"{key}={source[key]}" for key, source in chosen if key in source)).encode() + b" "


def encode(entries: Sequence[LogEntry], *, tty: bool, timestamps: bool, prefix: bytes = b"") -> bytes:
    """A batch as it goes over the wire: framed, unless a tty wrote it."""
    parts: list[bytes] = []
    for entry in entries:
        data = entry.data
        if prefix:
            data = prefix + data
        if timestamps:
            data = rfc3339_fixed(entry.time_ns).encode() + b" " + data
        if not tty:
            parts.append(HEADS[entry.stream])
            parts.append(len(data).to_bytes(4, "big"))
        parts.append(data)
    return b"".join(parts)


async def logs(engine: Engine, request: Request, name: str) -> None:
    query = request.query
    container = await engine.containers.get(name)
    batches = await engine.containers.logs(name, log_query(query))
    tty, timestamps = container.config.tty, query.flag("timestamps")
    prefix = details(container) if query.flag("details") else b""
    await request.begin(stream_type(request, tty))
    async with request.while_connected():
        async for batch in batches:
            await request.write(encode(batch, tty=tty, timestamps=timestamps, prefix=prefix))
    await request.end()
