"""Platforms, indexes and configurations."""

from __future__ import annotations

import pytest

from hooper.api.errors import DataLoss, InvalidArgument, NotFound, Unsupported
from hooper.api.manifests import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    ImageManifest,
    Index,
    check_image,
    choose,
    decode_image,
    digest_of,
    fits,
    host_architecture,
    make_manifest,
    parse_manifest,
    parse_platform,
    platform_name,
)
from hooper.api.registry import Descriptor, Platform


def index_of(*platforms: str) -> Index:
    entries = [
        Descriptor(OCI_MANIFEST, f"sha256:{number:064}", 1, platform=_platform(text))
        for number, text in enumerate(platforms)
    ]
    return Index(schema_version=2, manifests=entries)


def _platform(text: str) -> Platform:
    os, architecture, variant = [*text.split("/"), ""][:3]
    return Platform(os=os, architecture=architecture, variant=variant)


@pytest.mark.parametrize(
    ("wanted", "there", "chosen"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/amd64", ["windows/amd64", "linux/amd64", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64/v3", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64/v2"], 0),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], 1),
        ("linux/arm/v6", ["linux/arm/v7", "linux/arm/v5"], 1),
        ("linux/arm", ["linux/arm/v6", "linux/arm/v7"], 1),
        ("linux/arm64", ["linux/arm64", "linux/arm64/v8"], 1),
        ("linux/arm64/v8", ["linux/arm64"], 0),
    ],
)
def test_the_best_variant_is_chosen(wanted: str, there: list[str], chosen: int) -> None:
    assert choose(index_of(*there), parse_platform(wanted)).digest == f"sha256:{chosen:064}"


def test_no_platform_that_fits() -> None:
    with pytest.raises(NotFound, match="no matching manifest for linux/arm/v6 in the manifest list") as caught:
        choose(index_of("linux/arm/v7", "unknown/unknown"), parse_platform("linux/arm/v6"))
    assert caught.value.remedy == "There are: linux/arm/v7."


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("", f"linux/{host_architecture()}"),
        ("linux", f"linux/{host_architecture()}"),
        ("arm64", "linux/arm64"),
        ("x86_64", "linux/amd64"),
        ("darwin", f"darwin/{host_architecture()}"),
        ("Linux/x86_64", "linux/amd64"),
        ("linux/itanium", "linux/itanium"),
        ("linux/arm/v7", "linux/arm/v7"),
    ],
)
def test_platforms(text: str, name: str) -> None:
    assert platform_name(parse_platform(text)) == name


@pytest.mark.parametrize("text", ["a/b/c/d", "linux//v7", "linux/../etc", "nope", "linx", "linux/é"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_platform(text)


def test_nulls_in_a_configuration_are_absent_members() -> None:
    image = decode_image(
        b'{"architecture":"amd64","config":{"Env":null,"User":null},"history":null,"rootfs":{"type":"layers","diff_ids":null}}',
        "x",
    )
    assert (image.os, image.config.user, image.rootfs.diff_ids, image.history) == ("linux", "", [], [])


@pytest.mark.parametrize(
    ("digest", "size", "why"),
    [
        ("sha256:../../x", 1, '"sha256:../../x" is not a digest'),
        (f"md5:{0:032}", 1, "is not a digest"),
        (digest_of(b""), -1, "has a negative size"),
    ],
)
def test_parts_that_cannot_be_are_damage(digest: str, size: int, why: str) -> None:
    part, whole = Descriptor(OCI_CONFIG, digest, size), Descriptor(OCI_CONFIG, digest_of(b""), 0)
    for value in (
        ImageManifest(schema_version=2, media_type=OCI_MANIFEST, config=part, layers=[]),
        ImageManifest(schema_version=2, media_type=OCI_MANIFEST, config=whole, layers=[whole, part]),
        Index(schema_version=2, media_type=OCI_INDEX, manifests=[part]),
    ):
        with pytest.raises(DataLoss, match=why):
            parse_manifest(make_manifest(value), "x")


@pytest.mark.parametrize(
    "config",
    [b"", b"[]", b'{"config":[]}', b'{"architecture":1}', b"{" + b'"a":{' * 5000],
    ids=["empty", "list", "listed config", "number", "nested"],
)
def test_a_damaged_configuration(config: bytes) -> None:
    with pytest.raises(DataLoss, match="the configuration of x is damaged"):
        decode_image(config, "x")


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], "linux/amd64/v2"),
        ("linux/amd64", ["linux/386", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["linux/arm64", "linux/386"], "linux/386"),
        ("linux/arm64", ["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
        ("linux/arm/v6", ["linux/arm/v7", "linux/arm/v5"], "linux/arm/v5"),
        ("linux/arm/v6", ["linux/arm/v7", "linux/arm64"], ""),
        ("linux/386", ["linux/amd64"], ""),
    ],
)
def test_what_runs_on_a_platform_in_place_of_its_own(wanted: str, offered: list[str], chosen: str) -> None:
    entries = [Descriptor(OCI_MANIFEST, digest_of(text.encode()), 1, platform=parse_platform(text)) for text in offered]
    index = Index(schema_version=2, manifests=entries)
    if not chosen:
        with pytest.raises(NotFound):
            choose(index, parse_platform(wanted))
        assert not any(fits(parse_platform(text), parse_platform(wanted)) for text in offered)
        return
    found = choose(index, parse_platform(wanted))
    assert found.platform == parse_platform(chosen)
    assert fits(parse_platform(chosen), parse_platform(wanted))


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "foreign layer"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "foreign layer"),
        ("application/vnd.in-toto+json", "is not an image"),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "is not an image"),
    ],
)
def test_layers_that_cannot_be_used_are_refused(kind: str, why: str) -> None:
    config = Descriptor(OCI_CONFIG, digest_of(b""), 0)
    manifest = ImageManifest(schema_version=2, config=config, layers=[Descriptor(kind, digest_of(b"x"), 1)])
    with pytest.raises(Unsupported, match=why):
        check_image(manifest, "app")


@pytest.mark.parametrize("end", ["", "+gzip", "+zstd"])
def test_layers_that_can_be_used(end: str) -> None:
    config = Descriptor(OCI_CONFIG, digest_of(b""), 0)
    layer = Descriptor(f"application/vnd.oci.image.layer.v1.tar{end}", digest_of(b"x"), 1)
    check_image(ImageManifest(schema_version=2, config=config, layers=[layer]), "app")
