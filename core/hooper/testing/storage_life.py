"""The storage suite, part one: keys, kinds, parents; what a snapshot's life is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hooper.api.driver import DriverContext
from hooper.api.errors import Conflict, InvalidArgument, NotFound
from hooper.api.storage import SnapshotKind
from hooper.testing.snapshots import (
    Snapshots,
    names_of,
    nothing,
    reads,
    write,
    writes,
)
from hooper.testing.storage_base import StorageCase


class LifeTests(StorageCase):
    async def test_a_commit_frees_the_key_and_freezes_the_snapshot(self, at: Snapshots) -> None:
        await at.driver.prepare("key")
        await at.change("key", writes({"file": "1"}))
        await at.driver.commit("name", "key")
        with pytest.raises(NotFound):
            await at.driver.stat("key")
        with pytest.raises(InvalidArgument):
            await at.driver.mounts("name")
        with pytest.raises(InvalidArgument):
            await at.driver.commit("other", "name")
        info = await at.driver.stat("name")
        assert (info.key, info.kind, info.parent) == ("name", SnapshotKind.COMMITTED, "")

    async def test_a_child_does_not_change_its_parent(self, at: Snapshots) -> None:
        def damage(_: Path) -> None:
            Path("kept").write_text("changed")
            os.unlink("gone")
            os.chmod("dir", 0o700)
            write("new")

        parent = await at.layer("parent", "", writes({"kept": "1", "gone": "", "dir/f": ""}))
        before = await at.tree(parent)
        await at.layer("child", parent, damage)
        assert await at.tree(parent) == before
        assert await at.look("child", names_of) == ["dir", "kept", "new"]

    async def test_a_child_sees_its_parent(self, at: Snapshots) -> None:
        await at.layer("one", "", writes({"a/one": "1"}))
        await at.layer("two", "one", writes({"a/two": "2"}))
        await at.driver.prepare("three", "two")
        assert await at.change("three", lambda _: sorted(os.listdir("a"))) == ["one", "two"]
        assert await at.change("three", reads("a/one")) == "1"

    async def test_an_active_snapshot_keeps_its_changes(self, at: Snapshots) -> None:
        await at.driver.prepare("key")
        await at.change("key", writes({"a": "1"}))
        await at.change("key", writes({"b": "2"}))
        assert await at.change("key", names_of) == ["a", "b"]

    async def test_a_view_refuses_a_write(self, at: Snapshots) -> None:
        def attempts(_: Path) -> list[int]:
            failures = []
            for attempt in (writes({"new": ""}), writes({"file": "2"}), lambda _: os.chmod("file", 0)):
                try:
                    attempt(Path())
                except OSError as error:
                    failures.append(error.errno or 0)
            return failures

        await at.layer("one", "", writes({"file": "1"}))
        await at.layer("two", "one", writes({"more": "1"}))
        for parent in ("one", "two"):
            await at.driver.view("view", parent)
            assert await at.change("view", attempts) == [errno.EROFS] * 3
            assert (await at.driver.stat("view")).kind is SnapshotKind.VIEW
            await at.driver.remove("view")
        await at.driver.view("empty")
        assert await at.change("empty", names_of) == []
        with pytest.raises(InvalidArgument):
            await at.driver.commit("name", "empty")

    async def test_mounts_are_those_of_prepare(self, at: Snapshots) -> None:
        await at.layer("parent", "", nothing)
        assert list(await at.driver.prepare("key", "parent")) == list(await at.driver.mounts("key"))
        assert list(await at.driver.view("view", "parent")) == list(await at.driver.mounts("view"))

    async def test_walk_equals_stat(self, at: Snapshots) -> None:
        await at.layer("parent", "", nothing)
        await at.driver.prepare("active", "parent")
        await at.driver.view("view", "parent")
        found = {info.key: info async for info in at.driver.walk()}
        assert set(found) == {"parent", "active", "view"}
        assert found == {key: await at.driver.stat(key) for key in found}
        assert all(info.created > 0 for info in found.values())

    async def test_a_snapshot_with_children_is_not_removed(self, at: Snapshots) -> None:
        await at.layer("parent", "", writes({"file": "1"}))
        await at.driver.prepare("child", "parent")
        with pytest.raises(Conflict, match="child"):
            await at.driver.remove("parent")
        assert await at.change("child", reads("file")) == "1"
        await at.driver.remove("child")
        await at.driver.remove("parent")
        assert [info async for info in at.driver.walk()] == []

    async def test_a_removed_snapshot_is_gone(self, at: Snapshots) -> None:
        await at.driver.prepare("key")
        await at.driver.remove("key")
        for verb in (at.driver.stat, at.driver.mounts, at.driver.usage, at.driver.remove, at.driver.diff):
            with pytest.raises(NotFound):
                await verb("key")

    async def test_keys_and_names_can_be_used_again(self, at: Snapshots) -> None:
        for content in ("1", "2"):
            await at.driver.prepare("key")
            await at.change("key", writes({"file": content}))
            await at.driver.commit("name", "key")
            assert await at.look("name", reads("file")) == content
            await at.driver.prepare("key", "name")
            await at.driver.remove("key")
            await at.driver.remove("name")

    @pytest.mark.parametrize("again", ["prepare", "view"])
    @pytest.mark.parametrize("first", ["prepare", "view", "commit"])
    async def test_a_key_is_taken_once(self, at: Snapshots, first: str, again: str) -> None:
        if first == "commit":
            await at.layer("key", "", nothing)
        else:
            await getattr(at.driver, first)("key")
        with pytest.raises(Conflict):
            await getattr(at.driver, again)("key")
        await at.driver.prepare("other")
        with pytest.raises(Conflict):
            await at.driver.commit("key", "other")
        assert (await at.driver.stat("other")).kind is SnapshotKind.ACTIVE

    async def test_only_committed_snapshots_are_parents(self, at: Snapshots) -> None:
        await at.driver.prepare("active")
        for verb in (at.driver.prepare, at.driver.view):
            with pytest.raises(InvalidArgument):
                await verb("key", "active")
            with pytest.raises(NotFound):
                await verb("key", "missing")
        with pytest.raises(NotFound):
            await at.driver.stat("key")

    @pytest.mark.parametrize("key", ["", "a/b", "a\0b", "k" * 256])
    async def test_a_bad_key_is_refused(self, at: Snapshots, key: str) -> None:
        with pytest.raises(InvalidArgument):
            await at.driver.prepare(key)

    @pytest.mark.parametrize("key", ["..", ".", "sha256:ab", "a b,c:d=e", "k" * 255, "ключ"])
    async def test_a_key_is_free_text(self, at: Snapshots, key: str) -> None:
        await at.driver.prepare(key)
        await at.change(key, writes({"file": ""}))
        await at.driver.commit(key + "n" if len(key) < 255 else "n", key)
        assert await at.look(key + "n" if len(key) < 255 else "n", names_of) == ["file"]

    async def test_closing_twice_is_harmless(self, at: Snapshots) -> None:
        await at.driver.aclose()
        await at.driver.aclose()

    async def test_snapshots_outlive_the_driver(self, at: Snapshots, context: DriverContext) -> None:
        await at.layer("parent", "", writes({"file": "1"}))
        await at.driver.prepare("active", "parent")
        await at.change("active", writes({"more": "2"}))
        before = {info.key: info async for info in at.driver.walk()}
        await at.driver.aclose()
        later = Snapshots(self.make_driver(context))
        await later.driver.open()
        try:
            assert {info.key: info async for info in later.driver.walk()} == before
            assert await later.change("active", names_of) == ["file", "more"]
            await later.driver.commit("child", "active")
            assert await later.look("child", reads("more")) == "2"
        finally:
            await later.driver.aclose()
