"""Snapshots in tests: a driver's context, changes made on real mounts, trees as values, layers as bytes."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread
import structlog

from hooper.api.driver import DriverContext, HostInfo
from hooper.api.storage import LayerResult, Mount, StorageDriver
from hooper.content.tar import Entry, TarReader
from hooper.content.tarwrite import TarWriter
from hooper.linux import mounts as linux_mounts
from hooper.linux import syscalls
from hooper.testing.workers import ForkWorkers, in_child

Change = Callable[[Path], Any]
"""Is given a mounted snapshot's root, as working directory too; runs in a process of its own."""


class MemoryState:
    """A `hooper.api.driver.KeyValueStore` that lives as long as the test."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self._values.get(key)

    def put(self, key: str, value: bytes) -> None:
        self._values[key] = value

    def delete(self, key: str) -> None:
        self._values.pop(key, None)

    def items(self, prefix: str = "") -> Sequence[tuple[str, bytes]]:
        return sorted((key, value) for key, value in self._values.items() if key.startswith(prefix))


def make_context(directory: Path, name: str = "test", config: Any = None) -> DriverContext:
    """A context whose directories are below `directory`."""
    for each in ("data", "exec"):
        (directory / each).mkdir(exist_ok=True)
    host = HostInfo(os.geteuid() == 0, 2, (6, 0), "amd64", directory, directory)
    return DriverContext(
        name, config, host, directory / "data", directory / "exec", MemoryState(), ForkWorkers(), structlog.get_logger()
    )


def mounted(mounts: Sequence[Mount], change: Change) -> Any:
    """Runs `change` on a snapshot, in a child with a mount namespace of its own, and returns its result."""
    place = tempfile.mkdtemp(prefix="hooper-test-")

    def inside() -> Any:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        linux_mounts.make_private("/")
        linux_mounts.mount_snapshot(mounts, place)
        os.chdir(place)
        return change(Path(place))

    try:
        return in_child(inside)
    finally:
        os.rmdir(place)


def describe(root: Path) -> dict[str, list[Any]]:
    """All that a layer carries of a tree: by path, kind and mode, owner, size, mtime in seconds, links, content."""
    found: dict[str, list[Any]] = {}
    first: dict[int, str] = {}
    for directory, directories, files in os.walk(os.fsencode(root)):
        directories.sort()
        for name in sorted(directories + files):
            path = os.path.join(directory, name)
            relative = os.path.relpath(path, os.fsencode(root)).hex()
            status = os.lstat(path)
            entry: list[Any] = [stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid]
            entry += [status.st_mtime_ns // 10**9, status.st_rdev, _xattrs(path)]
            if stat.S_ISLNK(status.st_mode):
                entry.append(os.readlink(path))
            elif stat.S_ISREG(status.st_mode):
                entry += [status.st_size, Path(os.fsdecode(path)).read_bytes()]
                if status.st_nlink > 1:
                    entry.append(first.setdefault(status.st_ino, relative))
            found[relative] = entry
    return found


def _xattrs(path: bytes) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    kept = [name for name in names if name.startswith(("user.", "security.cap"))]
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in kept}


def layer_of(entries: Sequence[tuple[Entry, bytes]]) -> bytes:
    """A layer tar, of entries and their content."""
    written = bytearray()
    writer = TarWriter(written.extend)
    for entry, content in entries:
        entry.size = entry.stored = len(content)
        writer.add(entry, [content])
    writer.finish()
    return bytes(written)


def entries_of(layer: bytes) -> list[str]:
    """The names in a layer tar."""
    chunks = iter([layer])
    return [os.fsdecode(entry.name) for entry in TarReader(lambda: next(chunks, b""))]


def write(name: str, content: str | bytes = "") -> None:
    """Writes a file below the working directory; its parents are made."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def writes(files: dict[str, str | bytes]) -> Change:
    """A change that writes files, by path."""

    def change(_: Path) -> None:
        for name, content in files.items():
            write(name, content)

    return change


def deletes(*names: str) -> Change:
    """A change that deletes files and empty directories, in order."""

    def change(_: Path) -> None:
        for name in names:
            if Path(name).is_dir():
                os.rmdir(name)
            else:
                os.unlink(name)

    return change


def nothing(_: Path) -> None:
    """The empty change."""


def reads(name: str) -> Change:
    """Looks at the content of a file."""
    return lambda _: Path(name).read_text()


def names_of(_: Path) -> list[str]:
    """Looks at the names in the root."""
    return sorted(os.listdir("."))


def varied(_: Path) -> None:
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


class Snapshots:
    """A driver, and short words for what tests do with it."""

    def __init__(self, driver: StorageDriver) -> None:
        self.driver = driver
        self._count = 0

    async def change(self, key: str, change: Change) -> Any:
        """Runs `change` on the active snapshot or view `key`."""
        mounts = await self.driver.mounts(key)
        return await anyio.to_thread.run_sync(mounted, mounts, change)

    async def layer(self, name: str, parent: str, change: Change) -> str:
        """A committed snapshot `name` on `parent`, with a change."""
        self._count += 1
        key = f"making-{self._count}"
        await self.driver.prepare(key, parent)
        await self.change(key, change)
        await self.driver.commit(name, key)
        return name

    async def look(self, parent: str, look: Change) -> Any:
        """What `look` returns of a view of `parent`."""
        self._count += 1
        key = f"looking-{self._count}"
        await self.driver.view(key, parent)
        try:
            return await self.change(key, look)
        finally:
            await self.driver.remove(key)

    async def tree(self, parent: str) -> Any:
        """`describe` of a committed snapshot."""
        return await self.look(parent, describe)

    async def diff(self, key: str) -> tuple[LayerResult, bytes]:
        """The layer that a snapshot is on its parent."""
        with tempfile.TemporaryFile() as file:
            result = await self.driver.diff(key, file.fileno())
            file.seek(0)
            return result, file.read()

    async def apply(self, key: str, layer: bytes) -> LayerResult:
        with tempfile.TemporaryFile() as file:
            file.write(layer)
            file.seek(0)
            return await self.driver.apply(key, file.fileno())
