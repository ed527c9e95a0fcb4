"""Registers the command `hooper registry`."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import CommandSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_cli_commands() -> Iterable[CommandSpec]:
    yield CommandSpec("registry", "Serve a registry", factory="hooper_registry_server.cli:registry")
