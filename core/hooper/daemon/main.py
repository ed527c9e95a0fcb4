"""`hooper daemon`: one in the foreground."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from hooper.api.errors import HooperError, InvalidArgument
from hooper.api.frontend import Listener, Subscriber
from hooper.api.specs import Kind
from hooper.config import Config, load
from hooper.daemon.logging import logger

if TYPE_CHECKING:
    from hooper.engine.engine import LocalEngine
    from hooper.plugins.selection import Selector


@click.command("daemon")
@click.option("-H", "--host", "hosts", multiple=True, help="Address to listen on: unix://PATH, tcp://HOST:PORT, fd://.")
@click.option("--data-root", help="Directory of images, containers and volumes.")
@click.option("--exec-root", help="Directory of run-time state.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="Read this file instead of the host's.")
@click.option("--pidfile", type=click.Path(path_type=Path), help="Write the process id here.")
@click.option("--group", help="Group that may use the unix socket.")
@click.option("--log-level", help="debug, info, warning or error.")
@click.option("--storage-driver", "-s", help="Storage driver; auto chooses.")
@click.option("--default-runtime", help="Isolation backend; auto chooses.")
def daemon_command(
    hosts: tuple[str, ...],
    data_root: str | None,
    exec_root: str | None,
    config_file: Path | None,
    pidfile: Path | None,
    group: str | None,
    log_level: str | None,
    storage_driver: str | None,
    default_runtime: str | None,
) -> None:
    """Run a hooper daemon in the foreground."""
    given = {
        "daemon.hosts": list(hosts) or None,
        "daemon.data_root": data_root and os.path.abspath(data_root),
        "daemon.exec_root": exec_root and os.path.abspath(exec_root),
        "daemon.group": group,
        "daemon.log_level": log_level,
        "storage.driver": storage_driver,
        "isolation.driver": default_runtime,
    }
    flags: dict[str, Any] = {key: value for key, value in given.items() if value}
    if exec_root and not hosts:
        flags["daemon.hosts"] = [f"unix://{os.path.abspath(exec_root)}/hooper.sock"]
    try:
        config = load(config_file, flags)
        anyio.run(run, config, pidfile)
    except* HooperError as group_of_errors:
        for error in _leaves(group_of_errors):
            print(f"hooper daemon: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for child in error.exceptions for leaf in _leaves(child)]
    return [error]


async def run(config: Config, pidfile: Path | None = None) -> None:
    """Serves until SIGTERM or SIGINT. Containers go on afterwards."""
    from hooper.engine.engine import open_engine

    log = logger(config["daemon.log_level"])
    os.umask(0o022)
    async with open_engine(config, log) as (engine, selector):
        frontends = await _frontends(config, selector)
        listeners = [Listener(address, config["daemon.group"]) for address in config["daemon.hosts"]]
        async with anyio.create_task_group() as tasks:
            for subscriber in await _subscribers(config, selector):
                engine.core.background(_inform, subscriber, engine)
            for frontend in frontends:
                await tasks.start(frontend.serve, listeners)
            with _PidFile(pidfile):
                gc.collect()
                gc.freeze()
                log.info("ready", hosts=config["daemon.hosts"], pid=os.getpid())
                await _signalled(log)
                tasks.cancel_scope.cancel()


async def _enabled(config: Config, selector: Selector, kind: Kind) -> list[Any]:
    """Those that the configuration names; "auto" among the names stands for all that need not be named."""
    names: list[str] = config[f"{kind}.enabled"]
    chosen: dict[str, Any] = await selector.every(kind, automatic=True) if "auto" in names else {}
    for name in names:
        if name != "auto" and name not in chosen:
            chosen[name] = (await selector.choose(kind, name))[1]
    return list(chosen.values())


async def _subscribers(config: Config, selector: Selector) -> list[Subscriber]:
    return await _enabled(config, selector, Kind.SUBSCRIBER)


async def _inform(subscriber: Subscriber, engine: LocalEngine) -> None:
    async with engine.events.subscribe() as events:
        await subscriber.run(events, engine)


async def _frontends(config: Config, selector: Selector) -> list[Any]:
    found = await _enabled(config, selector, Kind.FRONTEND)
    if not found:
        raise InvalidArgument("no API front-end is active", remedy="`hooper plugin doctor` tells why.")
    return found


async def _signalled(log: Any) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
        async for number in received:
            if number != signal.SIGHUP:
                log.info("stopping", signal=signal.Signals(number).name)
                return


class _PidFile:
    def __init__(self, path: Path | None) -> None:
        self._path = path

    def __enter__(self) -> None:
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(f"{os.getpid()}\n")

    def __exit__(self, *_: object) -> None:
        if self._path:
            self._path.unlink(missing_ok=True)
