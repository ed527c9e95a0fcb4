"""The reading side of journald: journalctl, which prints what matches."""

from __future__ import annotations

import subprocess
from collections import deque
from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import anyio
from anyio.abc import Process

from hooper.api.logs import LogEntry, LogQuery, Running
from hooper_log_journald.fields import OURS, Export

POLL_S = 0.2
_NS = 1_000_000_000
_STREAMS = {b"3": "stderr", b"6": "stdout"}
_PRIORITIES = {name: number.decode() for number, name in _STREAMS.items()}
_MARGIN_S = 5
"""Journald's own times, which journalctl goes by, are a little later than ours."""


class Reader:
    """One reading of one container's entries."""

    def __init__(self, program: str, directory: str, container_id: str, query: LogQuery) -> None:
        self._program, self._query = program, query
        self._place = [f"--directory={directory}"] if directory else []
        self._match = [f"CONTAINER_ID_FULL={container_id}"]
        if not (query.stdout and query.stderr):
            self._match.append("PRIORITY=" + _PRIORITIES["stdout" if query.stdout else "stderr"])
        self._cursor = ""
        self._over = False

    async def batches(self, running: Running) -> AsyncIterator[list[LogEntry]]:
        """See LogDriver.read."""
        await self._sync()
        yield []
        if self._query.follow and running():
            async for batch in self._follow(running):
                yield batch
            if self._over:
                return
            await self._sync()
        async for batch in self._once():
            yield batch

    async def _follow(self, running: Running) -> AsyncIterator[list[LogEntry]]:
        process = await self._started("--follow", f"--lines={'all' if self._query.tail is None else self._query.tail}")
        export = Export()
        try:
            while running() and not self._over:
                data = None
                with anyio.move_on_after(POLL_S):
                    data = await _received(process)
                if data == b"":
                    return
                if data and (batch := self._entries(export.feed(data))):
                    yield batch
        finally:
            await _end(process)

    async def _once(self) -> AsyncIterator[list[LogEntry]]:
        """Everything after what was seen, or else what the query asks for."""
        query, tail = self._query, self._query.tail
        last: deque[LogEntry] | None = None
        arguments = [f"--after-cursor={self._cursor}"] if self._cursor else []
        if not self._cursor and tail is not None:
            # Journald's idea of "until" is not exact: what is the last is known only here.
            last = deque(maxlen=tail)
            if not query.until_ns:
                arguments.append(f"--lines={tail}")
        process, export = await self._started(*arguments), Export()
        try:
            while data := await _received(process):
                batch = self._entries(export.feed(data))
                if last is not None:
                    last += batch
                elif batch:
                    yield batch
            if last:
                yield list(last)
        finally:
            await _end(process)

    async def _sync(self) -> None:
        """What journald has taken is in its files when this returns; one that cannot be asked is not."""
        await anyio.run_process([self._program, "--sync"], check=False)

    async def _started(self, *arguments: str) -> Process:
        since, until = self._query.since_ns // _NS, self._query.until_ns // _NS
        bounds = [f"--since=@{since}"] if since else []
        if until:
            bounds.append(f"--until=@{until + _MARGIN_S}")
        return await anyio.open_process(
            [
                self._program,
                "--output=export",
                "--quiet",
                "--no-pager",
                *self._place,
                *bounds,
                *arguments,
                *self._match,
            ],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _entries(self, found: Sequence[dict[str, bytes]]) -> list[LogEntry]:
        query, entries = self._query, []
        for fields in found:
            self._cursor = fields.get("__CURSOR", b"").decode()
            entry = _entry(fields, query.details)
            if query.until_ns and entry.time_ns > query.until_ns:
                self._over = True
            elif entry.time_ns >= query.since_ns:
                entries.append(entry)
        return entries


def _entry(fields: dict[str, bytes], details: bool) -> LogEntry:
    whole = fields.get("CONTAINER_PARTIAL_MESSAGE") != b"true"
    attributes = None
    if details:
        attributes = {
            name: value.decode(errors="replace")
            for name, value in fields.items()
            if not name.startswith("_") and name not in OURS
        }
    return LogEntry(
        _STREAMS.get(fields.get("PRIORITY", b""), "stdout"),
        fields.get("MESSAGE", b"") + (b"\n" if whole else b""),
        _time_ns(fields),
        attributes,
    )


def _time_ns(fields: dict[str, bytes]) -> int:
    """When the line was written; else when the journal got it."""
    stamp = fields.get("SYSLOG_TIMESTAMP", b"").decode(errors="replace")
    try:
        second, fraction = stamp.rstrip("Z").split(".")
        return int(datetime.fromisoformat(second + "+00:00").timestamp()) * _NS + int(fraction.ljust(9, "0"))
    except ValueError:
        return int(fields.get("__REALTIME_TIMESTAMP", b"0")) * 1000


async def _received(process: Process) -> bytes:
    """The next output; b"" at its end."""
    assert process.stdout is not None
    try:
        return await process.stdout.receive(1 << 18)
    except anyio.EndOfStream:
        return b""


async def _end(process: Process) -> None:
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            process.kill()
        await process.aclose()
