"""Times as Docker writes them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

NEVER = "0001-01-01T00:00:00Z"


def rfc3339(time_ns: int | None = None) -> str:
    """RFC 3339 in UTC with nanoseconds; now if no time is given."""
    ns = time.time_ns() if time_ns is None else time_ns
    seconds, rest = divmod(ns, 1_000_000_000)
    year, month, day, hour, minute, second, *_ = time.gmtime(seconds)
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{rest:09}Z"


def seconds(text: str) -> float:
    """The time of an RFC 3339 text, in seconds since the epoch; 0 for none."""
    if not text or text == NEVER:
        return 0.0
    head, dot, fraction = text.rstrip("Z").partition(".")
    moment = datetime.fromisoformat(head + (f".{fraction[:6].ljust(6, '0')}" if dot else "")).replace(tzinfo=UTC)
    return moment.timestamp()
