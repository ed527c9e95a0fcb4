"""Clients that are attached to containers which do not run yet: kept until the start, or until they go away."""

from __future__ import annotations

import asyncio
import select
import socket
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from hooper.runtime.protocol import Attach

Client = tuple[Attach, socket.socket]

ARRIVAL_S = 5
"""How long a start waits for a client that is being attached: one that does not read its answer holds up nothing."""


class PendingClients:
    def __init__(self) -> None:
        self._clients: dict[str, list[Client]] = defaultdict(list)
        self._coming: dict[str, list[anyio.Event]] = defaultdict(list)

    @contextmanager
    def coming(self, container_id: str) -> Iterator[None]:
        """A client is being told that it is attached, and may start the container before that is true."""
        arrived = anyio.Event()
        self._coming[container_id].append(arrived)
        try:
            yield
        finally:
            arrived.set()
            self._coming[container_id].remove(arrived)
            if not self._coming[container_id]:
                del self._coming[container_id]

    async def arrived(self, container_id: str) -> None:
        """Waits until each client that is coming at this moment is there, or has gone."""
        if container_id not in self._coming:
            return
        with anyio.move_on_after(ARRIVAL_S):
            for arrived in list(self._coming[container_id]):
                await arrived.wait()

    def add(self, container_id: str, request: Attach, connection: socket.socket) -> None:
        """Owns the connection from now on."""
        for client in [client for client in self._clients[container_id] if _gone(client[1])]:
            self._forget(container_id, client)
        client = (request, connection)
        self._clients[container_id].append(client)
        asyncio.get_running_loop().add_reader(connection, self._readable, container_id, client)

    def take(self, container_id: str) -> list[Client]:
        """They are the caller's."""
        clients = self._clients.pop(container_id, [])
        for _, connection in clients:
            asyncio.get_running_loop().remove_reader(connection)
        return clients

    def drop(self, container_id: str) -> None:
        for _, connection in self.take(container_id):
            connection.close()

    def _readable(self, container_id: str, client: Client) -> None:
        """One that has sent something, or has ended its stdin, is looked at again only when another one comes."""
        asyncio.get_running_loop().remove_reader(client[1])
        if _gone(client[1]):
            self._forget(container_id, client)

    def _forget(self, container_id: str, client: Client) -> None:
        asyncio.get_running_loop().remove_reader(client[1])
        client[1].close()
        self._clients[container_id].remove(client)
        if not self._clients[container_id]:
            del self._clients[container_id]


def _gone(connection: socket.socket) -> bool:
    """Whether the peer has closed both directions (poll(2), POLLHUP). A TCP peer that says no more counts as there."""
    poller = select.poll()
    poller.register(connection, 0)
    return bool(poller.poll(0))
