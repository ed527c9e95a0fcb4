"""What the tests of the storage suite share: a driver that is made, probed and opened for each."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hooper.api.driver import DriverContext
from hooper.api.storage import StorageDriver
from hooper.testing.snapshots import Snapshots, make_context


class StorageCase:
    pytestmark = pytest.mark.anyio

    def make_driver(self, context: DriverContext) -> StorageDriver:
        """The driver, not opened yet."""
        raise TypeError(f"{type(self).__name__} does not define make_driver")

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def context(self, tmp_path: Path) -> DriverContext:
        if os.geteuid() != 0:
            pytest.skip("needs root")
        return make_context(tmp_path)

    @pytest.fixture
    async def at(self, context: DriverContext) -> AsyncIterator[Snapshots]:
        """The driver, probed and opened, with the short words of `Snapshots`."""
        driver = self.make_driver(context)
        await driver.probe()
        await driver.open()
        yield Snapshots(driver)
        await driver.aclose()

    async def check_transfer(self, at: Snapshots, parent: str, name: str) -> None:
        """The layer that `name` is on `parent`, applied to a sibling, makes the same tree."""
        result, layer = await at.diff(name)
        assert result.size == len(layer)
        assert result == await at.driver.diff(name)
        await at.driver.prepare("sibling", parent)
        assert await at.apply("sibling", layer) == result
        await at.driver.commit("applied", "sibling")
        assert await at.tree("applied") == await at.tree(name)
        assert (await at.diff("applied"))[0] == result
