"""The driver overlay against the conformance suite, and what it alone does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hooper.api.driver import DriverContext
from hooper.api.errors import InvalidArgument, SkipDriver
from hooper.api.storage import Reparenting
from hooper.testing.snapshots import Snapshots, make_context, names_of, nothing, writes
from hooper.testing.storage import StorageConformance
from hooper_storage_overlay.driver import OverlayDriver


@pytest.mark.root
class TestOverlay(StorageConformance):
    def make_driver(self, context: DriverContext) -> OverlayDriver:
        return OverlayDriver(context)

    async def test_a_snapshot_is_committed_on_another_parent(self, at: Snapshots) -> None:
        assert isinstance(at.driver, Reparenting)
        await at.layer("image", "", writes({"file": "1"}))
        await at.layer("prepared", "image", writes({"mountpoint": ""}))
        await at.driver.prepare("key", "prepared")
        await at.change("key", writes({"new": "2"}))
        await at.driver.commit_onto("child", "key", "image")
        assert (await at.driver.stat("child")).parent == "image"
        assert await at.look("child", names_of) == ["file", "new"]
        await at.driver.remove("prepared")

    async def test_what_was_prepared_on_nothing_stays_there(self, at: Snapshots) -> None:
        assert isinstance(at.driver, Reparenting)
        await at.layer("image", "", nothing)
        await at.driver.prepare("key")
        with pytest.raises(InvalidArgument):
            await at.driver.commit_onto("child", "key", "image")

    async def test_leftovers_are_deleted(self, at: Snapshots, context: DriverContext) -> None:
        await at.layer("image", "", writes({"file": "1"}))
        await at.driver.aclose()
        (context.data_dir / "s" / "999" / "d").mkdir(parents=True)
        (context.data_dir / "trash" / "7").mkdir(parents=True)
        again = Snapshots(OverlayDriver(context))
        await again.driver.open()
        assert await again.look("image", names_of) == ["file"]
        await again.driver.aclose()
        await OverlayDriver(context).open()
        assert not (context.data_dir / "s" / "999").exists()

    async def test_what_a_host_crash_cut_off_is_dropped(self, at: Snapshots, context: DriverContext) -> None:
        await at.layer("safe", "", writes({"file": "1"}))
        await at.driver.aclose()
        await at.driver.open()
        await at.layer("lost", "safe", writes({"more": "2"}))
        for key, value in context.state.items():
            if b'"boot":' in value:
                context.state.put(key, value.replace(b'"boot":', b'"boot":1'))
        later = OverlayDriver(context)
        await later.open()
        assert {info.key async for info in later.walk()} == {"safe"}
        await later.aclose()


@pytest.mark.parametrize("name", ["a:b", "a,b", "a\\b"])
@pytest.mark.anyio
async def test_a_directory_that_mount_options_cannot_name_is_skipped(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    place.mkdir()
    with pytest.raises(SkipDriver, match="separate mount options"):
        await OverlayDriver(make_context(place)).probe()


@pytest.mark.root
@pytest.mark.anyio
async def test_a_file_system_without_whiteouts_is_skipped(tmp_path: Path) -> None:
    context = make_context(tmp_path)
    os.rmdir(context.data_dir)
    os.symlink("/proc/self", context.data_dir)
    with pytest.raises(SkipDriver, match="overlayfs on"):
        await OverlayDriver(context).probe()
