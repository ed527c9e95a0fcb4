"""File systems as tars, for the client of a build."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from hooper.content.mounting import enter
from hooper.content.pack import Output, Packer
from hooper.content.tar import Entry


def export(arguments: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Worker: writes a tar of the whole tree (see `mounting.open_tree`) to `fds[0]`.

    `epoch` (seconds, or None): no entry's time is later. Unavailable if nobody reads it any more.
    """
    enter(arguments)
    output = Output(fds[0])
    epoch = arguments["epoch"]
    packer = Packer(output) if epoch is None else _Clamping(output, epoch * 1_000_000_000)
    packer.children(b".", b"")
    packer.finish()
    output.result()


class _Clamping(Packer):
    """`latest` is in nanoseconds."""

    def __init__(self, output: Output, latest: int) -> None:
        super().__init__(output)
        self._latest = latest

    def add(self, path: bytes, status: os.stat_result, entry: Entry) -> None:
        entry.mtime = min(entry.mtime, self._latest)
        super().add(path, status, entry)
