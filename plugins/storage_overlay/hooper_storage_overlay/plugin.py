"""Registers the storage driver "overlay"."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_storage_drivers() -> Iterable[DriverSpec]:
    yield DriverSpec(
        "overlay",
        "stacks snapshots with the kernel's overlayfs",
        factory="hooper_storage_overlay.driver:OverlayDriver",
        priority=100,
    )
