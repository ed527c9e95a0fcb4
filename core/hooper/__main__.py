"""The `hooper` program."""

from __future__ import annotations


def main() -> int:
    """Runs the command line; returns its exit code."""
    from hooper.cli.main import run

    return run()


if __name__ == "__main__":
    raise SystemExit(main())
