"""Times in the forms of the API: nanoseconds since 1970 inside, RFC 3339 outside."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

ZERO = "0001-01-01T00:00:00Z"
"""Go's zero time: never."""
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?\Z")
_fixed: tuple[int, str] = (-1, "")


def rfc3339_fixed(ns: int) -> str:
    """Always with nine digits, as in logs. The seconds are remembered: lines come in bursts."""
    global _fixed
    seconds, rest = divmod(ns, 10**9)
    if _fixed[0] != seconds:
        _fixed = (seconds, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)))
    return f"{_fixed[1]}.{rest:09}Z"


def rfc3339(ns: int) -> str:
    """Without trailing zeros, as Go's RFC3339Nano."""
    text = rfc3339_fixed(ns)[:-1].rstrip("0")
    return text.rstrip(".") + "Z"


def parse_ns(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time (UTC where it names no zone). ValueError."""
    match = _RFC3339.match(text)
    if not match:
        raise ValueError(text)
    moment = datetime.fromisoformat(match[1] + (match[3] or "Z"))
    return int(moment.astimezone(UTC).timestamp()) * 10**9 + int((match[2] or "0")[:9].ljust(9, "0"))


def parse_seconds(text: str) -> int:
    """Seconds since 1970; Go's zero time and what cannot be read are its -62135596800."""
    try:
        return parse_ns(text) // 10**9
    except ValueError:
        return -62135596800


def human_duration(seconds: float) -> str:
    """As docker ps tells ages."""
    s = int(seconds)
    if s < 1:
        return "Less than a second"
    if s < 60:
        return "1 second" if s == 1 else f"{s} seconds"
    minutes, hours = s // 60, int(seconds / 3600 + 0.5)
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours <= 1 else f"{hours} hours"
    for unit, length, limit in (("days", 24, 336), ("weeks", 168, 1440), ("months", 720, 17520)):
        if hours < limit:
            return f"{hours // length} {unit}"
    return f"{hours // 8760} years"
