"""The file format of local: blocks, each of what one stream said at one time; pure.

    bytes   what
    2       "HL"
    1       1 stdout, 2 stderr
    1       0
    4       n
    8       nanoseconds since 1970
    n       lines with their newlines, or one part of a line, without
    4       n + 20: the whole block, so that a file can be read backwards

Numbers are unsigned and little-endian.
"""

from __future__ import annotations

import struct

_HEAD = struct.Struct("<2sBxIQ")
_TAIL = struct.Struct("<I")
MAGIC = b"HL"
OVERHEAD = _HEAD.size + _TAIL.size
_NUMBERS = {"stdout": 1, "stderr": 2}
STREAMS = {number: name for name, number in _NUMBERS.items()}

PAYLOAD_MAX = 1 << 20
"""More comes from no writer: such a number is damage."""

Block = tuple[int, int, int, int]
"""Where its payload begins and ends, stream, time."""


def encode(stream: str, payload: bytes, time_ns: int) -> bytes:
    size = len(payload)
    return b"".join((_HEAD.pack(MAGIC, _NUMBERS[stream], size, time_ns), payload, _TAIL.pack(size + OVERHEAD)))


def block_at(data: bytes, start: int) -> Block | None:
    """The block that begins there; None if it is not whole, or none."""
    if len(data) - start < OVERHEAD:
        return None
    magic, stream, size, time_ns = _HEAD.unpack_from(data, start)
    end = start + _HEAD.size + size
    if magic != MAGIC or stream not in STREAMS or end + _TAIL.size > len(data):
        return None
    return (start + _HEAD.size, end, stream, time_ns) if _TAIL.unpack_from(data, end)[0] == size + OVERHEAD else None


def end_of(block: Block) -> int:
    return block[1] + _TAIL.size


def after_damage(data: bytes, start: int) -> int:
    """Where to go on if no whole block begins at `start`: at the next one, or at the end of `data`.

    A block whose end is not there yet is no damage, and what it holds is the container's: no block is looked for in it.
    """
    while not _begins(data, start):
        start = data.find(MAGIC, start + 1)
        if start < 0:
            return len(data)
        if block_at(data, start) is not None:
            return start
    return len(data)


def _begins(data: bytes, start: int) -> bool:
    if len(data) - start < _HEAD.size:
        return data[start : start + 2] == MAGIC[: len(data) - start]
    magic, stream, size, _ = _HEAD.unpack_from(data, start)
    fits = size <= PAYLOAD_MAX and start + size + OVERHEAD > len(data)
    return magic == MAGIC and stream in STREAMS and fits


def whole(data: bytes) -> int:
    """Where the last whole block ends in `data`, which begins with one."""
    if ends_whole(data):
        return len(data)
    at = last = 0
    while at < len(data):
        block = block_at(data, at)
        if block is None:
            at = after_damage(data, at)
        else:
            at = last = end_of(block)
    return last


def ends_whole(data: bytes) -> bool:
    """A whole block ends where `data` ends."""
    if len(data) < OVERHEAD:
        return False
    start = len(data) - _TAIL.unpack_from(data, len(data) - _TAIL.size)[0]
    return start >= 0 and block_at(data, start) is not None


def first(data: bytes) -> int:
    """Where the first whole block begins in `data`, which ends with one; its length if there is none."""
    at = len(data)
    while at >= OVERHEAD:
        start = at - _TAIL.unpack_from(data, at - _TAIL.size)[0]
        if start < 0 or start >= at or block_at(data, start) is None:
            break
        at = start
    return at
