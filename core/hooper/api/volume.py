"""Volume drivers: named directories that outlive containers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Set
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
        """Called before each start of a container that uses it, and when it is filled at the container's creation:
        the directory to bind, which has the volume's content until `unmount`."""

    @abstractmethod
    async def unmount(self, name: str, container_id: str) -> None:
        """Called after the container ended. Harmless if it was not mounted."""

    async def reconcile(self, live: Set[str]) -> None:
        """Called when a daemon has found the containers that run, `live`: what others had mounted, under an earlier
        daemon, may be given back. The default does nothing."""
