"""Registers the storage driver "vfs"."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_storage_drivers() -> Iterable[DriverSpec]:
    yield DriverSpec(
        "vfs",
        "keeps each snapshot as a full copy; works on any file system",
        factory="hooper_storage_vfs.driver:VfsDriver",
        priority=1,
    )
