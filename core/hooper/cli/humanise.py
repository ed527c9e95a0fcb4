"""Sizes and times as people read them, in docker's wording."""

from __future__ import annotations

import time

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_HOUR, _DAY = 3600, 24 * 3600


def size(count: float, digits: int = 4) -> str:
    """Bytes in powers of 1000 with `digits` significant digits: "1.984MB"."""
    return _scaled(count, 1000, _DECIMAL, digits)


def binary_size(count: float) -> str:
    """Bytes in powers of 1024: "600KiB"."""
    return _scaled(count, 1024, _BINARY, 4)


def _scaled(count: float, base: int, units: tuple[str, ...], digits: int) -> str:
    power = 0
    while count >= base and power < len(units) - 1:
        count /= base
        power += 1
    return f"{count:.{digits}g}{units[power]}"


def duration(seconds: float) -> str:
    """A length of time to the precision that matters: "3 minutes", "About an hour"."""
    if seconds < 1:
        return "Less than a second"
    if seconds < 60:
        return "1 second" if int(seconds) == 1 else f"{int(seconds)} seconds"
    if seconds < _HOUR:
        return "About a minute" if seconds < 120 else f"{int(seconds / 60)} minutes"
    hours = int(seconds / _HOUR + 0.5)
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    if hours < 24 * 14:
        return f"{hours // 24} days"
    if hours < 24 * 60:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{hours // 24 // 365} years"


def ago(moment: float, now: float | None = None) -> str:
    """How long ago seconds since 1970 are: "3 minutes ago"; "N/A" for none (0 or less)."""
    if moment <= 0:
        return "N/A"
    return f"{duration((time.time() if now is None else now) - moment)} ago"


def timestamp(text: str) -> float:
    """Seconds since 1970 of the API's RFC 3339 text; 0 for the API's zero time and for none."""
    from datetime import datetime

    if not text or text.startswith("0001-"):
        return 0.0
    head, point, rest = text.partition(".")
    zone = rest.lstrip("0123456789")
    # datetime knows six digits of a second, the API nine.
    fraction = float(f"0.{rest.removesuffix(zone)}") if point else 0.0
    return datetime.fromisoformat(head + zone).timestamp() + fraction


def local_time(moment: float) -> str:
    """Seconds since 1970 as the tables show them: "2026-01-02 03:04:05 +0000 UTC"."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(moment))


def rfc3339(moment: float) -> str:
    """Seconds since 1970 as a time stamp of this place: "2026-01-02T03:04:05Z"."""
    text = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(moment))
    return f"{text[:-5]}Z" if text.endswith("+0000") else f"{text[:-2]}:{text[-2:]}"


def go_time(text: str) -> str:
    """The API's RFC 3339 text as Go prints a time: "2026-01-02 03:04:05.123 +0000 UTC"."""
    day, _, rest = text.partition("T")
    if rest.endswith("Z"):
        return f"{day} {rest[:-1]} +0000 UTC"
    clock, zone = rest[:-6], rest[-6:].replace(":", "")
    return f"{day} {clock} {zone} {zone}" if clock else text


def ansi_time(text: str) -> str:
    """The API's RFC 3339 text as C's asctime has it: "Fri May 30 12:07:14 2025"; what is none stays."""
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(text[:19])
    except ValueError:
        return text
    return f"{moment:%a %b} {moment.day:2d} {moment:%H:%M:%S %Y}"


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` characters; an ellipsis stands for what is cut."""
    return text if len(text) <= width else text[: width - 1] + "…"


def short_id(identifier: str) -> str:
    """The twelve digits by which people name a container or an image."""
    return identifier.removeprefix("sha256:")[:12]
