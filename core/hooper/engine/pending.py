"""Clients that are attached to containers which do not run yet: kept until the start, or until they go away."""

from __future__ import annotations

import asyncio
import select
import socket
from collections import defaultdict

from hooper.runtime.protocol import Attach

Client = tuple[Attach, socket.socket]


class PendingClients:
    def __init__(self) -> None:
        self._clients: dict[str, list[Client]] = defaultdict(list)

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
