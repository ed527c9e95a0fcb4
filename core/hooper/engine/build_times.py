"""SOURCE_DATE_EPOCH: what a step has written is no later than that time, before it becomes a layer."""

from __future__ import annotations

from uuid import uuid4

import anyio
import msgspec

from hooper.api.driver import Workers
from hooper.api.storage import StorageDriver
from hooper.engine.build_layers import PREFIX


async def clamp_times(storage: StorageDriver, workers: Workers, key: str, epoch: int) -> None:
    """Sets the later modification times of all that the active snapshot `key` changes to `epoch` (seconds).

    What it has of its parent stays as it is, so that the same step makes the same layer on every driver.
    """
    parent = (await storage.stat(key)).parent
    mounts = await storage.mounts(key)
    view = f"{PREFIX}{uuid4().hex}"
    below = await storage.view(view, parent) if parent else None
    arguments = {"mounts": msgspec.to_builtins(mounts), "parent": msgspec.to_builtins(below), "epoch": epoch}
    try:
        await workers.run("hooper.content.times:clamp", arguments)
    finally:
        if below is not None:
            with anyio.CancelScope(shield=True):
                await storage.remove(view)
