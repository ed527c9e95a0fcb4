"""Makes system call filters smaller: their classic BPF programs, as seccomp(2) takes them.

The kernel translates a filter, and runs it once for each system call there is, whenever a process installs it, so that
its length is time on the way of each container. What a compiler writes compares number after number; here ranges of
numbers that are treated alike are found and told apart by a binary search. What looks at a call's arguments stays.

(Instructions: linux/filter.h and linux/bpf_common.h; the data that they load: `struct seccomp_data`.)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

LOAD, JUMP, JUMP_EQ, JUMP_GT, JUMP_GE, RETURN = 0x20, 0x05, 0x15, 0x25, 0x35, 0x06
NUMBER, _ARCHITECTURE = 0, 4
"""Offsets of the system call's number and of the architecture that it is of."""
_FARTHEST = 255
_END = 1 << 32
_instruction = struct.Struct("=HBBI")
SIZE = _instruction.size
"""Bytes of an instruction."""


class Instruction(NamedTuple):
    """`struct sock_filter`."""

    code: int
    if_true: int
    if_false: int
    operand: int


class Piece(NamedTuple):
    """Numbers from `first` on that lead to the same instruction, one that returns or looks at an argument."""

    first: int
    target: int


class _Unknown(Exception):
    """The program does something that is not understood here."""


def decode(program: bytes) -> list[Instruction]:
    return [Instruction(*fields) for fields in _instruction.iter_unpack(program)]


def encode(instructions: Iterable[Instruction]) -> bytes:
    return b"".join(_instruction.pack(*instruction) for instruction in instructions)


def shrink(program: bytes) -> bytes:
    """A program that decides as the given one does, and is not longer; it may be the same."""
    code = decode(program)
    try:
        shrunk = encode(_rewritten(code))
    except _Unknown:
        return program
    return min(shrunk, program, key=len)


def _rewritten(code: Sequence[Instruction]) -> list[Instruction]:
    architectures = _architectures(code)
    other = next(number for number in range(len(architectures) + 1) if number not in architectures)
    body, starts = _section(code, other), []
    for architecture in architectures:
        starts.append(len(body))
        body += _section(code, architecture)
    head = [Instruction(LOAD, 0, 0, _ARCHITECTURE)]
    for number, (architecture, start) in enumerate(zip(architectures, starts, strict=True)):
        still = 2 * (len(architectures) - number - 1)  # what is left of the head
        head += [Instruction(JUMP_EQ, 0, 1, architecture), Instruction(JUMP, 0, 0, still + start)]
    return head + body


def _architectures(code: Sequence[Instruction]) -> list[int]:
    """Those that the program tells apart."""
    found: dict[int, None] = {}
    left = [place + 1 for place, each in enumerate(code) if (each.code, each.operand) == (LOAD, _ARCHITECTURE)]
    while left:
        place = left.pop()
        instruction = code[place]
        if instruction.code == JUMP_EQ:
            found[instruction.operand] = None
        if instruction.code in (JUMP_EQ, JUMP):
            left += _followers(code, place)
        elif instruction.code not in (LOAD, RETURN):
            raise _Unknown
    return list(found)


# --- what a program does --------------------------------------------------------------------------


def _pieces(code: Sequence[Instruction], architecture: int) -> list[Piece]:
    """How it decides by number, for calls of an architecture: in ascending order from 0 on, neighbours different."""
    found: list[Piece] = []
    # The value is the number (None), or one that is known.
    left: list[tuple[int, int, int, int | None]] = [(0, 0, _END, 0)]
    while left:
        place, first, end, value = left.pop()
        instruction = code[place]
        if instruction.code == RETURN:
            found.append(Piece(first, place))
        elif instruction.code == LOAD:
            if instruction.operand not in (NUMBER, _ARCHITECTURE):
                found.append(Piece(first, place))
                continue
            left.append((place + 1, first, end, None if instruction.operand == NUMBER else architecture))
        elif instruction.code == JUMP:
            left.append((place + 1 + instruction.operand, first, end, value))
        else:
            ranges = _split(instruction, first, end) if value is None else [(first, end, _holds(instruction, value))]
            for start, stop, holds in ranges:
                if start < stop:
                    step = instruction.if_true if holds else instruction.if_false
                    left.append((place + 1 + step, start, stop, value))
    return _merged(code, sorted(found))


