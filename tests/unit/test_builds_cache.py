"""What the engine remembers of finished steps."""

from __future__ import annotations

import pytest

from hooper.api.builder import BuildState
from hooper.api.model import History, ImageConfig
from hooper.engine.build_cache import BuildCache
from hooper.state.database import Database


@pytest.fixture
def database(tmp_path):
    made = Database(tmp_path / "hooper.db")
    yield made
    made.close()


def layer(database, chain, parent=None, driver="mem"):
    database.execute("INSERT INTO layers VALUES (?,?,?,?,?)", (chain, parent, f"d-{chain}", 1, driver))


def state(key, chain):
    return BuildState(
        ImageConfig(env=["A=b"], exposed_ports={"80/tcp": {}}), chain=chain, diff_ids=("x",), key=key,
        history=(History(created="t", created_by="c", empty_layer=True),), created="t", architecture="amd64",
    )  # fmt: skip


def test_a_step_comes_back_as_it_was(database):
    cache = BuildCache(database, "mem")
    layer(database, "c1")
    for made in (state("k1", "c1"), state("k2", "")):
        cache.put(made)
        assert cache.get(made.key) == made
    assert cache.get("other") is None


def test_a_step_without_its_file_system_is_none(database):
    cache = BuildCache(database, "mem")
    layer(database, "elsewhere", driver="other")
    cache.put(state("k1", "gone"))
    cache.put(state("k2", "elsewhere"))
    assert cache.get("k1") is None
    assert cache.get("k2") is None


def test_an_unreadable_document_is_none(database):
    database.execute("INSERT INTO build_cache VALUES ('k', NULL, x'00', 0)")
    assert BuildCache(database, "mem").get("k") is None


def test_prune_spares_what_images_have(database):
    cache = BuildCache(database, "mem")
    layer(database, "c1")
    layer(database, "c2", "c1")
    layer(database, "c3")
    database.execute("INSERT INTO images VALUES ('i', 'c2', '', 1, 0, 0)")
    for number in (1, 2, 3):
        cache.put(state(f"k{number}", f"c{number}"))
    assert cache.prune(before=None, keys=(), used_too=False) == ["k3"]
    assert cache.prune(before=None, keys=("k1",), used_too=True) == ["k1"]
    assert cache.prune(before=None, keys=(), used_too=True) == ["k2"]


def test_prune_by_time_of_use(database):
    cache = BuildCache(database, "mem")
    cache.put(state("old", ""))
    cache.put(state("used", ""))
    database.execute("UPDATE build_cache SET last_used=100")
    cache.get("used")
    cache.flush()
    assert cache.prune(before=1000, keys=(), used_too=True) == ["old"]
