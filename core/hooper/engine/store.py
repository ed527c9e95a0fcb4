"""The containers of this engine: in memory as objects, in the database as documents."""

from __future__ import annotations

import sqlite3

import msgspec

from hooper.api.errors import Conflict, InvalidArgument, NotFound
from hooper.api.model import Container
from hooper.state.database import Database


class ContainerStore:
    """Names, ids and prefixes resolve from memory; each change of a container is saved as a whole."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._encode = msgspec.msgpack.Encoder().encode
        decode = msgspec.msgpack.Decoder(Container).decode
        rows = database.query("SELECT document FROM containers")
        self._by_id = {container.id: container for container in (decode(row[0]) for row in rows)}
        self._by_name = {container.name: container.id for container in self._by_id.values()}

    def all(self) -> list[Container]:
        return list(self._by_id.values())

    def add(self, container: Container) -> None:
        """Conflict if the name is taken."""
        if container.name in self._by_name:
            raise name_taken(container.name, self._by_name[container.name])
        self._by_id[container.id] = container
        self._by_name[container.name] = container.id
        try:
            self._database.execute(
                "INSERT INTO containers VALUES (?,?,?,?)",
                (container.id, container.name, container.image_id, self._encode(container)),
            )
        except sqlite3.Error:
            del self._by_id[container.id], self._by_name[container.name]
            raise

    def has_name(self, name: str) -> bool:
        return name in self._by_name

    def id_of_name(self, name: str) -> str | None:
        return self._by_name.get(name)

    def save(self, container: Container) -> None:
        """Records its present state; a container that was removed meanwhile stays removed."""
        self._database.execute("UPDATE containers SET document=? WHERE id=?", (self._encode(container), container.id))

    def rename(self, container: Container, name: str) -> None:
        if name in self._by_name:
            raise name_taken(name, self._by_name[name])
        old, container.name = container.name, name
        self._database.execute(
            "UPDATE containers SET name=?, document=? WHERE id=?", (name, self._encode(container), container.id)
        )
        del self._by_name[old]
        self._by_name[name] = container.id

    def checkpoint(self) -> None:
        """Makes what was saved survive a crash of the host."""
        self._database.checkpoint()

    def delete(self, container: Container) -> None:
        self._database.execute("DELETE FROM containers WHERE id=?", (container.id,))
        self._by_id.pop(container.id, None)
        self._by_name.pop(container.name, None)

    def by_id(self, container_id: str) -> Container | None:
        return self._by_id.get(container_id)

    def get(self, name: str) -> Container:
        """By id, name or unique id prefix; NotFound, or InvalidArgument if a prefix is not unique."""
        bare = name.removeprefix("/")
        found = self._by_id.get(bare) or self._by_id.get(self._by_name.get(bare, ""))
        if found:
            return found
        matches = [c for c in self._by_id.values() if bare and c.id.startswith(bare)]
        if len(matches) > 1:
            raise InvalidArgument(
                f"Multiple IDs found with provided prefix: {bare}", remedy="Give more digits, or the name."
            )
        if not matches:
            raise NotFound(f"No such container: {name}", remedy="`hooper ps -a` lists the containers there are.")
        return matches[0]


def name_taken(name: str, owner: str) -> Conflict:
    return Conflict(
        f'Conflict. The container name "/{name}" is already in use by container "{owner}".',
        remedy="You have to remove (or rename) that container to be able to reuse that name.",
    )


def check_stays(container: Container) -> None:
    """Conflict for a container that is being moved to another engine: nothing else may change it."""
    departure = container.moving
    if departure is None:
        return
    why, remedy = "whether it has arrived is not known here", ""
    if departure.state == "moving":
        why, remedy = "the move goes on", "Wait for its end."
    raise Conflict(
        f"container {container.name} is being moved to {departure.to}",
        why,
        remedy or f"Ask there: hooper container move {container.name} {departure.to}",
    )
