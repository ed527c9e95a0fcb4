"""How much space images, containers, volumes and finished build steps take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import anyio

from hooper.api.engine import DiskUsage
from hooper.api.errors import HooperError, NotFound
from hooper.api.storage import Usage
from hooper.engine.build_cache_limits import CacheLimits
from hooper.engine.core import Core

AT_ONCE = 4
"""Trees measured at the same time, each by a worker."""


async def measure(core: Core, limits: CacheLimits, kinds: Collection[str]) -> DiskUsage:
    found = DiskUsage(layers=core.images.layers.total_size())
    if "image" in kinds:
        found.shared = await _shared(core)
    if "build-cache" in kinds:
        found.steps = list(await limits.usage())
        # A layer that several steps have counts once.
        found.builder = limits.size() + sum(step.size for step in found.steps if step.type != "regular")
    limit = anyio.Semaphore(AT_ONCE)
    async with anyio.create_task_group() as tasks:
        if "container" in kinds:
            for container in core.store.all():
                tasks.start_soon(_container, core, container.id, found, limit)
        if "volume" in kinds:
            for volume in await core.volumes.list():
                tasks.start_soon(_volume, core, volume.name, volume.mountpoint, found, limit)
    return found


async def _container(core: Core, container_id: str, found: DiskUsage, limit: anyio.Semaphore) -> None:
    async with limit:
        try:
            found.containers[container_id] = (await core.storage.usage(container_id)).content
        except NotFound:
            return  # removed meanwhile


async def _volume(core: Core, name: str, place: str, found: DiskUsage, limit: anyio.Semaphore) -> None:
    async with limit:
        try:
            usage = Usage(**await core.workers.run("hooper.content.trees:usage", {"path": place}))
        except HooperError as error:
            core.log.debug("a volume cannot be measured", volume=name, error=str(error))
            return
    found.volumes[name] = usage.content


async def _shared(core: Core) -> dict[str, int]:
    layers = {
        image.id: core.images.layers.ancestry(image.chain) if image.chain else []
        for image in await core.images.list(all=True)
    }
    users = Counter(layer.chain_id for chain in layers.values() for layer in chain)
    return {
        image_id: sum(layer.size for layer in chain if users[layer.chain_id] > 1) for image_id, chain in layers.items()
    }
