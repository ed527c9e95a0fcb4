"""An image service on a storage driver that keeps each layer's tar as it came: no root needed."""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import tarfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio.to_thread
import msgspec

from hooper.api.driver import DriverContext, Workers
from hooper.api.errors import Conflict, NotFound
from hooper.api.registry import RegistryDriver
from hooper.api.storage import LayerResult, Mount, SnapshotInfo, SnapshotKind, StorageDriver
from hooper.content.compression import plain_reader
from hooper.content.store import ContentStore
from hooper.engine.gc import Collector
from hooper.engine.images import ImageService
from hooper.state.database import Database
from hooper.testing.workers import ForkWorkers
from hooper_registry_http.config import HttpConfig
from hooper_registry_http.driver import HttpRegistry


class TarStorage(StorageDriver):
    """`applied` counts the layers unpacked; `spoil` changes what `diff` writes."""

    def __init__(self) -> None:
        super().__init__(cast(DriverContext, SimpleNamespace(name="tars")))
        self.snapshots: dict[str, SnapshotInfo] = {}
        self.tars: dict[str, bytes] = {}
        self.applied = 0
        self.spoil = b""

    async def prepare(self, key: str, parent: str = "") -> Sequence[Mount]:
        return self._make(key, parent, SnapshotKind.ACTIVE)

    async def view(self, key: str, parent: str = "") -> Sequence[Mount]:
        return self._make(key, parent, SnapshotKind.VIEW)

    def _make(self, key: str, parent: str, kind: SnapshotKind) -> Sequence[Mount]:
        if key in self.snapshots:
            raise Conflict(f"snapshot {key} exists")
        if parent and self._info(parent).kind is not SnapshotKind.COMMITTED:
            raise Conflict(f"{parent} is not committed")
        self.snapshots[key] = SnapshotInfo(key, kind, parent, time.time())
        return ()

    def _info(self, key: str) -> SnapshotInfo:
        if key not in self.snapshots:
            raise NotFound(f"snapshot {key} does not exist")
        return self.snapshots[key]

    async def commit(self, name: str, key: str) -> None:
        info = self._info(key)
        if name in self.snapshots:
            raise Conflict(f"snapshot {name} exists")
        del self.snapshots[key]
        self.snapshots[name] = SnapshotInfo(name, SnapshotKind.COMMITTED, info.parent, info.created)
        self.tars[name] = self.tars.pop(key, b"")

    async def remove(self, key: str) -> None:
        self._info(key)
        if child := next((info.key for info in self.snapshots.values() if info.parent == key), ""):
            raise Conflict(f"snapshot {key} has the child {child}")
        del self.snapshots[key]
        self.tars.pop(key, None)

    async def mounts(self, key: str) -> Sequence[Mount]:
        return ()

    async def stat(self, key: str) -> SnapshotInfo:
        return self._info(key)

    async def usage(self, key: str) -> Any:
        raise NotFound(key)

    async def walk(self) -> AsyncIterator[SnapshotInfo]:
        for info in list(self.snapshots.values()):
            yield info

    async def apply(self, key: str, layer: int) -> LayerResult:
        self.applied += 1
        self.tars[key] = await anyio.to_thread.run_sync(_plain, layer)
        return self._result(self.tars[key])

    async def diff(self, key: str, output: int | None = None) -> LayerResult:
        tar = self.tars[key] + self.spoil
        if output is not None:
            await anyio.to_thread.run_sync(_write, output, tar)
        return self._result(tar)

    @staticmethod
    def _result(tar: bytes) -> LayerResult:
        return LayerResult(f"sha256:{hashlib.sha256(tar).hexdigest()}", len(tar))


def _plain(descriptor: int) -> bytes:
    _, read = plain_reader(descriptor)
    return b"".join(iter(read, b""))


def _write(descriptor: int, data: bytes) -> None:
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(data)


_CONFINED = ("spool",)
"""What changes the root of its process."""


class ThreadWorkers:
    """Workers that are threads, but for what needs a process of its own, and root."""

    async def run(self, function: str, arguments: Mapping[str, Any], fds: Sequence[int] = ()) -> Any:
        module, _, name = function.partition(":")
        if name in _CONFINED:
            return await ForkWorkers().run(function, arguments, fds)
        return await anyio.to_thread.run_sync(getattr(importlib.import_module(module), name), arguments, fds)


class Host:
    """A data root with an image service; `messages` is all progress so far, `events` all events."""

    def __init__(
        self, root: Path, *, storage: StorageDriver | None = None, workers: Workers | None = None, **config: Any
    ) -> None:
        root.mkdir(exist_ok=True)
        self.tars = TarStorage()
        driver = storage or self.tars
        self.database = Database(root / "hooper.db")
        self.content = ContentStore(root / "content")
        self.events: list[tuple[str, str, str]] = []
        self.messages: list[dict[str, Any]] = []
        self.configure(**config)
        self.images = ImageService(
            self.database,
            self.content,
            driver,
            driver.context.name,
            self._registry_for,
            lambda type, action, id, attributes: self.events.append((type, action, id)),
            workers or ThreadWorkers(),
            Collector(self.database, self.content, driver),
            None,
        )

    def configure(self, **config: Any) -> None:
        """Settings of the driver http, from now on."""
        self._registry = HttpRegistry(cast(DriverContext, SimpleNamespace(config=msgspec.convert(config, HttpConfig))))

    async def _registry_for(self, host: str) -> RegistryDriver:
        return self._registry

    async def sink(self, message: dict[str, Any]) -> None:
        self.messages.append(message)

    def statuses(self) -> list[str]:
        """Of all messages but those that only tell how far."""
        moving = ("Downloading", "Extracting", "Pushing")
        return [m["status"] for m in self.messages if m.get("status", moving[0]) not in moving]

    def rows(self, table: str) -> int:
        row = self.database.row(f"SELECT count(*) FROM {table}")
        return row[0] if row else 0


def tar_of(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
