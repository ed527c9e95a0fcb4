"""Pull, push, save and load on real storage drivers, with real worker processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from images_support import Host, tar_of
from test_registry_images import Pushed

from hooper.api.driver import DriverContext
from hooper.api.errors import DataLoss
from hooper.api.storage import StorageDriver
from hooper.state.database import Database, DriverState
from hooper.testing.registry import Registry
from hooper.testing.workers import ForkWorkers
from hooper_storage_overlay.driver import OverlayDriver
from hooper_storage_vfs.driver import VfsDriver

pytestmark = [pytest.mark.anyio, pytest.mark.root]


@asynccontextmanager
async def opened(kind: type[StorageDriver], root: Path) -> AsyncIterator[Host]:
    (root / "storage").mkdir(parents=True)
    context = SimpleNamespace(
        name="real",
        config=None,
        data_dir=root / "storage",
        exec_dir=root / "storage",
        state=DriverState(Database(root / "drivers.db"), "real"),
        workers=ForkWorkers(),
        log=None,
    )
    driver = kind(cast(DriverContext, context))
    await driver.probe()
    await driver.open()
    try:
        yield Host(root / "host", storage=driver, workers=ForkWorkers())
    finally:
        await driver.aclose()


@pytest.mark.parametrize("kind", [OverlayDriver, VfsDriver])
async def test_an_image_goes_round(kind: type[StorageDriver], tmp_path: Path) -> None:
    pushed = Pushed()
    async with Registry() as registry, opened(kind, tmp_path / "a") as host, opened(kind, tmp_path / "b") as other:
        name = f"{registry.host}/app:1"
        await pushed.push(registry.host, "app", "1")
        assert await host.images.pull(name, host.sink) == pushed.id
        with (tmp_path / "saved.tar").open("wb") as file:
            await host.images.save([name], file.fileno())
        with (tmp_path / "saved.tar").open("rb") as file:
            assert await other.images.load(file.fileno(), other.sink) == [name]
        await other.images.tag(name, f"{registry.host}/again:1")
        await other.images.push(f"{registry.host}/again:1", other.sink)
        assert await host.images.pull(f"{registry.host}/again:1", host.sink) == pushed.id
        for text in (name, f"{registry.host}/again:1"):
            await host.images.remove(text)
        assert host.rows("layers") == host.rows("blobs") == 0


@pytest.mark.parametrize("kind", [OverlayDriver, VfsDriver])
async def test_a_layer_that_is_no_archive_leaves_nothing(kind: type[StorageDriver], tmp_path: Path) -> None:
    bad = Pushed(layers=[tar_of({"a": b""}), b"this is no tar archive" * 100])
    async with Registry() as registry, opened(kind, tmp_path / "a") as host:
        await bad.push(registry.host, "app", "1")
        with pytest.raises(DataLoss):
            await host.images.pull(f"{registry.host}/app:1", host.sink)
        await host.images.prune({})
        assert host.rows("images") == host.rows("layers") == host.rows("blobs") == 0
