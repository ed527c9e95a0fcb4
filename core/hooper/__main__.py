"""The `hooper` program."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Runs the command line; returns its exit code, or leaves with it."""
    from hooper.cli.main import run

    code = run()
    if "hooper.daemon" not in sys.modules:
        _leave(code)
    return code


def _leave(code: int) -> None:
    """Ends a client at once: taking the interpreter apart, module by module, costs a tenth of its whole time."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        # Nobody reads any more.
        code = code or 1
    os._exit(code)


if __name__ == "__main__":
    raise SystemExit(main())
