"""Registers the isolation backend `namespaces`."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_isolation_backends() -> Iterable[DriverSpec]:
    """The backend that needs no program: the monitor makes namespaces, cgroups and mounts itself."""
    yield DriverSpec(
        "namespaces",
        "Linux namespaces and cgroups, made by hooper itself",
        factory="hooper_isolation_namespaces.backend:NamespacesBackend",
        priority=100,
    )
