"""The engine's database: one sqlite file in WAL mode, one writer.

It is used on the event loop's thread: a statement takes tens of microseconds. `synchronous=NORMAL`
keeps the file consistent through a crash of the host; a commit that must survive one (rather than be
undone) is followed by `checkpoint`.

Its log keeps the room that it may need, so that on a full disk what ends can still be written down: whatever
frees space changes the database first.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from hooper.api.errors import FREE_SPACE, Conflict, Internal, NoSpace
from hooper.state.migrations import MIGRATIONS

T = TypeVar("T")
ROOM = 4608 << 10
"""Bytes that the log has from the beginning: a little more than the 1000 pages after which it is checkpointed."""


class Database:
    """Opens or makes the file and brings its schema up to date.

    Conflict if it was written by a newer hooper, Internal if it cannot be opened. Changes raise NoSpace where
    there is none left.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=5000"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._migrate()
        except sqlite3.Error as error:
            raise Internal(
                f"cannot open the database {path}", str(error), "If it is damaged, restore it or move it away."
            ) from error
        self._depth = 0
        self._keep_room()

    def _keep_room(self) -> None:
        """The log is written over from its beginning after each checkpoint, and does not shrink. What is behind its
        valid frames is passed over, zeros as well."""
        try:
            log = os.open(f"{self.path}-wal", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            # With no space left it does without.
            with suppress(OSError):
                os.posix_fallocate(log, 0, ROOM)
        finally:
            os.close(log)

    def _changed(self, change: Callable[[], T]) -> T:
        try:
            return change()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
                raise
            raise NoSpace(f"cannot write {self.path}", "no space left on device", FREE_SPACE) from error

    def _migrate(self) -> None:
        version: int = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise Conflict(
                f"the data in {self.path.parent} has layout {version}",
                f"this hooper knows layouts up to {len(MIGRATIONS)}",
                "Use the newer hooper that wrote it, or another --data-root.",
            )
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            self._connection.executescript(f"BEGIN; {script}; PRAGMA user_version={number}; COMMIT;")

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a statement."""
        return self._connection.execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """The first row, or None."""
        found: tuple[Any, ...] | None = self._connection.execute(sql, parameters).fetchone()
        return found

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Runs a change and returns how many rows it touched. `sqlite3.IntegrityError` passes through."""
        return self._changed(lambda: self._connection.execute(sql, parameters).rowcount)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes within, or none. It must not contain an await. Nested ones join the outer."""
        if self._depth:
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
            self._changed(lambda: self._connection.execute("COMMIT"))
        except BaseException:
            # A full disk may have undone it already.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        finally:
            self._depth -= 1

    def checkpoint(self) -> None:
        """Makes all commits so far survive a crash of the host."""
        self._changed(lambda: self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)"))

    def close(self) -> None:
        self._connection.close()


class DriverState:
    """The `KeyValueStore` of one driver."""

    def __init__(self, database: Database, driver: str) -> None:
        self._database, self._driver = database, driver

    def get(self, key: str) -> bytes | None:
        found = self._database.row("SELECT value FROM driver_state WHERE driver=? AND key=?", (self._driver, key))
        return found[0] if found else None

    def put(self, key: str, value: bytes) -> None:
        self._database.execute("INSERT OR REPLACE INTO driver_state VALUES (?,?,?)", (self._driver, key, value))

    def delete(self, key: str) -> None:
        self._database.execute("DELETE FROM driver_state WHERE driver=? AND key=?", (self._driver, key))

    def items(self, prefix: str = "") -> list[tuple[str, bytes]]:
        rows = self._database.query(
            "SELECT key, value FROM driver_state WHERE driver=? AND substr(key,1,?)=? ORDER BY key",
            (self._driver, len(prefix), prefix),
        )
        return [(key, value) for key, value in rows]
