"""`hooper config`: what is set on this host, and where."""

from __future__ import annotations

import click

from hooper.cli.command import Command
from hooper.cli.output import print_table


@click.group("config")
def config() -> None:
    """Show the configuration of this host."""


@config.command("show", cls=Command)
def show() -> None:
    """Print every setting, its value and where it came from."""
    from hooper.config import load

    print_table(["KEY", "VALUE", "SOURCE"], [list(row) for row in load().explain()])
