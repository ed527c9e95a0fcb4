"""What the engine remembers of finished steps."""

from __future__ import annotations

import pytest

from hooper.engine.build_cache import BuildCache, Kept
from hooper.state.database import Database


@pytest.fixture
def database(tmp_path):
    made = Database(tmp_path / "hooper.db")
    yield made
    made.close()


@pytest.fixture
def cache(database):
    return BuildCache(database, "mem")


def layer(database, chain, parent=None, driver="mem", size=1):
    database.execute("INSERT INTO layers VALUES (?,?,?,?,?)", (chain, parent, f"d-{chain}", size, driver))


def put(cache, key, chain="", parent="", added=True):
    cache.put(key, chain, parent=parent, description=f"step {key}", created="2026-01-01T00:00:00Z", added=added)


def test_a_step_comes_back_as_it_was(database, cache):
    layer(database, "c1")
    put(cache, "k1", "c1")
    put(cache, "k2", "", added=False)
    assert cache.get("k1") == Kept("c1", "d-c1", "2026-01-01T00:00:00Z", True)
    assert cache.get("k2") == Kept("", "", "2026-01-01T00:00:00Z", False)
    assert cache.get("other") is None


def test_a_step_without_its_file_system_is_none(database, cache):
    layer(database, "elsewhere", driver="other")
    put(cache, "k1", "gone")
    put(cache, "k2", "elsewhere")
    assert cache.get("k1") is None and cache.get("k2") is None


def test_uses_are_counted_once_a_build(database, cache):
    put(cache, "k")
    database.execute("UPDATE build_steps SET last_used=100")
    cache.get("k")
    cache.get("k")
    cache.flush()
    cache.flush()
    (entry,) = cache.entries()
    assert entry.uses == 1 and entry.last_used > 100


def test_entries_tell_whose_space_it_is(database, cache):
    layer(database, "base", size=10)
    layer(database, "top", "base", size=5)
    layer(database, "own", "base", size=7)
    database.execute("INSERT INTO images VALUES ('i', 'top', '', 1, 0, 0)")
    put(cache, "k1", "top")
    put(cache, "k2", "own", parent="k1")
    put(cache, "k3", "own", parent="k2", added=False)
    assert [(e.key, e.parent, e.size, e.shared) for e in cache.entries()] == [
        ("k1", "", 5, True),
        ("k2", "k1", 7, False),
        ("k3", "k2", 0, False),
    ]
    assert cache.size() == 7


def test_remove_tells_what_there_was(cache):
    put(cache, "k1")
    put(cache, "k2")
    assert cache.remove(["k1", "other"]) == ["k1"]
    assert cache.get("k1") is None and cache.get("k2") is not None


def test_facts_about_files_are_kept(cache):
    cache.keep_digest("files", "c1", "abc")
    assert cache.digest("files") == "abc" and cache.digest("other") is None
