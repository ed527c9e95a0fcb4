"""What builds keep beside their steps, as the bounds of the build cache see it."""

from __future__ import annotations

from collections.abc import Sequence

from hooper.api.engine import CachedStep
from hooper.engine.cache_mounts import CacheMounts
from hooper.engine.clock import rfc3339


class MountDirectories:
    """`Directories` of RUN --mount=type=cache."""

    def __init__(self, mounts: CacheMounts) -> None:
        self._mounts = mounts

    async def kept(self) -> Sequence[CachedStep]:
        """See Directories."""
        return [
            CachedStep(
                key=entry.id,
                description=f"cache mount {entry.name}",
                size=entry.size,
                shared=False,
                created=rfc3339(int(entry.created * 1e9)),
                last_used=entry.last_used,
                type="exec.cachemount",
                in_use=entry.in_use,
            )
            for entry in await self._mounts.entries()
        ]

    async def remove(self, key: str) -> None:
        """See Directories."""
        await self._mounts.remove(key)
