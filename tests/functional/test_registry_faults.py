"""Pulls and pushes through a proxy that spoils what passes: whole and right, or not at all and with a clear error.

HOOPER_FAULT_SEEDS=500 runs that many seeds, HOOPER_FAULT_SEED=17 that one alone.
"""

from __future__ import annotations

import base64
import hashlib
import os
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from images_support import Host, tar_of
from test_registry_images import Pushed

from fault_proxy import FaultProxy
from hooper.api.errors import HooperError
from hooper.api.registry import Credentials
from hooper.testing.registry import Registry

pytestmark = pytest.mark.anyio
_SEEDS = int(os.environ.get("HOOPER_FAULT_SEEDS", "24"))
_ONE = os.environ.get("HOOPER_FAULT_SEED", "")
_AT_ONCE = 6
_TIMEOUT = 0.6
_USER = Credentials("ann", "secret")
_BASIC = "Basic " + base64.b64encode(b"ann:secret").decode()
_EXPECTED = {"unavailable", "unauthorized", "not-found", "data-loss", "forbidden", "invalid-argument", "unsupported"}


def image_of(chance: random.Random) -> Pushed:
    """Layers of very different sizes, some that shrink and some that do not."""
    sizes = [chance.choice((10, 5_000, 200_000, 1_500_000)) for _ in range(chance.randrange(1, 5))]
    return Pushed(
        docker=chance.random() < 0.5,
        layers=[tar_of({f"{n}": chance.randbytes(size), "zero": bytes(size)}) for n, size in enumerate(sizes)],
    )


class Run:
    """One seed: an image in a registry, a proxy in front, an engine."""

    def __init__(self, seed: int, registry: Registry, root: Path) -> None:
        self.chance, self.registry, self.root = random.Random(seed), registry, root
        self.pushed = image_of(self.chance)
        self.repository = f"run/{seed}"
        self.failed: HooperError | None = None
        self.host = Host(root)
        rate = self.chance.choice((0.1, 0.3, 0.6))
        self.proxy = FaultProxy(registry.host, self.chance, rate, stall=2 * _TIMEOUT)
        self.proxy.trusted = _BASIC

    def in_a_hurry(self) -> None:
        """Settings with which a fault costs little time."""
        self.host.configure(
            timeout=_TIMEOUT, retries=self.chance.choice((0, 2, 4)), min_rate=4096, answer_timeout=2.0,
            chunk=self.chance.choice((0, 0, 50_000)),
        )  # fmt: skip

    async def pull(self) -> None:
        await self.pushed.push(self.registry.host, self.repository, "1", _USER)
        name = f"{self.proxy.host}/{self.repository}:1"
        self.in_a_hurry()
        try:
            await self.host.images.pull(name, self.host.sink, credentials=_USER)
        except HooperError as error:
            self.failed = error
            self.check_absent()
            kept = self.check_kept()
            self.proxy.rate = 0.0
            self.host.configure()
            self.host.messages.clear()
            await self.host.images.pull(name, self.host.sink, credentials=_USER)
            again = {m["id"] for m in self.host.messages if m["status"] == "Already exists"}
            assert kept <= again
        self.check_present()
        await self.host.images.remove(name)
        await self.check_empty()

    async def push(self) -> None:
        direct = f"{self.registry.host}/{self.repository}:1"
        await self.pushed.push(self.registry.host, self.repository, "1", _USER)
        await self.host.images.pull(direct, self.host.sink, credentials=_USER)
        name = f"{self.proxy.host}/{self.repository}/copy:2"
        await self.host.images.tag(direct, name)
        self.in_a_hurry()
        try:
            await self.host.images.push(name, self.host.sink, credentials=_USER)
        except HooperError as error:
            self.failed = error
            self.proxy.rate = 0.0
            self.host.configure()
            await self.host.images.push(name, self.host.sink, credentials=_USER)
        other = Host(self.root / "other")
        pushed = f"{self.registry.host}/{self.repository}/copy:2"
        assert await other.images.pull(pushed, other.sink, credentials=_USER) == self.pushed.id
        assert self.host.rows("leases") == 0

    def check_absent(self) -> None:
        error = self.failed
        assert error is not None and error.kind in _EXPECTED, repr(error)
        assert error.what and (error.why or error.remedy), repr(error)
        assert self.host.rows("images") == self.host.rows("tags") == 0
        self.check_blobs()

    def check_kept(self) -> set[str]:
        """Of each layer that was complete, the digits that progress shows."""
        done = {m["id"] for m in self.host.messages if m["status"] == "Pull complete"}
        assert self.host.rows("layers") == len(self.host.tars.snapshots) >= len(done)
        assert not any(key.startswith("extract-") for key in self.host.tars.snapshots)
        return done

    def check_present(self) -> None:
        assert self.host.rows("images") == 1 and self.host.rows("leases") == 0
        assert self.host.images.store.config(self.pushed.id) == self.pushed.config
        assert list(self.host.tars.tars.values()) == list(self.layers)
        self.check_blobs()

    @property
    def layers(self) -> Sequence[bytes]:
        return list(dict.fromkeys(self.pushed.layers))

    def check_blobs(self) -> None:
        for digest, _ in self.host.content.walk():
            found = hashlib.sha256(self.host.content.path(digest).read_bytes()).hexdigest()
            assert f"sha256:{found}" == digest

    async def check_empty(self) -> None:
        await self.host.images.prune({})
        for table in ("images", "layers", "blobs", "leases", "tags", "repo_digests"):
            assert self.host.rows(table) == 0, table
        assert list(self.host.content.walk()) == [] and self.host.tars.snapshots == {}
        left = list((self.root / "content" / "ingest").iterdir()) + list((self.root / "scratch").glob("*"))
        assert left == []


async def test_whatever_goes_wrong_an_image_is_right_or_absent(tmp_path: Path) -> None:
    seeds = [int(_ONE)] if _ONE else range(_SEEDS)
    faults: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    limiter = anyio.CapacityLimiter(_AT_ONCE)

    async def run(seed: int, registry: Registry) -> None:
        async with limiter:
            one = Run(seed, registry, tmp_path / str(seed))
            try:
                async with one.proxy:
                    await (one.push() if seed % 4 == 3 else one.pull())
            except BaseException as error:
                error.add_note(f"HOOPER_FAULT_SEED={seed}; faults {dict(one.proxy.done)}; first failure {one.failed!r}")
                raise
            assert one.proxy.leaked == []
            faults.update(one.proxy.done)
            outcomes[f"{'push' if seed % 4 == 3 else 'pull'} {one.failed.kind if one.failed else 'right'}"] += 1

    async with (
        Registry(tmp_path / "a", users={"ann": "secret"}) as basic,
        Registry(tmp_path / "b", users={"ann": "secret"}, tokens=True) as tokens,
        anyio.create_task_group() as group,
    ):
        for seed in seeds:
            group.start_soon(run, seed, (basic, tokens)[seed % 2])
    print(f"faults {dict(faults)}\noutcomes {dict(outcomes)}")
    if not _ONE:
        assert len(faults) >= 10 and outcomes["pull right"] and outcomes["pull unavailable"]
