"""The registry as a front-end of the daemon."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import anyio
import anyio.abc

from hooper.api.frontend import Frontend, Listener
from hooper_registry_server.blobs import EngineBlobs
from hooper_registry_server.images import EngineImages
from hooper_registry_server.server import Server
from hooper_registry_server.settings import Settings
from hooper_registry_server.store import Store, locked


class RegistryFrontend(Frontend):
    """Serves the addresses of its own settings: those that it is given are the daemon's."""

    async def serve(
        self,
        listeners: Sequence[Listener],
        *,
        task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        settings: Settings = self.context.config or Settings()
        with locked(Path(settings.directory or self.context.data_dir)):
            store, collect_engine = self._store(settings)
            try:
                server = Server(settings, store, self.context.log, collect_engine)
                await server.serve(task_status=task_status)
            finally:
                store.close()

    def _store(self, settings: Settings) -> tuple[Store, Callable[[], Awaitable[None]] | None]:
        if settings.directory:
            return Store(Path(settings.directory)), None
        content = self.engine.content
        images = None if settings.upstream else EngineImages(content)
        store = Store(self.context.data_dir, lambda own, catalogue: EngineBlobs(content, own, catalogue), images)
        return store, content.collect
