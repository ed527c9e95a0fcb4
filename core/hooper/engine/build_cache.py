"""Finished steps of builds, by the key of all that led to them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from hooper.state.database import Database

_UNUSED = """
    (chain_id IS NULL OR chain_id NOT IN (
        WITH RECURSIVE used(chain) AS (
            SELECT chain_id FROM images WHERE chain_id IS NOT NULL
            UNION SELECT parent FROM layers JOIN used ON layers.chain_id=used.chain WHERE parent IS NOT NULL
        ) SELECT chain FROM used))"""


class Kept(NamedTuple):
    """What a key stands for: a file system (its chain id, "" without layers), and whether the step added its layer."""

    chain: str
    diff_id: str
    """Of the topmost layer, "" without layers."""
    created: str
    """RFC 3339: when the step was carried out."""
    added: bool


class CacheEntry(NamedTuple):
    """One finished step, as a person is shown it."""

    key: str
    parent: str
    """Key of the step that it stands on; "" for the first of an image."""
    description: str
    size: int
    """Bytes, uncompressed, of the layer that the step added."""
    created: str
    last_used: float
    uses: int
    """How many builds have found it."""
    shared: bool
    """An image has the layer, so that the step takes no space of its own."""


class BuildCache:
    """A look-up is one statement; that a step was used is written down once a build, by `flush`."""

    def __init__(self, database: Database, driver: str) -> None:
        self._database, self._driver = database, driver
        self._used: set[str] = set()

    def get(self, key: str) -> Kept | None:
        """The step's outcome, if its file system is still there on the present storage driver."""
        row = self._database.row(
            "SELECT coalesce(s.chain_id,''), coalesce(l.diff_id,''), s.created, s.added FROM build_steps s"
            " LEFT JOIN layers l ON l.chain_id=s.chain_id AND l.driver=?"
            " WHERE s.key=? AND (s.chain_id IS NULL OR l.chain_id IS NOT NULL)",
            (self._driver, key),
        )
        if row is None:
            return None
        self._used.add(key)
        return Kept(row[0], row[1], row[2], bool(row[3]))

    def put(self, key: str, chain: str, *, parent: str, description: str, created: str, added: bool) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO build_steps VALUES (?,?,?,?,?,?,?,0)",
            (key, chain or None, parent, description, created, added, time.time()),
        )

    def flush(self) -> None:
        """Records the use of what `get` has found."""
        used, self._used, now = self._used, set(), time.time()
        with self._database.transaction():
            for key in used:
                self._database.execute("UPDATE build_steps SET last_used=?, uses=uses+1 WHERE key=?", (now, key))

    def digest(self, key: str) -> str | None:
        """What `keep_digest` was given: a fact about files in layers, which never change."""
        row = self._database.row("SELECT digest FROM build_digests WHERE key=?", (key,))
        return str(row[0]) if row else None

    def keep_digest(self, key: str, chain: str, digest: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO build_digests VALUES (?,?,?)", (key, chain, digest))

    def size(self) -> int:
        """Bytes, uncompressed, of the layers that only finished steps keep."""
        row = self._database.row(
            "WITH RECURSIVE cached(chain) AS (SELECT chain_id FROM build_steps WHERE chain_id IS NOT NULL"
            " UNION SELECT parent FROM layers JOIN cached ON layers.chain_id=cached.chain WHERE parent IS NOT NULL)"
            " SELECT coalesce(sum(size), 0) FROM layers WHERE chain_id IN (SELECT chain FROM cached)"
            f" AND {_UNUSED}"
        )
        return int(row[0]) if row else 0

    def entries(self) -> list[CacheEntry]:
        """All of them, in the order of their making."""
        rows = self._database.query(
            "SELECT key, coalesce(up,''), description, CASE WHEN added THEN coalesce(size, 0) ELSE 0 END, created,"
            f" last_used, uses, NOT ({_UNUSED}) FROM"
            " (SELECT s.rowid AS number, s.key AS key, s.parent AS up, s.chain_id AS chain_id, description, added,"
            "  created, last_used, uses, size"
            "  FROM build_steps s LEFT JOIN layers l ON l.chain_id=s.chain_id) ORDER BY number"
        )
        return [CacheEntry._make((*row[:-1], bool(row[-1]))) for row in rows]

    def remove(self, keys: Iterable[str]) -> list[str]:
        """Forgets these steps, and returns those that there were. Their layers are the collector's."""
        with self._database.transaction():
            return [key for key in keys if self._database.execute("DELETE FROM build_steps WHERE key=?", (key,))]
