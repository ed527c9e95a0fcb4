"""A filter that was made smaller decides as before."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooper.linux import bpf, capabilities, seccomp
from hooper.linux.bpf import JUMP, JUMP_EQ, JUMP_GE, JUMP_GT, LOAD, RETURN, Instruction
from hooper.linux.seccomp_default import default_profile

AND = 0x54
HOLDS = {JUMP_EQ: operator.eq, JUMP_GT: operator.gt, JUMP_GE: operator.ge}
X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7


class Call(NamedTuple):
    number: int
    architecture: int
    arguments: tuple[int, ...] = (0,) * 6

    def word(self, offset: int) -> int:
        """Of `struct seccomp_data`, little-endian."""
        if offset < 8:
            return self.architecture if offset else self.number
        argument, high = divmod(offset - 16, 8)
        return self.arguments[argument] >> (32 if high else 0) & 0xFFFFFFFF


def verdict(program: bytes, call: Call) -> int:
    return decided(bpf.decode(program), call)


def decided(code: Sequence[Instruction], call: Call) -> int:
    """What the kernel would do (Documentation/networking/filter.rst)."""
    place = value = 0
    while True:
        instruction = code[place]
        place += 1
        operand = instruction.operand
        if instruction.code == RETURN:
            return operand
        if instruction.code == LOAD:
            value = call.word(operand)
        elif instruction.code == AND:
            value &= operand
        elif instruction.code == JUMP:
            place += operand
        else:
            holds = HOLDS[instruction.code](value, operand)
            place += instruction.if_true if holds else instruction.if_false


# --- programs as compilers write them -------------------------------------------------------------

NUMBERS = st.one_of(st.integers(0, 40), st.sampled_from([0x3FFFFFFF, 0x40000000, 0x40000005, 0xFFFFFFFF]))
VERDICTS = st.sampled_from([0x7FFF0000, 0x50001, 0x50026, 0])


class Rule(NamedTuple):
    comparison: int
    operand: int
    verdict: int
    argument: int | None
    """The verdict is for this value of the first argument's lower half alone."""


RULES = st.builds(
    Rule, st.sampled_from([JUMP_EQ, JUMP_GT, JUMP_GE]), NUMBERS, VERDICTS, st.one_of(st.none(), st.integers(0, 3))
)


def chain(rules: Sequence[Rule], otherwise: int) -> list[Instruction]:
    """Rule after rule; the first that fits decides."""
    code = []
    for rule in rules:
        then = [Instruction(RETURN, 0, 0, rule.verdict)]
        if rule.argument is not None:
            # What does not fit goes on with the next rule, which needs the number again.
            then = [
                Instruction(LOAD, 0, 0, 16),
                Instruction(AND, 0, 0, 3),
                Instruction(JUMP_EQ, 0, 1, rule.argument),
                *then,
                Instruction(LOAD, 0, 0, 0),
            ]
        code += [Instruction(rule.comparison, 0, len(then), rule.operand), *then]
    return [Instruction(LOAD, 0, 0, 0), *code, Instruction(RETURN, 0, 0, otherwise)]


def by_architecture(sections: Sequence[tuple[int, Sequence[Instruction]]], otherwise: int) -> bytes:
    code = [Instruction(LOAD, 0, 0, 4)]
    for architecture, section in sections:
        code += [Instruction(JUMP_EQ, 1, 0, architecture), Instruction(JUMP, 0, 0, len(section)), *section]
    return bpf.encode([*code, Instruction(RETURN, 0, 0, otherwise)])


SECTIONS = st.builds(chain, st.lists(RULES, max_size=30), VERDICTS)
PROGRAMS = st.builds(
    by_architecture,
    st.lists(st.tuples(st.sampled_from([X86_64, I386]), SECTIONS), max_size=3),
    VERDICTS,
)
CALLS = st.builds(
    Call,
    NUMBERS,
    st.sampled_from([X86_64, I386, AARCH64, 0, 1]),
    st.tuples(*[st.integers(0, (1 << 64) - 1)] * 6),
)


@given(PROGRAMS, st.lists(CALLS, min_size=20, max_size=20))
def test_it_decides_as_before_and_is_not_longer(program: bytes, calls: list[Call]) -> None:
    shrunk = bpf.shrink(program)
    assert len(shrunk) <= len(program)
    assert [verdict(shrunk, call) for call in calls] == [verdict(program, call) for call in calls]


@given(st.lists(NUMBERS, min_size=3, max_size=60, unique=True), VERDICTS)
def test_numbers_one_by_one_become_ranges(numbers: list[int], otherwise: int) -> None:
    chosen = 0x7FFC0000
    rules = [Rule(JUMP_EQ, number, chosen, None) for number in numbers]
    program = by_architecture([(X86_64, chain(rules, otherwise))], 0)
    shrunk = bpf.shrink(program)
    ranges = sum(number - 1 not in numbers for number in numbers)
    assert len(shrunk) // bpf.SIZE <= min(len(program) // bpf.SIZE, 8 + 2 * ranges)
    for number in {0, 1 << 31, *numbers, *(number + 1 & 0xFFFFFFFF for number in numbers)}:
        assert verdict(shrunk, Call(number, X86_64)) == (chosen if number in numbers else otherwise)


@pytest.mark.parametrize(
    "strange",
    [Instruction(0x45, 1, 0, 5), Instruction(0x54, 0, 0, 5), Instruction(0x07, 0, 0, 0)],
    ids=["a test of bits", "arithmetic", "another register"],
)
def test_what_is_not_understood_is_left_alone(strange: Instruction) -> None:
    ends = [Instruction(RETURN, 0, 0, 0), Instruction(RETURN, 0, 0, 0x7FFF0000)]
    for load in (0, 4):
        program = bpf.encode([Instruction(LOAD, 0, 0, load), strange, *ends])
        assert bpf.shrink(program) == program


def test_a_search_that_is_too_wide_for_its_jumps_is_left_alone() -> None:
    rules = [Rule(JUMP_EQ, 2 * number, 0x7FFF0000, None) for number in range(600)]
    program = by_architecture([(X86_64, chain(rules, 0x50001))], 0)
    assert bpf.shrink(program) == program


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_the_default_profile(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = default_profile(capabilities.DEFAULT_CAPABILITIES, architecture, (6, 1)).packed()
    shrunk = seccomp.compile_filter(profile).program
    monkeypatch.setattr(bpf, "shrink", lambda program: program)
    monkeypatch.setattr(seccomp, "_compiled", {})
    program = seccomp.compile_filter(profile).program
    assert len(shrunk) < len(program) / 2
    before, after = bpf.decode(program), bpf.decode(shrunk)
    constants = {each.operand for each in before if each.code in HOLDS}
    numbers = {*range(500), *(number + step & 0xFFFFFFFF for number in constants for step in (0, 1))}
    arguments = [(0,) * 6, (8,) * 6, (0x7E020000,) * 6, ((1 << 64) - 1,) * 6]
    for each in (X86_64, I386, AARCH64, 0x40000028, 0):
        for number in numbers:
            for given_arguments in arguments:
                call = Call(number, each, given_arguments)
                assert decided(after, call) == decided(before, call), call
