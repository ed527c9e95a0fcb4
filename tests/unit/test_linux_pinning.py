"""Pages that a fork copies at once."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooper.linux import pinning
from hooper.linux.pinning import Mapping, Range

PAGE = os.sysconf("SC_PAGESIZE")
PRESENT, EXCLUSIVE, FILE = 1 << 63, 1 << 56, 1 << 61
MAPS = """\
55d0a0000000-55d0a0001000 r--p 00000000 08:01 123                        /usr/bin/python3.11
55d0a0003000-55d0a0004000 rw-p 00003000 08:01 123                        /usr/bin/python3.11
55d0b0000000-55d0b0021000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000100000 rw-p 00000000 00:00 0
7f0000200000-7f0000201000 rw-s 00000000 00:01 77                         /dev/zero (deleted)
7f0000300000-7f0000301000 rwxp 00000000 00:00 0
7ffc00000000-7ffc00021000 ---p 00000000 00:00 0                          [stack]
"""
TRIAL = """
import ctypes, errno, mmap, os, sys
from array import array
from hooper.linux import pinning
page, pages = os.sysconf("SC_PAGESIZE"), 64
memory = mmap.mmap(-1, page * pages, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
memory[:] = b"a" * len(memory)
start = ctypes.addressof(ctypes.c_char.from_buffer(memory))

def own():
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        entries = array("Q", os.pread(pagemap.fileno(), 8 * pages, start // page * 8))
    return sum(place.end - place.start for place in pinning.own_pages(entries, start)) // page

def of_a_fork():
    to_child, from_parent = os.pipe()
    result, told = os.pipe()
    if os.fork() == 0:
        os.read(to_child, 1)  # the parent has written to all of it meanwhile
        os.write(told, b"%d %s" % (own(), bytes(memory[::page])))
        os._exit(0)
    before = own()
    memory[:] = memory[:].upper()
    os.write(from_parent, b"x")
    found = os.read(result, 1000).decode()
    os.wait()
    memory[:] = memory[:].lower()
    return f"{before} {found}"

print(own(), of_a_fork())
try:
    ring = pinning.pin_own()
except OSError as error:
    print("refused", errno.errorcode[error.errno])
    sys.exit()
print(own(), of_a_fork())
print(os.get_inheritable(ring))
os.close(ring)
"""


def test_mappings_that_are_private_and_can_be_written_to() -> None:
    assert list(pinning.mappings(MAPS.splitlines())) == [
        Mapping(Range(0x55D0A0003000, 0x55D0A0004000), True),
        Mapping(Range(0x55D0B0000000, 0x55D0B0021000), False),
        Mapping(Range(0x7F0000000000, 0x7F0000100000), False),
        Mapping(Range(0x7F0000300000, 0x7F0000301000), False),
    ]


@given(st.lists(st.sampled_from([0, PRESENT, EXCLUSIVE, PRESENT | EXCLUSIVE, PRESENT | EXCLUSIVE | FILE]), max_size=40))
def test_own_pages_are_ranges_without_gaps(entries: list[int]) -> None:
    found = list(pinning.own_pages(entries, 7 * PAGE))
    pages = [page for place in found for page in range(place.start // PAGE - 7, place.end // PAGE - 7)]
    assert pages == [number for number, entry in enumerate(entries) if entry == PRESENT | EXCLUSIVE]
    assert all(one.end < other.start for one, other in itertools.pairwise(found))


def test_a_fork_has_copies_of_what_is_pinned() -> None:
    done = subprocess.run([sys.executable, "-c", TRIAL], capture_output=True, text=True, check=True)
    shared, *pinned = done.stdout.splitlines()
    # Without: one of two had to copy, the parent, and it did when it wrote.
    assert shared == f"64 0 64 {b'a' * 64!r}".replace("b'", "").replace("'", "")
    if pinned[0].startswith("refused"):
        pytest.skip(f"this host's io_uring: {pinned[0]}")
    assert pinned == [f"64 64 64 {'a' * 64}", "False"]


def test_a_refusal_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def setup(entries: int) -> int:
        opened.append(os.open("/dev/null", os.O_RDONLY))
        return opened[0]

    def refuse(ring: int, buffers: object) -> None:
        raise OSError(errno.ENOMEM, "too much memory would be locked")

    monkeypatch.setattr(pinning.syscalls, "io_uring_setup", setup)
    monkeypatch.setattr(pinning.syscalls, "io_uring_register_buffers", refuse)
    with pytest.raises(OSError, match="locked"):
        pinning.pin_own()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(opened[0])


def test_kernels_that_take_no_pages_of_files_get_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[tuple[int, int]]] = []

    def register(ring: int, buffers: list[tuple[int, int]]) -> None:
        asked.append(buffers)
        if len(asked) == 1:
            raise OSError(errno.EOPNOTSUPP, "of a file")

    monkeypatch.setattr(pinning.syscalls, "io_uring_setup", lambda entries: os.open("/dev/null", os.O_RDONLY))
    monkeypatch.setattr(pinning.syscalls, "io_uring_register_buffers", register)
    os.close(pinning.pin_own())
    first, second = map(set, asked)
    assert second < first


def test_no_more_ranges_than_old_kernels_take(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[tuple[int, int]]] = []
    entries = [PRESENT | EXCLUSIVE, 0] * 1500 + [PRESENT | EXCLUSIVE] * 3
    monkeypatch.setattr(pinning, "_own_of", lambda pagemap, place: list(pinning.own_pages(entries, 0)))
    monkeypatch.setattr(pinning.syscalls, "io_uring_setup", lambda count: os.open("/dev/null", os.O_RDONLY))
    monkeypatch.setattr(pinning.syscalls, "io_uring_register_buffers", lambda ring, buffers: asked.append(buffers))
    os.close(pinning.pin_own())
    assert len(asked[0]) == 1024
    assert max(size for _, size in asked[0]) == 3 * PAGE
