"""The storage suite, part two: what files keep through snapshots."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from hooper.testing.snapshots import (
    Change,
    Snapshots,
    deletes,
    describe,
    names_of,
    nothing,
    reads,
    varied,
    write,
    writes,
)
from hooper.testing.storage_base import StorageCase


class TreeTests(StorageCase):
    async def test_a_root_is_0755(self, at: Snapshots) -> None:
        def root(_: Path) -> list[int]:
            status = os.stat(".")
            return [stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid]

        old = os.umask(0o077)
        try:
            await at.layer("one", "", nothing)
            await at.layer("two", "one", nothing)
        finally:
            os.umask(old)
        for name in ("one", "two"):
            assert await at.look(name, root) == [0o755, 0, 0]

    async def test_a_changed_root_is_inherited(self, at: Snapshots) -> None:
        def change(_: Path) -> None:
            os.chmod(".", 0o700)
            os.chown(".", 5, 6)

        await at.layer("one", "", change)
        await at.layer("two", "one", writes({"file": ""}))
        status = await at.look("two", lambda _: list(os.stat("."))[:6])
        assert (stat.S_IMODE(status[0]), status[4], status[5]) == (0o700, 5, 6)

    async def test_everything_a_file_has_survives(self, at: Snapshots) -> None:
        def tree(root: Path) -> Any:
            varied(root)
            return describe(root)

        await at.driver.prepare("key")
        made = await at.change("key", tree)
        await at.driver.commit("one", "key")
        assert await at.tree("one") == made
        await at.layer("two", "one", nothing)
        assert await at.tree("two") == made

    async def test_sparse_files_stay_sparse(self, at: Snapshots) -> None:
        await at.layer("one", "", varied)
        await at.layer("two", "one", nothing)
        assert await at.look("two", lambda _: os.stat("sparse").st_blocks * 512) < 1_000_000

    async def test_a_directory_made_again_hides_what_was_below(self, at: Snapshots) -> None:
        def again(_: Path) -> None:
            os.unlink("dir/old")
            os.rmdir("dir")
            write("dir/new")

        await at.layer("one", "", writes({"dir/old": ""}))
        await at.layer("two", "one", again)
        await at.layer("three", "two", writes({"dir/newer": ""}))
        assert await at.look("two", lambda _: os.listdir("dir")) == ["new"]
        assert await at.look("three", lambda _: sorted(os.listdir("dir"))) == ["new", "newer"]

    async def test_a_link_then_a_deletion_is_a_move(self, at: Snapshots) -> None:
        def move(_: Path) -> None:
            os.link("from", "to")
            os.unlink("from")

        await at.layer("one", "", writes({"from": "content"}))
        await at.layer("two", "one", move)
        assert await at.look("two", names_of) == ["to"]
        assert await at.look("two", reads("to")) == "content"

    async def test_a_deletion_lasts_through_an_empty_layer(self, at: Snapshots) -> None:
        await at.layer("one", "", writes({"gone": "", "dir/gone": "", "kept": ""}))
        await at.layer("two", "one", deletes("gone", "dir/gone", "dir"))
        await at.layer("three", "two", nothing)
        await at.layer("four", "three", writes({"new": ""}))
        assert await at.look("four", names_of) == ["kept", "new"]

    async def test_kinds_replace_each_other(self, at: Snapshots) -> None:
        def swap(_: Path) -> None:
            os.unlink("file")
            write("file/in", "1")
            os.unlink("dir/in")
            os.rmdir("dir")
            os.symlink("file", "dir")

        await at.layer("one", "", writes({"file": "", "dir/in": ""}))
        await at.layer("two", "one", swap)
        assert await at.look("two", reads("dir/in")) == "1"
        await self.check_transfer(at, "one", "two")

    async def test_128_layers_equal_a_flat_directory(self, at: Snapshots) -> None:
        def step(number: int) -> Change:
            def change(_: Path) -> None:
                write(f"f{number}", str(number))
                write("last", str(number))
                write(f"d{number % 5}/f{number}", "x")
                if number % 3 == 0 and number:
                    os.unlink(f"f{number - 2}")

            return change

        parent = ""
        for number in range(128):
            parent = await at.layer(f"layer{number}", parent, step(number))

        def flat(_: Path) -> None:
            for number in range(128):
                step(number)(Path())

        await at.layer("flat", "", flat)

        def content(_: Path) -> dict[str, str]:
            return {str(path): path.read_text() for path in Path().rglob("*") if path.is_file()}

        assert await at.look(parent, content) == await at.look("flat", content)

    async def test_usage_is_the_snapshots_own(self, at: Snapshots) -> None:
        def fill(_: Path) -> None:
            write("big", os.urandom(1_000_000))
            os.link("big", "same")

        await at.layer("one", "", fill)
        usage = await at.driver.usage("one")
        assert 1_000_000 <= usage.size < 1_900_000
        assert usage.inodes >= 2 and usage.content == 1_000_000
