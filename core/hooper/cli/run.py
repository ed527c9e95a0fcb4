"""`hooper create` and `hooper run`."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from hooper.api.errors import HooperError
from hooper.cli import terminal
from hooper.cli.attached import Foreground, check_tty, exit_code, wait_for
from hooper.cli.command import command
from hooper.cli.container_flags import container_flags
from hooper.cli.errors import USAGE, BadFlag, warn
from hooper.cli.flags import flag, text
from hooper.cli.session import Session
from hooper.cli.settings import with_proxies
from hooper.cli.spec import attached_streams, create_body
from hooper.cli.values import one_of
from hooper.client.api import ApiClient
from hooper.client.errors import ApiError

_PULL = ("always", "missing", "never")


@command("create", "IMAGE [COMMAND] [ARG...]", starts=True, failure=USAGE, flags_first=True)
@container_flags
@click.argument("image")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def create(session: Session, /, image: str, arguments: tuple[str, ...], **options: Any) -> None:
    """Create a new container."""
    body = create_body(image, list(arguments), options, detached=False)
    print(create_container(session.client, body, options))


@command("run", "IMAGE [COMMAND] [ARG...]", starts=True, failure=USAGE, flags_first=True)
@flag("-d", "--detach", help="Run container in background and print container ID")
@click.option("--sig-proxy/--no-sig-proxy", default=True, help="Proxy received signals to the process")
@text("--detach-keys", help="Override the key sequence for detaching a container")
@container_flags
@click.argument("image")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def run(
    session: Session,
    /,
    image: str,
    arguments: tuple[str, ...],
    detach: bool,
    sig_proxy: bool,
    detach_keys: str,
    **options: Any,
) -> int:
    """Create and run a new container from an image."""
    body = create_body(image, list(arguments), options, detached=detach)
    streams = attached_streams(options, detached=detach)
    check_tty(tty=options["tty"], stdin="stdin" in streams)
    if options["tty"] and not detach:
        body["HostConfig"]["ConsoleSize"] = list(terminal.size())
    client = session.client
    container = create_container(client, body, options)
    if detach:
        client.post(f"/containers/{container}/start")
        print(container)
        return 0
    foreground = Foreground(client, container, streams, tty=options["tty"], detach_keys=detach_keys)
    return _run_attached(foreground, removed=options["rm"], proxy_signals=sig_proxy)


def _run_attached(foreground: Foreground, *, removed: bool, proxy_signals: bool) -> int:
    client, container = foreground.client, foreground.container
    stream = foreground.attach()
    waiting = wait_for(client, container, "removed" if removed else "next-exit")
    try:
        client.post(f"/containers/{container}/start")
    except HooperError:
        stream.socket.close()
        if removed:
            # The name is free again once this returns.
            exit_code(waiting)
        raise
    if foreground.copy(stream, proxy_signals=proxy_signals):
        return 0
    return exit_code(waiting)


def create_container(client: ApiClient, body: dict[str, Any], options: dict[str, Any]) -> str:
    """Creates a container, pulling its image as --pull says; its id. Warnings go to stderr."""
    policy = one_of("--pull", options["pull"], _PULL)
    path = options["cidfile"]
    if path and os.path.exists(path):
        raise BadFlag("--cidfile", path, "the file exists already; is another container using it?")
    if policy == "always":
        _pull(client, body["Image"], options)
    if environment := with_proxies(body.get("Env", []), str(client.address)):
        body["Env"] = environment
    if options["use_api_socket"]:
        from hooper.cli.api_socket import give_socket

        give_socket(client, body)
    query = {"name": options["name"] or None, "platform": options["platform"] or None}
    try:
        answer = client.post("/containers/create", body, query)
    except ApiError as error:
        if error.status != 404 or "no such image" not in error.message.lower() or policy == "never":
            raise
        print(f"Unable to find image '{_with_tag(body['Image'])}' locally", file=sys.stderr)
        _pull(client, body["Image"], options)
        answer = client.post("/containers/create", body, query)
    for warning in answer.get("Warnings") or ():
        warn(warning)
    if path:
        with open(path, "x", encoding="ascii") as file:
            file.write(answer["Id"])
    if options["use_api_socket"]:
        from hooper.cli.api_socket import give_credentials

        give_credentials(client, answer["Id"])
    return str(answer["Id"])


def _with_tag(image: str) -> str:
    return image if "@" in image or ":" in image.rpartition("/")[2] else f"{image}:latest"


def _pull(client: ApiClient, image: str, options: dict[str, Any]) -> None:
    from hooper.cli.pulling import pull_image

    pull_image(client, image, platform=options["platform"], quiet=options["quiet"], file=sys.stderr)
