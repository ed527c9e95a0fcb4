"""Entries from the lines of a json-file; pure."""

from __future__ import annotations

import calendar
import time

import msgspec

from hooper.api.log_reading import Format
from hooper.api.logs import LogEntry


class _Line(msgspec.Struct):
    log: str = ""
    stream: str = "stdout"
    time: str = ""


class _DetailedLine(_Line):
    attrs: dict[str, str] | None = None


_decoder = msgspec.json.Decoder(_Line)


class Clock:
    """RFC 3339 times to nanoseconds; remembers the last, for neighbours are often the same."""

    def __init__(self) -> None:
        self._text, self._value = "", 0
        self._second, self._start = "", 0

    def parse(self, text: str) -> int:
        """ValueError if it is none."""
        if text == self._text:
            return self._value
        second = text[:19]
        if second != self._second:
            self._start = calendar.timegm(time.strptime(second, "%Y-%m-%dT%H:%M:%S")) * 1_000_000_000
            self._second = second
        value = self._start
        if text.endswith("Z"):
            if len(text) > 20:
                value += int(text[20:-1].ljust(9, "0")[:9])
        else:
            value += _with_zone(text[19:])
        self._text, self._value = text, value
        return value


def _with_zone(rest: str) -> int:
    """Nanoseconds that a fraction and an offset such as ".5+02:00" add."""
    fraction, sign, offset = rest[:-6], rest[-6:-5], rest[-5:]
    if sign not in ("+", "-"):
        raise ValueError(rest)
    nanoseconds = int(fraction[1:].ljust(9, "0")[:9]) if fraction else 0
    away = (int(offset[:2]) * 60 + int(offset[3:])) * 60_000_000_000
    return nanoseconds - away if sign == "+" else nanoseconds + away


class JsonLines(Format):
    """`details`: the attributes of each line are wanted too, which costs time."""

    def __init__(self, details: bool) -> None:
        self._clock = Clock()
        self._decoder = msgspec.json.Decoder(_DetailedLine) if details else _decoder
        self._details = details

    def whole(self, data: bytes) -> int:
        """See Format."""
        return data.rfind(b"\n") + 1

    def first(self, data: bytes) -> int:
        """See Format."""
        return data.find(b"\n") + 1 or len(data)

    def decode(self, records: bytes) -> list[LogEntry]:
        """See Format."""
        try:
            decoded = self._decoder.decode_lines(records)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            decoded = self._decode_each(records)
        if self._details:
            return [entry for line in decoded if (entry := self._entry(line)) is not None]
        parse = self._clock.parse
        try:
            return [LogEntry(line.stream, line.log.encode(), parse(line.time)) for line in decoded]
        except (ValueError, IndexError):
            return [entry for line in decoded if (entry := self._entry(line)) is not None]

    def _decode_each(self, lines: bytes) -> list[_Line]:
        decoded = []
        for line in lines.split(b"\n"):
            try:
                decoded.append(self._decoder.decode(line))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
        return decoded

    def _entry(self, line: _Line) -> LogEntry | None:
        attributes = line.attrs or {} if isinstance(line, _DetailedLine) else None
        try:
            return LogEntry(line.stream, line.log.encode(errors="replace"), self._clock.parse(line.time), attributes)
        except (ValueError, IndexError):
            return None
