"""Durations as Go writes them."""

from __future__ import annotations

import re

from hooper_builder_dockerfile.faults import Fault

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+\Z")
_LIMIT = 2**63


def nanoseconds(text: str) -> int:
    """ "1m30s" as nanoseconds; Fault for what is none, is negative or does not fit."""
    if text == "0":
        return 0
    if not _WHOLE.match(text):
        raise Fault(f'invalid duration "{text}"', 'Write a number and a unit (ns, us, ms, s, m, h): "30s", "1m30s".')
    total = sum(round(float(number) * _UNITS[unit]) for number, unit in _PART.findall(text))
    if total >= _LIMIT:
        raise Fault(f'duration "{text}" is too long', "Durations end at 292 years.")
    return total


def duration(value: int) -> str:
    """Nanoseconds as `nanoseconds` reads them, in the largest unit that has no fraction."""
    unit = next(unit for unit in ("h", "m", "s", "ms", "us", "ns") if value % _UNITS[unit] == 0)
    return f"{value // _UNITS[unit]}{unit}"
