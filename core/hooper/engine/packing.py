"""Layers as files: compressed for a registry, plain for an archive."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from hooper.api.driver import Workers
from hooper.api.errors import HooperError
from hooper.api.manifests import DOCKER_LAYER
from hooper.api.storage import LayerResult
from hooper.engine.layer_work import check_tar
from hooper.engine.layers import KeyedLocks, Layer, LayerBlob, LayerStore

if TYPE_CHECKING:
    from hooper.content.store import ContentStore

_CHUNK = 1 << 20
_PACK = "hooper.engine.layer_work:pack"


class Packer:
    """`scratch` is a directory for temporary files, on the file system of the content."""

    def __init__(self, layers: LayerStore, content: ContentStore, workers: Workers, scratch: Path) -> None:
        self._layers, self._content, self._workers, self._scratch = layers, content, workers, scratch
        self._locks = KeyedLocks()

    @contextmanager
    def temporary(self) -> Iterator[int]:
        """A descriptor of an empty file that has no name and vanishes at the end."""
        with tempfile.TemporaryFile(dir=self.scratch(), buffering=0) as file:
            yield file.fileno()

    def scratch(self) -> Path:
        """The directory for temporary files; it is there."""
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._scratch

    async def blob(self, layer: Layer) -> LayerBlob:
        """A compressed form of the layer: one that is kept, or a new one. DataLoss if the layer has changed."""
        async with self._locks.hold(layer.diff_id):
            if kept := self._layers.blobs(layer.diff_id):
                return kept[0]
            with self._packed() as (path, packed):
                done = await self._pack(layer, packed)
                return await self._adopt(path, done, layer.diff_id)

    async def _pack(self, layer: Layer, packed: int) -> dict[str, Any]:
        """Compresses a layer while its tar is written."""
        source, sink = os.pipe2(os.O_CLOEXEC)
        results: list[LayerResult] = []
        failures: list[HooperError] = []

        async def write() -> None:
            try:
                results.append(await self._layers.storage.diff(layer.chain_id, sink))
            except HooperError as error:
                failures.append(error)
            finally:
                os.close(sink)

        done: dict[str, Any] = {}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            try:
                done = await self._workers.run(_PACK, {"hashed": False}, [source, packed])
            except HooperError as error:
                failures.append(error)
            finally:
                # Whoever still writes is told.
                os.close(source)
        if failures:
            raise failures[0]
        check_tar(results[0].diff_id, layer.diff_id)
        return done

    async def keep(self, tar: int, diff_id: str) -> LayerBlob:
        """Compresses a layer's tar into the content store. DataLoss if it is not `diff_id`."""
        with self._packed() as (path, packed):
            os.lseek(tar, 0, os.SEEK_SET)
            done = await self._workers.run(_PACK, {"hashed": True}, [tar, packed])
            check_tar(done["diff_id"], diff_id)
            return await self._adopt(path, done, diff_id)

    async def _adopt(self, path: Path, packed: dict[str, Any], diff_id: str) -> LayerBlob:
        digest, size = packed["digest"], packed["size"]
        await anyio.to_thread.run_sync(self._content.adopt, path, digest)
        self._layers.add_blob(digest, DOCKER_LAYER, size, diff_id)
        return LayerBlob(digest, DOCKER_LAYER, size)

    @contextmanager
    def _packed(self) -> Iterator[tuple[Path, int]]:
        """An empty file, which is gone in the end unless it was moved away."""
        descriptor, name = tempfile.mkstemp(dir=self.scratch())
        try:
            yield Path(name), descriptor
        finally:
            os.close(descriptor)
            Path(name).unlink(missing_ok=True)

    async def store(self, source: int, digest: str, size: int) -> None:
        """Copies a file into the content store, which verifies it."""
        if self._content.has(digest):
            return
        async with self._content.writer(digest, size) as writer:
            position = writer.offset
            while chunk := os.pread(source, _CHUNK, position):
                await writer.write(chunk)
                position += len(chunk)

    def path(self, digest: str) -> Path:
        """Where a blob is that `blob` gave."""
        return self._content.path(digest)

    async def write_tar(self, layer: Layer, output: int) -> None:
        """Writes the layer's tar, exactly as it was, to a descriptor."""
        for kept in self._layers.blobs(layer.diff_id):
            source = self._content.open(kept.digest)
            try:
                done = await self._workers.run("hooper.engine.layer_work:unpack", {}, [source, output])
            finally:
                os.close(source)
            check_tar(done["diff_id"], layer.diff_id)
            return
        result = await self._layers.storage.diff(layer.chain_id, output)
        check_tar(result.diff_id, layer.diff_id)
