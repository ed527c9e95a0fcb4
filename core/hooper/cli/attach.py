"""`hooper attach` and `hooper start`."""

from __future__ import annotations

import click

from hooper.api.errors import Conflict, HooperError, InvalidArgument
from hooper.cli.attached import Foreground, check_tty, exit_code, wait_for
from hooper.cli.command import command
from hooper.cli.errors import GENERIC, report
from hooper.cli.flags import flag, text
from hooper.cli.session import Session


@command("attach", "CONTAINER")
@text("--detach-keys", help="Override the key sequence for detaching a container")
@flag("--no-stdin", help="Do not attach STDIN")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Proxy all received signals to the process")
@click.argument("container")
@click.pass_obj
def attach(session: Session, container: str, detach_keys: str, no_stdin: bool, sig_proxy: bool) -> int:
    """Attach local standard input, output, and error streams to a running container."""
    details = session.client.get(f"/containers/{container}/json")
    state, config = details["State"], details["Config"]
    for flag_name, wrong in (("Running", "stopped"), ("Paused", "paused"), ("Restarting", "restarting")):
        if bool(state.get(flag_name)) != (flag_name == "Running"):
            raise Conflict(f"cannot attach to the {wrong} container {container}", remedy="It must be running.")
    streams = {"stdout", "stderr"} | ({"stdin"} if config["OpenStdin"] and not no_stdin else set())
    check_tty(tty=config["Tty"], stdin="stdin" in streams)
    foreground = Foreground(session.client, details["Id"], streams, tty=config["Tty"], detach_keys=detach_keys)
    waiting = wait_for(session.client, details["Id"], "not-running")
    if foreground.copy(foreground.attach(), proxy_signals=sig_proxy):
        return GENERIC  # docker's, where the end of the process was not seen
    return exit_code(waiting)


@command("start", "CONTAINER [CONTAINER...]")
@flag("-a", "--attach", help="Attach STDOUT/STDERR and forward signals")
@text("--detach-keys", help="Override the key sequence for detaching a container")
@flag("-i", "--interactive", help="Attach container's STDIN")
@text("--checkpoint", help="Restore from this checkpoint")
@text("--checkpoint-dir", help="Use a custom checkpoint storage directory")
@click.argument("containers", nargs=-1, required=True)
@click.pass_obj
def start(
    session: Session,
    containers: tuple[str, ...],
    attach: bool,
    interactive: bool,
    detach_keys: str,
    checkpoint: str,
    checkpoint_dir: str,
) -> int:
    """Start one or more stopped containers."""
    query = {"checkpoint": checkpoint or None, "checkpoint-dir": checkpoint_dir or None}
    if (attach or interactive or checkpoint) and len(containers) > 1:
        what = "attach to" if attach or interactive else "restore"
        raise InvalidArgument(f"cannot start several containers and {what} them", remedy="Name one.")
    if attach or interactive:
        return _start_attached(session, containers[0], query, interactive=interactive, detach_keys=detach_keys)
    code = 0
    for container in containers:
        try:
            session.client.post(f"/containers/{container}/start", query=query)
            print(container)
        except HooperError as error:
            report(error)
            code = 1
    return code


def _start_attached(
    session: Session, container: str, query: dict[str, str | None], *, interactive: bool, detach_keys: str
) -> int:
    client = session.client
    details = client.get(f"/containers/{container}/json")
    tty, identifier = details["Config"]["Tty"], details["Id"]
    stdin = interactive and details["Config"]["OpenStdin"]
    check_tty(tty=tty, stdin=stdin)
    streams = {"stdout", "stderr"} | ({"stdin"} if stdin else set())
    foreground = Foreground(client, identifier, streams, tty=tty, detach_keys=detach_keys)
    stream = foreground.attach()
    removed = details["HostConfig"].get("AutoRemove")
    waiting = wait_for(client, identifier, "removed" if removed else "next-exit")
    client.post(f"/containers/{identifier}/start", query=query)
    if foreground.copy(stream, proxy_signals=True):
        return 0
    return exit_code(waiting)
