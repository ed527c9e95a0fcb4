"""Which containers the resolver serves, and what it is told of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Collection, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hooper.api.errors import HooperError, NotFound
from hooper.api.model import Container, HostConfig
from hooper.api.network import Endpoint, JoinResult, Network
from hooper.dns.protocol import SOCKET, Place, Served
from hooper.engine import etc_files, network_settings

if TYPE_CHECKING:
    from hooper.dns.client import ResolverClient


STEADY_S = 60.0
FIRST_PAUSE_S, LAST_PAUSE_S = 0.01, 10.0
"""Before a resolver that has died is started again, the longer the more often it died in the last `STEADY_S`."""


class Containers(Protocol):
    def get(self, name: str) -> Container: ...

    async def sandbox(self, container_id: str) -> int | None: ...


class Places(Protocol):
    """Where containers are connected."""

    @property
    def containers(self) -> Containers: ...

    def endpoints_of(self, container_id: str) -> Sequence[Endpoint]: ...

    def connected(self) -> Collection[str]:
        """The ids of the containers that have endpoints."""

    def network_of(self, endpoint: Endpoint) -> Network | None: ...

    def has_names(self, network: Network) -> bool:
        """Its members find each other by name."""


class NameService:
    """Costs nothing until a container is in a network with names: only then is the resolver's client imported."""

    def __init__(self, places: Places, exec_root: Path, log: Any) -> None:
        self._places, self._exec_root, self._log = places, exec_root, log
        self._client: ResolverClient | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: dict[str, Served] = {}
        """What the resolver has been told of each container."""
        self._handed: set[str] = set()
        """Ids of the containers that the resolver serves, or may serve."""
        self._deaths: list[float] = []

    def warm(self) -> None:
        """A container will be in a network with names soon."""
        if not self._tasks and not self._connection().connected:
            self._begin(self._connection().start())

    async def join(self, endpoint: Endpoint, joining: Awaitable[JoinResult], sandbox: int) -> JoinResult:
        """Waits for `joining`, and sees to it at the same time that names are answered in the sandbox."""
        serving = asyncio.ensure_future(self._serve(endpoint.container_id, sandbox))
        try:
            result = await joining
        except BaseException:
            serving.cancel()
            await asyncio.wait([serving])
            raise
        try:
            await serving
        except BaseException:
            for descriptor in result.reservations:
                os.close(descriptor)
            raise
        return result

    async def _serve(self, container_id: str, sandbox: int | None) -> None:
        """With a sandbox, a container that is not served is from now on; without, one that is has changed."""
        served = self._served(container_id)
        if self._told.get(container_id) == served:
            return
        # Also if this is broken off: the request may be on its way.
        self._handed.add(container_id)
        if await self._connection().serve(served, sandbox):
            self._told[container_id] = served

    async def changed(self, container_id: str) -> None:
        """Its networks or names are others now. Harmless for a container that is not served.

        A resolver that cannot be told has died, and the next one is told all.
        """
        if container_id in self._handed:
            try:
                await self._serve(container_id, None)
            except HooperError as error:
                self._log.warning("the resolver did not hear of a change", container=container_id, error=str(error))

    async def left(self, container_id: str) -> None:
        """It has ended. Harmless for a container that is not served."""
        self._told.pop(container_id, None)
        if container_id in self._handed:
            self._handed.discard(container_id)
            await self._connection().drop(container_id)

    def restore(self, live: Collection[str]) -> None:
        """Finds the resolver again after a start of the daemon, and serves those containers that live."""
        connected = [container_id for container_id in self._places.connected() if container_id in live]
        if os.path.exists(self._exec_root / SOCKET) or any(map(self._is_named, connected)):
            self._handed.update(connected)
            self._begin(self._restore(connected))

    def _is_named(self, container_id: str) -> bool:
        return bool(self.named(self._places.endpoints_of(container_id)))

    def named(self, endpoints: Sequence[Endpoint]) -> Sequence[tuple[Endpoint, Network]]:
        """Those in networks whose members find each other by name."""
        pairs = [(endpoint, self._places.network_of(endpoint)) for endpoint in endpoints]
        return [(e, network) for e, network in pairs if network is not None and self._places.has_names(network)]

    async def _restore(self, container_ids: Sequence[str]) -> None:
        await self._connection().find()
        for container_id in container_ids:
            try:
                await self._restore_one(container_id)
            except (HooperError, OSError) as error:
                self._log.error("cannot answer names in a container", container=container_id, error=str(error))

    async def _restore_one(self, container_id: str) -> None:
        if not self._is_named(container_id) and not self._asks(container_id):
            self._handed.discard(container_id)
            return
        sandbox = await self._places.containers.sandbox(container_id)
        if sandbox is None:
            return
        try:
            await self._serve(container_id, sandbox)
        finally:
            os.close(sandbox)
        if container_id not in self._handed:
            # It has ended meanwhile.
            await self._connection().drop(container_id)

    def _asks(self, container_id: str) -> bool:
        """It was in a network with names once, and asks the resolver for all names still."""
        try:
            path = self._places.containers.get(container_id).resolv_conf_path
            return etc_files.asks_resolver(path)
        except (NotFound, OSError):
            return False

    def _died(self) -> None:
        """The resolver is gone, and with it all names."""
        self._told.clear()
        if self._handed:
            self._log.warning("the resolver has died, starting another")
            self._begin(self._revive([*self._handed]))

    async def _revive(self, container_ids: Sequence[str]) -> None:
        now = asyncio.get_running_loop().time()
        self._deaths = [*(death for death in self._deaths if now - death < STEADY_S), now]
        await asyncio.sleep(min(FIRST_PAUSE_S * 2 ** len(self._deaths), LAST_PAUSE_S))
        await self._restore(container_ids)

    def _connection(self) -> ResolverClient:
        if self._client is None:
            from hooper.dns.client import ResolverClient

            self._client = ResolverClient(self._exec_root, self._log, lambda: [*self._places.connected()], self._died)
        return self._client

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """In the background; a fault is logged, and met again by who needs the resolver."""

        async def guarded() -> None:
            try:
                await work
            except HooperError as error:
                self._log.warning("no resolver", error=str(error))

        task = asyncio.ensure_future(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def aclose(self) -> None:
        """Ends nothing: names go on being answered."""
        for task in self._tasks:
            task.cancel()
        if self._client is not None:
            self._client.aclose()

    # --- what it is told --------------------------------------------------------------------------

    def _served(self, container_id: str) -> Served:
        endpoints = self._places.endpoints_of(container_id)
        host, hostname = self._wishes(container_id)
        places = [
            Place(
                network.id,
                network.name,
                list(dict.fromkeys([*network_settings.names_of(endpoint), *hostname])),
                [a.partition("/")[0] for a in (endpoint.address, endpoint.address6) if a],
                links(endpoint.links or (host.links if number == 0 else None)),
            )
            for number, (endpoint, network) in enumerate(self.named(endpoints))
        ]
        networks = [self._places.network_of(endpoint) for endpoint in endpoints]
        return Served(
            id=container_id,
            places=places,
            servers=[*(host.dns or ())],
            outside=any(network is not None and not network.internal for network in networks),
            ndots=any(option.startswith("ndots:") for option in host.dns_options or ()),
        )

    def _wishes(self, container_id: str) -> tuple[HostConfig, Sequence[str]]:
        """(host configuration, hostname if there is one); nothing for the containers of builds."""
        try:
            container = self._places.containers.get(container_id)
        except NotFound:
            return HostConfig(), ()
        return container.host_config, [container.config.hostname] if container.config.hostname else []


def links(asked: Sequence[str] | None) -> dict[str, str]:
    """Alias to name, of NAME:ALIAS or NAME."""
    found = {}
    for link in asked or ():
        name, _, alias = link.partition(":")
        name, alias = name.rpartition("/")[2], alias.rpartition("/")[2]
        found[alias or name] = name
    return found
