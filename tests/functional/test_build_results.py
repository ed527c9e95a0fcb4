"""What becomes of a solved build: outputs, squashing, times. On real storage drivers."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import msgspec
import pytest
from build_results_support import KINDS, NOTHING, Bench, Client, bench, files_of

from hooper.api.build_session import NoSession
from hooper.api.builder import BuildRequest, OutputSpec
from hooper.api.errors import InvalidArgument, NotFound, Unavailable
from hooper.api.model import History, Image, ImageConfig, RootFS
from hooper.engine.build_export import Exporter, check_outputs
from hooper.engine.build_squash import squash
from hooper.testing.registry import Registry

pytestmark = [pytest.mark.anyio, pytest.mark.root]
EPOCH = 1_600_000_000


@pytest.fixture(params=KINDS, ids=["overlay", "vfs"])
async def made(request: Any, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(request.param, tmp_path / "host") as one:
        yield one


# --- times --------------------------------------------------------------------------------------------


async def steps(one: Bench, epoch: int, now: int) -> list[str]:
    """A base that is younger than the epoch, and steps on it that write, change, replace and delete."""
    later = EPOCH + 500
    base = await one.step(NOTHING, {"etc": None, "etc/a": b"a", "etc/b": b"b", "old": None, "old/x": b"x"}, mtime=later)
    run = await one.step(base, {"etc/new": b"1", ".wh.gone": b"", "etc/.wh.b": b"", "work": None}, epoch=epoch,
                         onto=True, mtime=now)  # fmt: skip
    copy = await one.step(run, {"etc/a": b"A", "before": b"2"}, epoch=epoch, mtime=EPOCH - 7)
    last = await one.step(copy, {"etc/new": b"3", "old/.wh.x": b"", "work/x/y": b""}, epoch=epoch, mtime=later + 9)
    found = await one.files(last)
    assert found["etc/new"] == (b"3", EPOCH) and found["before"] == (b"2", EPOCH - 7)
    # What is the base's stays as it was.
    assert found["old"][1] == EPOCH or found["old"][1] == later
    assert "etc/b" not in found and "old/x" not in found
    return list(last.diff_ids)


async def test_the_same_steps_make_the_same_layers_on_every_driver_at_every_time(tmp_path: Path) -> None:
    found = []
    for number, kind in enumerate([*KINDS, KINDS[0]]):
        async with bench(kind, tmp_path / str(number)) as one:
            found.append(await steps(one, EPOCH, now=int(time.time()) + 10 * number))
    assert found[0] == found[1] == found[2]


async def test_without_an_epoch_times_are_what_they_are(made: Bench) -> None:
    layer = await made.step(NOTHING, {"a": b"a"}, mtime=EPOCH + 5)
    assert (await made.files(layer))["a"][1] == EPOCH + 5


# --- outputs ------------------------------------------------------------------------------------------


def image(*diff_ids: str, **more: Any) -> Image:
    return Image(architecture="amd64", os="linux", rootfs=RootFS(list(diff_ids)), config=ImageConfig(cmd=["x"]), **more)


async def export(one: Bench, output: OutputSpec, made: Any, session: Any, **request: Any) -> Any:
    exporter = Exporter(one.host.images, one.layers, one.workers)
    tags = request.pop("tags", [])
    return await exporter.export(
        output, image(*made.diff_ids), made.chain, tags=tags, session=session, index=1,
        request=BuildRequest(**request), progress=one.told,
    )  # fmt: skip


@pytest.mark.parametrize("type", ["local", "tar"])
async def test_the_file_system_as_a_tar(made: Bench, type: str) -> None:
    base = await made.step(NOTHING, {"etc": None, "etc/a": b"a", "gone": b""}, mtime=EPOCH)
    top = await made.step(base, {"b": b"b", ".wh.gone": b""}, onto=True, mtime=EPOCH + 100)
    client = Client()
    exported = await export(made, OutputSpec(type), top, client)
    assert (exported.type, exported.image_id) == (type, "") and client.opened == [("output", "1")]
    assert files_of(client.received()) == {"etc": (b"", EPOCH), "etc/a": (b"a", EPOCH), "b": (b"b", EPOCH + 100)}
    client = Client()
    await export(made, OutputSpec(type), top, client, source_date_epoch=EPOCH + 1)
    assert files_of(client.received())["b"] == (b"b", EPOCH + 1)


async def test_of_scratch_there_is_an_empty_tar(made: Bench) -> None:
    client = Client()
    await export(made, OutputSpec("local"), NOTHING, client)
    assert files_of(client.received()) == {}


@pytest.mark.parametrize("compression", ["", "gzip", "uncompressed"])
@pytest.mark.parametrize("type", ["oci", "docker"])
async def test_the_image_as_an_archive(made: Bench, type: str, compression: str) -> None:
    base = await made.step(NOTHING, {"a": b"a" * 5000})
    top = await made.step(base, {"b": b"b"})
    client, attrs = Client(), {"name": "other:2,third"} | ({"compression": compression} if compression else {})
    exported = await export(made, OutputSpec(type, attrs), top, client, tags=["name:1"], annotations={"k": "v"})
    assert exported.names == ("name:1", "other:2", "third:latest") and not exported.image_id
    assert made.host.rows("images") == 0
    sent = client.received()
    with tarfile.open(fileobj=io.BytesIO(sent)) as archive:

        def read(name: str) -> Any:
            return json.loads(archive.extractfile(name).read())  # type: ignore[union-attr]

        index = read("index.json")
        assert {entry["digest"] for entry in index["manifests"]} == {exported.digest}
        manifest = read(f"blobs/sha256/{exported.digest[7:]}")
        assert manifest["annotations"] == {"k": "v"}
        assert [layer["mediaType"].endswith("+gzip") for layer in manifest["layers"]] == [compression == "gzip"] * 2
        assert ("manifest.json" in archive.getnames()) == (type == "docker")
    before = made.host.rows("images")
    with tempfile.TemporaryFile() as file:
        file.write(sent)
        file.seek(0)
        loaded = await made.host.images.load(file.fileno(), made.host.sink)
    assert loaded == ["name:1", "other:2", "third:latest"] and made.host.rows("images") == before + 1
    assert (await made.host.images.get("third")).image.config.cmd == ["x"]


@pytest.mark.parametrize("type", ["tar", "oci"])
async def test_a_client_that_goes_or_has_no_room_is_one_error(made: Bench, type: str) -> None:
    big = await made.step(NOTHING, {str(number): bytes(1 << 20) for number in range(4)})
    with pytest.raises(Unavailable, match=f"output {type}"):
        await export(made, OutputSpec(type), big, Client(takes=1000))
    with pytest.raises(Unavailable, match="no space left"):
        await export(made, OutputSpec(type), big, Client(takes=1000, says=b"no space left"))
    with pytest.raises(Unavailable, match="no space left"):
        await export(made, OutputSpec(type), big, Client(says=b"no space left"))


async def test_a_client_that_stops_reading_does_not_hold_a_cancelled_build(made: Bench) -> None:
    big = await made.step(NOTHING, {"big": bytes(8 << 20)})
    for type in ("tar", "oci"):
        client = Client(takes=0, stalls=True)
        with anyio.move_on_after(0.5) as scope:
            await export(made, OutputSpec(type), big, client)
        assert scope.cancelled_caught
        client.end()


async def test_a_client_without_streams_is_told_what_can(made: Bench) -> None:
    with pytest.raises(NotFound, match="hooper build"):
        await export(made, OutputSpec("local"), NOTHING, NoSession())


async def test_an_image_is_stored_under_all_its_names(made: Bench) -> None:
    top = await made.step(NOTHING, {"a": b"a"})
    exported = await export(made, OutputSpec("image", {"name": "x:1,y"}), top, NoSession(), tags=["z:3", "x:1"])
    assert exported.names == ("z:3", "x:1", "y:latest") and not exported.digest
    for name in exported.names:
        assert (await made.host.images.get(name)).id == exported.image_id
    again = await export(made, OutputSpec("image"), top, NoSession())
    assert again.image_id == exported.image_id


@pytest.mark.parametrize("annotations", [{}, {"org.opencontainers.image.title": "t"}])
async def test_a_pushed_image_is_in_the_registry(made: Bench, annotations: dict[str, str]) -> None:
    top = await made.step(NOTHING, {"a": b"a"})
    async with Registry() as registry:
        name = f"{registry.host}/app:1"
        attrs = {"name": name, "push": "true", "annotation.more": "m"} if annotations else {"name": name, "push": ""}
        exported = await export(made, OutputSpec("image", attrs), top, NoSession(), annotations=annotations)
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://{registry.host}/v2/app/manifests/1")
        manifest = answer.json()
        assert answer.headers["docker-content-digest"] == exported.digest
        assert manifest["config"]["digest"] == exported.image_id
        assert manifest.get("annotations", {}) == (annotations | {"more": "m"} if annotations else {})
        summary = await made.host.images.get(name)
        assert summary.digests == [f"{registry.host}/app@{exported.digest}"]
        # Pushed again, it is the same manifest.
        await made.host.images.tag(name, f"{registry.host}/app:2")
        await made.host.images.push(f"{registry.host}/app:2", made.host.sink)
        assert f"digest: {exported.digest}" in str(made.host.messages)


async def test_a_push_that_fails_leaves_the_image_here(made: Bench) -> None:
    top = await made.step(NOTHING, {"a": b"a"})
    with pytest.raises(Unavailable):
        await export(made, OutputSpec("registry", {"name": "127.0.0.1:1/app:1"}), top, NoSession())
    assert (await made.host.images.get("127.0.0.1:1/app:1")).size > 0


@pytest.mark.parametrize(
    ("output", "named"),
    [
        (OutputSpec("oci-zip"), "oci-zip"),
        (OutputSpec("image", {"pusch": "true"}), "pusch"),
        (OutputSpec("oci", {"compression": "lzma"}), "lzma"),
        (OutputSpec("image", {"push": "true"}), "without a name"),
        (OutputSpec("image", {"push": "true", "name": "a@sha256:" + "0" * 64}), "digest"),
    ],
)
async def test_an_output_that_cannot_be_is_refused_before_any_work(output: OutputSpec, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        check_outputs([output])


# --- squash -------------------------------------------------------------------------------------------


async def test_squashed_is_one_layer_with_all_that_changed(made: Bench) -> None:
    base = await made.step(NOTHING, {"etc": None, "etc/a": b"a", "etc/b": b"b", "d": None, "d/x": b"x"})
    one = await made.step(base, {"new": b"1", "later-gone": b"2", "etc/.wh.a": b""})
    two = await made.step(one, {".wh.later-gone": b"", ".wh.d": b"", "new": b"3"}, onto=True)
    old = image(*base.diff_ids, history=[History(created="t0", created_by="base")], created="t0")
    whole = image(
        *two.diff_ids,
        history=[*old.history, History(created="t1", created_by="one"), History(created="t2", created_by="two")],
        created="t2",
    )
    squashed, chain = await squash(made.host.images, made.layers, whole, old, "sha256:base")
    assert squashed.rootfs.diff_ids[:-1] == list(base.diff_ids) and len(squashed.rootfs.diff_ids) == 2
    assert [(step.created_by, step.empty_layer) for step in squashed.history] == [
        ("base", False), ("one", True), ("two", True), ("", False),
    ]  # fmt: skip
    assert squashed.history[-1].comment.startswith("merge sha256:") and squashed.history[-1].created == "t2"
    assert squashed.history[-1].comment.endswith(" to sha256:base")
    after = msgspec.structs.replace(two, chain=chain, diff_ids=tuple(squashed.rootfs.diff_ids))
    assert await made.files(after) == await made.files(two)
    with tarfile.open(fileobj=io.BytesIO(await layer_tar(made, chain))) as archive:
        names = set(archive.getnames())
    assert {"new", "etc/.wh.a", ".wh.d"} <= names and not [name for name in names if "later-gone" in name]


async def layer_tar(one: Bench, chain: str) -> bytes:
    layer = one.host.images.layers.get(chain)
    assert layer is not None
    with one.host.images.packer.temporary() as file:
        await one.host.images.packer.write_tar(layer, file)
        with open(f"/proc/self/fd/{file}", "rb") as reader:
            return reader.read()


async def test_squashed_from_scratch_and_with_nothing_new(made: Bench) -> None:
    one = await made.step(await made.step(NOTHING, {"a": b"a"}), {"b": b"b"})
    squashed, chain = await squash(made.host.images, made.layers, image(*one.diff_ids), None)
    assert squashed.rootfs.diff_ids == [chain] and "create new from sha256:" in squashed.history[-1].comment
    again, same = await squash(made.host.images, made.layers, squashed, squashed)
    assert (again, same) == (squashed, chain)
