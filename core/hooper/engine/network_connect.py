"""Connecting containers to networks and disconnecting them, while they run or not.

A running container's default routes, and its published ports with them, follow: they move to the network that
ought to have them now (see `gateways`). Its monitor goes on holding the sockets that reserve the ports.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import anyio.to_thread

from hooper.api.errors import Forbidden, HooperError, NotFound
from hooper.api.model import Container, EndpointSettings
from hooper.api.network import Endpoint, JoinResult, Network, PortBinding, SandboxMode
from hooper.engine import etc_files, network_templates, ports
from hooper.linux import sandbox_link

if TYPE_CHECKING:
    from hooper.engine.networks import NetworkService


class ContainerLookup(Protocol):
    """What `connect` and `disconnect` need of the engine's containers."""

    def get(self, name: str) -> Container:
        """NotFound if there is none."""

    def save(self, container: Container) -> None: ...

    async def sandbox(self, container_id: str) -> int | None:
        """A descriptor of a running container's network namespace, which the caller closes; else None."""

    async def hold(self, container_id: str, descriptors: Sequence[int]) -> None:
        """The container's monitor keeps copies of these reservations of ports."""

    async def release_ports(self, container_id: str) -> None:
        """The container's monitor closes all reservations of ports that it has."""


class Connector:
    def __init__(self, service: NetworkService, log: Any) -> None:
        self._service, self._log = service, log

    # --- connect ----------------------------------------------------------------------------------

    async def connect(self, name: str, container: str, settings: EndpointSettings) -> None:
        service = self._service
        network, target = await service.get(name), service.containers.get(container)
        self._check(network, target)
        service.check_settings(network, settings)
        sandbox = await service.containers.sandbox(target.id)
        try:
            if sandbox is not None and network.name in target.networks:
                raise Forbidden(
                    f"endpoint with name {target.name} already exists in network {network.name}",
                    remedy="Disconnect it first to change its settings.",
                )
            if sandbox is not None:
                settings = await self._connect_live(network, target, settings, sandbox)
        finally:
            if sandbox is not None:
                os.close(sandbox)
        target.networks[network.name] = settings
        service.containers.save(target)

    def _check(self, network: Network, target: Container) -> None:
        mode = target.host_config.network_mode
        sandbox = self._service.driver_of(network).sandbox
        if sandbox is SandboxMode.HOST:
            raise Forbidden("container cannot be disconnected from host network or connected to host network")
        if self._service.sandbox_mode(mode) is not SandboxMode.NEW or sandbox is not SandboxMode.NEW:
            raise Forbidden(
                "container sharing network namespace with another container or host cannot be connected to any"
                " other network",
                remedy="Make the container anew with --network.",
            )
        network_templates.check_connectable(network)
        if "none" in target.networks or not self._service.driver_of(network).addresses:
            raise Forbidden(
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
                remedy="Disconnect it from the network none first.",
            )

    async def _connect_live(
        self, network: Network, target: Container, settings: EndpointSettings, sandbox: int
    ) -> EndpointSettings:
        service = self._service
        before = list(service.endpoints_of(target.id))
        holder = next((endpoint for endpoint in before if endpoint.ports), None)
        endpoint = service.allocate(network, container_id=target.id, container_name=target.name, settings=settings)
        if holder is None and (endpoint.default_route or endpoint.default_route6):
            endpoint.ports = ports.wanted(target)
        moving = [*endpoint.ports] if endpoint.held else []
        try:
            if moving and holder is not None:
                await self._hold(endpoint, await service.publish(holder))
            await self._hold(endpoint, await service.join(endpoint, sandbox))
        except BaseException:
            with anyio.CancelScope(shield=True):
                await service.leave_one(endpoint, sandbox)
                await self._settle(target, sandbox, moving)
            raise
        self._show_ports(target)
        etc_files.connected(target, endpoint, self._log, named=service.has_names(network))
        return service.settings_of(endpoint, settings)

    async def _hold(self, endpoint: Endpoint, result: JoinResult) -> None:
        """Hands what reserves the ports to the container's monitor."""
        try:
            if result.reservations:
                await self._service.containers.hold(endpoint.container_id, result.reservations)
        finally:
            for descriptor in result.reservations:
                os.close(descriptor)

    # --- disconnect -------------------------------------------------------------------------------

    async def disconnect(self, name: str, container: str, *, force: bool = False) -> None:
        service = self._service
        network = await service.get(name)
        try:
            target = service.containers.get(container)
        except NotFound:
            if not force or not await self._force(network, container):
                raise
            return
        if network.name not in target.networks:
            raise Forbidden(f"container {target.id} is not connected to network {network.name}")
        if service.driver_of(network).sandbox is SandboxMode.HOST:
            raise Forbidden("container cannot be disconnected from host network or connected to host network")
        if endpoint := service.endpoint_of(network, target.id):
            await self._disconnect_live(target, network, endpoint)
        del target.networks[network.name]
        service.containers.save(target)

    async def _force(self, network: Network, container: str) -> bool:
        """Takes an endpoint away whose container is gone, by its name or id. False if there is none."""
        found = await self._service.endpoints(network)
        stray = next((e for e in found if container in (e.container_name, e.container_id, e.id)), None)
        if stray is None:
            return False
        await self._service.leave_one(stray, None)
        self._service.tell_left([(network, stray)])
        return True

    async def _disconnect_live(self, target: Container, network: Network, endpoint: Endpoint) -> None:
        service = self._service
        sandbox = await service.containers.sandbox(target.id)
        try:
            await service.leave_one(endpoint, sandbox)
            if sandbox is not None:
                etc_files.disconnected(target, endpoint, self._log)
                await self._settle(target, sandbox, endpoint.ports)
        finally:
            if sandbox is not None:
                os.close(sandbox)
        service.tell_left([(network, endpoint)])

    async def _settle(self, target: Container, sandbox: int, released: Sequence[PortBinding]) -> None:
        """After an endpoint has gone that had these ports: routes and ports go where they belong now."""
        changed = self._service.settle(target.id, released)
        for endpoint in changed:
            try:
                await self._hold(endpoint, await self._service.publish(endpoint))
                await anyio.to_thread.run_sync(sandbox_link.set_default_route, sandbox, endpoint)
            except (HooperError, OSError) as error:
                self._log.warning("cannot move a default route", container=target.id, error=str(error))
        if released and not any(endpoint.ports for endpoint in self._service.endpoints_of(target.id)):
            await self._service.containers.release_ports(target.id)
        self._show_ports(target)

    def _show_ports(self, target: Container) -> None:
        bound = [port for endpoint in self._service.endpoints_of(target.id) for port in endpoint.ports]
        target.ports = ports.shown(target, bound) if self._service.endpoints_of(target.id) else {}
