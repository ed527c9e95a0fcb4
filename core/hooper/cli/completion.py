"""`hooper completion`: the script that makes a shell complete hooper's commands and flags."""

from __future__ import annotations

import click

from hooper.cli.command import command
from hooper.cli.errors import BadFlag

SHELLS = ("bash", "zsh", "fish")


@command("completion", "bash|zsh|fish")
@click.argument("shell")
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    For example, in ~/.bashrc: eval "$(hooper completion bash)"
    """
    from click.shell_completion import get_completion_class

    from hooper.cli.app import root

    complete = get_completion_class(shell) if shell in SHELLS else None
    if complete is None:
        raise BadFlag("completion", shell, f"it is none of {', '.join(SHELLS)}", "hooper completion bash")
    print(complete(root(), {}, "hooper", "_HOOPER_COMPLETE").source())
