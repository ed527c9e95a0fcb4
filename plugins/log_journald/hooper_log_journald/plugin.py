"""The log driver journald."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_log_drivers() -> Iterable[DriverSpec]:
    yield DriverSpec(
        "journald",
        "the journal of systemd",
        factory="hooper_log_journald.driver:JournaldDriver",
        config="hooper_log_journald.options:JournaldConfig",
        priority=-1,
    )
