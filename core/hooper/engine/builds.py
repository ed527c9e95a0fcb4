"""Builds: a context, a recipe, a builder, and what is left of it afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from hooper.api.builder import Builder, BuildRequest, Progress
from hooper.api.driver import Workers
from hooper.api.engine import Builds, Filters, Pruned
from hooper.api.errors import InvalidArgument, Unsupported
from hooper.api.reference import Reference
from hooper.api.storage import StorageDriver
from hooper.engine import filters as matching
from hooper.engine.build_cache import BuildCache
from hooper.engine.build_files import BuildFiles
from hooper.engine.build_layers import BuildLayers
from hooper.engine.build_services import Runner, Services
from hooper.engine.image_filters import moment
from hooper.engine.layers import KeyedLocks
from hooper.state.database import Database

if TYPE_CHECKING:
    from hooper.engine.images import ImageService

Emit = Callable[[str, str, str, Mapping[str, str]], None]
"""Publishes an event: type, action, id, attributes."""


class BuildService(Builds):
    """`data_dir` holds one directory a build under way; a daemon that starts may empty it."""

    def __init__(
        self,
        database: Database,
        images: ImageService,
        storage: StorageDriver,
        workers: Workers,
        builder: Builder,
        runner: Runner,
        data_dir: Path,
        emit: Emit,
        log: Any,
    ) -> None:
        self._images, self._storage, self._builder, self._runner = images, storage, builder, runner
        self._data_dir, self._emit, self._log = data_dir, emit, log
        self._files = BuildFiles(workers)
        self._locks = KeyedLocks()
        self.cache = BuildCache(database, images.layers.driver)

    @asynccontextmanager
    async def context_directory(self) -> AsyncIterator[Path]:
        async with self._directory("context-") as directory:
            yield directory

    @asynccontextmanager
    async def _directory(self, prefix: str) -> AsyncIterator[Path]:
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=prefix, dir=self._data_dir))
        try:
            yield directory
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(lambda: shutil.rmtree(directory, ignore_errors=True))

    async def unpack_context(self, archive: int, directory: Path) -> None:
        await self._files.unpack(archive, directory)

    async def build(self, request: BuildRequest, progress: Progress) -> str:
        tags = [_tag(text) for text in request.tags]
        if request.squash:
            raise Unsupported(
                "cannot squash an image", "every step is a layer of its own", "Build in stages, and COPY --from them."
            )
        async with self._directory("build-") as directory:
            with self._images.layers.lease() as lease:
                layers = BuildLayers(self._images.layers, self._storage, lease, self._locks, directory)
                services = Services(
                    request,
                    progress,
                    images=self._images,
                    layers=layers,
                    cache=self.cache,
                    files=self._files,
                    runner=self._runner,
                    directory=directory,
                )
                try:
                    image_id = await self._builder.build(request, services, progress)
                    for tag in tags:
                        await self._images.tag(image_id, tag)
                finally:
                    with anyio.CancelScope(shield=True):
                        self.cache.flush()
                        await layers.aclose()
        return image_id

    async def prune(self, filters: Filters, *, all: bool = False) -> Pruned:
        """Forgets finished steps: those whose layers no image has, or `all`; then collects their layers."""
        matching.check(filters, ("id", "label", "until", "unused-for"))
        limits = [moment(text) for name in ("until", "unused-for") for text in filters.get(name, ())]
        forgotten = self.cache.prune(before=min(limits) if limits else None, keys=filters.get("id", ()), used_too=all)
        collected = await self._images.collector.collect()
        self._emit("builder", "prune", "", {"reclaimed": str(collected.space)})
        return Pruned(forgotten, collected.space)


def _tag(text: str) -> str:
    """Before any work is done: InvalidArgument if it cannot be a tag."""
    reference = Reference.parse(text)
    if reference.digest:
        raise InvalidArgument(
            f'cannot tag the image as "{text}"', "that names a digest", "Give a name and a tag, NAME[:TAG]."
        )
    return str(reference.with_default_tag())
