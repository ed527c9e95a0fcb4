"""Registers the front-end."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_api_frontends() -> Iterable[DriverSpec]:
    yield DriverSpec(
        "registry",
        "a registry server: the OCI distribution protocol",
        factory="hooper_registry_server.frontend:RegistryFrontend",
        config="hooper_registry_server.settings:Settings",
        priority=-1,
    )
