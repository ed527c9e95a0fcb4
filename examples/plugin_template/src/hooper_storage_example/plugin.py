"""What hooper reads of this distribution."""

from __future__ import annotations

from collections.abc import Iterable

from hooper.api.specs import DriverSpec
from hooper.hookspecs import hookimpl


@hookimpl
def hooper_register_storage_drivers() -> Iterable[DriverSpec]:
    # A negative priority: `auto` never picks it, a host has to name it.
    yield DriverSpec(
        "example",
        "keeps snapshots as plain copies; a template for drivers of your own",
        factory="hooper_storage_example.driver:ExampleDriver",
        priority=-1,
    )
