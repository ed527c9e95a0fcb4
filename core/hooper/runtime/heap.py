"""Makes a process cheap to fork."""

from __future__ import annotations

import _thread
import ctypes
import gc
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType

_ROW = re.compile(rb"^ *\d+ +(\d+) +\d+ +\d+ +(\d+)$", re.MULTILINE)
"""Of CPython's table of small-object pools: class, size, pools, blocks in use, blocks free."""

_TASKS = "/proc/self/task"
_PATIENCE_S = 1.0

_kept: list[object] = []
_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)


def settle() -> None:
    """For a process that only forks from now on: leaves no holes between its objects.

    Each small object that a fork makes would fall into one of hundreds of pages that are partly used, and the kernel
    would copy that page. With the holes filled, a fork's new objects lie together on pages of their own: measured, it
    copies a third as much. The fillers take no memory that was not taken already.
    """
    gc.collect()
    gc.disable()
    gc.freeze()
    fill()
    trim()  # a fork copies the page table's entry of each page that is there


def fill() -> None:
    """Takes every block that is free among others: what is made next lies together."""
    for size, free in _holes():
        _kept.append([_filler(size) for _ in range(free)])


def gather(run: Callable[[], None]) -> None:
    """Runs something that monitors will run, and lays the code of the functions that it called together.

    Each call writes to its function's code (it counts as a reference), so that a fork copies the pages of all code that
    it runs: these are fewer where that lies side by side. What the interpreter knew of the code it learns anew.
    """
    called: set[CodeType] = set()
    sys.setprofile(lambda frame, event, argument: called.add(frame.f_code))
    try:
        run()
    finally:
        sys.setprofile(None)
    functions = [each for each in gc.get_objects() if isinstance(each, FunctionType) and each.__code__ in called]
    _elsewhere(lambda: _renew(functions))


def _renew(functions: Iterable[FunctionType]) -> None:
    for each in functions:
        each.__code__ = each.__code__.replace()


def _elsewhere(run: Callable[[], None]) -> None:
    """Runs something in a thread, for which malloc has memory of its own, without holes (glibc); that is over then."""
    before, done = len(os.listdir(_TASKS)), _thread.allocate_lock()
    done.acquire()

    def live() -> None:
        try:
            run()
        finally:
            done.release()

    _thread.start_new_thread(live, ())
    done.acquire()
    end = time.monotonic() + _PATIENCE_S
    while len(os.listdir(_TASKS)) > before and time.monotonic() < end:
        time.sleep(0.0002)


def trim() -> None:
    """Gives back what malloc has free, where it can (glibc)."""
    if _malloc_trim is not None:
        _malloc_trim(0)


def _filler(size: int) -> object:
    """An object that takes one block of that size, in bytes."""
    if size <= 16:
        return object()
    if size <= 32:
        return float(size)
    return bytes(size - 33)


def _holes() -> list[tuple[int, int]]:
    """(size of block, free ones) of every size class; none if this Python does not tell."""
    tell = getattr(sys, "_debugmallocstats", None)
    if tell is None:
        return []
    memory, stderr = os.memfd_create("hooper-heap", os.MFD_CLOEXEC), os.dup(2)
    os.dup2(memory, 2)
    try:
        tell()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
    text = os.pread(memory, 1 << 20, 0)
    os.close(memory)
    return [(int(size), int(free)) for size, free in _ROW.findall(text)]
