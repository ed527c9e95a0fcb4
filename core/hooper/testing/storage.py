"""The conformance suite of storage drivers.

A driver's author subclasses it and says how the driver is made; each test is one behaviour that the engine
relies on:

    from hooper.testing.storage import StorageConformance

    class TestExample(StorageConformance):
        def make_driver(self, context):
            return ExampleDriver(context)

The tests need root: they make mounts, device nodes and files of other owners.
"""

from __future__ import annotations

from hooper.testing.snapshots import Snapshots, make_context, mounted
from hooper.testing.storage_layers import LayerTests
from hooper.testing.storage_life import LifeTests
from hooper.testing.storage_trees import TreeTests

__all__ = ["Snapshots", "StorageConformance", "make_context", "mounted"]


class StorageConformance(LifeTests, TreeTests, LayerTests):
    """Subclass it, with a name that begins with Test, and define `make_driver`."""
