"""Processes in running containers: /containers/{id}/exec and /exec."""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from hooper.api import detach_keys
from hooper.api.engine import Engine, ExecCreate
from hooper.api.errors import Conflict, HooperError, InvalidArgument
from hooper.api.model import DockerStruct, Exec
from hooper_api_docker.bodies import read_json, without_nulls
from hooper_api_docker.containers import window
from hooper_api_docker.errors import message_of
from hooper_api_docker.http import Request, Response
from hooper_api_docker.streams import frame, stream_type


class ExecBody(DockerStruct, kw_only=True):
    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: tuple[int, int] | None = None
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    env: list[str] | None = None
    working_dir: str = ""
    cmd: list[str] | None = None


class StartBody(DockerStruct, kw_only=True):
    detach: bool = False
    tty: bool = False
    console_size: tuple[int, int] | None = None


_create = msgspec.json.Decoder(ExecBody)
_start = msgspec.json.Decoder(StartBody)


def _repair_create(raw: dict[str, Any]) -> ExecBody:
    raw = without_nulls(raw)
    if isinstance(raw.get("Cmd"), str):
        raw["Cmd"] = [raw["Cmd"]]
    return msgspec.convert(raw, ExecBody)


def _repair_start(raw: dict[str, Any]) -> StartBody:
    return msgspec.convert(without_nulls(raw), StartBody)


async def create(engine: Engine, request: Request, name: str) -> Response:
    body = await read_json(request, _create, _repair_create)
    if not body.cmd:
        raise InvalidArgument("No exec command specified")
    exec_id = await engine.containers.exec_create(
        name,
        ExecCreate(
            cmd=body.cmd,
            user=body.user,
            env=body.env or [],
            working_dir=body.working_dir,
            tty=body.tty,
            privileged=body.privileged,
            attach_stdin=body.attach_stdin,
            attach_stdout=body.attach_stdout,
            attach_stderr=body.attach_stderr,
            detach_keys=body.detach_keys,
            console_size=body.console_size,
        ),
    )
    return Response(201, {"Id": exec_id})


async def start(engine: Engine, request: Request, exec_id: str) -> Response | None:
    """Not found and not runnable are answered as such; a failing start, once the head of the stream is
    sent, is told in the stream, and the CLI takes the exit code from the exec's inspection."""
    body = await read_json(request, _start, _repair_start)
    found = await engine.containers.exec_get(exec_id)
    if found.running or found.exit_code is not None:
        raise Conflict(f"cannot start exec {exec_id}", "it has been started before", "Create another one.")
    container = await engine.containers.get(found.container_id)
    if container.state.status == "paused":
        raise Conflict(f"Container {container.name} is paused", "", "Unpause it before the exec.")
    if not container.state.running:
        raise Conflict(f"Container {container.name} is not running", "", "Start it first.")
    if body.detach:
        await engine.containers.exec_start(exec_id, None, b"", tty=body.tty, console_size=body.console_size)
        return Response(200, b"", b"text/plain")
    connection, received = await request.hijack(stream_type(request, found.tty), until_taken=False)
    try:
        await engine.containers.exec_start(exec_id, connection, received, tty=body.tty, console_size=body.console_size)
    except HooperError as error:
        connection.close()
        text = message_of(error).replace("\n", "\r\n").encode() + b"\r\n"
        await request.until_taken()
        await request.send_raw(text if found.tty else frame(1, text))
    return None


async def resize(engine: Engine, request: Request, exec_id: str) -> Response:
    await engine.containers.exec_resize(exec_id, *window(request))
    return Response(200, b"", b"text/plain")


async def inspect(engine: Engine, request: Request, exec_id: str) -> Response:
    return Response(200, shape(await engine.containers.exec_get(exec_id)))


def shape(value: Exec) -> dict[str, Any]:
    return {
        "ID": value.id,
        "Running": value.running,
        "ExitCode": value.exit_code,
        "ProcessConfig": {
            "tty": value.tty,
            "entrypoint": value.args[0] if value.args else "",
            "arguments": value.args[1:],
            "privileged": value.privileged,
            **({"user": value.user} if value.user else {}),
        },
        "OpenStdin": value.attach_stdin,
        "OpenStderr": value.attach_stderr,
        "OpenStdout": value.attach_stdout,
        "CanRemove": not value.running and value.exit_code is not None,
        "ContainerID": value.container_id,
        # Bytes, as Go encodes them.
        "DetachKeys": base64.b64encode(detach_keys.parse(value.detach_keys)).decode() if value.detach_keys else "",
        "Pid": value.pid,
    }
