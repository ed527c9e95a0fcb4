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

import errno
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hooper.api.driver import DriverContext
from hooper.api.errors import Conflict, DataLoss, HooperError, InvalidArgument, NotFound
from hooper.api.storage import SnapshotKind, StorageDriver
from hooper.content.tar import CHARACTER, DIRECTORY, FILE, HARDLINK, SYMLINK, Entry
from hooper.testing.snapshots import (
    Snapshots,
    describe,
    entries_of,
    layer_of,
    make_context,
    mounted,
    write,
)

__all__ = ["Snapshots", "StorageConformance", "make_context", "mounted"]


def _nothing(_: Path) -> None:
    """The empty change."""


def _exists(name: str | bytes) -> Any:
    return lambda _: os.path.lexists(name)


def _read(name: str) -> Any:
    return lambda _: Path(name).read_text()


def _names(_: Path) -> list[str]:
    return sorted(os.listdir("."))


def _varied(_: Path) -> None:
    """A tree that has one of everything."""
    write("etc/conf", "text")
    os.chmod("etc", 0o1777)
    write("bin/su", b"\x7fELF")
    os.chown("bin/su", 12, 34)
    os.chmod("bin/su", 0o6755)
    os.setxattr("bin/su", "user.note", b"a\0b")
    os.setxattr("bin/su", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    os.link("bin/su", "bin/sudo")
    os.symlink("/etc/../nowhere", "bin/broken")
    os.lchown("bin/broken", 65534, 4_000_000_000)
    os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod("disk", stat.S_IFBLK | 0o660, os.makedev(7, 300))
    os.mkfifo("pipe", 0o600)
    os.mkdir("empty", 0o700)
    os.chown("empty", 3_000_000, 3_000_001)
    write(os.fsdecode(b"\xff\xfe not utf-8"), "x")
    write("/".join(["long" * 30] * 5) + "/" + "n" * 255, "deep")
    with open("sparse", "wb") as file:
        file.seek(5_000_000)
        file.write(b"end")
    write(".hidden/..name", "dots")
    write("old", "time")
    os.utime("old", (0, 86400))
    os.utime("etc", (0, 1_000_000_000))


class StorageConformance:
    """Subclass it, with a name that begins with Test, and define `make_driver`."""

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

    # --- life ----------------------------------------------------------------------------------------

    async def test_a_commit_frees_the_key_and_freezes_the_snapshot(self, at: Snapshots) -> None:
        await at.driver.prepare("key")
        await at.change("key", lambda _: write("file", "1"))
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

        parent = await at.layer("parent", "", lambda _: [write("kept", "1"), write("gone"), write("dir/f")])
        before = await at.tree(parent)
        await at.layer("child", parent, damage)
        assert await at.tree(parent) == before
        assert await at.look("child", _names) == ["dir", "kept", "new"]

    async def test_a_child_sees_its_parent(self, at: Snapshots) -> None:
        await at.layer("one", "", lambda _: write("a/one", "1"))
        await at.layer("two", "one", lambda _: write("a/two", "2"))
        await at.driver.prepare("three", "two")
        assert await at.change("three", lambda _: sorted(os.listdir("a"))) == ["one", "two"]
        assert await at.change("three", _read("a/one")) == "1"

    async def test_an_active_snapshot_keeps_its_changes(self, at: Snapshots) -> None:
        await at.driver.prepare("key")
        await at.change("key", lambda _: write("a", "1"))
        await at.change("key", lambda _: write("b", "2"))
        assert await at.change("key", _names) == ["a", "b"]

    async def test_a_view_refuses_a_write(self, at: Snapshots) -> None:
        def attempts(_: Path) -> list[int]:
            failures = []
            for attempt in (lambda: write("new"), lambda: write("file", "2"), lambda: os.chmod("file", 0)):
                try:
                    attempt()
                except OSError as error:
                    failures.append(error.errno or 0)
            return failures

        await at.layer("one", "", lambda _: write("file", "1"))
        await at.layer("two", "one", lambda _: write("more", "1"))
        for parent in ("one", "two"):
            await at.driver.view("view", parent)
            assert await at.change("view", attempts) == [errno.EROFS] * 3
            assert (await at.driver.stat("view")).kind is SnapshotKind.VIEW
            await at.driver.remove("view")
        await at.driver.view("empty")
        assert await at.change("empty", _names) == []
        with pytest.raises(InvalidArgument):
            await at.driver.commit("name", "empty")

    async def test_mounts_are_those_of_prepare(self, at: Snapshots) -> None:
        await at.layer("parent", "", _nothing)
        assert list(await at.driver.prepare("key", "parent")) == list(await at.driver.mounts("key"))
        assert list(await at.driver.view("view", "parent")) == list(await at.driver.mounts("view"))

    async def test_walk_equals_stat(self, at: Snapshots) -> None:
        await at.layer("parent", "", _nothing)
        await at.driver.prepare("active", "parent")
        await at.driver.view("view", "parent")
        found = {info.key: info async for info in at.driver.walk()}
        assert set(found) == {"parent", "active", "view"}
        assert found == {key: await at.driver.stat(key) for key in found}
        assert all(info.created > 0 for info in found.values())

    async def test_a_snapshot_with_children_is_not_removed(self, at: Snapshots) -> None:
        await at.layer("parent", "", lambda _: write("file", "1"))
        await at.driver.prepare("child", "parent")
        with pytest.raises(Conflict, match="child"):
            await at.driver.remove("parent")
        assert await at.change("child", _read("file")) == "1"
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
            await at.change("key", lambda _, text=content: write("file", text))
            await at.driver.commit("name", "key")
            assert await at.look("name", _read("file")) == content
            await at.driver.prepare("key", "name")
            await at.driver.remove("key")
            await at.driver.remove("name")

    @pytest.mark.parametrize("again", ["prepare", "view"])
    @pytest.mark.parametrize("first", ["prepare", "view", "commit"])
    async def test_a_key_is_taken_once(self, at: Snapshots, first: str, again: str) -> None:
        if first == "commit":
            await at.layer("key", "", _nothing)
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
        await at.change(key, lambda _: write("file"))
        await at.driver.commit(key + "n" if len(key) < 255 else "n", key)
        assert await at.look(key + "n" if len(key) < 255 else "n", _names) == ["file"]

    async def test_closing_twice_is_harmless(self, at: Snapshots) -> None:
        await at.driver.aclose()
        await at.driver.aclose()

    async def test_snapshots_outlive_the_driver(self, at: Snapshots, context: DriverContext) -> None:
        await at.layer("parent", "", lambda _: write("file", "1"))
        await at.driver.prepare("active", "parent")
        await at.change("active", lambda _: write("more", "2"))
        before = {info.key: info async for info in at.driver.walk()}
        await at.driver.aclose()
        later = Snapshots(self.make_driver(context))
        await later.driver.open()
        try:
            assert {info.key: info async for info in later.driver.walk()} == before
            assert await later.change("active", _names) == ["file", "more"]
            await later.driver.commit("child", "active")
            assert await later.look("child", _read("more")) == "2"
        finally:
            await later.driver.aclose()

    # --- trees ---------------------------------------------------------------------------------------

    async def test_a_root_is_0755(self, at: Snapshots) -> None:
        def root(_: Path) -> list[int]:
            status = os.stat(".")
            return [stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid]

        old = os.umask(0o077)
        try:
            await at.layer("one", "", _nothing)
            await at.layer("two", "one", _nothing)
        finally:
            os.umask(old)
        for name in ("one", "two"):
            assert await at.look(name, root) == [0o755, 0, 0]

    async def test_a_changed_root_is_inherited(self, at: Snapshots) -> None:
        def change(_: Path) -> None:
            os.chmod(".", 0o700)
            os.chown(".", 5, 6)

        await at.layer("one", "", change)
        await at.layer("two", "one", lambda _: write("file"))
        status = await at.look("two", lambda _: list(os.stat("."))[:6])
        assert (stat.S_IMODE(status[0]), status[4], status[5]) == (0o700, 5, 6)

    async def test_everything_a_file_has_survives(self, at: Snapshots) -> None:
        def tree(root: Path) -> Any:
            _varied(root)
            return describe(root)

        await at.driver.prepare("key")
        made = await at.change("key", tree)
        await at.driver.commit("one", "key")
        assert await at.tree("one") == made
        await at.layer("two", "one", _nothing)
        assert await at.tree("two") == made

    async def test_sparse_files_stay_sparse(self, at: Snapshots) -> None:
        await at.layer("one", "", _varied)
        await at.layer("two", "one", _nothing)
        assert await at.look("two", lambda _: os.stat("sparse").st_blocks * 512) < 1_000_000

    async def test_a_directory_made_again_hides_what_was_below(self, at: Snapshots) -> None:
        def again(_: Path) -> None:
            os.unlink("dir/old")
            os.rmdir("dir")
            write("dir/new")

        await at.layer("one", "", lambda _: write("dir/old"))
        await at.layer("two", "one", again)
        await at.layer("three", "two", lambda _: write("dir/newer"))
        assert await at.look("two", lambda _: os.listdir("dir")) == ["new"]
        assert await at.look("three", lambda _: sorted(os.listdir("dir"))) == ["new", "newer"]

    async def test_a_link_then_a_deletion_is_a_move(self, at: Snapshots) -> None:
        def move(_: Path) -> None:
            os.link("from", "to")
            os.unlink("from")

        await at.layer("one", "", lambda _: write("from", "content"))
        await at.layer("two", "one", move)
        assert await at.look("two", _names) == ["to"]
        assert await at.look("two", _read("to")) == "content"

    async def test_a_deletion_lasts_through_an_empty_layer(self, at: Snapshots) -> None:
        await at.layer("one", "", lambda _: [write("gone"), write("dir/gone"), write("kept")])
        await at.layer("two", "one", lambda _: [os.unlink("gone"), os.unlink("dir/gone"), os.rmdir("dir")])
        await at.layer("three", "two", _nothing)
        await at.layer("four", "three", lambda _: write("new"))
        assert await at.look("four", _names) == ["kept", "new"]

    async def test_kinds_replace_each_other(self, at: Snapshots) -> None:
        def swap(_: Path) -> None:
            os.unlink("file")
            write("file/in", "1")
            os.unlink("dir/in")
            os.rmdir("dir")
            os.symlink("file", "dir")

        await at.layer("one", "", lambda _: [write("file"), write("dir/in")])
        await at.layer("two", "one", swap)
        assert await at.look("two", _read("dir/in")) == "1"
        await self._check_transfer(at, "one", "two")

    async def test_128_layers_equal_a_flat_directory(self, at: Snapshots) -> None:
        def step(number: int) -> Any:
            def change(_: Path) -> None:
                write(f"f{number}", str(number))
                write("last", str(number))
                if number % 3 == 0:
                    os.unlink(f"f{number // 3 * 2 + 1}") if os.path.exists(f"f{number // 3 * 2 + 1}") else None
                write(f"d{number % 5}/f{number}", "x")

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
        assert usage.inodes >= 2
        await at.driver.view("view", "one")
        assert (await at.driver.usage("view")).size < 100_000

    # --- layers --------------------------------------------------------------------------------------

    async def _check_transfer(self, at: Snapshots, parent: str, name: str) -> None:
        """The layer that `name` is on `parent`, applied to a sibling, makes the same tree."""
        result, layer = await at.diff(name)
        assert result.size == len(layer)
        assert result == await at.driver.diff(name)
        await at.driver.prepare("sibling", parent)
        assert await at.apply("sibling", layer) == result
        await at.driver.commit("applied", "sibling")
        assert await at.tree("applied") == await at.tree(name)
        assert (await at.diff("applied"))[0] == result

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

        await at.layer("one", "", _varied)
        await at.layer("two", "one", change)
        await self._check_transfer(at, "one", "two")

    async def test_a_diff_of_everything_reproduces_the_tree(self, at: Snapshots) -> None:
        await at.layer("one", "", _varied)
        await self._check_transfer(at, "", "one")

    async def test_an_unchanged_snapshot_is_an_empty_layer(self, at: Snapshots) -> None:
        await at.layer("one", "", _varied)
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

        await at.layer("one", "", _varied)
        changes: dict[str, tuple[Any, list[str]]] = {
            "content": (same_size, ["etc/conf"]),
            "mode": (lambda _: os.chmod("etc/conf", 0o600), ["etc/conf"]),
            "owner": (lambda _: os.chown("etc/conf", 7, 8), ["etc/conf"]),
            "time": (lambda _: os.utime("etc/conf", (1, 1)), ["etc/conf"]),
            "attribute": (lambda _: os.setxattr("etc/conf", "user.x", b"1"), ["etc/conf"]),
            "directory": (lambda _: os.chmod("etc", 0o750), ["etc/"]),
            "deletion": (lambda _: [os.unlink("pipe")], [".wh.pipe"]),
        }
        for name, (change, expected) in changes.items():
            await at.driver.prepare(name, "one")
            await at.change(name, change)
            assert entries_of((await at.diff(name))[1]) == expected, name

    async def test_a_diff_is_the_same_before_and_after_the_commit(self, at: Snapshots) -> None:
        await at.layer("one", "", lambda _: write("a", "1"))
        await at.driver.prepare("key", "one")
        await at.change("key", lambda _: [write("b", "2"), os.unlink("a")])
        before = await at.diff("key")
        assert entries_of(before[1]) == [".wh.a", "b"]
        await at.driver.commit("two", "key")
        assert await at.diff("two") == before

    async def test_whiteouts_are_applied(self, at: Snapshots) -> None:
        await at.layer(
            "one", "", lambda _: [write("gone"), write("dir/a"), write("dir/b"), write("kept"), write("d2/x")]
        )
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
        await at.layer("three", "two", _nothing)
        for name in ("two", "three"):
            assert await at.look(name, _names) == ["dir", "kept"]
            assert await at.look(name, lambda _: os.listdir("dir")) == ["c"]

    async def test_a_layer_on_nothing_may_have_whiteouts(self, at: Snapshots) -> None:
        await at.driver.prepare("key")
        await at.apply("key", layer_of([(Entry(b".wh.a", FILE), b""), (Entry(b"b", FILE), b"1")]))
        await at.driver.commit("one", "key")
        assert await at.look("one", _names) == ["b"]

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
        await at.layer("one", "", lambda _: write("a", "1"))
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
            [(Entry(b"dev", CHARACTER, link=b""), b""), (Entry(b"dev/x", FILE), b"")],
            [(Entry(b"link", HARDLINK, link=b"../../etc/passwd"), b"")],
            [(Entry(b"link", HARDLINK, link=b"missing"), b"")],
            [(Entry(b"x", b"?"), b"")],
            [(Entry(b"x", FILE, uid=1 << 40), b"")],
        ],
        ids=["parent", "hidden parent", "whiteout", "not a directory", "link out", "dead link", "kind", "owner"],
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
        import gzip

        plain = layer_of([(Entry(b"file", FILE), b"content")])
        await at.driver.prepare("plain")
        await at.driver.prepare("packed")
        assert await at.apply("plain", plain) == await at.apply("packed", gzip.compress(plain))
        assert await at.change("packed", _read("file")) == "content"

    async def test_a_layers_digest_covers_what_is_behind_its_end(self, at: Snapshots) -> None:
        import hashlib

        layer = layer_of([(Entry(b"file", FILE), b"")]) + bytes(10240)
        await at.driver.prepare("key")
        result = await at.apply("key", layer)
        assert result.diff_id == f"sha256:{hashlib.sha256(layer).hexdigest()}"
        assert result.size == len(layer)

    async def test_committed_and_viewed_snapshots_take_no_layer(self, at: Snapshots) -> None:
        await at.layer("one", "", _nothing)
        await at.driver.view("view", "one")
        for key in ("one", "view"):
            with pytest.raises(InvalidArgument):
                await at.apply(key, layer_of([]))
