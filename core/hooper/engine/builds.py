"""Builds: a context, a plan, its solution, and what is left of it afterwards."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec

from hooper.api.build_events import BuildEvent
from hooper.api.build_session import BuildSession
from hooper.api.builder import Builder, BuildRequest, BuildWarning, Progress
from hooper.api.driver import Workers
from hooper.api.engine import BuildContext, BuildOutcome, Builds, Filters, Pruned
from hooper.api.errors import InvalidArgument
from hooper.api.manifests import parse_platform
from hooper.api.reference import Reference
from hooper.api.storage import StorageDriver
from hooper.content.removal import discard
from hooper.engine.build_cache import BuildCache
from hooper.engine.build_cache_limits import CacheLimits
from hooper.engine.build_cache_remote import check_caches
from hooper.engine.build_contexts import Contexts, Received
from hooper.engine.build_export import check_outputs
from hooper.engine.build_layers import BuildLayers
from hooper.engine.build_operations import Runner
from hooper.engine.build_run import BuildRun, Workshop
from hooper.engine.build_runner import check_settings
from hooper.engine.build_services import PlanServices, Trees
from hooper.engine.layers import KeyedLocks
from hooper.engine.solver import Flights

if TYPE_CHECKING:
    from hooper.engine.images import ImageService

Emit = Callable[[str, str, str, Mapping[str, str]], None]
"""Publishes an event: type, action, id, attributes."""


class BuildService(Builds):
    """`data_dir` holds one directory a build under way; a daemon that starts may empty it."""

    def __init__(
        self,
        images: ImageService,
        storage: StorageDriver,
        workers: Workers,
        builder_for: Callable[[BuildRequest], Awaitable[Builder]],
        runner: Runner,
        contexts: Contexts,
        limits: CacheLimits,
        cache: BuildCache,
        data_dir: Path,
        emit: Emit,
        background: Callable[..., object],
    ) -> None:
        self._images, self._storage, self._workers = images, storage, workers
        self._builder_for, self._runner, self._contexts, self._limits = builder_for, runner, contexts, limits
        self._data_dir, self._emit, self._background = data_dir, emit, background
        self._files = contexts.files
        self._locks = KeyedLocks()
        self._flights = Flights(background)
        self._limit = anyio.CapacityLimiter(max(4, 2 * (os.cpu_count() or 1)))
        self.cache = cache

    # --- contexts -------------------------------------------------------------------------------------

    def context_of_archive(self, archive: int) -> AbstractAsyncContextManager[BuildContext]:
        """See Builds."""
        return self._contexts.of_archive(archive)

    def context_of_session(self, session: BuildSession) -> AbstractAsyncContextManager[BuildContext]:
        """See Builds."""
        return self._contexts.of_session(session, "")

    def context_of_url(self, url: str) -> AbstractAsyncContextManager[BuildContext]:
        """See Builds."""
        return self._contexts.of_url(url)

    # --- building -------------------------------------------------------------------------------------

    async def build(
        self, request: BuildRequest, progress: Progress, context: BuildContext | None, session: BuildSession
    ) -> BuildOutcome:
        """See Builds."""
        request = msgspec.structs.replace(request, tags=[_tag(text) for text in request.tags])
        check_outputs(request.outputs, request.tags)
        check_caches(request.cache_from, request.cache_to)
        _check_system(request)
        check_settings(request)
        request = _with_recipe(request, context)
        builder = await self._builder_for(request)
        async with self._workspace(context, session) as (layers, trees):
            services = PlanServices(request, progress, images=self._images, layers=layers, trees=trees)
            plan = await builder.plan(request, services)
            if request.source_date_epoch is None:
                request = msgspec.structs.replace(request, source_date_epoch=plan.source_date_epoch)
            shop = Workshop(self._images, self._storage, self._workers, self._runner, self._files, self.cache)
            run = BuildRun(request, progress, session, plan, shop=shop, layers=layers, trees=trees)
            outcome = await run.carry_out(self._flights, self._limit)
        self._background(self._limits.collect)
        return outcome

    async def check(
        self, request: BuildRequest, context: BuildContext | None, session: BuildSession
    ) -> Sequence[BuildWarning]:
        """See Builds."""
        request = _with_recipe(request, context)
        async with self._workspace(context, session) as (layers, trees):
            quiet = _Quiet()
            services = PlanServices(request, quiet, images=self._images, layers=layers, trees=trees, pull=False)
            return await (await self._builder_for(request)).check(request, services)

    @asynccontextmanager
    async def _workspace(
        self, context: BuildContext | None, session: BuildSession
    ) -> AsyncIterator[tuple[BuildLayers, Trees]]:
        """All that a build makes for itself alone, gone at the end."""
        received = context if isinstance(context, Received) else None
        async with self._directory() as directory:
            with self._images.layers.lease() as lease:
                layers = BuildLayers(self._images.layers, self._storage, lease, self._locks, directory)
                trees = Trees(self._contexts, session, received, directory)
                try:
                    yield layers, trees
                finally:
                    with anyio.CancelScope(shield=True):
                        try:
                            await trees.aclose()
                        finally:
                            await layers.aclose()
                    self.cache.flush()

    @asynccontextmanager
    async def _directory(self) -> AsyncIterator[Path]:
        self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix="build-", dir=self._data_dir))
        try:
            yield directory
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(discard, directory)

    async def prune(
        self, filters: Filters, *, all: bool = False, keep: int = 0, max_used: int = 0, min_free: int = 0
    ) -> Pruned:
        """See Builds."""
        pruned = await self._limits.prune(filters, all=all, keep=keep, max_used=max_used, min_free=min_free)
        self._emit("builder", "prune", "", {"reclaimed": str(pruned.space)})
        return pruned


class _Quiet(Progress):
    """Of a check, which does nothing worth telling."""

    async def event(self, event: BuildEvent) -> None:
        """See Progress."""


def _with_recipe(request: BuildRequest, context: BuildContext | None) -> BuildRequest:
    """A context that is a single file is the recipe, whatever name was asked for."""
    if not isinstance(context, Received) or not context.recipe_default:
        return request
    return msgspec.structs.replace(request, recipe=context.recipe_default)


def _check_system(request: BuildRequest) -> None:
    """InvalidArgument for an image of another system; files for one can be made, by a compiler that runs here."""
    images = not request.outputs or any(output.type not in ("local", "tar") for output in request.outputs)
    if images and parse_platform(request.platform).os != "linux":
        raise InvalidArgument(
            f"cannot make an image for {request.platform}",
            "this engine has Linux images alone",
            "Write linux/ARCHITECTURE, or take the files of the build: --output DIRECTORY.",
        )


def _tag(text: str) -> str:
    """Before any work is done: InvalidArgument if it cannot be a tag."""
    reference = Reference.parse(text)
    if reference.digest:
        raise InvalidArgument(
            f'cannot tag the image as "{text}"', "that names a digest", "Give a name and a tag, NAME[:TAG]."
        )
    return str(reference.with_default_tag())
