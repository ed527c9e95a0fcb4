"""The driver overlay against the conformance suite."""

from __future__ import annotations

import pytest
from hooper_storage_overlay.driver import OverlayDriver

from hooper.api.driver import DriverContext
from hooper.testing.storage import StorageConformance


@pytest.mark.root
class TestOverlay(StorageConformance):
    def make_driver(self, context: DriverContext) -> OverlayDriver:
        return OverlayDriver(context)
