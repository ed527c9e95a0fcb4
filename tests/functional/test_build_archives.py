"""Contexts of builds that come as archives, unpacked by real worker processes."""

from __future__ import annotations

import functools
import os
import stat
import subprocess
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from build_files_support import content, leftovers, member, tar, written

from hooper.api.errors import DataLoss, HooperError, InvalidArgument
from hooper.engine.build_archives import KEPT, SMALL
from hooper.engine.build_contexts import Contexts, context_limit
from hooper.testing.workers import ForkWorkers

pytestmark = [pytest.mark.root, pytest.mark.anyio]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
async def test_an_archive_is_received_and_known(contexts, tmp_path, mode):
    data = tar(
        member("d", type=tarfile.DIRTYPE, mode=0o750), member("d/x", b"one", mode=0o4711, uid=77),
        member("d/l", type=tarfile.SYMTYPE, linkname="x"), member("d/h", type=tarfile.LNKTYPE, linkname="d/x"),
        member("gone", b"first"), member("gone", b"second"), mode=mode,
    )  # fmt: skip
    with written(tmp_path, data) as fd:
        async with contexts.of_archive(fd) as context:
            assert (context.files, context.size) == (4, 3 + 3 + 6)
            entries = await context.tree.entries()
            assert [(entry.path, entry.kind, entry.size, entry.link) for entry in entries] == [
                ("d", "directory", 0, ""), ("d/h", "file", 3, ""), ("d/l", "symlink", 0, "x"), ("d/x", "file", 3, ""),
                ("gone", "file", 6, ""),
            ]  # fmt: skip
            # What was hashed on the way is what reading again finds.
            assert entries == await contexts.files.list(context.directory, ("",))
            made = (context.directory / "d/x").stat()
            assert (made.st_uid, stat.S_IMODE(made.st_mode), made.st_nlink) == (0, 0o4711, 2)


async def inode(contexts, tmp_path, data, name="a"):
    """Of a file in the tree of an archive: the same if the tree is."""
    with written(tmp_path, data) as fd:
        async with contexts.of_archive(fd) as context:
            return (context.directory / name).stat().st_ino


async def test_a_small_archive_that_comes_again_is_not_unpacked_again(contexts, tmp_path):
    inodes = []
    for _ in range(2):
        with written(tmp_path, tar(member("a", b"1"), member("b"))) as fd:
            async with contexts.of_archive(fd) as context:
                context.tree.ignore(["b"], ".dockerignore")
                assert os.listdir(await context.tree.place()) == ["a"]
                inodes.append((context.directory / "a").stat().st_ino)
    assert inodes[0] == inodes[1]
    assert await inode(contexts, tmp_path, tar(member("a", b"2"), member("b"))) != inodes[0]


async def test_what_one_build_ignores_the_next_one_has(contexts, tmp_path):
    data = tar(member("a", b"1"), member("d/b", b"2"), member("d/c", b"3"))
    with written(tmp_path, data) as fd:
        async with contexts.of_archive(fd) as context:
            whole = content(context.directory)
            context.tree.ignore(["a", "d/b"], ".dockerignore")
            assert sorted(content(await context.tree.place())) == ["d", "d/c"]
    with written(tmp_path, data) as fd:
        async with contexts.of_archive(fd) as context:
            assert content(context.directory) == whole
            assert [entry.path for entry in await context.tree.entries()] == ["a", "d", "d/b", "d/c"]


async def test_two_builds_of_one_archive_at_once_have_a_tree_each(contexts, tmp_path):
    data = tar(member("a", b"1"), member("b"))
    with written(tmp_path, data) as first, written(tmp_path, data) as second:
        async with contexts.of_archive(first) as one, contexts.of_archive(second) as two:
            one.tree.ignore(["b"], ".dockerignore")
            assert os.listdir(await one.tree.place()) == ["a"]
            assert sorted(os.listdir(await two.tree.place())) == ["a", "b"]
    assert len(leftovers(contexts)) == 1


async def test_the_tree_of_a_build_that_breaks_off_goes(contexts, tmp_path):
    data = tar(member("a", b"1"))
    with written(tmp_path, data) as fd, pytest.raises(ValueError, match="broken"):
        async with contexts.of_archive(fd):
            raise ValueError("broken")
    assert leftovers(contexts) == []
    with anyio.CancelScope() as scope, written(tmp_path, data) as fd:
        async with contexts.of_archive(fd):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert leftovers(contexts) == []


async def test_the_last_few_trees_are_kept(contexts, tmp_path):
    archives = [tar(member("a", str(number).encode())) for number in range(KEPT + 2)]
    inodes = [await inode(contexts, tmp_path, data) for data in archives]
    assert len(leftovers(contexts)) == KEPT
    assert [await inode(contexts, tmp_path, data) for data in archives[2:]] == inodes[2:]
    await inode(contexts, tmp_path, archives[0])
    assert len(leftovers(contexts)) == KEPT


async def test_a_small_archive_that_unpacks_to_much_is_not_kept(contexts, tmp_path, monkeypatch):
    monkeypatch.setattr("hooper.engine.build_archives.KEPT_SIZE", 1 << 20)
    data = tar(member("a", bytes(2 << 20)), mode="w:gz")
    assert len(data) < SMALL
    await inode(contexts, tmp_path, data)
    assert leftovers(contexts) == []


