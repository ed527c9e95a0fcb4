"""Offers the driver "layout"."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_registries() -> Iterable[DriverSpec]:
    yield DriverSpec(
        "layout",
        "OCI layout directories and archives of images: oci:, oci-archive:, docker-archive:",
        factory="hooper_registry_layout.driver:LayoutRegistry",
        config="hooper_registry_layout.driver:LayoutConfig",
        capabilities=frozenset({"pull", "push", "delete", "scheme:oci", "scheme:oci-archive", "scheme:docker-archive"}),
        priority=-1,
    )
