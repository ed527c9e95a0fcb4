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
from hooper.cli.errors import BOLD, GENERIC, USAGE, BadFlag, coloured, debugging, report, set_level
from hooper.cli.flags import normalise
from hooper.cli.session import Session
from hooper.client.address import Tls
from hooper.client.home import config_directory


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
        if args[0] == "help" and ctx.parent is None:
            # `docker help run` is `docker run --help`.
            args = [*args[1:], "--help"]
            if args[0] == "--help":
                return "help", click.Command("help", callback=_print_help), []
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
            with formatter.section(coloured(title, BOLD, sys.stdout)):
                formatter.write_dl([(name.ljust(width), entry[1]) for name, entry in section.items()])

    def _unknown(self, ctx: click.Context, word: str) -> NoReturn:
        from hooper.cli.suggest import near

        quoted = " or ".join(f'"{name}"' for name in near(word, [*self.entries, *self.aliases]))
        hint = f"\nDid you mean {quoted}?" if quoted else ""
        if reason := table.ABSENT.get(word) if ctx.parent is None else "":
            hint = f"\n{reason}"
        raise UnknownCommand(f"unknown command: {ctx.command_path} {word}{hint}", ctx)


class UnknownCommand(click.UsageError):
    """No command has that name."""


@click.pass_context
def _group_help(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@click.pass_context
def _print_help(ctx: click.Context) -> None:
    if ctx.parent:
        click.echo(ctx.parent.get_help())


@click.pass_context
def _root(
    ctx: click.Context,
    /,
    config: str,
    context: str,
    debug: bool,
    host: tuple[str, ...],
    log_level: str,
    version: bool,
    **tls: Any,
) -> None:
    if version:
        from hooper import __version__

        click.echo(f"hooper version {__version__}")
        ctx.exit(0)
    if len(host) > 1:
        raise click.UsageError("give one address with --host", ctx)
    if host and context:
        raise click.UsageError("conflicting options: --host and --context are two ways to name a daemon", ctx)
    if config:
        os.environ["DOCKER_CONFIG"] = config
    set_level("debug" if debug else log_level)
    ctx.obj = ctx.obj or Session("".join(host), context, _tls(**tls))
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def _tls(tls: bool, tlsverify: bool, tlscacert: str, tlscert: str, tlskey: str) -> Tls | None:
    """What the flags say of TLS, or DOCKER_TLS_VERIFY; the usual files stand for those that are not named."""
    verify = tlsverify or bool(os.environ.get("DOCKER_TLS_VERIFY"))
    if not (tls or verify):
        return None
    directory = os.environ.get("DOCKER_CERT_PATH") or config_directory()

    def chosen(given: str, name: str) -> str:
        usual = os.path.join(directory, name)
        return given or (usual if os.path.exists(usual) else "")

    return Tls(chosen(tlscacert, "ca.pem"), chosen(tlscert, "cert.pem"), chosen(tlskey, "key.pem"), verify)


def _root_options() -> list[click.Parameter]:
    def option(*names: str, **more: Any) -> click.Option:
        return click.Option(list(names), **more)

    word = {"default": "", "metavar": "string"}
    return [
        option("--config", help="Directory of the client's configuration (default ~/.docker)", **word),
        option("-c", "--context", help="Name of the context to use (overrides HOOPER_HOST and DOCKER_HOST)", **word),
        option("-D", "--debug", is_flag=True, help="Show the requests to the daemon, and the place of a fault"),
        option("-H", "--host", multiple=True, metavar="address", help="Address of the daemon"),
        option(
            "-l",
            "--log-level",
            default="info",
            metavar="string",
            help="Least weight of messages: debug, info, warn, error",
        ),
        option("--tls", is_flag=True, help="Use TLS; implied by --tlsverify"),
        option("--tlscacert", help="Trust certificates signed by this one alone", **word),
        option("--tlscert", help="File of the client's certificate", **word),
        option("--tlskey", help="File of its key", **word),
        option("--tlsverify", is_flag=True, help="Use TLS and verify the daemon"),
        option("-v", "--version", is_flag=True, help="Print the version and quit"),
    ]


def root() -> LazyGroup:
    """The group of everything."""
    return LazyGroup(
        "hooper",
        table.SECTIONS,
        help="A container engine whose every part is a plugin.",
        callback=_root,
        params=_root_options(),
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
        if arguments[:1] == ["__complete"]:
            from hooper.cli.complete import print_candidates

            return print_candidates(root(), arguments[1:])
        result = root().main(arguments, "hooper", standalone_mode=False)
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
    except Exception as error:
        if debugging() or "hooper.daemon" in sys.modules:
            raise
        report(f"a fault of hooper itself: {type(error).__name__}: {error}\nWith --debug it tells where.")
        return GENERIC


def _usage_error(error: click.UsageError) -> int:
    path = error.ctx.command_path if error.ctx else "hooper"
    message, code = _usage_message(error, path)
    lines = [message]
    if error.ctx and not isinstance(error, UnknownCommand):
        lines += ["", error.ctx.get_usage()]
    report("\n".join([*lines, "", f"Run '{path} --help' for more information"]))
    return code


def _flag_hint(error: click.NoSuchOption) -> str:
    from hooper.cli.suggest import near

    options = error.ctx.command.get_params(error.ctx) if error.ctx else []
    known = [name for one in options for name in one.opts if name.startswith("--")]
    found = near(error.option_name, known)
    return f"\nDid you mean {' or '.join(found)}?" if found else ""


def _usage_message(error: click.UsageError, path: str) -> tuple[str, int]:
    """Docker's exit codes: 125 for a flag that is wrong, 1 for wrong words."""
    if isinstance(error, click.NoSuchOption):
        return f"unknown flag: {error.option_name}{_flag_hint(error)}", USAGE
    if isinstance(error, click.BadOptionUsage):
        return f"flag needs an argument: {error.option_name}", USAGE
    if isinstance(error, click.MissingParameter):
        return f"'{path}' requires at least 1 argument ({error.param.make_metavar(error.ctx)})" if (
            error.param and error.ctx
        ) else error.format_message(), GENERIC
    if isinstance(error, click.BadParameter) and isinstance(error.param, click.Option):
        return f"invalid argument for {error.param.opts[-1]}: {error.message}", USAGE
    return error.format_message(), GENERIC
