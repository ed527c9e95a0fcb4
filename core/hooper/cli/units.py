"""Sizes, durations, fractions of processors and points in time, as they are written in flags."""

from __future__ import annotations

import re
import time

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)(i?b)?\Z", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def parse_size(text: str) -> int:
    """Bytes of "512m", "1.5GiB", "42": suffixes are powers of 1024. ValueError says what is wrong."""
    match = _SIZE.match(text.strip())
    if not match:
        raise ValueError("it is not a number with one of the suffixes b, k, m, g, t or p")
    return int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])


def parse_duration(text: str) -> int:
    """Nanoseconds of "1h30m", "10s", "1.5s"; ValueError says what is wrong."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text)
    if rest == "0":
        return 0
    pieces = _DURATION.findall(rest)
    if not pieces or "".join(number + unit for number, unit in pieces) != rest:
        raise ValueError("it is not a duration with units, of ns, us, ms, s, m or h")
    return sign * round(sum(float(number) * _NANOSECONDS[unit] for number, unit in pieces))


def parse_cpus(text: str) -> int:
    """Billionths of a processor of "1.5"; ValueError says what is wrong."""
    if not re.fullmatch(r"\d+(\.\d{1,9})?|\.\d{1,9}", text):
        raise ValueError("it is not a number of processors with at most nine decimals")
    whole, _, fraction = text.partition(".")
    return int(whole or 0) * 10**9 + int(fraction.ljust(9, "0"))


def parse_moment(text: str, now: float | None = None) -> str:
    """Seconds since 1970 (perhaps with a fraction) of a time stamp, a date, or a duration before `now`.

    ValueError says what is wrong. Times without a zone are local.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return text
    try:
        seconds = (time.time() if now is None else now) - parse_duration(text) / 1e9
        return f"{seconds:.9f}"
    except ValueError:
        pass
    from datetime import datetime

    stamp, fraction = _split_fraction(text)
    try:
        # A date with a zone is a form of the API's, but not of datetime's.
        moment = datetime.fromisoformat(re.sub(r"^(\d{4}-\d\d-\d\d)(?=Z|[+-]\d\d:\d\d$)", r"\1T00:00", stamp))
    except ValueError:
        raise ValueError("it is neither a time stamp, nor seconds since 1970, nor a duration such as 10m") from None
    return f"{int(moment.timestamp())}{fraction}"


def _split_fraction(text: str) -> tuple[str, str]:
    """A time stamp without its fraction of a second, and the fraction: datetime knows six digits, the API nine."""
    match = re.search(r"(?<=:\d\d)\.\d{1,9}", text)
    return (text.replace(match[0], "", 1), match[0]) if match else (text, "")
