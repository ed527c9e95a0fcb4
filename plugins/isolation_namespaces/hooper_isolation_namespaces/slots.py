"""What a script (`drafting`) leaves open, and the monitor (`attempting`) fills in or reads."""

from __future__ import annotations

from hooper.linux.script import Slot


def candidate(number: int) -> str:
    """Where the program may be, in the order of PATH: the name of a place, and of the step that looks there."""
    return f"candidate {number}"


STDIN, STDOUT, STDERR, NETNS, GATE = (Slot(name) for name in ("stdin", "stdout", "stderr", "netns", "gate"))
"""Descriptors that it is given."""
PROGRAM = Slot("program")
"""Which of the places `candidate(n)` is to be executed."""
UID, GID, GROUPS = Slot("uid"), Slot("gid"), Slot("groups")
"""Who the program runs as, and how many groups there are in GROUP_LIST."""
PASSWD, GROUP, HOME, GROUP_LIST = "passwd", "group", "home", "group list"
"""Places: the two files as far as they were read, the variable HOME where it is missing, and the groups."""
LAST = "last"
"""The step before the program is executed."""
MOST_GROUPS = 64
LONGEST_HOME = 255
FILE_SIZE = 64 << 10
"""Bytes of /etc/passwd and /etc/group that are read; who has more is made as ever."""
KEPT_GATE, KEPT_NETNS = 60, 61
"""Numbers in the new process. Those below are its own to open."""
FIRST_TAKEN = KEPT_GATE
"""Descriptors that are given must have lower numbers."""
WAIT = 16
"""Bytes of the word to go on."""
