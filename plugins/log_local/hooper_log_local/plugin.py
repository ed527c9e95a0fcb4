"""The log driver local."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.logs import CACHE
from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_log_drivers() -> Iterable[DriverSpec]:
    yield DriverSpec(
        "local",
        "compact binary files, rotated and compressed",
        factory="hooper_log_local.driver:LocalDriver",
        config="hooper_log_local.options:LocalConfig",
        capabilities=frozenset({CACHE}),
    )
