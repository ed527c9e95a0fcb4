"""Names, filters, removal and collection of images."""

from __future__ import annotations

from pathlib import Path

import pytest
from images_support import Host, tar_of

from hooper.api.engine import Deleted
from hooper.api.errors import Conflict, InvalidArgument, NotFound
from hooper.api.model import Image, ImageConfig

pytestmark = pytest.mark.anyio


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path / "host")


async def layer(host: Host, content: bytes, parent: str = "") -> str:
    await host.tars.prepare("step", parent)
    host.tars.tars["step"] = tar_of({"file": content})
    return (await host.images.layers.adopt("step", parent)).chain_id


async def image(host: Host, *tags: str, chain: str = "", created: str = "2026-01-01T00:00:00Z", **labels: str) -> str:
    value = Image(architecture="amd64", os="linux", created=created, config=ImageConfig(labels=labels or None))
    return await host.images.create_image(value, chain, tags)


async def test_an_image_is_found_by_all_its_names(host: Host) -> None:
    image_id = await image(host, "app", "me/app:2")
    bare = image_id.removeprefix("sha256:")
    names = ("app", "app:latest", "docker.io/library/app:latest", "me/app:2", image_id, bare, bare[:12], image_id[:20])
    for name in names:
        assert (await host.images.get(name)).id == image_id
    for name, shown in {"nope": "nope:latest", "me/app": "me/app:latest", "0" * 64: "0" * 64, "app:3": "app:3"}.items():
        with pytest.raises(NotFound, match=f"No such image: {shown}"):
            await host.images.get(name)


async def test_a_prefix_of_several_images_is_refused(host: Host) -> None:
    ids = [await image(host, created=f"2026-01-01T00:00:{second:02}Z") for second in range(17)]
    first = next(digit for digit in "0123456789abcdef" if sum(i[7] == digit for i in ids) > 1)
    with pytest.raises(InvalidArgument, match="Multiple IDs"):
        await host.images.get(first)


async def test_a_name_wins_over_a_prefix(host: Host) -> None:
    first = await image(host)
    second = await image(host, first[7:19], created="2026-01-02T00:00:00Z")
    assert (await host.images.get(first[7:19])).id == second


async def test_a_tag_moves(host: Host) -> None:
    old = await image(host, "app:1")
    new = await image(host, created="2026-01-02T00:00:00Z")
    await host.images.tag(new, "app:1")
    assert (await host.images.get("app:1")).id == new
    assert (await host.images.get(old)).tags == []
    with pytest.raises(InvalidArgument):
        await host.images.tag(new, f"app@{old}")


async def test_filters(host: Host) -> None:
    for number in range(3):
        await image(host, f"team/app:{number}", created=f"2026-01-0{number + 1}T00:00:00Z", number=str(number))
    nameless = await image(host, created="2026-02-01T00:00:00Z")

    async def shown(**filters: list[str]) -> list[str]:
        found = await host.images.list(filters={name.replace("_", "!"): values for name, values in filters.items()})
        return [(i.tags or [i.id])[0] for i in found]

    assert await shown() == [nameless, "team/app:2", "team/app:1", "team/app:0"]
    assert await shown(dangling=["true"]) == [nameless]
    assert await shown(dangling=["false"]) == ["team/app:2", "team/app:1", "team/app:0"]
    assert await shown(label=["number=1"]) == ["team/app:1"]
    assert await shown(label_=["number=1"], reference=["*/*"]) == ["team/app:2", "team/app:0"]
    assert await shown(before=["team/app:1"]) == ["team/app:0"]
    assert await shown(since=["team/app:1"]) == [nameless, "team/app:2"]
    assert await shown(reference=["team/app"]) == ["team/app:2", "team/app:1", "team/app:0"]
    assert await shown(reference=["team/*:[01]"]) == ["team/app:1", "team/app:0"]
    assert await shown(reference=["*app"]) == []
    assert await shown(until=["2026-01-02T00:00:00Z"]) == ["team/app:1", "team/app:0"]
    with pytest.raises(InvalidArgument, match="invalid filter 'colour'"):
        await shown(colour=["red"])


async def test_removing_a_name_and_then_the_image(host: Host) -> None:
    chain = await layer(host, b"1")
    image_id = await image(host, "app:1", "app:2", chain=chain)
    assert await host.images.remove("app:1") == [Deleted(untagged="app:1")]
    removed = await host.images.remove("app:2")
    assert removed == [Deleted(untagged="app:2"), Deleted(deleted=image_id), Deleted(deleted=chain)]
    assert host.tars.snapshots == {} and host.rows("blobs") == 0
    assert [event[1] for event in host.events] == ["tag", "tag", "untag", "untag", "delete"]


async def test_removing_by_id_needs_force_for_several_names(host: Host) -> None:
    image_id = await image(host, "app:1", "other:1")
    with pytest.raises(Conflict, match=r"must be forced.*image is referenced in multiple repositories"):
        await host.images.remove(image_id)
    removed = await host.images.remove(image_id, force=True)
    assert [d.untagged for d in removed] == ["app:1", "other:1", ""]
    assert await host.images.list() == []


async def test_containers_keep_their_image(host: Host) -> None:
    image_id = await image(host, "app:1")
    short = image_id[7:19]
    host.images.containers_using = lambda wanted: [("c" * 64, "web", False)] if wanted == image_id else []
    text = (
        rf'remove repository reference "app:1" \(must force\) - container c{{12}} is using its referenced image {short}'
    )
    with pytest.raises(Conflict, match=text):
        await host.images.remove("app:1")
    with pytest.raises(
        Conflict, match=rf"unable to delete {short} \(must be forced\) - image is being used by stopped"
    ):
        await host.images.remove(short)
    host.images.containers_using = lambda wanted: [("c" * 64, "web", True)]
    with pytest.raises(Conflict, match=r"cannot be forced\) - image is being used by running container c{12}"):
        await host.images.remove(short, force=True)
    assert await host.images.remove("app:1", force=True) == [Deleted(untagged="app:1")]
    assert (await host.images.get(short)).tags == []
    assert (await host.images.prune({})).items == []
    host.images.containers_using = lambda wanted: [("c" * 64, "web", False)]
    assert Deleted(deleted=image_id) in await host.images.remove(short, force=True)


async def test_a_layer_goes_only_when_nothing_refers_to_it(host: Host) -> None:
    low = await layer(host, b"1")
    high = await layer(host, b"2", low)
    top = await image(host, "top", chain=high)
    await image(host, "base", chain=low, created="2026-01-02T00:00:00Z")
    assert Deleted(deleted=high) in await host.images.remove("top")
    assert set(host.tars.snapshots) == {low}
    await host.tars.prepare("container", low)
    await host.images.remove("base")
    assert set(host.tars.snapshots) == {low, "container"}
    await host.tars.remove("container")
    with host.images.layers.lease() as lease:
        lease.add("layer", low)
        assert (await host.images.collector.collect()).layers == []
    assert (await host.images.collector.collect()).layers == [low]
    assert not host.images.store.exists(top)


async def test_prune_takes_the_nameless_or_all_unused(host: Host) -> None:
    size = len(tar_of({"file": b"1"}))
    nameless = await image(host, chain=await layer(host, b"1"))
    named = await image(host, "app:1", created="2026-01-02T00:00:00Z", keep="no")
    pruned = await host.images.prune({})
    assert nameless in pruned.items and named not in pruned.items
    assert pruned.space >= size
    assert (await host.images.prune({"dangling": ["false"], "label!": ["keep=no"]})).items == []
    assert named in (await host.images.prune({"dangling": ["false"]})).items
    assert await host.images.list() == []
