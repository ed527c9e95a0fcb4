"""Manifests, indexes, configurations and platforms read back as they were written; others are refused by kind."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hooper.api.errors import DataLoss, InvalidArgument, Unsupported
from hooper.api.manifests import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    ImageManifest,
    Index,
    decode_image,
    digest_of,
    make_manifest,
    parse_manifest,
    parse_platform,
    platform_name,
)
from hooper.api.model import History, Image, ImageConfig, RootFS
from hooper.api.registry import Descriptor, Manifest, Platform

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_digests = st.binary(max_size=4).map(digest_of)
_notes = st.none() | st.dictionaries(_text, _text, max_size=2)
_words = st.from_regex(r"[a-z0-9]{1,6}", fullmatch=True)
_platforms = st.builds(Platform, os=_words, architecture=_words, variant=st.just("") | _words, os_version=_text)
_parts = st.builds(
    Descriptor, _text, _digests, st.integers(0, 2**63 - 1), st.lists(_text, max_size=2).map(tuple), _notes,
    st.none() | _platforms, _text,
)  # fmt: skip
_images = st.builds(
    ImageManifest, schema_version=st.just(2), media_type=st.sampled_from(MANIFEST_TYPES), config=_parts,
    layers=st.lists(_parts, max_size=3), subject=st.none() | _parts, annotations=_notes,
)  # fmt: skip
_indexes = st.builds(
    Index, schema_version=st.just(2), media_type=st.sampled_from(INDEX_TYPES), manifests=st.lists(_parts, max_size=3),
    annotations=_notes,
)  # fmt: skip
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _text | _digests,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)


def given_as(content: bytes, media_type: str = "") -> Manifest:
    return Manifest(Descriptor(media_type, digest_of(content), len(content)), content)


@given(st.one_of(_images, _indexes))
def test_a_manifest_reads_back(value: ImageManifest | Index) -> None:
    written = make_manifest(value)
    assert written.descriptor == Descriptor(value.media_type, digest_of(written.content), len(written.content))
    assert parse_manifest(written, "a") == value


@given(_images, st.integers(0, 500), st.binary(max_size=3), st.sampled_from(["", *MANIFEST_TYPES, *INDEX_TYPES, "a/b"]))
def test_a_damaged_manifest_is_refused_by_kind(value: ImageManifest, place: int, noise: bytes, kind: str) -> None:
    content = make_manifest(value).content
    place %= len(content)
    damaged = given_as(content[:place] + noise + content[place + len(noise) :], kind)
    try:
        parsed = parse_manifest(damaged, "a")
    except (DataLoss, Unsupported):
        return
    assert parse_manifest(make_manifest(parsed), "a") == parsed


_MEMBERS = ("schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "annotations")


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(_MEMBERS, _json)))
def test_any_document_is_a_manifest_or_refused_by_kind(document: dict[str, Any]) -> None:
    try:
        parsed = parse_manifest(given_as(json.dumps(document).encode()), "a")
    except (DataLoss, Unsupported):
        return
    assert parse_manifest(make_manifest(parsed), "a") == parsed


_lists = st.none() | st.lists(_text, max_size=2)
_configs = st.builds(
    Image, architecture=_text, os=_text,
    config=st.builds(
        ImageConfig, user=_text, env=_lists, cmd=_lists, labels=_notes,
        exposed_ports=st.none() | st.dictionaries(_text, st.just({}), max_size=2),
    ),
    rootfs=st.builds(RootFS, diff_ids=st.lists(_digests, max_size=2)),
    history=st.lists(st.builds(History, created_by=_text, empty_layer=st.booleans()), max_size=2),
    created=_text, variant=_text, os_version=_text,
)  # fmt: skip


@given(_configs)
def test_a_configuration_reads_back(image: Image) -> None:
    assert decode_image(msgspec.json.encode(image), "a") == image


@given(
    st.one_of(_json, st.fixed_dictionaries({}, optional=dict.fromkeys(("config", "rootfs", "history", "os"), _json)))
)
def test_any_document_is_a_configuration_or_damaged(document: Any) -> None:
    try:
        image = decode_image(json.dumps(document).encode(), "a")
    except DataLoss:
        return
    assert decode_image(msgspec.json.encode(image), "a") == image


@given(st.one_of(st.lists(_words, min_size=1, max_size=3).map("/".join), st.text("aA0_-/é\n", max_size=12)))
def test_a_platform_reads_back_or_is_refused(text: str) -> None:
    try:
        platform = parse_platform(text)
    except InvalidArgument:
        return
    assert platform.os and platform.architecture
    assert parse_platform(platform_name(platform)) == platform
