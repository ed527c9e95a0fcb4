"""What the parts of the engine share: the host's chosen drivers and the engine's own services."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hooper.api.driver import HostInfo, Workers
from hooper.api.logs import LogDriver, LogTarget
from hooper.api.model import Container
from hooper.api.storage import StorageDriver
from hooper.engine import log_targets
from hooper.engine.events import EventService
from hooper.engine.store import ContainerStore
from hooper.engine.volumes import VolumeService

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from hooper.engine.images import ImageService
    from hooper.engine.networks import NetworkService
    from hooper.plugins.selection import Selector
    from hooper.runtime.client import Launcher

_PATHS = 256


@dataclass
class Core:
    """One per daemon. `tasks` runs what outlives a request."""

    host: HostInfo
    storage: StorageDriver
    storage_name: str
    launcher: Launcher
    workers: Workers
    store: ContainerStore
    images: ImageService
    networks: NetworkService
    volumes: VolumeService
    events: EventService
    selector: Selector
    log_drivers: Mapping[str, LogDriver]
    default_log_driver: str
    default_log_options: dict[str, str]
    log_cache: str
    """The driver that keeps readable copies for those that cannot be read; "" if there is none."""
    default_runtime: str
    tasks: TaskGroup
    log: Any
    runtimes: set[str] = field(default_factory=set)
    """Isolation backends that were found to work."""

    def __post_init__(self) -> None:
        # A path keeps its text and its parts: several steps of one container's life ask for the same.
        self._data_dirs = lru_cache(_PATHS)((self.host.data_root / "containers").__truediv__)
        self._run_dirs = lru_cache(_PATHS)((self.host.exec_root / "containers").__truediv__)

    def background(self, function: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """Runs something that outlives the present request; a fault of it is logged and ends nothing else."""
        self.tasks.start_soon(self.guarded, function, *arguments)

    async def guarded(self, function: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """Runs something; a fault of it is logged and goes no further."""
        try:
            await function(*arguments)
        except Exception:
            self.log.exception("background work failed", work=function.__name__)

    def data_dir(self, container_id: str) -> Path:
        """Durable files of a container: log, hosts…"""
        return self._data_dirs(container_id)

    def run_dir(self, container_id: str) -> Path:
        """Volatile files of a container: its monitor's socket, its root's mount point."""
        return self._run_dirs(container_id)

    def log_target(self, container: Container) -> LogTarget:
        """What the writer of a container's log works on."""
        return log_targets.target(container, self.data_dir(container.id), self.log_drivers, self.log_cache)

    def emit_mounts(self, container: Container, action: str) -> None:
        """ "mount" or "unmount" of each volume that the container has."""
        for point in container.mounts:
            if point.type == "volume":
                attributes = {"container": container.id, "driver": point.driver}
                if action == "mount":
                    attributes |= {
                        "destination": point.destination,
                        "propagation": point.propagation,
                        "read/write": str(point.rw).lower(),
                    }
                self.events.emit("volume", action, point.name, attributes)

    def emit(self, container: Container, action: str, **attributes: str) -> None:
        """A container event, with the attributes that Docker gives to each."""
        self.events.emit(
            "container",
            action,
            container.id,
            {"image": container.config.image, "name": container.name, **(container.config.labels or {}), **attributes},
        )
