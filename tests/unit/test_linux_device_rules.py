"""Device rules, and the program that they become: run here by a small interpreter."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooper.api.oci import DeviceRule
from hooper.linux.device_rules import DevicePolicy, assemble, reduce, v1_line

DENY_ALL = DeviceRule(allow=False, access="rwm")
TYPES, ACCESS = {"b": 1, "c": 2}, {"m": 1, "r": 2, "w": 4}


def run(program: bytes, kind: str, access: str, major: int, minor: int) -> int:
    """eBPF as far as `assemble` uses it."""
    context = struct.pack("=III", sum(ACCESS[c] for c in access) << 16 | TYPES[kind], major, minor)
    registers = [0] * 11
    place = 0
    for _ in range(len(program) // 8):
        code, both, offset, value = struct.unpack_from("<BBhi", program, place * 8)
        dst, src = both & 15, both >> 4
        place += 1
        if code == 0x61:
            (registers[dst],) = struct.unpack_from("=I", context, offset)
        elif code == 0x57:
            registers[dst] &= value
        elif code == 0x77:
            registers[dst] >>= value
        elif code == 0xBF:
            registers[dst] = registers[src]
        elif code == 0xB7:
            registers[dst] = value
        elif code == 0x55:
            place += offset if registers[dst] != value else 0
        elif code == 0x15:
            place += offset if registers[dst] == value else 0
        elif code == 0x5D:
            place += offset if registers[dst] != registers[src] else 0
        elif code == 0x95:
            return registers[0]
        else:
            raise AssertionError(hex(code))
    raise AssertionError("the program has no end")


def allowed(policy: DevicePolicy, kind: str, access: str, major: int, minor: int) -> bool:
    """What the policy says, read plainly."""
    for (type_, major_, minor_), given_access in policy.exceptions.items():
        if type_ == kind and major_ in (None, major) and minor_ in (None, minor):
            if policy.allow and set(access) & set(given_access):
                return False
            if not policy.allow and set(access) <= set(given_access):
                return True
    return policy.allow


numbers = st.one_of(st.none(), st.integers(0, 3))
rules = st.builds(
    DeviceRule,
    allow=st.booleans(),
    type=st.sampled_from(["", "a", "b", "c"]),
    major=numbers,
    minor=numbers,
    access=st.sampled_from(["r", "w", "m", "rw", "rwm", ""]),
)


@given(
    st.lists(rules, max_size=8),
    st.sampled_from("bc"),
    st.sampled_from(["r", "w", "rw", "m"]),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_the_program_says_what_the_policy_says(
    given_rules: list[DeviceRule], kind: str, access: str, major: int, minor: int
) -> None:
    policy = reduce(given_rules)
    assert bool(run(assemble(policy), kind, access, major, minor)) is allowed(policy, kind, access, major, minor)


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (("c", "rw", 1, 3), True),
        (("c", "rw", 136, 7), True),
        (("c", "r", 1, 1), False),
        (("b", "m", 8, 0), True),
        (("b", "r", 8, 0), False),
        (("c", "r", 10, 200), True),
        (("c", "w", 10, 200), True),
        (("c", "rw", 10, 200), True),
    ],
)
def test_dockers_defaults_and_one_more(device: tuple[str, str, int, int], expected: bool) -> None:
    given_rules = [
        DENY_ALL,
        DeviceRule(allow=True, type="c", access="m"),
        DeviceRule(allow=True, type="b", access="m"),
        DeviceRule(allow=True, type="c", major=10, minor=200, access="r"),
        DeviceRule(allow=True, type="c", major=10, minor=200, access="w"),
    ]
    assert bool(run(assemble(reduce(given_rules)), *device)) is expected


def test_a_later_rule_takes_away() -> None:
    policy = reduce(
        [
            DENY_ALL,
            DeviceRule(allow=True, type="b", major=8, access="rw"),
            DeviceRule(allow=False, type="b", major=8, access="w"),
        ]
    )
    assert policy.exceptions["b", 8, None] == "r"
    assert reduce([DENY_ALL, DeviceRule(allow=True, access="rwm")]) == DevicePolicy(True, {})


def test_lines_of_v1() -> None:
    assert v1_line(("c", 136, None), "rwm") == b"c 136:* rwm"
