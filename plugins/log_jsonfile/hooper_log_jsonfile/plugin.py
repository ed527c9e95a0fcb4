"""The log drivers json-file and none."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_log_drivers() -> Iterable[DriverSpec]:
    yield DriverSpec(
        "json-file",
        "a JSON object a line, as Docker writes it",
        factory="hooper_log_jsonfile.driver:JsonFileDriver",
        config="hooper_log_jsonfile.options:JsonFileConfig",
        priority=10,
    )
    yield DriverSpec("none", "keeps nothing", factory="hooper_log_jsonfile.none:NoneDriver", priority=-1)
