"""Finished steps of builds, by the key of all that led to them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from hooper.api.builder import BuildState
from hooper.state.database import Database

_UNUSED = """
    (chain_id IS NULL OR chain_id NOT IN (
        WITH RECURSIVE used(chain) AS (
            SELECT chain_id FROM images WHERE chain_id IS NOT NULL
            UNION SELECT parent FROM layers JOIN used ON layers.chain_id=used.chain WHERE parent IS NOT NULL
        ) SELECT chain FROM used))"""


class BuildCache:
    """A look-up is one statement; that a step was used is written down once a build, by `flush`."""

    def __init__(self, database: Database, driver: str) -> None:
        self._database, self._driver = database, driver
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(BuildState).decode
        self._used: set[str] = set()

    def get(self, key: str) -> BuildState | None:
        """The step's state, if its file system is still there on the present storage driver."""
        row = self._database.row(
            "SELECT document FROM build_cache c WHERE key=? AND (chain_id IS NULL OR EXISTS"
            " (SELECT 1 FROM layers l WHERE l.chain_id=c.chain_id AND l.driver=?))",
            (key, self._driver),
        )
        if row is None:
            return None
        try:
            state = self._decode(row[0])
        except msgspec.DecodeError:
            # Written by another version of the program: as good as not there.
            return None
        self._used.add(key)
        return state

    def put(self, state: BuildState) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO build_cache VALUES (?,?,?,?)",
            (state.key, state.chain or None, self._encode(state), time.time()),
        )

    def flush(self) -> None:
        """Records the time of use of what `get` has found."""
        used, self._used, now = self._used, set(), time.time()
        with self._database.transaction():
            for key in used:
                self._database.execute("UPDATE build_cache SET last_used=? WHERE key=?", (now, key))

    def size(self) -> int:
        """Bytes, uncompressed, of the layers that only finished steps keep."""
        row = self._database.row(
            "WITH RECURSIVE cached(chain) AS (SELECT chain_id FROM build_cache WHERE chain_id IS NOT NULL"
            " UNION SELECT parent FROM layers JOIN cached ON layers.chain_id=cached.chain WHERE parent IS NOT NULL)"
            " SELECT coalesce(sum(size), 0) FROM layers WHERE chain_id IN (SELECT chain FROM cached)"
            f" AND {_UNUSED}"
        )
        return int(row[0]) if row else 0

    def entries(self) -> list[tuple[BuildState, int, float, bool]]:
        """Each step with the bytes of its topmost layer, when it was last used, and whether an image has that layer.

        In the order of their making.
        """
        rows = self._database.query(
            f"SELECT document, coalesce(size, 0), last_used, NOT ({_UNUSED}) FROM"
            " (SELECT c.rowid AS number, c.chain_id AS chain_id, document, last_used, size"
            "  FROM build_cache c LEFT JOIN layers l ON l.chain_id=c.chain_id) ORDER BY number"
        )
        found = []
        for document, size, last_used, shared in rows:
            try:
                found.append((self._decode(document), int(size), float(last_used), bool(shared)))
            except msgspec.DecodeError:
                continue  # written by another version of the program
        return found

    def prune(self, *, before: float | None, keys: Sequence[str], used_too: bool) -> list[str]:
        """Forgets the steps that were last used before a time, if one is given, and returns their keys.

        `keys` limits it to those. Steps whose layers an image has take no space of their own: they go with
        `used_too` alone.
        """
        condition, parameters = ("1" if used_too else _UNUSED), list[object]()
        if before is not None:
            condition += " AND last_used < ?"
            parameters.append(before)
        if keys:
            condition += f" AND key IN ({','.join('?' * len(keys))})"
            parameters += keys
        rows = self._database.query(f"DELETE FROM build_cache WHERE {condition} RETURNING key", parameters)
        return [row[0] for row in rows]
