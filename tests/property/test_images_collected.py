"""Collection of layers and blobs beside pulls, tags, removals and leases: what is used stays, nothing else is left."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import anyio
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "functional"))
from images_support import Host, tar_of

from hooper.api.errors import Conflict, HooperError, NotFound
from hooper.api.model import Image, ImageConfig
from hooper.testing.registry import Registry

pytestmark = pytest.mark.anyio
_TAGS = [f"t{number}" for number in range(4)]
_STEPS = 25


async def built(host: Host, chance: random.Random, name: str) -> str:
    """An image of up to three layers, some of which others have too; a lease keeps them until the image is there."""
    chain = ""
    with host.images.layers.lease() as lease:
        for _ in range(chance.randint(1, 3)):
            key = f"step-{chance.getrandbits(64):x}"
            await host.tars.prepare(key, chain)
            host.tars.tars[key] = tar_of({"file": str(chance.randint(0, 5)).encode() * 500})
            chain = (await host.images.layers.adopt(key, chain, lease)).chain_id
            await anyio.sleep(0)
            host.images.layers.ancestry(chain)
        config = ImageConfig(labels={"n": str(chance.randint(0, 9))})
        return await host.images.create_image(Image(os="linux", architecture="amd64", config=config), chain, [name])


async def step(host: Host, registry: Registry, chance: random.Random) -> None:
    local, remote = chance.choice(_TAGS), f"{registry.host}/app:{chance.choice(_TAGS)}"
    try:
        match chance.choice(("build", "push", "pull", "tag", "remove", "force", "prune", "collect")):
            case "build":
                await built(host, chance, f"local:{local}")
            case "push":
                await host.images.tag(f"local:{local}", remote)
                await host.images.push(remote, host.sink)
            case "pull":
                await host.images.pull(remote, host.sink)
            case "tag":
                await host.images.tag(f"local:{local}", f"local:{chance.choice(_TAGS)}")
            case "remove":
                await host.images.remove(chance.choice((remote, f"local:{local}")))
            case "force":
                for image in (await host.images.list(all=True))[:1]:
                    await host.images.remove(image.id, force=True)
            case "prune":
                await host.images.prune({})
            case "collect":
                await host.images.collector.collect()
    except (NotFound, Conflict):
        return  # somebody else was there first


async def check_whole(host: Host, path: Path) -> None:
    """Every image has all its layers: it can be saved and its configuration read."""
    for image in await host.images.list(all=True):
        with path.open("wb") as file:
            await host.images.save([image.id], file.fileno())


@pytest.mark.parametrize("seed", range(6))
async def test_nothing_in_use_goes_and_nothing_unused_stays(tmp_path: Path, seed: int) -> None:
    host, faults = Host(tmp_path / "host"), list[HooperError]()

    async def work(number: int) -> None:
        chance = random.Random(seed * 100 + number)
        for _ in range(_STEPS):
            try:
                await step(host, registry, chance)
            except HooperError as error:
                faults.append(error)

    async with Registry() as registry:
        async with anyio.create_task_group() as group:
            for number in range(4):
                group.start_soon(work, number)
        assert faults == []
        await check_whole(host, tmp_path / "saved.tar")
        for image in await host.images.list(all=True):
            await host.images.remove(image.id, force=True)
        host.images.collector.forget_left()
        await host.images.collector.collect()
    assert [host.rows(table) for table in ("images", "tags", "repo_digests", "layers", "blobs", "leases")] == [0] * 6
    assert host.tars.snapshots == {} and list(host.content.walk()) == []
