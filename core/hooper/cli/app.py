"""The program: global flags, the lazy groups, and how errors become messages and exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NoReturn

import click

from hooper.api.errors import HooperError
from hooper.cli import table
from hooper.cli.errors import GENERIC, USAGE, BadFlag, report
from hooper.cli.flags import normalise
from hooper.cli.session import Session


class LazyGroup(click.Group):
    """A group whose commands are imported when they are run; its help comes from the table alone."""

    def __init__(self, name: str, sections: Mapping[str, Mapping[str, table.Entry]], **kwargs: Any) -> None:
        super().__init__(name, no_args_is_help=False, invoke_without_command=True, **kwargs)
        self.sections = sections
        self.entries = {key: entry for section in sections.values() for key, entry in section.items()}
        self.aliases: Mapping[str, str] = table.ALIASES.get(name, {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.entries.get(self.aliases.get(cmd_name, cmd_name))
        if entry is None and ctx.parent is None:
            entry = _plugin_commands().get(cmd_name)
        if entry is None:
            return None
        kind, _, attribute = entry[0].partition(":")
        if kind == "group":
            return LazyGroup(attribute, {"Commands": table.GROUPS[attribute]}, help=entry[1], callback=_group_help)
        loaded: click.Command = getattr(import_module(kind), attribute)
        return loaded

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, normalise(args, self.params, interspersed=False))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        found = self.get_command(ctx, args[0])
        if found is None:
            self._unknown(ctx, args[0])
        return args[0], found, args[1:]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections = dict(self.sections)
        if ctx.parent is None and (plugins := _plugin_commands()):
            sections["Commands of plugins"] = plugins
        width = max(len(name) for section in sections.values() for name in section)
        for title, section in sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), entry[1]) for name, entry in section.items()])

    def _unknown(self, ctx: click.Context, word: str) -> NoReturn:
        import difflib

        near = difflib.get_close_matches(word, [*self.entries, *self.aliases], n=3, cutoff=0.6)
        quoted = " or ".join(f'"{name}"' for name in near)
        hint = f"\nDid you mean {quoted}?" if near else ""
        raise UnknownCommand(f"unknown command: {ctx.command_path} {word}{hint}", ctx)


class UnknownCommand(click.UsageError):
    """No command has that name."""


@click.pass_context
def _group_help(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@click.pass_context
def _root(ctx: click.Context, host: str, version: bool) -> None:
    from hooper import __version__

    if version:
        click.echo(f"hooper version {__version__}")
        ctx.exit(0)
    ctx.obj = ctx.obj or Session(host)
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def root() -> LazyGroup:
    """The group of everything."""
    return LazyGroup(
        "hooper",
        table.SECTIONS,
        help="A container engine whose every part is a plugin.",
        callback=_root,
        params=[
            click.Option(["-H", "--host"], default="", metavar="address", help="Address of the daemon"),
            click.Option(["-v", "--version"], is_flag=True, help="Print the version and quit"),
        ],
        context_settings={"help_option_names": ["--help"]},
        epilog="Run 'hooper COMMAND --help' for more information on a command.",
    )


def _plugin_commands() -> dict[str, table.Entry]:
    """The commands that plugins bring; a broken plugin is told of, and left out."""
    from importlib.metadata import entry_points

    found = entry_points(group="hooper.cli")
    if not found:
        return {}
    import pluggy

    from hooper.hookspecs import CliHooks

    manager = pluggy.PluginManager("hooper")
    manager.add_hookspecs(CliHooks)
    commands: dict[str, table.Entry] = {}
    for point in found:
        try:
            plugin = point.load()
            manager.register(plugin, point.name)
            for spec in plugin.hooper_register_cli_commands():
                commands.setdefault(spec.name, (spec.factory, spec.summary))
        except Exception as error:
            report(f"plugin {point.name} of the command line is broken and left out: {type(error).__name__}: {error}")
    return commands


def main(arguments: list[str]) -> int:
    """Runs one command line; returns its exit code."""
    try:
        result = root().main(arguments, "hooper", complete_var="_HOOPER_COMPLETE", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.UsageError as error:
        return _usage_error(error)
    except HooperError as error:
        report(error)
        return USAGE if isinstance(error, BadFlag) else GENERIC
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        # Nobody reads any more; the interpreter would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except OSError as error:
        report(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        return GENERIC


def _usage_error(error: click.UsageError) -> int:
    path = error.ctx.command_path if error.ctx else "hooper"
    message, code = _usage_message(error, path)
    lines = [message]
    if error.ctx and not isinstance(error, UnknownCommand):
        lines += ["", error.ctx.get_usage()]
    report("\n".join([*lines, "", f"Run '{path} --help' for more information"]))
    return code


def _usage_message(error: click.UsageError, path: str) -> tuple[str, int]:
    """Docker's exit codes: 125 for a flag that is wrong, 1 for wrong words."""
    if isinstance(error, click.NoSuchOption):
        near = f" (did you mean {', '.join(error.possibilities)}?)" if error.possibilities else ""
        return f"unknown flag: {error.option_name}{near}", USAGE
    if isinstance(error, click.BadOptionUsage):
        return f"flag needs an argument: {error.option_name}", USAGE
    if isinstance(error, click.MissingParameter):
        return f"'{path}' requires at least 1 argument ({error.param.make_metavar(error.ctx)})" if (
            error.param and error.ctx
        ) else error.format_message(), GENERIC
    if isinstance(error, click.BadParameter) and isinstance(error.param, click.Option):
        return f"invalid argument for {error.param.opts[-1]}: {error.message}", USAGE
    return error.format_message(), GENERIC
