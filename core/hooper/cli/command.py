"""The base of hooper's commands: docker's syntax of flags, docker's exit codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from hooper.api.errors import HooperError
from hooper.cli.errors import GENERIC, USAGE, BadFlag, NoTerminal, report, start_failure_code
from hooper.cli.flags import normalise
from hooper.client.errors import ApiError


class Command(click.Command):
    """A command. `usage` is its line of help after the flags.

    `starts` marks the commands that start a process: 126 and 127 tell that it could not be. `failure`
    is the exit code of every other failure.
    """

    def __init__(
        self,
        *args: Any,
        usage: str = "",
        starts: bool = False,
        failure: int = GENERIC,
        flags_first: bool = False,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.usage_line, self.starts, self.failure, self.flags_first = usage, starts, failure, flags_first
        self.context_settings = {"help_option_names": ["--help"], "allow_interspersed_args": not flags_first}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, normalise(args, self.params, interspersed=not self.flags_first))
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[OPTIONS]", *([self.usage_line] if self.usage_line else [])]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HooperError as error:
            report(error)
            raise click.exceptions.Exit(self._exit_code(error)) from error

    def _exit_code(self, error: HooperError) -> int:
        if isinstance(error, BadFlag):
            return USAGE
        if isinstance(error, NoTerminal):
            return GENERIC
        if self.starts and isinstance(error, ApiError):
            return start_failure_code(error.message, self.failure)
        return self.failure


def command(
    name: str, usage: str = "", *, starts: bool = False, failure: int = GENERIC, flags_first: bool = False
) -> Callable[[Callable[..., Any]], Command]:
    """Makes a function the command `name`; its docstring is the help.

    The function returns the exit code, or None for 0. With `flags_first`, what follows the first
    word that is no flag belongs to the command that runs in a container.
    """
    return click.command(name, cls=Command, usage=usage, starts=starts, failure=failure, flags_first=flags_first)
