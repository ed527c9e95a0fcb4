"""The driver against hooper's conformance suite."""

from __future__ import annotations

from hooper_storage_example.driver import ExampleDriver

from hooper.api.driver import DriverContext
from hooper.testing.storage import StorageConformance


class TestExample(StorageConformance):
    def make_driver(self, context: DriverContext) -> ExampleDriver:
        return ExampleDriver(context)
