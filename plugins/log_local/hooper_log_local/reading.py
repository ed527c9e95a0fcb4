"""Entries from blocks."""

from __future__ import annotations

from hooper.api.log_reading import Format
from hooper.api.logs import LogEntry
from hooper_log_local import blocks


class Blocks(Format):
    """See `hooper_log_local.blocks`."""

    def __init__(self, details: bool) -> None:
        self._attributes: dict[str, str] | None = {} if details else None

    def whole(self, data: bytes) -> int:
        """See Format."""
        return blocks.whole(data)

    def first(self, data: bytes) -> int:
        """See Format."""
        return blocks.first(data)

    def decode(self, records: bytes) -> list[LogEntry]:
        """See Format."""
        entries: list[LogEntry] = []
        attributes, at = self._attributes, 0
        while at < len(records):
            block = blocks.block_at(records, at)
            if block is None:
                at = blocks.after_damage(records, at)
                continue
            start, end, number, time_ns = block
            stream = blocks.STREAMS[number]
            lines = records[start:end].split(b"\n")
            last = lines.pop()
            entries += [LogEntry(stream, line + b"\n", time_ns, attributes) for line in lines]
            if last:
                entries.append(LogEntry(stream, last, time_ns, attributes))
            at = blocks.end_of(block)
        return entries
