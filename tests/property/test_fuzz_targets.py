"""Every target of `scripts/fuzz` over its seeds, and over some hundred inputs made of them, the same each time."""

from __future__ import annotations

import random
import time
import traceback

import pytest

from fuzz.checks import Broken, Target, check_growth, hold, only
from fuzz.targets import TARGETS
from hooper.api.errors import DataLoss, InvalidArgument

MUTATIONS = 150
SLOW = {"request": 60, "tar": 100}
"""Fewer of those that take a millisecond and more each."""


def mutated(seeds: tuple[bytes, ...], chance: random.Random) -> bytes:
    """One of the seeds, of which up to four pieces are changed, lost, doubled, or another seed's."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 4)):
        start = chance.randint(0, len(data))
        end = min(start + chance.choice((1, 1, 2, 8, 64, 512)), len(data))
        piece = bytes(data[start:end])
        other = chance.choice(seeds)
        begin = chance.randint(0, len(other))
        data[start:end] = chance.choice(
            (
                b"",
                piece * 2,
                piece * chance.randint(2, 40),
                chance.randbytes(len(piece)),
                bytes([chance.choice(b"\0\t\n \"'\\/:@-0189AZaz[{}]\x7f\x80\xff")]),
                bytes(byte ^ 1 << chance.randint(0, 7) for byte in piece),
                other[begin : begin + chance.randint(1, 100)],
            )
        )
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_what_is_made_of_them_are_taken(name: str) -> None:
    target, chance = TARGETS[name], random.Random(name)
    inputs = [*target.seeds, *(mutated(target.seeds, chance) for _ in range(SLOW.get(name, MUTATIONS)))]
    assert [(data, fault) for data in inputs if (fault := fault_of(target, data))] == []


def fault_of(target: Target, data: bytes) -> str:
    """How the target does not keep a promise for this input; "" if it keeps all."""
    try:
        target.feed(data)
    except Exception:
        return traceback.format_exc()
    return ""


# --- that they would notice ---------------------------------------------------------------------------


def test_a_promise_that_is_not_kept_is_told() -> None:
    with pytest.raises(Broken, match=r"a sum is right: 3, '\\xe9'"):
        hold(1 + 1 == 3, "a sum is right", 3, "é")


def test_errors_of_other_kinds_are_faults() -> None:
    with only(InvalidArgument):
        raise InvalidArgument("a", "b")
    for error in (DataLoss("a"), ValueError("a"), RecursionError()):
        with pytest.raises(type(error)), only(InvalidArgument):
            raise error
    with pytest.raises(Broken, match="says what is wrong"), only(InvalidArgument):
        raise InvalidArgument("")


@pytest.mark.parametrize(("power", "unit", "sound"), [(1, 1, True), (2, 1, False), (2, 4, False), (2, 0, True)])
def test_time_that_goes_with_the_square_is_noticed(
    power: int, unit: int, sound: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def feed(data: bytes) -> None:
        nonlocal now
        now += len(data) ** power / 1e9

    monkeypatch.setattr(time, "process_time", lambda: now)
    target = Target(feed, (), unit)
    if sound:
        check_growth(target, b"abcdefgh")
    else:
        with pytest.raises(Broken, match="time grows with the input"):
            check_growth(target, b"abcdefgh")
