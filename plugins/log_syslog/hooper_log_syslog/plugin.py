"""The log driver syslog."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_log_drivers() -> Iterable[DriverSpec]:
    yield DriverSpec(
        "syslog",
        "a syslog server, of this host or another",
        factory="hooper_log_syslog.driver:SyslogDriver",
        priority=-1,
    )
