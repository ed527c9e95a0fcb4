"""What targets have in common: which errors they may see, and that time does not outgrow the input."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from hooper.api.errors import HooperError, from_wire, to_wire

Feed = Callable[[bytes], None]


class Broken(AssertionError):
    """A promise was not kept."""


class Target(NamedTuple):
    """`feed` raises for a fault only. `unit`: bytes by which its input is cut, 0 if its time is not looked at."""

    feed: Feed
    seeds: tuple[bytes, ...]
    unit: int = 1


def hold(truth: object, promise: str, *values: object) -> None:
    """Broken, with the values, if it is not true."""
    if not truth:
        raise Broken(f"{promise}: {', '.join(ascii(value)[:2000] for value in values)}")


@contextmanager
def only(*kinds: type[HooperError]) -> Iterator[None]:
    """Errors of these kinds are answers, if they say what is wrong and can be sent to a client."""
    try:
        yield
    except kinds as error:
        hold(error.what and str(error), "an error says what is wrong", error)
        again = from_wire(msgspec.json.decode(msgspec.json.encode(to_wire(error))))
        hold(again.kind == error.kind, "an error can be sent", error, again)


# --- time ---------------------------------------------------------------------------------------------

_SHORT, _STEP = 4096, 4
_FACTOR = 12.0
"""Four times the input may take so many times as long. What goes with the square takes sixteen times; what is in
proportion takes four, and up to ten where it outgrows a cache of the processor."""
_NOTICED = 0.1
"""Seconds of CPU below which nothing is said: they are noise."""
_ENOUGH = 0.5
"""Seconds after which nothing longer is tried."""
_LARGEST = 1 << 16


def check_growth(target: Target, data: bytes) -> None:
    """Broken if the time that `target` takes grows faster than what is made of `data` by repeating a piece of it."""
    if not target.unit or not data:
        return
    size, piece = _SHORT, _stretched(data, _SHORT, target.unit)
    before = _cost(target.feed, piece)
    while size < _LARGEST and before < _ENOUGH:
        size *= _STEP
        longer = _stretched(data, size, target.unit)
        cost = _cost(target.feed, longer)
        if _is_too_long(before, cost):
            # Once more: something else may have kept the processor's caches busy.
            before, cost = _cost(target.feed, piece), _cost(target.feed, longer)
            sound = not _is_too_long(before, cost)
            hold(sound, f"time grows with the input, but {size} bytes took {cost:.3f} s", before, data)
        before, piece = cost, longer


def _is_too_long(before: float, cost: float) -> bool:
    return cost > _NOTICED and cost > _FACTOR * before


def _cost(feed: Feed, data: bytes) -> float:
    """Seconds of CPU, the less of two."""
    costs = []
    for _ in range(2):
        started = time.process_time()
        feed(data)
        costs.append(time.process_time() - started)
        if costs[0] < _NOTICED / _STEP**2:
            break
    return min(costs)


def _stretched(data: bytes, size: int, unit: int) -> bytes:
    """`data` with a piece of it, which depends on it alone, so often that it has about `size` bytes."""
    count = max(len(data) // unit, 1)
    first, second = sorted((zlib.crc32(data) % count, zlib.adler32(data) % count))
    start, end = first * unit, (second + 1) * unit
    piece = data[start:end]
    return data[:start] + piece * max(size // len(piece), 1) + data[end:]
