"""Networks and endpoints: in memory as objects, in the database as documents."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

import msgspec

from hooper.api.errors import Conflict, InvalidArgument, NotFound
from hooper.api.network import Endpoint, Network
from hooper.engine.ipam import NetworkAddresses
from hooper.state.database import Database


class NetworkStore:
    """Each network with its addresses; names, ids and prefixes resolve from memory."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._encode = msgspec.msgpack.Encoder().encode
        decode = msgspec.msgpack.Decoder(Network).decode
        rows = database.query("SELECT document FROM networks ORDER BY rowid")
        self._by_id = {network.id: network for network in (decode(row[0]) for row in rows)}
        self._by_name = {network.name: network for network in self._by_id.values()}

    def all(self) -> list[Network]:
        return list(self._by_id.values())

    def by_id(self, network_id: str) -> Network | None:
        return self._by_id.get(network_id)

    def named(self, name: str) -> Network | None:
        return self._by_name.get(name)

    def get(self, name: str) -> Network:
        """By id, name or unique id prefix; NotFound, or InvalidArgument if a prefix is not unique."""
        found = self._by_id.get(name) or self._by_name.get(name)
        if found:
            return found
        matches = [network for network in self._by_id.values() if name and network.id.startswith(name)]
        if len(matches) > 1:
            raise InvalidArgument(
                f"network {name} is ambiguous ({len(matches)} matches found based on ID prefix)",
                remedy="Give more digits, or the name.",
            )
        if not matches:
            raise NotFound(f"network {name} not found", remedy="`hooper network ls` lists the networks there are.")
        return matches[0]

    def add(self, network: Network) -> None:
        """Conflict if the name is taken."""
        if network.name in self._by_name:
            raise Conflict(f"network with name {network.name} already exists", remedy="Choose another name.")
        self._database.execute("INSERT INTO networks VALUES (?,?,?)", (network.id, network.name, self._encode(network)))
        self._by_id[network.id] = self._by_name[network.name] = network

    def save(self, network: Network) -> None:
        self._database.execute("UPDATE networks SET document=? WHERE id=?", (self._encode(network), network.id))
        self._by_id[network.id] = self._by_name[network.name] = network

    def delete(self, network: Network) -> None:
        self._database.execute("DELETE FROM networks WHERE id=?", (network.id,))
        self._by_id.pop(network.id, None)
        self._by_name.pop(network.name, None)


class EndpointStore:
    """The endpoints of running containers (and of those that are being started), and the addresses taken."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._encode = msgspec.msgpack.Encoder().encode
        decode = msgspec.msgpack.Decoder(Endpoint).decode
        self._by_network: dict[str, dict[str, Endpoint]] = {}
        self._by_container: dict[str, dict[str, Endpoint]] = {}
        self._addresses: dict[str, NetworkAddresses] = {}
        for row in database.query("SELECT document FROM endpoints ORDER BY rowid"):
            self._remember(decode(row[0]))

    def _remember(self, endpoint: Endpoint) -> None:
        self._by_network.setdefault(endpoint.network_id, {})[endpoint.id] = endpoint
        self._by_container.setdefault(endpoint.container_id, {})[endpoint.id] = endpoint

    def of_network(self, network_id: str) -> list[Endpoint]:
        return list(self._by_network.get(network_id, {}).values())

    def of_container(self, container_id: str) -> list[Endpoint]:
        """In order of connection."""
        return list(self._by_container.get(container_id, {}).values())

    def find(self, network_id: str, container_id: str) -> Endpoint | None:
        return next((e for e in self.of_container(container_id) if e.network_id == network_id), None)

    def containers(self) -> Iterable[str]:
        return [container_id for container_id, endpoints in self._by_container.items() if endpoints]

    def addresses(self, network: Network) -> NetworkAddresses:
        if network.id not in self._addresses:
            used = [address for e in self.of_network(network.id) for address in (e.address, e.address6)]
            self._addresses[network.id] = NetworkAddresses(network, used)
        return self._addresses[network.id]

    def add(self, endpoint: Endpoint) -> None:
        """Records it. Its addresses have been taken."""
        try:
            self._database.execute(
                "INSERT INTO endpoints VALUES (?,?,?,?,?,?)",
                (
                    endpoint.id,
                    endpoint.network_id,
                    endpoint.container_id,
                    endpoint.address or None,
                    endpoint.address6 or None,
                    self._encode(endpoint),
                ),
            )
        except sqlite3.IntegrityError as error:
            raise Conflict(
                f"endpoint with name {endpoint.container_name} already exists in the network", str(error)
            ) from error
        self._remember(endpoint)

    def save(self, endpoint: Endpoint) -> None:
        self._database.execute("UPDATE endpoints SET document=? WHERE id=?", (self._encode(endpoint), endpoint.id))

    def delete(self, endpoint: Endpoint) -> None:
        """Forgets it and gives its addresses back."""
        self._database.execute("DELETE FROM endpoints WHERE id=?", (endpoint.id,))
        self._by_network.get(endpoint.network_id, {}).pop(endpoint.id, None)
        own = self._by_container.get(endpoint.container_id, {})
        own.pop(endpoint.id, None)
        if not own:
            self._by_container.pop(endpoint.container_id, None)
        if endpoint.network_id in self._addresses:
            self._addresses[endpoint.network_id].release(endpoint.address, endpoint.address6)

    def forget_network(self, network_id: str) -> None:
        """After the network has been removed."""
        self._addresses.pop(network_id, None)
        self._by_network.pop(network_id, None)
