"""Entry point of the Dockerfile builder."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_builders() -> Iterable[DriverSpec]:
    yield DriverSpec(
        "dockerfile", "builds images from Dockerfiles", factory="hooper_builder_dockerfile.builder:DockerfileBuilder"
    )
