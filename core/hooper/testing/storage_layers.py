"""The storage suite, part three: layers written and applied."""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from hooper.api.errors import DataLoss, HooperError, InvalidArgument
from hooper.content.tar import CHARACTER, DIRECTORY, FILE, HARDLINK, SYMLINK, Entry
from hooper.testing.snapshots import (
    Snapshots,
    deletes,
    entries_of,
    layer_of,
    names_of,
    nothing,
    reads,
    varied,
    write,
    writes,
)
from hooper.testing.storage_base import StorageCase


class LayerTests(StorageCase):
    async def test_a_diff_applied_to_a_sibling_reproduces_the_tree(self, at: Snapshots) -> None:
        def change(_: Path) -> None:
            Path("etc/conf").write_text("other")
            os.unlink("pipe")
            os.unlink("bin/sudo")
            os.unlink("bin/su")
            os.rmdir("empty")
            write("empty/now/full", "1")
            os.rename("old", "moved")
            os.chmod(".hidden", 0o711)

        await at.layer("one", "", varied)
        await at.layer("two", "one", change)
        await self.check_transfer(at, "one", "two")

    async def test_a_diff_of_everything_reproduces_the_tree(self, at: Snapshots) -> None:
        await at.layer("one", "", varied)
        await self.check_transfer(at, "", "one")

    async def test_an_unchanged_snapshot_is_an_empty_layer(self, at: Snapshots) -> None:
        await at.layer("one", "", varied)
        await at.driver.prepare("key", "one")
        await at.driver.view("view", "one")
        for key in ("key", "view"):
            result, layer = await at.diff(key)
            assert entries_of(layer) == []
            assert result.size == 1024

    async def test_small_changes_are_found(self, at: Snapshots) -> None:
        def same_size(_: Path) -> None:
            status = os.stat("etc/conf")
            Path("etc/conf").write_text("TEXT")
            os.utime("etc/conf", ns=(status.st_atime_ns, status.st_mtime_ns))

        await at.layer("one", "", varied)
        changes: dict[str, tuple[Any, list[str]]] = {
            "content": (same_size, ["etc/conf"]),
            "mode": (lambda _: os.chmod("etc/conf", 0o600), ["etc/conf"]),
            "owner": (lambda _: os.chown("etc/conf", 7, 8), ["etc/conf"]),
            "time": (lambda _: os.utime("etc/conf", (1, 1)), ["etc/conf"]),
            "attribute": (lambda _: os.setxattr("etc/conf", "user.x", b"1"), ["etc/conf"]),
            "directory": (lambda _: os.chmod("etc", 0o750), ["etc/"]),
            "deletion": (deletes("pipe"), [".wh.pipe"]),
        }
        for name, (change, expected) in changes.items():
            await at.driver.prepare(name, "one")
            await at.change(name, change)
            assert entries_of((await at.diff(name))[1]) == expected, name

    async def test_a_diff_is_the_same_before_and_after_the_commit(self, at: Snapshots) -> None:
        await at.layer("one", "", writes({"a": "1"}))
        await at.driver.prepare("key", "one")
        await at.change("key", writes({"b": "2"}))
        await at.change("key", deletes("a"))
        before = await at.diff("key")
        assert entries_of(before[1]) == [".wh.a", "b"]
        await at.driver.commit("two", "key")
        assert await at.diff("two") == before

    async def test_whiteouts_are_applied(self, at: Snapshots) -> None:
        await at.layer("one", "", writes(dict.fromkeys(("gone", "dir/a", "dir/b", "kept", "d2/x"), "")))
        layer = layer_of([
            (Entry(b"dir/", DIRECTORY, mode=0o755), b""),
            (Entry(b"dir/c", FILE), b"3"),
            (Entry(b"dir/.wh..wh..opq", FILE), b""),
            (Entry(b".wh.gone", FILE), b""),
            (Entry(b".wh.d2", FILE), b""),
            (Entry(b".wh.never", FILE), b""),
        ])  # fmt: skip
        await at.driver.prepare("key", "one")
        await at.apply("key", layer)
        await at.driver.commit("two", "key")
        await at.layer("three", "two", nothing)
        for name in ("two", "three"):
            assert await at.look(name, names_of) == ["dir", "kept"]
            assert await at.look(name, lambda _: os.listdir("dir")) == ["c"]

    async def test_whiteouts_may_have_overlayfs_form(self, at: Snapshots) -> None:
        await at.layer("one", "", writes(dict.fromkeys(("gone", "dir/a", "kept"), "")))
        await at.driver.prepare("key", "one")
        hidden = [(Entry(name, CHARACTER), b"") for name in (b"gone", b"dir", b"never")]
        await at.apply("key", layer_of([*hidden, (Entry(b"dir/b", FILE), b"1")]))
        await at.driver.commit("two", "key")
        assert await at.look("two", names_of) == ["dir", "kept"]
        assert await at.look("two", lambda _: os.listdir("dir")) == ["b"]

    async def test_what_a_layer_brings_outlives_its_own_whiteouts(self, at: Snapshots) -> None:
        await at.layer("one", "", writes({"d/old": "", "d/sub/old": ""}))
        layer = layer_of([
            (Entry(b"d/new/x", FILE), b""),
            (Entry(b"d/new", FILE), b"a file now"),
            (Entry(b"d/sub/kept", FILE), b""),
            (Entry(b"d/.wh..wh..opq", FILE), b""),
            (Entry(b"d/late", FILE), b""),
            (Entry(b"d/sub/.wh..wh..opq", FILE), b""),
            (Entry(b".wh.d", FILE), b""),
        ])  # fmt: skip
        await at.driver.prepare("key", "one")
        await at.apply("key", layer)
        await at.driver.commit("two", "key")
        assert await at.look("two", lambda _: sorted(os.listdir("d"))) == ["late", "new", "sub"]
        assert await at.look("two", lambda _: os.listdir("d/sub")) == ["kept"]

    async def test_ids_of_systems_where_they_are_signed(self, at: Snapshots) -> None:
        await at.driver.prepare("key")
        await at.apply("key", layer_of([(Entry(b"x", FILE, uid=-2, gid=-(1 << 31)), b"")]))
        assert await at.change("key", lambda _: [os.stat("x").st_uid, os.stat("x").st_gid]) == [(1 << 32) - 2, 1 << 31]

    async def test_a_tree_may_be_deep(self, at: Snapshots) -> None:
        """Deeper than Python's stack; with the symlink, deeper than the kernel's PATH_MAX."""
        deep = b"/".join([b"dd"] * 1010)
        await at.driver.prepare("key")
        link = Entry(b"way", SYMLINK, link=deep)
        await at.apply("key", layer_of([(Entry(deep, DIRECTORY), b""), (link, b"")]))
        await at.apply("key", layer_of([(Entry(b"way/" + deep + b"/x", FILE), b"1")]))
        await at.driver.commit("one", "key")
        await at.driver.prepare("key")
        await at.apply("key", layer_of([(Entry(deep, DIRECTORY), b""), (Entry(b"dd", FILE), b"1")]))
        assert await at.change("key", reads("dd")) == "1"
        for each in ("key", "one"):
            await at.driver.remove(each)
        assert [info async for info in at.driver.walk()] == []

    async def test_a_layer_on_nothing_may_have_whiteouts(self, at: Snapshots) -> None:
        await at.driver.prepare("key")
        await at.apply("key", layer_of([(Entry(b".wh.a", FILE), b""), (Entry(b"b", FILE), b"1")]))
        await at.driver.commit("one", "key")
        assert await at.look("one", names_of) == ["b"]

    async def test_directories_without_an_entry_keep_their_metadata(self, at: Snapshots) -> None:
        def parent(_: Path) -> None:
            write("dir/old")
            os.chown("dir", 9, 9)
            os.chmod("dir", 0o1770)

        await at.layer("one", "", parent)
        await at.driver.prepare("key", "one")
        await at.apply("key", layer_of([(Entry(b"dir/new", FILE), b"1"), (Entry(b"made/new", FILE), b"1")]))
        await at.driver.commit("two", "key")
        found = await at.look("two", lambda _: [[os.stat(d).st_mode, os.stat(d).st_uid] for d in ("dir", "made")])
        assert found == [[stat.S_IFDIR | 0o1770, 9], [stat.S_IFDIR | 0o755, 0]]

    async def test_a_link_to_a_file_of_the_parent(self, at: Snapshots) -> None:
        await at.layer("one", "", writes({"a": "1"}))
        link = Entry(b"b", HARDLINK)
        link.link = b"a"
        await at.driver.prepare("key", "one")
        await at.apply("key", layer_of([(link, b"")]))
        assert await at.change(
            "key", lambda _: [Path("b").read_text(), os.stat("a").st_ino == os.stat("b").st_ino]
        ) == [
            "1",
            True,
        ]

    @pytest.mark.parametrize(
        "entries",
        [
            [(Entry(b"../out", FILE), b"")],
            [(Entry(b"a/../../out", FILE), b"")],
            [(Entry(b".wh...", FILE), b"")],
            [(Entry(b"dev", CHARACTER, major=1), b""), (Entry(b"dev/x", FILE), b"")],
            [(Entry(b"link", HARDLINK, link=b"../../etc/passwd"), b"")],
            [(Entry(b"link", HARDLINK, link=b"missing"), b"")],
            [(Entry(b"x", b"?"), b"")],
            [(Entry(b"x", FILE, uid=1 << 40), b"")],
            [(Entry(b"x", FILE, uid=-1), b"")],
            [(Entry(b".wh.x/y", FILE), b"")],
            [(Entry(b"x", CHARACTER, major=-1, minor=-1), b"")],
        ],
        ids=[
            "parent",
            "hidden parent",
            "whiteout",
            "not a directory",
            "link out",
            "dead link",
            "kind",
            "owner",
            "no owner",
            "in a whiteout",
            "device",
        ],
    )
    async def test_a_bad_layer_is_refused(self, at: Snapshots, entries: Any) -> None:
        await at.driver.prepare("key")
        with pytest.raises(DataLoss):
            await at.apply("key", layer_of(entries))
        await at.driver.remove("key")

    async def test_a_damaged_layer_is_refused(self, at: Snapshots) -> None:
        good = layer_of([(Entry(b"file", FILE), b"x" * 5000)])
        for number, bad in enumerate((b"no archive at all" * 100, good[:3000], b"\x1f\x8b\x08damaged gzip stream")):
            await at.driver.prepare(f"key{number}")
            with pytest.raises(DataLoss):
                await at.apply(f"key{number}", bad)
            await at.driver.remove(f"key{number}")

    async def test_symlinks_do_not_lead_out(self, at: Snapshots, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        link = Entry(b"way", SYMLINK, link=os.fsencode(outside))
        climb = Entry(b"climb", SYMLINK, link=b"../" * 40 + os.fsencode(outside)[1:])
        await at.driver.prepare("key")
        for entry in (link, climb):
            try:
                await at.apply("key", layer_of([(entry, b""), (Entry(entry.name + b"/file", FILE), b"bad")]))
            except HooperError:
                continue
        assert list(outside.iterdir()) == []

    async def test_a_layer_may_be_compressed(self, at: Snapshots) -> None:
        plain = layer_of([(Entry(b"file", FILE), b"content")])
        await at.driver.prepare("plain")
        await at.driver.prepare("packed")
        assert await at.apply("plain", plain) == await at.apply("packed", gzip.compress(plain))
        assert await at.change("packed", reads("file")) == "content"

    async def test_a_layers_digest_covers_what_is_behind_its_end(self, at: Snapshots) -> None:
        layer = layer_of([(Entry(b"file", FILE), b"")]) + bytes(10240)
        await at.driver.prepare("key")
        result = await at.apply("key", layer)
        assert result.diff_id == f"sha256:{hashlib.sha256(layer).hexdigest()}"
        assert result.size == len(layer)

    async def test_committed_and_viewed_snapshots_take_no_layer(self, at: Snapshots) -> None:
        await at.layer("one", "", nothing)
        await at.driver.view("view", "one")
        for key in ("one", "view"):
            with pytest.raises(InvalidArgument):
                await at.apply(key, layer_of([]))
