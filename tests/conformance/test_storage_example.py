"""The template of a plugin against the conformance suite, as an author runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hooper.api.driver import DriverContext
from hooper.api.storage import StorageDriver
from hooper.testing.storage import StorageConformance

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "plugin_template" / "src"))
example = pytest.importorskip("hooper_storage_example.driver")


@pytest.mark.root
class TestExample(StorageConformance):
    def make_driver(self, context: DriverContext) -> StorageDriver:
        driver: StorageDriver = example.ExampleDriver(context)
        return driver


def test_the_hook_names_the_driver() -> None:
    from hooper_storage_example import plugin

    (spec,) = plugin.hooper_register_storage_drivers()
    module, _, name = spec.factory.partition(":")
    assert getattr(sys.modules[module], name) is example.ExampleDriver
