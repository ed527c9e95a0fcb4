"""`hooper registry`: a registry server without a daemon, on a directory of its own."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import click

from hooper.api.errors import HooperError, InvalidArgument

_DIRECTORY = "/var/lib/hooper-registry"


@click.group("registry", context_settings={"help_option_names": ["--help"]})
def registry() -> None:
    """Serve a registry of images."""


def _directory_option(function: Any) -> Any:
    return click.option(
        "--directory", default=_DIRECTORY, show_default=True, help="Where the registry keeps everything."
    )(function)


@registry.command("serve")
@click.option("--listen", multiple=True, metavar="HOST:PORT", help="Address to serve (default 127.0.0.1:5000).")
@_directory_option
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with the settings of [frontend.registry].")
@click.option("--read-only", is_flag=True, help="Nothing can be pushed or deleted.")
@click.option("--no-delete", is_flag=True, help="Nothing can be deleted.")
@click.option("--htpasswd", default="", help="File of users (htpasswd -B).")
@click.option("--anonymous-pull", is_flag=True, help="Whoever has no password may pull.")
@click.option("--tls-certificate", default="", help="PEM file with the certificate.")
@click.option("--tls-key", default="", help="PEM file with its key.")
@click.option("--upstream", default="", metavar="URL", help="Be a pull-through cache of this registry.")
@click.option("--log-level", default="info", show_default=True, help="debug, info, warning or error.")
def serve(**given: Any) -> None:
    """Serve a registry in the foreground, until it is told to stop."""
    import anyio

    from hooper_registry_server.store import locked

    log_level = given.pop("log_level")
    try:
        settings = _settings(given.pop("config"), given)
        with locked(Path(settings.directory)):
            anyio.run(_serve, settings, _logger(log_level))
    except* HooperError as errors:
        _fail(errors)


@registry.command("gc")
@_directory_option
@click.option("--untagged", is_flag=True, help="Remove manifests, too, that no tag leads to.")
@click.option("--older-than", default=3600.0, show_default=True, help="Seconds; younger garbage stays.")
@click.option("--uploads-older-than", default=86400.0, show_default=True, help="Seconds without anything new.")
def gc(directory: str, untagged: bool, older_than: float, uploads_older_than: float) -> None:
    """Remove what nothing refers to. The server may go on meanwhile."""
    import anyio

    from hooper_registry_server.garbage import collect
    from hooper_registry_server.store import Store

    async def run() -> None:
        store = Store(Path(directory))
        try:
            done = await collect(store, older_than, uploads_older_than, untagged=untagged)
        finally:
            store.close()
        click.echo(f"{done.manifests} manifests, {done.blobs} blobs ({done.space} bytes), {done.uploads} uploads")

    try:
        if not (Path(directory) / "registry.db").exists():
            raise InvalidArgument(f"there is no registry in {directory}", remedy="Name its --directory.")
        anyio.run(run)
    except* HooperError as errors:
        _fail(errors)


def _fail(errors: BaseExceptionGroup[HooperError]) -> None:
    for error in errors.exceptions:
        if isinstance(error, BaseExceptionGroup):
            _fail(error)
        print(f"hooper registry: {error}", file=sys.stderr)
    raise click.exceptions.Exit(1)


def _settings(config: Path | None, flags: dict[str, Any]) -> Any:
    import msgspec

    from hooper_registry_server.settings import Settings

    values: dict[str, Any] = _read(config) if config else {}
    directory = flags.pop("directory")
    values.setdefault("directory", directory)
    if directory != _DIRECTORY:
        values["directory"] = directory
    if flags.pop("no_delete"):
        values["delete"] = False
    values |= {name: list(value) if isinstance(value, tuple) else value for name, value in flags.items() if value}
    try:
        return msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise InvalidArgument("settings of the registry", str(error), "docs/registry.md lists them.") from error


def _read(path: Path) -> dict[str, Any]:
    """The table frontend.registry, as in a daemon's configuration, or the whole file."""
    import tomllib

    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise InvalidArgument(f"cannot read {path}", error.strerror or str(error)) from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgument(f"{path} is not TOML", str(error), "Mend the line that is named.") from error
    table = content.get("frontend", {}).get("registry", content)
    return dict(table)


def _logger(level: str) -> Any:
    import structlog

    levels = {"debug": 10, "info": 20, "warning": 30, "error": 40}
    if level not in levels:
        raise InvalidArgument(f'log level "{level}"', remedy=f"There are {', '.join(levels)}.")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(levels[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    return structlog.get_logger()


async def _serve(settings: Any, log: Any) -> None:
    import anyio

    from hooper_registry_server.server import Server
    from hooper_registry_server.store import Store

    store = Store(Path(settings.directory))
    try:
        server = Server(settings, store, log)
        async with anyio.create_task_group() as group:
            await group.start(server.serve)
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
                async for _ in received:
                    group.cancel_scope.cancel()
                    return
    finally:
        store.close()
