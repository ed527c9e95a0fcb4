"""Volume drivers: named directories that outlive containers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

from hooper.api.driver import Driver


class VolumeDriver(Driver):
    @abstractmethod
    async def create(self, name: str, options: Mapping[str, str]) -> Path:
        """Makes the volume and returns its directory; InvalidArgument names a bad option."""

    @abstractmethod
    async def remove(self, name: str) -> None:
        """Deletes the volume with its content. Harmless if it is gone."""

    @abstractmethod
    async def mount(self, name: str, container_id: str) -> Path:
        """Called before each start of a container that uses it: the directory to bind."""

    @abstractmethod
    async def unmount(self, name: str, container_id: str) -> None:
        """Called after the container ended. Harmless if it was not mounted."""
