"""A process that is about to fork leaves no holes in its heap."""

from __future__ import annotations

import subprocess
import sys

CODE = """
from hooper.runtime import heap
junk = [bytes(n % 400) for n in range(20000)]
kept = junk[::7]
del junk
before = sum(size * free for size, free in heap._holes())
heap.settle()
print(before, sum(size * free for size, free in heap._holes()))
"""


def test_holes_are_filled() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before > 500_000
    assert after < before / 10
    assert done.stderr == ""


GATHERING = """
import os
from hooper.runtime import heap

def called(word, *, more="!"):
    return [letter for letter in word + more]

def other():
    return 1

before = called.__code__, other.__code__
heap.gather(lambda: called("run"))
assert called.__code__ is not before[0] and other.__code__ is before[1]
assert called("go") == ["g", "o", "!"]
assert len(os.listdir("/proc/self/task")) == 1
try:
    heap.gather(lambda: called(1))
except TypeError:
    pass
else:
    raise AssertionError
import sys
assert sys.getprofile() is None
"""


def test_code_that_has_been_called_is_laid_together_and_works_as_before() -> None:
    done = subprocess.run([sys.executable, "-c", GATHERING], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
