"""Pages that a fork copies at once.

After a fork(2) both processes have the same pages, and the first write to each is a fault in either of them: one has to
copy the page, the other has to be given it back. Pages that a device could be writing to, which are said to be pinned,
are an exception: the kernel copies them while it forks, because the device must go on to see the page of the parent
(since Linux 5.10; mm/memory.c, copy_present_page). For pages that both processes will write to anyway that is cheaper:
about one microsecond instead of the five that the two faults take.

What pins them is a ring of io_uring(7) that they are registered with; nothing is ever read or written by it.
"""

from __future__ import annotations

import errno
import itertools
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from hooper.linux import syscalls

_PAGE = os.sysconf("SC_PAGESIZE")
_EXCLUSIVE = 1 << 56
"""No other process has the page (kernel: Documentation/admin-guide/mm/pagemap.rst)."""
_FILE = 1 << 61
"""It is of a file, or shared."""
_PRESENT = 1 << 63
_OWN = _PRESENT | _EXCLUSIVE
_MOST = 1024
"""Ranges that can be registered at once, before Linux 5.13."""


class Range(NamedTuple):
    """Of addresses, in bytes."""

    start: int
    end: int


class Mapping(NamedTuple):
    """What of a process's memory is private and can be written to."""

    place: Range
    of_file: bool
    """Such as the variables of a library."""


def mappings(maps: Iterable[str]) -> Iterator[Mapping]:
    """Those that lines of /proc/PID/maps tell (proc(5))."""
    for line in maps:
        addresses, mode, _, _, inode, *_ = line.split(maxsplit=5)
        if mode.startswith("rw") and mode.endswith("p"):
            start, end = addresses.split("-")
            yield Mapping(Range(int(start, 16), int(end, 16)), inode != "0")


def own_pages(entries: Sequence[int], start: int) -> Iterator[Range]:
    """Pages that a process shares with none, neighbours as one range; `entries` are its pagemap's from `start` on."""
    own = (number for number, entry in enumerate(entries) if entry & (_OWN | _FILE) == _OWN)
    for _, group in itertools.groupby(enumerate(own), lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in group]
        yield Range(start + numbers[0] * _PAGE, start + (numbers[-1] + 1) * _PAGE)


def pin_own() -> int:
    """Pins the pages that are this process's alone, until the descriptor that is returned is closed everywhere.

    OSError where that cannot be, for one because io_uring is switched off (kernel.io_uring_disabled).
    """
    with open("/proc/self/maps") as file:
        found = list(mappings(file))
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        own = [(_own_of(pagemap.fileno(), mapping.place), mapping.of_file) for mapping in found]
    ring = syscalls.io_uring_setup(1)
    try:
        try:
            _register(ring, [place for places, _ in own for place in places])
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EFAULT):
                raise
            # Before Linux 6.5 they must not be of a file.
            _register(ring, [place for places, of_file in own if not of_file for place in places])
    except BaseException:
        os.close(ring)
        raise
    return ring


def _own_of(pagemap: int, place: Range) -> list[Range]:
    entries = array("Q")
    size = (place.end - place.start) // _PAGE * entries.itemsize
    entries.frombytes(os.pread(pagemap, size, place.start // _PAGE * entries.itemsize))
    return list(own_pages(entries, place.start))


def _register(ring: int, ranges: list[Range]) -> None:
    ranges = sorted(ranges, key=lambda place: place.end - place.start)[-_MOST:]
    syscalls.io_uring_register_buffers(ring, [(place.start, place.end - place.start) for place in ranges])
