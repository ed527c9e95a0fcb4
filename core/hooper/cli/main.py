"""The way in: answers `--version` at once and hands everything else to the command table."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hooper import __version__


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line (`sys.argv` by default); returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments in (["--version"], ["-v"]):
        print(f"hooper version {__version__}")
        return 0
    from hooper.cli.app import main

    return main(arguments)
