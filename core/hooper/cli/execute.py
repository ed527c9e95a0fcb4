"""`hooper exec`: another process in a running container."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import Any

import click

from hooper.cli import terminal, values
from hooper.cli.attached import check_tty, resize_tty
from hooper.cli.command import command
from hooper.cli.errors import GENERIC, report
from hooper.cli.flags import flag, text
from hooper.cli.flags import values as several
from hooper.cli.pump import Pump
from hooper.cli.session import Session
from hooper.cli.settings import setting
from hooper.client.api import ApiClient


@command("exec", "CONTAINER COMMAND [ARG...]", starts=True, flags_first=True)
@flag("-d", "--detach", help="Detached mode: run command in the background")
@text("--detach-keys", help="Override the key sequence for detaching a container")
@several("-e", "--env", help="Set environment variables")
@several("--env-file", help="Read in a file of environment variables")
@flag("-i", "--interactive", help="Keep STDIN open even if not attached")
@flag("--privileged", help="Give extended privileges to the command")
@flag("-t", "--tty", help="Allocate a pseudo-TTY")
@text("-u", "--user", help="Username or UID (format: <name|uid>[:<group|gid>])")
@text("-w", "--workdir", help="Working directory inside the container")
@click.argument("container")
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def execute(session: Session, /, container: str, arguments: tuple[str, ...], detach: bool, **options: Any) -> int:
    """Execute a command in a running container."""
    stdin = options["interactive"] and not detach
    check_tty(tty=options["tty"] and not detach, stdin=stdin)
    options["detach_keys"] = options["detach_keys"] or setting("detachKeys")
    keys = terminal.parse_keys(options["detach_keys"] or terminal.DEFAULT_KEYS) if options["tty"] else b""
    client = session.client
    identifier = client.post(f"/containers/{container}/exec", _body(arguments, options, detach))["Id"]
    if detach:
        client.post(f"/exec/{identifier}/start", {"Detach": True, "Tty": options["tty"]})
        return 0
    if _copy(client, identifier, tty=options["tty"], stdin=stdin, keys=keys):
        report("read escape sequence", prefix="")
        return GENERIC
    return int(client.get(f"/exec/{identifier}/json")["ExitCode"] or 0)


def _body(arguments: tuple[str, ...], options: dict[str, Any], detach: bool) -> dict[str, Any]:
    body = {
        "Cmd": list(arguments),
        "AttachStdin": options["interactive"] and not detach,
        "AttachStdout": not detach,
        "AttachStderr": not detach,
        "Tty": options["tty"],
        "Privileged": options["privileged"],
        "User": options["user"],
        "WorkingDir": options["workdir"],
        "DetachKeys": options["detach_keys"],
        "Env": values.environment(options["env"], options["env_file"], os.environ),
    }
    if options["tty"] and not detach:
        body["ConsoleSize"] = list(terminal.size())
    return {key: value for key, value in body.items() if value not in ("", [])}


def _copy(client: ApiClient, identifier: str, *, tty: bool, stdin: bool, keys: bytes) -> bool:
    """Copies until the process ends; True if the user detached."""
    stream = client.hijack(f"/exec/{identifier}/start", body={"Detach": False, "Tty": tty})
    raw = terminal.raw_mode(terminal.STDIN) if tty and stdin else nullcontext()
    path = f"/exec/{identifier}/resize"
    sizes = terminal.on_resize(lambda rows, columns: resize_tty(client, path, rows, columns)) if tty else nullcontext()
    with raw, sizes:
        return Pump(stream, framed=not tty, stdin=stdin, keys=keys).run()
