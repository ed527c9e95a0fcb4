"""The working directory of a container whose root is read-only: made ahead, in its layer. Runs in a worker."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any


def make(arguments: dict[str, Any], fds: Sequence[int]) -> None:
    """Makes `path` and what is missing above it in the snapshot `mounts`; what is there stays."""
    from hooper.content.mounting import enter

    enter(arguments)
    os.umask(0o022)
    try:
        os.makedirs(arguments["path"], exist_ok=True)
    except OSError:
        # A file in the way is the start's to tell, with the exit code that belongs to it.
        return
