"""What there is, in one sqlite file: repositories, tags, manifests, and which blobs each repository has.

Manifests are kept in it, blobs are files elsewhere. Reading happens on the event loop and takes microseconds.
Changes are durable when they return; they may be called from any thread, and other processes may change the file too.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from hooper.api.errors import Conflict, Internal

_VERSION = 1
_SCHEMA = """
CREATE TABLE repositories (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
CREATE TABLE blobs (digest TEXT PRIMARY KEY, size INTEGER NOT NULL) STRICT;
-- Blobs that a repository has. used: when somebody last put it there or asked for it before a push.
CREATE TABLE links (
    repository TEXT NOT NULL REFERENCES repositories(name),
    digest TEXT NOT NULL REFERENCES blobs(digest),
    used REAL NOT NULL,
    PRIMARY KEY (repository, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX links_by_digest ON links(digest);
CREATE TABLE manifests (
    repository TEXT NOT NULL REFERENCES repositories(name),
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    content BLOB NOT NULL,
    subject TEXT NOT NULL,
    artifact_type TEXT NOT NULL,
    annotations BLOB NOT NULL,
    pushed REAL NOT NULL,
    PRIMARY KEY (repository, digest)
) STRICT;
CREATE INDEX manifests_by_subject ON manifests(repository, subject) WHERE subject != '';
-- What a manifest names.
CREATE TABLE parts (
    repository TEXT NOT NULL,
    manifest TEXT NOT NULL,
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    is_manifest INTEGER NOT NULL,
    PRIMARY KEY (repository, manifest, digest),
    FOREIGN KEY (repository, manifest) REFERENCES manifests(repository, digest) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX parts_by_digest ON parts(repository, digest);
CREATE TABLE tags (
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (repository, tag),
    FOREIGN KEY (repository, digest) REFERENCES manifests(repository, digest) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_by_digest ON tags(repository, digest);
"""
_TOUCHED_SECONDS = 60.0
"""How exact `links.used` is."""


class Part(msgspec.Struct, frozen=True):
    """Something that a manifest names: a blob, or another manifest."""

    digest: str
    media_type: str = ""
    size: int = 0
    is_manifest: bool = False
    required: bool = True
    """False: it is had elsewhere (a layer with urls, one that must not be distributed)."""


class Stored(msgspec.Struct, frozen=True):
    """A manifest and what of it can be asked for."""

    digest: str
    media_type: str
    content: bytes
    subject: str = ""
    artifact_type: str = ""
    annotations: dict[str, str] = {}
    parts: tuple[Part, ...] = ()
    """Only of one that is about to be stored."""


class Catalogue:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        try:
            self._writer, self._reader = self._connect(), self._connect()
            self._prepare()
        except sqlite3.Error as error:
            raise Internal(f"cannot open the registry's catalogue {path}", str(error)) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _prepare(self) -> None:
        with self.transaction():
            version = self._writer.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise Conflict(
                    f"the registry in {self.path.parent} has layout {version}",
                    f"this hooper knows layouts up to {_VERSION}",
                    "Use the newer hooper that wrote it, or another directory.",
                )
            if version == 0:
                for statement in _SCHEMA.split(";\n"):
                    self._writer.execute(statement)
                self._writer.execute(f"PRAGMA user_version={_VERSION}")

    def close(self) -> None:
        self._reader.close()
        with self._lock:
            self._writer.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes within, or none; whoever else wants to change something waits. A nested one joins the outer."""
        with self._lock:
            if self._writer.in_transaction:
                yield
                return
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._reader.execute(sql, values).fetchall()

    def _one(self, sql: str, *values: Any) -> Any:
        """The first value of the first row, or None."""
        row = self._reader.execute(sql, values).fetchone()
        return row[0] if row else None

    def change(self, sql: str, *values: Any) -> int:
        """Runs one change; how many rows it touched."""
        with self.transaction():
            return self._writer.execute(sql, values).rowcount

    def current(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows as the transaction around sees them."""
        with self.transaction():
            return self._writer.execute(sql, values).fetchall()

    # --- reading --------------------------------------------------------------------------------------

    def exists(self, name: str) -> bool:
        return self._one("SELECT 1 FROM repositories WHERE name=?", name) is not None

    def repositories(self) -> list[str]:
        return [row[0] for row in self._rows("SELECT name FROM repositories ORDER BY name")]

    def tags(self, name: str) -> list[str]:
        return [row[0] for row in self._rows("SELECT tag FROM tags WHERE repository=? ORDER BY tag", name)]

    def tagged(self, name: str, tag: str) -> str:
        """The digest that a tag names, or ""."""
        found: str | None = self._one("SELECT digest FROM tags WHERE repository=? AND tag=?", name, tag)
        return found or ""

    def manifest(self, name: str, digest: str) -> Stored | None:
        rows = self._rows(
            "SELECT digest, media_type, content, subject FROM manifests WHERE repository=? AND digest=?", name, digest
        )
        return Stored(*rows[0]) if rows else None

    def blob(self, name: str, digest: str) -> int | None:
        """The size of a blob that the repository has."""
        size: int | None = self._one(
            "SELECT size FROM links JOIN blobs USING (digest) WHERE repository=? AND digest=?", name, digest
        )
        return size

    def named(self, name: str, digest: str) -> Part | None:
        """The blob as some manifest of the repository names it."""
        rows = self._rows(
            "SELECT digest, media_type, size FROM parts WHERE repository=? AND digest=? AND NOT is_manifest LIMIT 1",
            name,
            digest,
        )
        return Part(*rows[0]) if rows else None

    def holders(self, digest: str) -> list[str]:
        """Repositories that have the blob."""
        return [row[0] for row in self._rows("SELECT repository FROM links WHERE digest=?", digest)]

    def referrers(self, name: str, subject: str) -> list[tuple[Stored, int]]:
        """The manifests with that subject, without their content, and their sizes; in order of digest."""
        rows = self._rows(
            "SELECT digest, media_type, artifact_type, annotations, length(content) FROM manifests"
            " WHERE repository=? AND subject=? AND subject!='' ORDER BY digest",
            name,
            subject,
        )
        return [
            (Stored(digest, kind, b"", subject, artifact, msgspec.json.decode(annotations)), size)
            for digest, kind, artifact, annotations, size in rows
        ]

    # --- changing -------------------------------------------------------------------------------------

    def link(self, name: str, digest: str, size: int) -> None:
        """Records that the repository has a blob, which is in its place."""
        with self.transaction():
            self.change("INSERT OR IGNORE INTO repositories VALUES (?)", name)
            self.change("INSERT OR IGNORE INTO blobs VALUES (?,?)", digest, size)
            self.change("INSERT OR REPLACE INTO links VALUES (?,?,?)", name, digest, time.time())

    def needs_touch(self, name: str, digest: str) -> bool:
        """Whether `touch` would tell something new."""
        used = self._one("SELECT used FROM links WHERE repository=? AND digest=?", name, digest)
        return used is not None and used < time.time() - _TOUCHED_SECONDS

    def touch(self, name: str, digest: str) -> bool:
        """Keeps an unreferenced blob for another while; False if it has gone meanwhile."""
        return self.change("UPDATE links SET used=? WHERE repository=? AND digest=?", time.time(), name, digest) > 0

    def unlink(self, name: str, digest: str) -> bool:
        return self.change("DELETE FROM links WHERE repository=? AND digest=?", name, digest) > 0

    def put(self, name: str, manifest: Stored, tags: Sequence[str]) -> None:
        """Stores a manifest, and gives it the tags."""
        with self.transaction():
            self.change("INSERT OR IGNORE INTO repositories VALUES (?)", name)
            self.change(
                "INSERT INTO manifests VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE"
                " SET media_type=excluded.media_type, pushed=excluded.pushed",
                name,
                manifest.digest,
                manifest.media_type,
                manifest.content,
                manifest.subject,
                manifest.artifact_type,
                msgspec.json.encode(manifest.annotations),
                time.time(),
            )
            for part in manifest.parts:
                row = (name, manifest.digest, part.digest, part.media_type, part.size, int(part.is_manifest))
                self.change("INSERT OR IGNORE INTO parts VALUES (?,?,?,?,?,?)", *row)
            for tag in tags:
                self.change("INSERT OR REPLACE INTO tags VALUES (?,?,?)", name, tag, manifest.digest)

    def delete_tag(self, name: str, tag: str) -> bool:
        return self.change("DELETE FROM tags WHERE repository=? AND tag=?", name, tag) > 0

    def delete_manifest(self, name: str, digest: str) -> bool:
        """With its tags."""
        return self.change("DELETE FROM manifests WHERE repository=? AND digest=?", name, digest) > 0