@contextmanager
def piped(data):
    """A pipe through which that comes, as an upload does: more than it holds."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        # A process of its own: workers are forks of this one, and would have both ends.
        with subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE) as process:
            yield process.stdout.fileno()


@functools.cache
def large() -> bytes:
    return tar(*(member(f"f{number}", bytes([number]) * (1 << 20)) for number in range(12)))


@pytest.mark.parametrize("source", ["pipe", "file"])
async def test_a_large_archive_goes_with_its_build(contexts, tmp_path, source):
    with piped(large()) if source == "pipe" else written(tmp_path, large()) as fd:
        async with contexts.of_archive(fd) as context:
            assert (context.size, context.sent) == (12 << 20, len(large()))
            assert await context.tree.entries() == await contexts.files.list(context.directory, ("",))
            assert all((context.directory / f"f{n}").read_bytes() == bytes([n]) * (1 << 20) for n in range(12))
    assert leftovers(contexts) == []


@pytest.mark.parametrize("cut", [1000, (1 << 20) + 5000, SMALL, SMALL + (1 << 20)])
async def test_a_stream_that_is_cut_short_leaves_nothing(contexts, cut):
    with piped(large()[:cut]) as fd, pytest.raises(DataLoss, match="ends"):
        async with contexts.of_archive(fd):
            raise AssertionError
    assert leftovers(contexts) == []


async def test_a_large_archive_that_is_damaged_is_told_of_as_a_small_one(contexts):
    with piped(large()[: 9 << 20] + b"x" * (20 << 20)) as fd, pytest.raises(DataLoss, match="archive is damaged"):
        async with contexts.of_archive(fd):
            raise AssertionError
    assert leftovers(contexts) == []


async def test_who_uploads_nothing_more_can_be_left(contexts):
    ours, theirs = os.pipe()
    os.write(theirs, large()[:5000])
    with anyio.move_on_after(0.2) as scope:
        async with contexts.of_archive(ours):
            raise AssertionError
    os.close(ours)
    os.close(theirs)
    assert scope.cancelled_caught
    assert leftovers(contexts) == []


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (tar(member("a", b"x" * 5000))[:3000], "ends"),
        (b"no archive at all" * 100, "archive is damaged"),
        (tar(member("../x", b"1")), "leads out of the archive"),
        (tar(member("d/../../x", b"1")), "leads out of the archive"),
        (tar(member("a", b"1"), member("a/b", b"2")), "a"),
        (tar(member("h", type=tarfile.LNKTYPE, linkname="/etc/passwd")), "h"),
        (tar(member("a", b"1" * 10000), mode="w:gz")[:-20], "gzip stream is damaged"),
    ],
    ids=["cut", "no-archive", "above", "through-above", "file-as-directory", "hard-link-out", "gzip-cut"],
)
async def test_an_archive_that_lies(contexts, tmp_path, data, told):
    with written(tmp_path, data) as fd, pytest.raises(HooperError, match=told):
        async with contexts.of_archive(fd):
            raise AssertionError
    assert leftovers(contexts) == []
    assert not (tmp_path / "x").exists()


async def test_hostile_names_stay_in_the_context(contexts, tmp_path):
    data = tar(
        member("/abs", b"1"),
        member("etc", type=tarfile.DIRTYPE),
        member("link", type=tarfile.SYMTYPE, linkname="/etc"),
        member("link/made", b"2"),
        member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    )  # fmt: skip
    with written(tmp_path, data) as fd:
        async with contexts.of_archive(fd) as context:
            assert [entry.path for entry in await context.tree.entries()] == ["abs", "etc", "etc/made", "link", "null"]
    assert not Path("/etc/made").exists()


async def test_an_archive_that_is_too_large(tmp_path):
    contexts = Contexts(ForkWorkers(), tmp_path / "builds", limit=context_limit("100kB"))
    bomb = tar(member("zeros", bytes(5 << 20)), mode="w:gz")
    many = tar(*(member(f"f{number}") for number in range(300)))
    for data in (bomb, many):
        with (
            written(tmp_path, data) as fd,
            pytest.raises(InvalidArgument, match="the build context is too large: it has more than"),
        ):
            async with contexts.of_archive(fd):
                raise AssertionError
    assert leftovers(contexts) == []
    with pytest.raises(InvalidArgument, match=r"builder.context_limit"):
        context_limit("much")


async def test_ignored_files_cannot_be_seen_by_mounts(contexts, tmp_path):
    with written(tmp_path, tar(member("a"), member("b.log"), member("d/c.log"), member("d/e"))) as fd:
        async with contexts.of_archive(fd) as context:
            changed = (context.directory / "d").stat().st_mtime_ns
            context.tree.ignore(["**/*.log"], ".dockerignore")
            place = await context.tree.place()
            assert sorted(str(path.relative_to(place)) for path in place.rglob("*")) == ["a", "d", "d/e"]
            assert (place / "d").stat().st_mtime_ns == changed
