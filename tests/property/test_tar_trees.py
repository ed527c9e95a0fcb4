"""Random trees: packed and unpacked they are the same; every driver's diff has the same bytes."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hooper.content.pack import pack_tree
from hooper.content.unpack import apply_layer
from hooper.testing.snapshots import Snapshots, describe, make_context
from hooper.testing.workers import in_child
from hooper_storage_overlay.driver import OverlayDriver
from hooper_storage_vfs.driver import VfsDriver

pytestmark = pytest.mark.root

FEW = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
NAMES = ["a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "d/e/b", "e", "e/a"]

LINKED = {"d/e/a", "d/e/b", "e/a"}
"""Names that may share an inode. Changing such a file in place is different on overlayfs, which parts them."""

steps = st.lists(
    st.tuples(
        st.sampled_from(["file", "directory", "symlink", "fifo", "remove", "mode", "owner", "link", "append", "xattr"]),
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
        st.integers(0, 5),
    ),
    max_size=14,
)
Steps = list[tuple[str, str, str, int]]


def wipe(path: str) -> None:
    if os.path.islink(path) or not os.path.isdir(path):
        os.unlink(path)
    else:
        shutil.rmtree(path)


def is_new(path: str) -> bool:
    """Made by this very change: those before have times of whole seconds."""
    return bool(os.lstat(path).st_mtime_ns % 10**9)


def perform(verb: str, path: str, other: str, number: int) -> None:
    """One step; those that are impossible in the tree as it is fail, on all drivers alike."""
    if verb == "remove":
        wipe(path)
        return
    if verb in ("mode", "owner", "append", "xattr"):
        kind = os.lstat(path).st_mode
        if path in LINKED:
            return
        if verb == "owner":
            os.lchown(path, number, 1000 * number)
        elif verb == "mode" and not stat.S_ISLNK(kind):
            os.chmod(path, 0o600 + number)
        elif verb == "append" and stat.S_ISREG(kind):
            with open(path, "a") as file:
                file.write("more" * number)
        elif verb == "xattr" and stat.S_ISREG(kind):
            os.setxattr(path, "user.n", b"%d" % number)
        return
    if verb == "link" and not ({path, other} <= LINKED and path != other and is_new(other)):
        return
    if os.path.lexists(path):
        wipe(path)
    if verb == "file":
        Path(path).write_bytes(b"x" * number * 700)
    elif verb == "directory":
        os.mkdir(path, 0o700 + number)
    elif verb == "symlink":
        os.symlink(other, path)
    elif verb == "fifo":
        os.mkfifo(path)
    elif verb == "link":
        os.link(other, path, follow_symlinks=False)


def work(given_steps: Steps, time: int) -> Any:
    def change(root: Path) -> None:
        for step in given_steps:
            try:
                perform(*step)
            except OSError:
                continue
        # Times differ from run to run: all that this change could have touched gets the same.
        for directory, directories, files in os.walk(root):
            for name in directories + files:
                path = os.path.join(directory, name)
                if is_new(path):
                    os.utime(path, (time, time), follow_symlinks=False)

    return change


@contextmanager
def scratch() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="hooper-property-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@FEW
@given(steps)
def test_a_packed_tree_unpacks_to_itself(made: Steps) -> None:
    with scratch() as directory:
        source, target, layer = directory / "source", directory / "target", directory / "layer"
        source.mkdir()
        target.mkdir()

        def prepare() -> None:
            os.chdir(source)
            work(made, 1_000_000)(source)

        in_child(prepare)
        fd = os.open(layer, os.O_RDWR | os.O_CREAT)
        packed = in_child(lambda: pack_tree({"path": str(source)}, [fd]))
        os.lseek(fd, 0, os.SEEK_SET)
        applied = in_child(lambda: apply_layer({"target": str(target), "whiteouts": "delete"}, [fd]))
        os.close(fd)
        assert (applied["diff_id"], applied["size"]) == (packed["diff_id"], packed["size"])
        assert describe(target) == describe(source)


@settings(FEW, max_examples=8)
@given(steps, steps, steps)
def test_drivers_agree_on_every_layer(first: Steps, second: Steps, third: Steps) -> None:
    async def layers(driver: OverlayDriver | VfsDriver) -> tuple[list[Any], Any]:
        at = Snapshots(driver)
        await driver.open()
        parent, results = "", []
        for number, made in enumerate((first, second, third)):
            parent = await at.layer(f"layer{number}", parent, work(made, 1_000_000 + number))
            results.append(await at.diff(parent))
        tree = await at.tree(parent)
        await driver.prepare("again", "layer1")
        await at.apply("again", results[2][1])
        await driver.commit("applied", "again")
        assert await at.tree("applied") == tree
        await driver.aclose()
        return results, tree

    with scratch() as directory:
        for name in ("overlay", "vfs"):
            (directory / name).mkdir()
        overlay = anyio.run(layers, OverlayDriver(make_context(directory / "overlay")))
        vfs = anyio.run(layers, VfsDriver(make_context(directory / "vfs")))
        assert overlay == vfs
