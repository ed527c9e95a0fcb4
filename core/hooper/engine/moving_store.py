"""The target's durable record of each transfer: what it made, so that a crash can be finished or undone.

States: receiving, received, committing, committed, and aborted while whatever receives it still has to notice.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from hooper.api.model import Container
from hooper.api.moving import Manifest, Wishes
from hooper.state.database import Database

RECEIVING, RECEIVED, COMMITTING, COMMITTED, ABORTED = "receiving", "received", "committing", "committed", "aborted"

BALLAST = 1 << 20


class PlacedVolume(msgspec.Struct, kw_only=True):
    name: str
    place: str
    """new, empty, reuse or replace."""
    staged: str = ""
    """Name of the directory, in the transfer's own, that has the content; "" for none."""
    made: bool = False
    """The volume did not exist before: undoing removes it."""


class Arrival(msgspec.Struct, kw_only=True):
    """One transfer on its way in."""

    id: str
    state: str = RECEIVING
    manifest: Manifest
    wishes: Wishes
    container: Container
    """As it will be here."""
    start: bool = False
    keep_seconds: float = 600.0
    """How long it waits, complete, for its commit."""
    volumes: list[PlacedVolume] = []
    networks: list[str] = []
    """Names of networks to make."""
    made_networks: list[str] = []
    prepared: bool = False
    """The snapshot is there and this transfer's."""
    added: bool = False
    """The container is among this engine's."""
    made_image: bool = False
    tag: str = ""
    """The reference that the image was given."""
    warnings: list[str] = []


class ArrivalStore:
    """`directory` has one directory for each transfer, for what was received of it."""

    def __init__(self, database: Database, directory: Path) -> None:
        self._database, self._directory = database, directory
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Arrival).decode

    def directory(self, transfer: str) -> Path:
        return self._directory / transfer

    def make_directory(self, transfer: str) -> None:
        """With some ballast in it: undoing writes to the database, also on a disk that has become full."""
        directory = self.directory(transfer)
        directory.mkdir(mode=0o700, parents=True)
        with (directory / "ballast").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, BALLAST)

    def drop_ballast(self, transfer: str) -> None:
        (self.directory(transfer) / "ballast").unlink(missing_ok=True)

    def get(self, transfer: str) -> Arrival | None:
        """None also for one that was committed."""
        row = self._database.row("SELECT document FROM transfers WHERE id=? AND document!=x''", (transfer,))
        return self._decode(row[0]) if row else None

    def state(self, transfer: str) -> tuple[str, str]:
        """State and container id; ("", "") for one that is not known."""
        row = self._database.row("SELECT state, container_id FROM transfers WHERE id=?", (transfer,))
        return (row[0], row[1]) if row else ("", "")

    def unfinished(self) -> list[Arrival]:
        rows = self._database.query("SELECT document FROM transfers WHERE document!=x''")
        return [self._decode(row[0]) for row in rows]

    def save(self, arrival: Arrival) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO transfers VALUES (?,?,?,?)",
            (arrival.id, arrival.state, arrival.container.id, self._encode(arrival)),
        )

    def advance(self, arrival: Arrival, state: str) -> None:
        """Records a new state so that it survives a crash of the host."""
        arrival.state = state
        self.save(arrival)
        self._database.checkpoint()

    def committed(self, arrival: Arrival) -> None:
        """What is kept for those who ask: the source may still have to learn of it."""
        arrival.state = COMMITTED
        self._database.execute(
            "INSERT OR REPLACE INTO transfers VALUES (?,?,?,x'')", (arrival.id, COMMITTED, arrival.container.id)
        )
        self._database.checkpoint()

    def delete(self, transfer: str) -> None:
        self._database.execute("DELETE FROM transfers WHERE id=?", (transfer,))
        self._database.checkpoint()
