"""Layers as files: compressed for a registry, plain for an archive."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hooper.api.driver import Workers
from hooper.api.manifests import DOCKER_LAYER
from hooper.engine.layer_work import check_tar
from hooper.engine.layers import KeyedLocks, Layer, LayerBlob, LayerStore

if TYPE_CHECKING:
    from hooper.content.store import ContentStore

_CHUNK = 1 << 20


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
            with self.temporary() as tar:
                result = await self._layers.storage.diff(layer.chain_id, tar)
                check_tar(result.diff_id, layer.diff_id)
                return await self.keep(tar, layer.diff_id)

    async def keep(self, tar: int, diff_id: str) -> LayerBlob:
        """Compresses a layer's tar into the content store. DataLoss if it is not `diff_id`."""
        with self.temporary() as packed:
            os.lseek(tar, 0, os.SEEK_SET)
            done = await self._workers.run("hooper.engine.layer_work:pack", {}, [tar, packed])
            check_tar(done["diff_id"], diff_id)
            await self.store(packed, done["digest"], done["size"])
        self._layers.add_blob(done["digest"], DOCKER_LAYER, done["size"], diff_id)
        return LayerBlob(done["digest"], DOCKER_LAYER, done["size"])

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
