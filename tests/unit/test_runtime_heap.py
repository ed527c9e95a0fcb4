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
