"""What tests of the life of containers share."""

from __future__ import annotations

import json
import time
from typing import Any

import support
from support import Engine

S = 10**9
"""Nanoseconds."""


def create(engine: Engine, name: str, *command: str, host: dict[str, Any] | None = None, **config: Any) -> str:
    """Creates a container of busybox, which sleeps if no command is given; its id."""
    body = {"Image": "busybox", "Cmd": list(command) or ["sleep", "100"], "HostConfig": host or {}, **config}
    status, content = engine.request("POST", f"/containers/create?name={name}", body)
    assert status == 201, content
    return str(content["Id"])


def start(engine: Engine, name: str, *command: str, **more: Any) -> str:
    """Creates and starts."""
    made = create(engine, name, *command, **more)
    status, content = engine.request("POST", f"/containers/{name}/start")
    assert status == 204, content
    return made


def refused(engine: Engine, method: str, path: str, body: Any = None) -> tuple[int, str]:
    """Status and message of a request; the message in lower case, as engines differ in that."""
    status, content = engine.request(method, path, body)
    return status, content["message"].lower() if isinstance(content, dict) else ""


def state(engine: Engine, name: str) -> dict[str, Any]:
    return dict(engine.inspect(name)["State"])


def wait_for_status(engine: Engine, name: str, status: str) -> None:
    support.until(lambda: state(engine, name)["Status"] == status, what=f"{name} {status}: {state(engine, name)}")


def now() -> str:
    return f"{time.time():.6f}"


def events(engine: Engine, name: str, since: str) -> list[tuple[str, dict[str, str]]]:
    """(action, attributes) of the container's events since then."""
    shown = engine.docker(
        "events", "--since", since, "--until", f"{time.time() + 0.05:.6f}", "--filter", f"container={name}",
        "--filter", "type=container", "--format", "{{json .}}",
    )  # fmt: skip
    found = [json.loads(line) for line in shown.stdout.splitlines()]
    return [(event["Action"], event["Actor"]["Attributes"]) for event in found]


def actions(engine: Engine, name: str, since: str) -> list[str]:
    return [action for action, _ in events(engine, name, since)]
