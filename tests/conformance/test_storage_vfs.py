"""The driver vfs against the conformance suite."""

from __future__ import annotations

import pytest

from hooper.api.driver import DriverContext
from hooper.testing.storage import StorageConformance
from hooper_storage_vfs.driver import VfsDriver


@pytest.mark.root
class TestVfs(StorageConformance):
    def make_driver(self, context: DriverContext) -> VfsDriver:
        return VfsDriver(context)
