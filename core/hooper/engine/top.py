"""The processes of a container, as `ps` shows them."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from hooper.api.errors import InvalidArgument, Unsupported


def rows(pids: Sequence[int], ps_args: str) -> tuple[list[str], list[list[str]]]:
    """Titles and the rows of `pids` out of `ps <ps_args>` on this host."""
    words = ps_args.split() or ["-ef"]
    try:
        done = subprocess.run(["ps", *words], capture_output=True, text=True, check=False, timeout=10)
    except FileNotFoundError:
        raise Unsupported("container top", "this host has no ps program", "Install the package procps.") from None
    if done.returncode != 0:
        raise InvalidArgument(f"ps {ps_args}", done.stderr.strip().splitlines()[0] if done.stderr else "it failed")
    lines = done.stdout.splitlines()
    titles = lines[0].split()
    if "PID" not in titles:
        raise InvalidArgument(f"ps {ps_args}", "couldn't find PID field in ps output", "Let it print the PID column.")
    column, wanted = titles.index("PID"), {str(pid) for pid in pids}
    table = [line.split(None, len(titles) - 1) for line in lines[1:]]
    return titles, [row for row in table if len(row) > column and row[column] in wanted]
