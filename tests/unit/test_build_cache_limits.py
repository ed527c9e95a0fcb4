"""What the bounds of the build cache remove, and what they never do."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hooper.api.engine import CachedStep
from hooper.api.errors import InvalidArgument
from hooper.engine.build_cache_limits import LEAST, bounds_of, chosen, limit_of, matches


def step(key, last_used, *parents, size=10, shared=False, in_use=False, **more):
    return CachedStep(
        key=key, description=more.pop("description", ""), size=size, shared=shared, created="", last_used=last_used,
        in_use=in_use, parents=parents, **more,
    )  # fmt: skip


LINE = [step("a", 1), step("b", 2, "a"), step("c", 3, "b")]


def test_without_a_bound_nothing_goes():
    assert chosen(LINE) == [] and chosen(LINE, limit=30) == [] and chosen([], limit=0, before=9) == []


def test_what_stands_on_a_step_uses_it_and_goes_before_it():
    assert chosen(LINE, limit=0) == ["c", "b", "a"]
    assert chosen(LINE, limit=20) == ["c"]
    assert chosen(LINE, before=3) == []
    assert chosen(LINE, before=3.5) == ["c", "b", "a"]


def test_the_longest_unused_goes_first():
    two = [*LINE, step("x", 0), step("y", 0.5, "x")]
    assert chosen(two, limit=30) == ["y", "x"]
    assert chosen(two, limit=15) == ["y", "x", "c", "b"]


def test_what_a_build_uses_stays_with_all_below_it():
    steps = [step("a", 1), step("b", 2, "a", in_use=True), step("c", 3, "b"), step("old", 0)]
    assert chosen(steps, limit=0, before=99) == ["old", "c"]


def test_what_an_image_has_too_takes_no_space():
    steps = [step("a", 1, shared=True, size=1000), step("b", 2, "a"), step("c", 3)]
    assert chosen(steps, limit=20) == []
    assert chosen(steps, limit=10) == ["b"]
    assert chosen(steps, before=2.5) == ["b", "a"]


def test_only_candidates_go_and_what_others_stand_on_stays():
    assert chosen(LINE, before=99, candidates=lambda one: one.key != "c") == []
    assert chosen(LINE, before=99, candidates=lambda one: one.key != "a") == ["c", "b"]


def test_a_circle_and_a_parent_that_is_gone_harm_nobody():
    assert set(chosen([step("a", 1, "b"), step("b", 1, "a"), step("c", 1, "gone")], limit=0)) <= {"a", "b", "c"}


def test_whatever_there_is_what_goes_is_enough_and_no_longer_needed():
    dice = random.Random(4)
    for _ in range(200):
        steps = []
        for number in range(dice.randint(1, 30)):
            parents = dice.sample([one.key for one in steps], min(len(steps), dice.randint(0, 2)))
            steps.append(
                step(str(number), dice.randint(0, 50), *parents, size=dice.randint(0, 9), in_use=dice.random() < 0.1)
            )
        limit, before = dice.choice([0, 20, 1000]), dice.choice([None, 25])
        gone = chosen(steps, limit=limit, before=before)
        left = [one for one in steps if one.key not in gone]
        assert not any(one.in_use for one in steps if one.key in gone)
        assert not any(parent in gone for one in left for parent in one.parents)
        busy = {one.key for one in steps if one.in_use}
        while more := {parent for one in steps if one.key in busy for parent in one.parents} - busy:
            busy |= more
        assert sum(one.size for one in left if one.key not in busy) <= max(0, limit) or not gone or limit == 1000
        assert sum(one.size for one in left) <= limit or all(one.key in busy for one in left)


def test_filters():
    one = step("k", 1, "p", type="exec.cachemount", description="cache mount go", shared=True)
    for wanted in (
        {}, {"id": ["x", "k"]}, {"type": ["exec.cachemount"]}, {"parent": ["p"]}, {"parents": ["p"]},
        {"description": ["go"]}, {"shared": [""]}, {"shared": ["true"]}, {"private": ["false"]}, {"inuse": ["false"]},
        {"until": ["24h"]}, {"id": ["k"], "type": ["exec.cachemount"]},
    ):  # fmt: skip
        assert matches(one, wanted), wanted
    for wanted in (
        {"id": ["x"]}, {"type": ["regular"]}, {"parent": ["k"]}, {"description": ["npm"]}, {"private": [""]},
        {"inuse": ["true"]}, {"id": ["k"], "type": ["regular"]},
    ):  # fmt: skip
        assert not matches(one, wanted), wanted


@pytest.mark.parametrize(
    ("keep", "max_used", "min_free", "limit"),
    [(30, 0, 0, 30), (0, 60, 0, 60), (70, 60, 0, 70), (0, 0, 50, 80), (0, 60, 50, 60), (90, 0, 50, 90), (0, 0, 999, 0)],
)
def test_how_much_may_stay(keep, max_used, min_free, limit):
    assert limit_of(100, 30, keep=keep, max_used=max_used, min_free=min_free) == limit


def test_settings():
    assert bounds_of("10GB", "30d", Path("/")).size == 10 << 30
    assert bounds_of("1", "30d", Path("/")).age == 30 * 86400
    assert bounds_of("1", "1h30m", Path("/")).age == 5400
    assert bounds_of("1", "0", Path("/")).age == 0
    assert bounds_of("", "0", Path("/there/is/no/such/place")).size >= LEAST


@pytest.mark.parametrize(
    ("size", "age", "named"), [("much", "1h", "cache_size"), ("1", "xd", "age"), ("1", "3", "age")]
)
def test_settings_that_are_wrong_are_named(size, age, named):
    with pytest.raises(InvalidArgument, match=named):
        bounds_of(size, age, Path("/"))