def _split(instruction: Instruction, first: int, end: int) -> list[tuple[int, int, bool]]:
    """The ranges of numbers for which a comparison holds, or does not."""
    operand = instruction.operand
    if instruction.code == JUMP_EQ:
        return [
            (first, min(end, operand), False),
            (max(first, operand), min(end, operand + 1), True),
            (max(first, operand + 1), end, False),
        ]
    if instruction.code in (JUMP_GT, JUMP_GE):
        least = operand + (instruction.code == JUMP_GT)
        return [(first, min(end, least), False), (max(first, least), end, True)]
    raise _Unknown


def _holds(instruction: Instruction, value: int) -> bool:
    return next(holds for start, stop, holds in _split(instruction, 0, _END) if start <= value < stop)


def _merged(code: Sequence[Instruction], pieces: Sequence[Piece]) -> list[Piece]:
    merged: list[Piece] = []
    for piece in pieces:
        if not merged or not _alike(code, merged[-1].target, piece.target):
            merged.append(piece)
    return merged


def _alike(code: Sequence[Instruction], one: int, other: int) -> bool:
    return one == other or (code[one].code == RETURN and code[one] == code[other])


# --- a program that does so -----------------------------------------------------------------------


def _section(code: Sequence[Instruction], architecture: int) -> list[Instruction]:
    """Decides for calls of one architecture: a search, what it returns, and what looks at arguments."""
    pieces = _pieces(code, architecture)
    returns = list(dict.fromkeys(code[p.target] for p in pieces if code[p.target].code == RETURN))
    kept = _reachable(code, [p.target for p in pieces if code[p.target].code != RETURN])
    rest = [*returns, *_moved(code, kept)]
    if len(pieces) == 1:
        return rest
    beginning = len(pieces)  # of the rest: there is a load, and a comparison for all pieces but one

    def target(piece: Piece) -> int:
        instruction = code[piece.target]
        if instruction.code == RETURN:
            return beginning + returns.index(instruction)
        return beginning + len(returns) + kept.index(piece.target)

    return [Instruction(LOAD, 0, 0, NUMBER), *_search(pieces, target, 1), *rest]


def _search(pieces: Sequence[Piece], target: Callable[[Piece], int], place: int) -> list[Instruction]:
    """A binary search that stands at `place`; there are at least two pieces."""
    middle = len(pieces) // 2
    below, above = pieces[:middle], pieces[middle:]
    left = _search(below, target, place + 1) if len(below) > 1 else []
    right = _search(above, target, place + 1 + len(left)) if len(above) > 1 else []
    if_false = 0 if left else target(below[0]) - place - 1
    if_true = len(left) if right else target(above[0]) - place - 1
    if max(if_true, if_false) > _FARTHEST:
        raise _Unknown
    return [Instruction(JUMP_GE, if_true, if_false, above[0].first), *left, *right]


def _reachable(code: Sequence[Instruction], starts: Iterable[int]) -> list[int]:
    found: set[int] = set()
    left = list(starts)
    while left:
        place = left.pop()
        if place not in found:
            found.add(place)
            left += _followers(code, place)
    return sorted(found)


def _followers(code: Sequence[Instruction], place: int) -> list[int]:
    instruction = code[place]
    if instruction.code == RETURN:
        return []
    if instruction.code == JUMP:
        return [place + 1 + instruction.operand]
    if instruction.code & 7 == JUMP_EQ & 7:
        return [place + 1 + instruction.if_true, place + 1 + instruction.if_false]
    return [place + 1]


def _moved(code: Sequence[Instruction], kept: Sequence[int]) -> list[Instruction]:
    """These instructions side by side: jumps become shorter, if anything."""
    new = {place: number for number, place in enumerate(kept)}
    moved = []
    for place in kept:
        instruction, followers = code[place], [new[f] - new[place] - 1 for f in _followers(code, place)]
        if instruction.code == JUMP:
            instruction = instruction._replace(operand=followers[0])
        elif len(followers) == 2:
            instruction = instruction._replace(if_true=followers[0], if_false=followers[1])
        moved.append(instruction)
    return moved
