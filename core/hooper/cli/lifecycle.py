"""Verbs on containers that need no more than their names."""

from __future__ import annotations

import click

from hooper.api.errors import HooperError
from hooper.cli.command import command
from hooper.cli.each import for_each
from hooper.cli.flags import flag, number, text
from hooper.cli.session import Session

_MANY = "CONTAINER [CONTAINER...]"
_containers = click.argument("containers", nargs=-1, required=True)


def _stop_like(session: Session, verb: str, containers: tuple[str, ...], signal: str, timeout: int | None) -> int:
    query = {"signal": signal or None, "t": timeout}
    return for_each(containers, lambda name: session.client.post(f"/containers/{name}/{verb}", query=query))


@command("stop", _MANY)
@text("-s", "--signal", help="Signal to send to the container")
@number("-t", "--timeout", "--time", "timeout", help="Seconds to wait before killing the container")
@_containers
@click.pass_obj
def stop(session: Session, containers: tuple[str, ...], signal: str, timeout: int | None) -> int:
    """Stop one or more running containers."""
    return _stop_like(session, "stop", containers, signal, timeout)


@command("restart", _MANY)
@text("-s", "--signal", help="Signal to send to the container")
@number("-t", "--timeout", "--time", "timeout", help="Seconds to wait before killing the container")
@_containers
@click.pass_obj
def restart(session: Session, containers: tuple[str, ...], signal: str, timeout: int | None) -> int:
    """Restart one or more containers."""
    return _stop_like(session, "restart", containers, signal, timeout)


@command("kill", _MANY)
@text("-s", "--signal", help="Signal to send to the container (default KILL)")
@_containers
@click.pass_obj
def kill(session: Session, containers: tuple[str, ...], signal: str) -> int:
    """Kill one or more running containers."""
    query = {"signal": signal or "KILL"}
    return for_each(containers, lambda name: session.client.post(f"/containers/{name}/kill", query=query))


@command("pause", _MANY)
@_containers
@click.pass_obj
def pause(session: Session, containers: tuple[str, ...]) -> int:
    """Pause all processes within one or more containers."""
    return for_each(containers, lambda name: session.client.post(f"/containers/{name}/pause"))


@command("unpause", _MANY)
@_containers
@click.pass_obj
def unpause(session: Session, containers: tuple[str, ...]) -> int:
    """Unpause all processes within one or more containers."""
    return for_each(containers, lambda name: session.client.post(f"/containers/{name}/unpause"))


@command("rm", _MANY)
@flag("-f", "--force", help="Force the removal of a running container (uses SIGKILL)")
@flag("-l", "--link", help="Remove the specified link")
@flag("-v", "--volumes", help="Remove anonymous volumes associated with the container")
@_containers
@click.pass_obj
def rm(session: Session, containers: tuple[str, ...], force: bool, link: bool, volumes: bool) -> int:
    """Remove one or more containers."""
    query = {"force": force or None, "link": link or None, "v": volumes or None}

    def remove(name: str) -> None:
        try:
            session.client.delete(f"/containers/{name.strip('/')}", query)
        except HooperError as error:
            if not (force and getattr(error, "status", 0) == 404):
                raise

    return for_each(containers, remove)


@command("rename", "CONTAINER NEW_NAME")
@click.argument("container")
@click.argument("name")
@click.pass_obj
def rename(session: Session, container: str, name: str) -> None:
    """Rename a container."""
    session.client.post(f"/containers/{container}/rename", query={"name": name})


@command("wait", _MANY)
@_containers
@click.pass_obj
def wait(session: Session, containers: tuple[str, ...]) -> int:
    """Block until one or more containers stop, then print their exit codes."""
    return for_each(containers, lambda name: str(session.client.post(f"/containers/{name}/wait")["StatusCode"]))
