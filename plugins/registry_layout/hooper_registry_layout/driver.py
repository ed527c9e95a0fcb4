"""The registry driver "layout"."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from hooper.api.driver import DriverContext
from hooper.api.errors import Forbidden, InvalidArgument
from hooper.api.layout import DIRECTORY
from hooper.api.registry import Credentials, RegistryClient, RegistryDriver


class LayoutConfig(msgspec.Struct):
    directories: list[str] = []
    """Below which requests may name layouts of this host. None by default: clients send theirs instead."""


class LayoutRegistry(RegistryDriver):
    """A host is SCHEME:PATH. Everybody who may talk to the daemon could have any file read or written by it, so paths
    must lie below the configured directories, or in the driver's own, where the engine puts what clients send."""

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self._config: LayoutConfig = context.config or LayoutConfig()

    async def open(self) -> None:
        """Removes what an earlier daemon was working on."""
        await anyio.to_thread.run_sync(_empty, self.context.data_dir)

    @asynccontextmanager
    async def connect(self, host: str, credentials: Credentials | None) -> AsyncIterator[RegistryClient]:
        from hooper_registry_layout.client import ArchiveClient, LayoutClient

        scheme, _, path = host.partition(":")
        place = self._allowed(path)
        if scheme == DIRECTORY:
            client = LayoutClient(place, host)
            try:
                yield client
            finally:
                client.close()
            return
        archive = ArchiveClient(place, scheme, self.context.data_dir, self.context.workers)
        try:
            yield archive
            await anyio.to_thread.run_sync(archive.write_back)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(archive.close)

    def _allowed(self, path: str) -> Path:
        if not os.path.isabs(path):
            raise InvalidArgument(f"cannot use the layout {path}", "its path is not absolute", "Write the whole path.")
        real = Path(os.path.realpath(path))
        roots = [Path(os.path.realpath(root)) for root in (str(self.context.data_dir), *self._config.directories)]
        if not any(real == root or root in real.parents for root in roots):
            raise Forbidden(
                f"cannot use the layout {path}",
                "it is not below a directory of registry.layout.directories",
                "Configure its directory, or have the client send it: hooper pull oci:PATH:TAG.",
            )
        return real


def _empty(directory: Path) -> None:
    for left in directory.iterdir():
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
