"""`hooper container move`, `save` and `load`: containers between engines, with all that belongs to them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from hooper.api.errors import InvalidArgument
from hooper.cli import terminal
from hooper.cli.command import command
from hooper.cli.errors import BadFlag
from hooper.cli.flags import flag, number, text
from hooper.cli.humanise import size
from hooper.cli.session import Session
from hooper.cli.transfer import blocks, refuse_terminal, write_stream
from hooper.client.moving import AlreadyMoved, Mover, about, own_size, take_container_back

F = TypeVar("F", bound=Callable[..., Any])
_VOLUMES = ("error", "reuse", "replace")
_NETWORKS = ("create", "require", "skip")


def _wish_flags(function: F) -> F:
    for add in (
        flag("--allow-binds", help="Move it although it mounts directories of its host, which are not carried"),
        text("--networks", help="Missing networks: create, require or skip (default create)", metavar="what"),
        text("--volumes", help="Volumes that are there and not empty: error, reuse or replace", metavar="what"),
    ):
        function = add(function)
    return function


def _wishes(volumes: str, networks: str, allow_binds: bool, name: str = "") -> dict[str, Any]:
    for option, value, known in (("--volumes", volumes, _VOLUMES), ("--networks", networks, _NETWORKS)):
        if value and value not in known:
            raise BadFlag(option, value, f"it is none of {', '.join(known)}", f"{option}={known[1]}")
    return {
        "name": name,
        "volumes": volumes or "error",
        "networks": networks or "create",
        "allow_binds": allow_binds,
    }


@command("move", "CONTAINER CONTEXT|ADDRESS")
@_wish_flags
@number("--stop-timeout", help="Seconds to wait before killing the container")
@flag("--dry-run", help="Tell what would be carried, and do nothing")
@flag("--take-back", help="End a move whose other side is lost for ever, and keep the container here")
@flag("-q", "--quiet", help="Print the container's name alone")
@click.argument("container")
@click.argument("target", metavar="CONTEXT", default="")
@click.pass_obj
def move(
    session: Session,
    container: str,
    target: str,
    volumes: str,
    networks: str,
    allow_binds: bool,
    stop_timeout: int | None,
    dry_run: bool,
    take_back: bool,
    quiet: bool,
) -> None:
    """Move a container to another hooper: configuration, image, files, volumes and networks.

    It is stopped here, carried over, started there if it ran here, and removed here when the other side has it.
    The volumes go with it, unless other containers use them; directories of the host do not.
    """
    if take_back:
        take_container_back(session.client, container)
        print(container)
        return
    if not target:
        raise InvalidArgument(
            "where to move the container is not said", remedy="Give a context (hooper context ls) or an address."
        )
    other = Session(host=target) if "://" in target else Session(context=target)
    wishes = _wishes(volumes, networks, allow_binds)
    with _Meter(shown=not (quiet or dry_run)) as meter:
        mover = Mover(session.client, other.client, wishes, say=meter.say, meter=meter.add)
        try:
            plan, verdict = mover.prepare(container)
            if dry_run:
                _show_plan(plan, verdict)
                return
            _warn(plan, verdict, quiet)
            meter.begin(container, _total(plan, verdict))
            arrived = mover.move(plan, verdict, stop_timeout=stop_timeout)
        except AlreadyMoved as error:
            meter.say(str(error))
            arrived = {"name": container}
    print(arrived["name"])


def _lacking(plan: dict[str, Any], verdict: dict[str, Any]) -> list[dict[str, Any]]:
    lacking = set(verdict["layers"])
    return [layer for layer in plan["manifest"]["image"]["layers"] if layer["chain_id"] in lacking]


def _total(plan: dict[str, Any], verdict: dict[str, Any]) -> int:
    return own_size(plan) + sum(int(layer["size"]) for layer in _lacking(plan, verdict))


def _warn(plan: dict[str, Any], verdict: dict[str, Any], quiet: bool) -> None:
    warnings = list(verdict["warnings"])
    for part in plan["manifest"]["volumes"]:
        if part["shared_with"]:
            name, users = part["volume"]["Name"], ", ".join(part["shared_with"])
            warnings.append(f"The volume {name} stays here as well, for {users}: from now on there are two.")
    if not quiet:
        for warning in warnings:
            print(f"WARNING: {warning}", file=sys.stderr)


def _show_plan(plan: dict[str, Any], verdict: dict[str, Any]) -> None:
    """One line each: what, its name, bytes, and what becomes of it."""
    manifest = plan["manifest"]
    lacking = {layer["chain_id"] for layer in _lacking(plan, verdict)}
    rows = [("container", manifest["container"]["Name"], plan["container_size"], "files it changed")]
    rows += [
        ("layer", layer["diff_id"][7:19], layer["size"], "carried" if layer["chain_id"] in lacking else "there already")
        for layer in manifest["image"]["layers"]
    ]
    rows += [
        ("volume", part["volume"]["Name"], part["size"], verdict["volumes"][part["volume"]["Name"]])
        for part in manifest["volumes"]
    ]
    rows.append(("logs", "", plan["state_size"], "carried"))
    print(f"{'WHAT':<10} {'NAME':<40} {'SIZE':>9}  HOW")
    for what, name, count, how in rows:
        print(f"{what:<10} {name:<40} {size(count, 3):>9}  {how}")
    for name, how in verdict["networks"].items():
        print(f"{'network':<10} {name:<40} {'':>9}  {how}")
    for bind in plan["binds"]:
        print(f"{'bind':<10} {bind:<40} {'':>9}  not carried")
    print(f"{'total':<10} {'':<40} {size(_total(plan, verdict), 3):>9}")
    _warn(plan, verdict, quiet=False)


class _Meter:
    """Tells on stderr how far the move is: a bar on a terminal, lines elsewhere."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> _Meter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def begin(self, name: str, total: int) -> None:
        if not self._shown:
            return
        if not os.isatty(terminal.STDERR):
            print(f"{name}: moving about {size(total, 3)}", file=sys.stderr)
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}"), BarColumn(40), DownloadColumn(), TransferSpeedColumn())
        self._bar = Progress(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task(name, total=total)
        self._bar.start()

    def add(self, count: int) -> None:
        if self._bar:
            self._bar.advance(self._task, count)

    def say(self, line: str) -> None:
        if self._bar:
            self._bar.console.out(line, highlight=False)
        elif self._shown:
            print(line, file=sys.stderr)


@command("save", "CONTAINER")
@text("-o", "--output", help="Write to a file, instead of STDOUT")
@click.argument("container")
@click.pass_obj
def save(session: Session, container: str, output: str) -> None:
    """Save a container to a file: configuration, image, files, volumes and logs.

    One that runs is paused meanwhile, so that its files fit together.
    """
    refuse_terminal(output)
    about(session.client)
    write_stream(session.client.stream("GET", f"/hooper/containers/{container}/save"), output)


@command("load", "")
@text("-i", "--input", "source", help="Read from a file, instead of STDIN")
@text("--name", help="Give the container another name")
@_wish_flags
@click.pass_obj
def load(session: Session, source: str, name: str, volumes: str, networks: str, allow_binds: bool) -> None:
    """Load a container from a file that `hooper container save` wrote. It is not started."""
    if not source and os.isatty(terminal.STDIN):
        raise InvalidArgument(
            "requested load from stdin, but stdin is empty", remedy="Give --input FILE, or pipe a container in."
        )
    about(session.client)
    wishes = _wishes(volumes, networks, allow_binds, name)
    with open(source, "rb") if source else sys.stdin.buffer as file:
        response = session.client.stream(
            "POST",
            "/hooper/containers/load",
            wishes,
            body=blocks(file),
            headers={"Content-Type": "application/x-tar"},
        )
        import json

        arrived = json.loads(response.read())
        response.close()
    for warning in arrived["warnings"]:
        print(f"WARNING: {warning}", file=sys.stderr)
    print(f"Loaded container: {arrived['name']}")
