"""The rules of snapshots, for the authors of storage drivers: keys, kinds, parents, children.

A `SnapshotTable` keeps a driver's records in its `KeyValueStore` and says no in the words of the
interface (`hooper.api.storage`); the driver keeps the files, in a directory that it names after
the record's `id`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec

from hooper.api.driver import KeyValueStore
from hooper.api.errors import Conflict, InvalidArgument, NotFound
from hooper.api.storage import SnapshotInfo, SnapshotKind

_PREFIX = "snapshot/"


class Record(msgspec.Struct, kw_only=True):
    """One snapshot."""

    id: int
    """Never used twice at the same time; stays the same through a commit."""
    key: str
    kind: SnapshotKind
    parent: str
    created: float
    data: dict[str, int] = {}
    """The driver's own; `SnapshotTable.store` keeps it."""

    def info(self) -> SnapshotInfo:
        return SnapshotInfo(self.key, self.kind, self.parent, self.created)


class SnapshotTable:
    """All snapshots of one driver, in memory and in its state. It is used on the event loop's thread."""

    def __init__(self, state: KeyValueStore) -> None:
        self._state = state
        self._records: dict[str, Record] = {}
        self._children: dict[str, set[str]] = {}
        decoder = msgspec.json.Decoder(Record)
        for _, value in state.items(_PREFIX):
            self._index(decoder.decode(value))
        self._last_id = max((record.id for record in self._records.values()), default=0)

    def __iter__(self) -> Iterator[Record]:
        return iter(list(self._records.values()))

    def _index(self, record: Record) -> None:
        self._records[record.key] = record
        if record.parent:
            self._children.setdefault(record.parent, set()).add(record.key)

    def _forget(self, record: Record) -> None:
        del self._records[record.key]
        if record.parent:
            children = self._children[record.parent]
            children.discard(record.key)
            if not children:
                del self._children[record.parent]

    def get(self, key: str) -> Record:
        """NotFound if there is none."""
        record = self._records.get(key)
        if record is None:
            raise NotFound(f"snapshot {key} does not exist", remedy="It may have been removed meanwhile.")
        return record

    def mountable(self, key: str) -> Record:
        """An active snapshot or a view; InvalidArgument for a committed one."""
        record = self.get(key)
        if record.kind is SnapshotKind.COMMITTED:
            raise InvalidArgument(
                f"cannot mount snapshot {key}", "it is committed", "Make a view of it, or prepare a child."
            )
        return record

    def active(self, key: str) -> Record:
        """An active snapshot; InvalidArgument for one that cannot be written."""
        record = self.get(key)
        if record.kind is not SnapshotKind.ACTIVE:
            raise InvalidArgument(
                f"cannot change snapshot {key}", f"it is {record.kind}", "Only what `prepare` made can be."
            )
        return record

    def committed(self, name: str) -> Record:
        """A committed snapshot; InvalidArgument for another kind."""
        record = self.get(name)
        if record.kind is not SnapshotKind.COMMITTED:
            raise InvalidArgument(f"snapshot {name} cannot be a parent", f"it is {record.kind}", "Commit it first.")
        return record

    def parents(self, record: Record) -> list[Record]:
        """The committed snapshots that a record stands on, its own parent first."""
        found = []
        while record.parent:
            record = self._records[record.parent]
            found.append(record)
        return found

    def reserve(self, key: str, kind: SnapshotKind, parent: str) -> Record:
        """A record of a new snapshot, not kept yet: `store` it when its files are there, or `cancel` it.

        Conflict if the key is taken, NotFound or InvalidArgument if the parent is not a committed snapshot.
        """
        self._check_free(key)
        if parent:
            self.committed(parent)
        self._last_id += 1
        record = Record(id=self._last_id, key=key, kind=kind, parent=parent, created=time.time())
        self._index(record)
        return record

    def _check_free(self, key: str) -> None:
        if not key or "/" in key or "\0" in key or len(key.encode()) > 255:
            raise InvalidArgument(
                f"bad snapshot key {key!r}", "a key has 1 to 255 bytes, without / and NUL", "Choose another one."
            )
        if key in self._records:
            raise Conflict(f"snapshot {key} exists", "keys are unique", "Remove it, or choose another key.")

    def store(self, record: Record) -> None:
        """Keeps a record, as it is now."""
        self._state.put(_PREFIX + record.key, msgspec.json.encode(record))

    def cancel(self, record: Record) -> None:
        """Takes a reservation back."""
        self._forget(record)

    def commit(self, name: str, key: str, parent: str | None = None) -> Record:
        """Turns the active snapshot `key` into the committed one `name`, on another parent if one is given."""
        record = self.active(key)
        self._check_free(name)
        if parent:
            self.committed(parent)
        frozen = msgspec.structs.replace(
            record, key=name, kind=SnapshotKind.COMMITTED, parent=record.parent if parent is None else parent
        )
        # After a crash in between there are two records of one id: `repair` drops the active one.
        self.store(frozen)
        self._state.delete(_PREFIX + key)
        self._forget(record)
        self._index(frozen)
        return frozen

    def repair(self) -> None:
        """Finishes a commit that a crash interrupted. Call it when the driver is opened."""
        frozen = {record.id for record in self if record.kind is SnapshotKind.COMMITTED}
        for record in self:
            if record.kind is SnapshotKind.ACTIVE and record.id in frozen:
                self.remove(record.key)

    def remove(self, key: str) -> Record:
        """Drops a record. Conflict, naming a child, if it has one."""
        record = self.get(key)
        if children := self._children.get(key):
            raise Conflict(
                f"cannot remove snapshot {key}",
                f"{min(children)} is made on it",
                "Remove what stands on it first.",
            )
        self._state.delete(_PREFIX + key)
        self._forget(record)
        return record
