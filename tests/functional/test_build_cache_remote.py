"""--cache-from and --cache-to between engines: registry, local directory, inline. On real storage drivers."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from build_results_support import KINDS, NOTHING, Bench, Client, bench, building

from hooper.api.build_session import NoSession
from hooper.api.builder import BuildRequest, CacheSpec, OutputSpec
from hooper.api.errors import InvalidArgument, NotFound, Unavailable
from hooper.api.manifests import digest_of
from hooper.api.model import Image, RootFS
from hooper.engine.build_cache_formats import Record, with_inline
from hooper.engine.build_cache_remote import RemoteCache, check_caches
from hooper.engine.build_export import Exporter
from hooper.engine.build_image import Made
from hooper.testing.registry import Registry

pytestmark = [pytest.mark.anyio, pytest.mark.root]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(KINDS[0], tmp_path / "here") as one:
        yield one


@pytest.fixture(params=KINDS, ids=["overlay", "vfs"])
async def there(request: Any, tmp_path: Path) -> AsyncIterator[Bench]:
    """Another engine."""
    async with bench(request.param, tmp_path / "there") as one:
        yield one


@pytest.fixture
async def elsewhere(tmp_path: Path) -> AsyncIterator[Bench]:
    """Another engine, on the first driver alone."""
    async with bench(KINDS[0], tmp_path / "elsewhere") as one:
        yield one


def cache(one: Bench, session: Any = None) -> RemoteCache:
    return RemoteCache(one.host.images, one.layers, session or NoSession(), {}, one.told)


async def solved(one: Bench) -> tuple[Made, list[Record]]:
    """The result of a build of three steps, and one more that it copied from."""
    base = await one.step(NOTHING, {"base": b"b" * 100000})
    first = await one.step(base, {"first": b"1"})
    result = await one.step(first, {"second": b"2", ".wh.first": b""})
    other = await one.step(base, {"other": b"o"})
    records = [
        Record(key=key, diff_ids=made.diff_ids, created=made.created, added=True, description=f"RUN {key}")
        for key, made in (("k1", first), ("k2", result), ("other", other))
    ]
    return result, [*records, Record(key="same", diff_ids=result.diff_ids, parent="k2")]


async def check_found(there: Bench, found: RemoteCache, result: Made) -> None:
    assert await found.find("unknown") is None
    made = await found.find("k2")
    assert made == msgspec.structs.replace(result, added=True)
    assert {name: content for name, (content, _) in (await there.files(made)).items()} == {
        "base": b"b" * 100000, "second": b"2",
    }  # fmt: skip
    assert (await found.find("same")) == msgspec.structs.replace(result, created="", added=False)
    assert there.told.notes() == ""


@pytest.mark.parametrize("mode", ["", "min", "max"])
async def test_by_a_registry(here: Bench, there: Bench, mode: str) -> None:
    result, records = await solved(here)
    async with Registry() as registry:
        spec = CacheSpec("registry", {"ref": f"{registry.host}/app:cache"} | ({"mode": mode} if mode else {}))
        await cache(here).store([CacheSpec("inline"), spec], records, result)
        found = cache(there)
        await found.load([spec])
        assert not any(request.method == "GET" and "cache" in request.path for request in registry.requests)
        await check_found(there, found, result)
        assert (await found.find("other") is not None) == (mode == "max")
        # What is in place needs no registry.
        before = len(registry.requests)
        assert await found.find("k1") is not None and len(registry.requests) == before


async def test_layers_are_fetched_when_their_step_is_wanted(here: Bench, elsewhere: Bench) -> None:
    result, records = await solved(here)
    async with Registry() as registry:
        spec = CacheSpec("registry", {"ref": f"{registry.host}/app:cache", "mode": "max"})
        await cache(here).store([spec], records, result)
        found = cache(elsewhere)
        await found.load([spec])
        assert await found.find("nobody has it") is None and elsewhere.host.rows("layers") == 0
        assert await found.find("k1") is not None and elsewhere.host.rows("layers") == 2
        await elsewhere.host.images.collector.collect()
        assert elsewhere.host.rows("layers") == 2  # as long as the build lasts


async def test_a_layer_that_the_registry_has_is_not_sent_again(here: Bench) -> None:
    result, records = await solved(here)
    async with Registry() as registry:
        spec = CacheSpec("registry", {"ref": f"{registry.host}/app:cache"})
        for _ in range(2):
            before = len(registry.requests)
            await cache(here).store([spec], records, result)
        assert not [request.method for request in registry.requests[before:] if request.method in ("POST", "PATCH")]


async def test_by_a_directory(here: Bench, there: Bench) -> None:
    result, records = await solved(here)
    client = Client()
    await cache(here, client).store([CacheSpec("local", {"dest": "d", "mode": "max"})], records, result)
    sent = client.received("cache-out", "0")
    with tarfile.open(fileobj=io.BytesIO(sent)) as archive:
        assert {"index.json", "oci-layout"} <= set(archive.getnames())
    client.sends["cache-in", "0"] = sent
    found = cache(there, client)
    await found.load([CacheSpec("local", {"src": "d"})])
    assert client.opened == [("cache-out", "0")]
    await check_found(there, found, result)
    assert await found.find("other") is not None
    assert client.opened == [("cache-out", "0"), ("cache-in", "0")]


async def test_inline_in_an_image(here: Bench, there: Bench) -> None:
    result, records = await solved(here)
    image = with_inline(Image(architecture="amd64", os="linux", rootfs=RootFS(list(result.diff_ids))), records)
    async with Registry() as registry:
        name = f"{registry.host}/app:1"
        exporter = Exporter(here.host.images, here.layers, here.workers)
        await exporter.export(
            OutputSpec("image", {"name": name, "push": "true"}), image, result.chain, tags=[], session=NoSession(),
            index=0, request=BuildRequest(), progress=here.told,
        )  # fmt: skip
        found = cache(there)
        await found.load([CacheSpec("registry", {"ref": name})])
        await check_found(there, found, result)
        assert await found.find("other") is None
        await there.host.images.pull(name, there.host.sink)
    # The image that is here serves without its registry.
    async with building(there.host) as again:
        found = cache(again)
        await found.load([CacheSpec("registry", {"ref": name})])
        assert (await found.find("k1")) is not None and again.told.notes() == ""


async def test_a_source_that_is_missing_is_told_of_once_and_passed_over(here: Bench, elsewhere: Bench) -> None:
    result, records = await solved(here)
    async with Registry() as registry:
        good = CacheSpec("registry", {"ref": f"{registry.host}/app:cache"})
        await cache(here).store([good], records, result)
        found = cache(elsewhere, Client())
        nowhere = CacheSpec("registry", {"ref": "127.0.0.1:1/app"})
        absent = CacheSpec("registry", {"ref": f"{registry.host}/app:other"})
        await found.load([nowhere, absent, CacheSpec("local", {"src": "d"}), good])
        assert (await found.find("k1")) is not None
        assert (await found.find("k2")) is not None
    notes = elsewhere.told.notes().splitlines()
    assert len(notes) == 3 and all("is not used" in note for note in notes)
    assert "127.0.0.1:1/app" in notes[0] and "none yet" in notes[1] and "local d" in notes[2]


async def test_a_layer_that_is_not_what_it_should_be_is_not_taken(here: Bench, elsewhere: Bench) -> None:
    result, records = await solved(here)
    async with Registry() as registry:
        spec = CacheSpec("registry", {"ref": f"{registry.host}/app:cache", "mode": "max"})
        await cache(here).store([spec], records, result)
        async with httpx.AsyncClient() as client:
            manifest = (await client.get(f"http://{registry.host}/v2/app/manifests/cache")).json()
            config = manifest["config"]["digest"]
            document = (await client.get(f"http://{registry.host}/v2/app/blobs/{config}")).json()
            document["layers"][1]["diffId"] = result.diff_ids[2]
            data = json.dumps(document).encode()
            digest = digest_of(data)
            upload = await client.post(f"http://{registry.host}/v2/app/blobs/uploads/")
            place = httpx.URL(upload.headers["location"]).copy_merge_params({"digest": digest})
            assert (await client.put(httpx.URL(f"http://{registry.host}").join(place), content=data)).status_code == 201
            manifest["config"] |= {"digest": digest, "size": len(data)}
            answer = await client.put(
                f"http://{registry.host}/v2/app/manifests/cache", content=json.dumps(manifest).encode(),
                headers={"content-type": manifest["mediaType"]},
            )  # fmt: skip
            assert answer.status_code == 201
        found = cache(elsewhere)
        await found.load([spec])
        assert await found.find("k1") is None
    assert "is damaged" in elsewhere.told.notes()


@pytest.mark.parametrize(
    "damage", [lambda tar: tar[: len(tar) // 2], lambda tar: b"", lambda tar: b"no tar at all" * 99]
)
async def test_a_directory_that_is_damaged_is_passed_over(here: Bench, elsewhere: Bench, damage: Any) -> None:
    result, records = await solved(here)
    client = Client()
    await cache(here, client).store([CacheSpec("local", {"dest": "d"})], records, result)
    client.sends["cache-in", "0"] = damage(client.received("cache-out", "0"))
    found = cache(elsewhere, client)
    await found.load([CacheSpec("local", {"src": "d"})])
    assert await found.find("k2") is None
    assert "local d is not used" in elsewhere.told.notes()


async def test_a_target_that_fails_fails_the_build_unless_that_is_to_be_ignored(here: Bench) -> None:
    result, records = await solved(here)
    spec = CacheSpec("registry", {"ref": "127.0.0.1:1/app:cache"})
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1/app:cache was not written"):
        await cache(here).store([spec], records, result)
    await cache(here).store(
        [msgspec.structs.replace(spec, attrs=spec.attrs | {"ignore-error": "true"})], records, result
    )
    assert "was not written" in here.told.notes()
    with pytest.raises(NotFound, match="hooper build"):
        await cache(here).store([CacheSpec("local", {"dest": "d"})], records, result)
    with pytest.raises(Unavailable, match="disk full"):
        await cache(here, Client(says=b"disk full")).store([CacheSpec("local", {"dest": "d"})], records, result)


@pytest.mark.parametrize(
    ("sources", "targets", "named"),
    [
        ([CacheSpec("gha")], [], "gha"),
        ([CacheSpec("inline")], [], "inline"),
        ([CacheSpec("registry")], [], "ref="),
        ([], [CacheSpec("registry", {"ref": "UPPER"})], "UPPER"),
        ([], [CacheSpec("local", {"dest": "d", "mode": "most"})], "mode=most"),
        ([], [CacheSpec("s3")], "s3"),
        ([], [CacheSpec("local", {"dest": "d", "mod": "max"})], "mod"),
        ([], [CacheSpec("registry", {"ref": "r/a", "compression": "zstd"})], "compression=gzip"),
        ([CacheSpec("local", {"src": "d", "compression": "zstd"})], [], "compression"),
    ],
)
async def test_what_cannot_be_is_refused_before_any_work(sources: Any, targets: Any, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        check_caches(sources, targets)
