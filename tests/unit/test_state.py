"""The database and the lock of a data root."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from hooper.api.errors import Conflict, NoSpace
from hooper.api.model import Container, ContainerConfig, HostConfig
from hooper.engine.store import ContainerStore
from hooper.state.database import ROOM, Database, DriverState
from hooper.state.lock import RootLock
from hooper.state.migrations import MIGRATIONS


def test_a_transaction_that_fails_changes_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")

    def fails() -> None:
        with database.transaction():
            database.execute("INSERT INTO volumes VALUES ('v', x'00')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert database.query("SELECT * FROM volumes") == []


def test_data_of_a_newer_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    Database(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version={len(MIGRATIONS) + 1}")
    with pytest.raises(Conflict, match=rf"layout {len(MIGRATIONS) + 1}[\s\S]*Use the newer hooper"):
        Database(path)


def test_a_drivers_state_is_its_own(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    one, two = DriverState(database, "one"), DriverState(database, "two")
    one.put("a/1", b"x")
    one.put("a/2", b"y")
    one.put("b", b"z")
    assert one.items("a/") == [("a/1", b"x"), ("a/2", b"y")]
    assert two.get("b") is None
    one.delete("b")
    assert one.get("b") is None


def test_two_daemons_on_one_root_conflict(tmp_path: Path) -> None:
    with RootLock(tmp_path / "data", tmp_path / "exec"):
        with pytest.raises(Conflict, match=r"data is in use: another hooper daemon, pid \d+"):
            RootLock(tmp_path / "data", tmp_path / "other").__enter__()
        with pytest.raises(Conflict, match="exec is in use"):
            RootLock(tmp_path / "other", tmp_path / "exec").__enter__()
    with RootLock(tmp_path / "data", tmp_path / "exec"):
        pass


def made(number: int, name: str) -> Container:
    return Container(
        id=f"{number:064x}", name=name, created="", config=ContainerConfig(), host_config=HostConfig(), image_id="i"
    )


def test_containers_survive_and_resolve(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    store = ContainerStore(database)
    store.add(made(0xA << 252, "one"))
    store.add(made(0xAB << 248, "two"))
    with pytest.raises(Conflict, match='"/one" is already in use'):
        store.add(made(3, "one"))
    store.rename(store.get("two"), "three")
    again = ContainerStore(Database(tmp_path / "x.db"))
    assert again.get("/three").id == again.get("ab").id == f"{0xAB << 248:064x}"
    with pytest.raises(Exception, match="Multiple IDs"):
        again.get("a")
    again.delete(again.get("one"))
    with pytest.raises(Exception, match="No such container: one"):
        again.get("one")


def filled(database: Database) -> None:
    """The file can take no more, as on a disk that is full: only what is removed makes room."""
    (pages,) = database.row("PRAGMA page_count") or (0,)
    database.row(f"PRAGMA max_page_count={pages}")


def test_a_full_disk_is_told_in_words_and_undoes_the_transaction(tmp_path: Path) -> None:
    database = Database(tmp_path / "x.db")
    state = DriverState(database, "d")
    assert (tmp_path / "x.db-wal").stat().st_blocks * 512 >= ROOM
    state.put("first", b"1")
    filled(database)

    def change() -> None:
        with database.transaction():
            state.put("second", b"2")
            state.put("large", bytes(1 << 20))

    with pytest.raises(NoSpace, match="no space left on device"):
        change()
    # Nothing is open that keeps others from writing.
    assert state.items() == [("first", b"1")]
    state.delete("first")
    with pytest.raises(NoSpace):
        state.put("large", bytes(1 << 20))
    database.row("PRAGMA max_page_count=1000000")
    state.put("large", bytes(1 << 20))
    # A log with room behind what is in it is read like any other, also after a crash.
    shutil.copytree(tmp_path, tmp_path / "crashed")
    again = Database(tmp_path / "crashed" / "x.db")
    assert len(DriverState(again, "d").get("large") or b"") == 1 << 20
