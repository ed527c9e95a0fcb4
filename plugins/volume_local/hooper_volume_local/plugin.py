"""Registers the volume driver "local"."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_volume_drivers() -> Iterable[DriverSpec]:
    yield DriverSpec(
        "local",
        "a directory on this host",
        factory="hooper_volume_local.driver:LocalVolumes",
        priority=100,
    )
