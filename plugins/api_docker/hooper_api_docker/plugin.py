"""Registers the front-end."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_api_frontends() -> Iterable[DriverSpec]:
    yield DriverSpec("docker", "the Docker Engine API", factory="hooper_api_docker.frontend:DockerFrontend")
