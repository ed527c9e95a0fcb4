"""Offers the driver "http"."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_registries() -> Iterable[DriverSpec]:
    yield DriverSpec(
        "http",
        "registries that speak the OCI distribution protocol",
        factory="hooper_registry_http.driver:HttpRegistry",
        config="hooper_registry_http.config:HttpConfig",
        capabilities=frozenset({"pull", "push", "delete", "login"}),
        priority=100,
    )
