"""How finished steps are written down for other engines."""

from __future__ import annotations

import json

import msgspec
import pytest

from hooper.api.errors import DataLoss
from hooper.api.manifests import decode_image
from hooper.api.model import Image, RootFS
from hooper.api.registry import Descriptor
from hooper.engine import build_cache_formats as formats
from hooper.engine.build_cache_formats import Record
from hooper.engine.layers import LayerBlob, chain_ids

STEPS = [
    Record(key="k1", diff_ids=("a",), created="t1", added=True, description="RUN 1"),
    Record(key="k2", diff_ids=("a", "b"), created="t2", added=True, parent="k1"),
    Record(key="k3", diff_ids=("a", "b"), parent="k2", description="WORKDIR /"),
    Record(key="other", diff_ids=("a", "c"), created="t3", added=True, parent="k1"),
    Record(key="none", diff_ids=()),
]


def blobs():
    names = {chain: f"blob-{number}" for number, chain in enumerate(formats.chains_of(STEPS))}
    return {chain: LayerBlob(name, "tar+gzip", 7) for chain, name in names.items()}


def document():
    return formats.write_document(STEPS, blobs())


def test_what_is_written_is_read():
    entries = formats.read_document(document(), "cache")
    assert set(entries) == {step.key for step in STEPS}
    for step in STEPS:
        made = entries[step.key].made
        chains = chain_ids(step.diff_ids)
        assert (made.diff_ids, made.created, made.added) == (step.diff_ids, step.created, step.added)
        assert made.chain == (chains[-1] if chains else "")
        assert [blob.digest for blob in entries[step.key].blobs] == [blobs()[chain].digest for chain in chains]
    assert document() == document()


def test_a_layer_of_several_steps_is_written_once():
    assert [layer["diffId"] for layer in json.loads(document())["layers"]] == ["a", "b", "c"]


def test_the_least_is_what_the_result_stands_on():
    keys = [step.key for step in formats.selected(STEPS, ("a", "b"), "min")]
    assert keys == ["k1", "k2", "k3", "none"]
    assert len(formats.selected(STEPS, ("a", "b"), "max")) == len(STEPS)


def change(**fields):
    return msgspec.json.encode(json.loads(document()) | fields)


LAYER = {"diffId": "a", "digest": "d", "size": 1, "mediaType": "m"}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{}", document()[:-20],
        change(version=2),
        change(layers=[LAYER | {"parent": 0}], steps=[]),
        change(layers=[LAYER | {"parent": -2}], steps=[]),
        change(layers=[LAYER], steps=[{"key": "k", "layer": 1}]),
        change(steps=[{"key": "k", "layer": "0"}]),
    ],
)  # fmt: skip
def test_what_is_damaged_or_of_another_version_is_an_error_that_names_the_cache(content):
    with pytest.raises(DataLoss, match="the-cache"):
        formats.read_document(content, "the-cache")


def image(*diff_ids):
    return Image(architecture="amd64", os="linux", rootfs=RootFS(list(diff_ids)))


def test_an_image_has_its_own_steps_inline():
    made = formats.with_inline(image("a", "b"), STEPS)
    read = decode_image(msgspec.json.encode(made), "image")
    descriptors = [Descriptor("tar+gzip", digest, 1) for digest in ("x", "y")]
    entries = formats.read_inline(read, descriptors, "image")
    assert set(entries) == {"k1", "k2", "k3", "none"}
    assert entries["k1"].made.diff_ids == ("a",) and [blob.digest for blob in entries["k1"].blobs] == ["x"]
    assert entries["k3"].made.added is False and entries["k3"].blobs == descriptors
    assert "WORKDIR" not in msgspec.json.encode(made).decode()


def test_an_image_without_steps_has_none_and_shows_no_trace():
    assert formats.read_inline(image("a"), (), "image") == {}
    assert b"buildcache" not in msgspec.json.encode(image("a"))


@pytest.mark.parametrize("steps", ["x", {"steps": 1}, {"steps": [{"key": "k", "layer": 5}]}, {"steps": [{}]}])
def test_an_image_whose_steps_are_nonsense_is_an_image_all_the_same(steps):
    content = msgspec.json.encode(json.loads(msgspec.json.encode(image("a"))) | {"hooper.buildcache.v1": steps})
    read = decode_image(content, "image")
    with pytest.raises(DataLoss, match="my-image"):
        formats.read_inline(read, (), "my-image")
