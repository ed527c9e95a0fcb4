"""The bounds of the build cache, on a real store: what goes when a build has ended, and when somebody asks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from images_support import Host, tar_of

from hooper.api.engine import CachedStep
from hooper.api.errors import Conflict, InvalidArgument
from hooper.api.model import Image
from hooper.engine.build_cache import BuildCache
from hooper.engine.build_cache_limits import Bounds, CacheLimits

pytestmark = pytest.mark.anyio
SIZE = len(tar_of({"x": bytes(1 << 14)}))


class Mounts:
    """Directories beside the steps."""

    def __init__(self) -> None:
        self.there = {"m1": 1000.0, "m2": time.time()}
        self.busy: set[str] = set()
        self.measured = 0

    async def kept(self) -> Sequence[CachedStep]:
        self.measured += 1
        return [
            CachedStep(
                key=key, description="cache mount go", size=SIZE, shared=False, created="", last_used=used,
                type="exec.cachemount",
            )
            for key, used in self.there.items()
        ]  # fmt: skip

    async def remove(self, key: str) -> None:
        if key in self.busy:
            raise Conflict(f"cannot remove {key}")
        del self.there[key]


class Bench:
    """Steps a <- b <- c, and d beside them; each has a layer of SIZE bytes."""

    def __init__(self, root: Path) -> None:
        self.host, self.mounts = Host(root), Mounts()
        self.cache = BuildCache(self.host.database, "tars")
        self.chains = {"": ""}

    def limits(self, size: int = 1 << 40, age: float = 0) -> CacheLimits:
        collector = self.host.images.collector
        root = self.host.database.path.parent
        bounds = Bounds(size, age)
        return CacheLimits(self.host.database, self.cache, collector, bounds, root, lambda: [self.mounts])

    async def step(self, key: str, parent: str, used: float) -> None:
        storage = self.host.tars
        await storage.prepare("new", self.chains[parent])
        storage.tars["new"] = tar_of({key: bytes(1 << 14)})
        layer = await self.host.images.layers.adopt("new", self.chains[parent])
        self.chains[key] = layer.chain_id
        self.cache.put(key, layer.chain_id, parent=parent, description=f"RUN {key}", created="2024-01-01T00:00:00Z",
                       added=True)  # fmt: skip
        self.host.database.execute("UPDATE build_steps SET last_used=? WHERE key=?", (used, key))

    async def fill(self) -> None:
        now = time.time()
        await self.step("a", "", now - 4000)
        await self.step("b", "a", now - 3000)
        await self.step("c", "b", now - 2000)
        await self.step("d", "", now - 5000)

    def keys(self) -> set[str]:
        return {entry.key for entry in self.cache.entries()}


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path / "host")
    await made.fill()
    return made


async def test_within_the_bounds_nothing_goes(bench: Bench) -> None:
    assert (await bench.limits(size=6 * SIZE, age=9000).collect_now()).items == ["m1"]
    assert (await bench.limits(size=5 * SIZE).collect_now()).items == []
    assert bench.keys() == {"a", "b", "c", "d"} and bench.host.rows("layers") == 4


async def test_the_longest_unused_goes_until_it_fits_with_its_layers(bench: Bench) -> None:
    bench.mounts.there = {}
    pruned = await bench.limits(size=3 * SIZE).collect_now()
    assert pruned.items == ["d"] and pruned.space == SIZE
    assert bench.host.rows("layers") == 3
    await bench.limits(size=SIZE).collect_now()
    assert bench.keys() == {"a"} and bench.host.rows("layers") == 1


async def test_what_is_too_old_goes(bench: Bench) -> None:
    await bench.limits(age=3500).collect_now()
    assert bench.keys() == {"a", "b", "c"} and set(bench.mounts.there) == {"m2"}


async def test_what_a_running_build_has_stays_with_all_below_it(bench: Bench) -> None:
    with bench.host.images.layers.lease() as lease:
        lease.add("layer", bench.chains["b"])
        steps = {step.key: step for step in await bench.limits().usage()}
        assert steps["b"].in_use and not steps["c"].in_use and steps["c"].parents == ("b",)
        pruned = await bench.limits().prune({}, all=True)
        assert set(pruned.items) == {"c", "d", "m1", "m2"} and bench.keys() == {"a", "b"}
    await bench.limits().prune({}, all=True)
    assert bench.keys() == set() and bench.host.rows("layers") == 0


async def test_a_mount_that_is_taken_meanwhile_stays(bench: Bench) -> None:
    bench.mounts.busy = {"m1"}
    pruned = await bench.limits().prune({"type": ["exec.cachemount"]})
    assert pruned.items == ["m2"] and pruned.space == SIZE and set(bench.mounts.there) == {"m1"}


async def test_what_an_image_has_stays_unless_all_is_to_go(bench: Bench) -> None:
    await bench.host.images.create_image(Image(architecture="amd64", os="linux"), bench.chains["b"], ["image"])
    pruned = await bench.limits().prune({})
    assert set(pruned.items) == {"c", "d", "m1", "m2"} and pruned.space == 4 * SIZE
    pruned = await bench.limits().prune({}, all=True)
    assert set(pruned.items) == {"a", "b"} and pruned.space == 0 and bench.host.rows("layers") == 2


async def test_filters_and_bounds_of_a_prune(bench: Bench) -> None:
    bench.mounts.there = {}
    assert (await bench.limits().prune({"until": ["75m"]})).items == ["d"]
    assert (await bench.limits().prune({"description": ["RUN c"]})).items == ["c"]
    assert (await bench.limits().prune({"parent": ["nobody"]})).items == []
    assert (await bench.limits().prune({}, keep=SIZE)).items == ["b"]
    assert (await bench.limits().prune({}, max_used=1 << 40)).items == []
    assert (await bench.limits().prune({}, min_free=1 << 60, keep=SIZE)).items == []
    assert (await bench.limits().prune({}, min_free=1 << 60)).items == ["a"]
    with pytest.raises(InvalidArgument, match="colour"):
        await bench.limits().prune({"colour": ["red"]})


async def test_directories_are_not_measured_after_every_build(bench: Bench) -> None:
    limits = bench.limits()
    for _ in range(3):
        await limits.collect_now()
    assert bench.mounts.measured == 1
    await limits.usage()
    assert bench.mounts.measured == 2
