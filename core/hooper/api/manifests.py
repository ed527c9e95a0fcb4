"""Manifests, indexes and image configurations as values (OCI image-spec manifest.md, image-index.md, config.md;
Docker's image manifest version 2, schema 2, which differs in its media types alone)."""

from __future__ import annotations

import hashlib
import platform as host_platform
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from hooper.api.errors import DataLoss, InvalidArgument, NotFound, Unsupported
from hooper.api.model import Image
from hooper.api.reference import is_digest
from hooper.api.registry import Descriptor, Manifest, Platform

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER_TAR = "application/vnd.oci.image.layer.v1.tar"

MANIFEST_TYPES = (DOCKER_MANIFEST, OCI_MANIFEST)
INDEX_TYPES = (DOCKER_INDEX, OCI_INDEX)
ACCEPTED = (OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST)
_LAYER = re.compile(
    r"application/(?:vnd\.docker\.image\.rootfs\.diff\.tar|vnd\.oci\.image\.layer\.v1\.tar)(?:[.+](?:gzip|zstd|bzip2|xz))?"
    r"|application/octet-stream|"
)
"""Media types of layers that can be unpacked."""
_SCHEMA1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding damaged JSON raises; the last if it is nested too deeply."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "i686": "386", "armv7l": "arm", "armv6l": "arm"}
_SYSTEMS = (
    "linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "dragonfly", "solaris", "illumos", "aix", "android",
    "ios", "js", "plan9", "wasip1",
)  # fmt: skip
_MACHINES = (
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le", "ppc64", "ppc64le", "riscv64",
    "s390x", "wasm",
)  # fmt: skip
"""Words that say by themselves which half of a platform they are, as Go has them."""
_PUSH_AGAIN = "Push the image again."
_ARM_VARIANTS = ("v8", "v7", "v6", "v5")
_AMD64_VARIANTS = ("v4", "v3", "v2", "v1")


class ImageManifest(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    schema_version: int
    media_type: str = ""
    config: Descriptor
    layers: list[Descriptor]
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class Index(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """One manifest a platform (Docker's manifest list)."""

    schema_version: int
    media_type: str = ""
    manifests: list[Descriptor]
    annotations: dict[str, str] | None = None


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def make_manifest(value: ImageManifest | Index) -> Manifest:
    """Encodes with Docker's indentation of three spaces, so that it reads as others' do."""
    content = msgspec.json.format(msgspec.json.encode(value), indent=3)
    return Manifest(Descriptor(value.media_type, digest_of(content), len(content)), content)


def parse_manifest(manifest: Manifest, name: str) -> ImageManifest | Index:
    """What the bytes say. `name` is for messages.

    Unsupported for the obsolete schema 1 and for media types that are no image; DataLoss if damaged.
    """
    try:
        head = msgspec.json.decode(manifest.content, type=dict[str, Any])
    except NO_JSON as error:
        raise DataLoss(f"the manifest of {name} is damaged", str(error), _PUSH_AGAIN) from error
    kind = head.get("mediaType") or manifest.descriptor.media_type
    if head.get("schemaVersion") == 1 or kind in _SCHEMA1:
        raise Unsupported(
            f"the manifest of {name} has the obsolete schema version 1",
            "its layers cannot be verified",
            "Push the image again with a current tool.",
        )
    is_index = "manifests" in head and kind not in MANIFEST_TYPES
    wanted: type[ImageManifest] | type[Index] = Index if is_index else ImageManifest
    if kind and kind not in (*MANIFEST_TYPES, *INDEX_TYPES):
        raise Unsupported(f"{name} is not an image", f"its media type is {kind}")
    try:
        parsed = msgspec.json.decode(manifest.content, type=wanted)
    except NO_JSON as error:
        raise DataLoss(f"the manifest of {name} is damaged", str(error), _PUSH_AGAIN) from error
    parsed.media_type = kind or (OCI_INDEX if is_index else OCI_MANIFEST)
    _check_parts(parsed, name)
    return parsed


def _check_parts(parsed: ImageManifest | Index, name: str) -> None:
    """Digests become names of files and parts of URLs, and sizes are added up."""
    parts = [parsed.config, *parsed.layers] if isinstance(parsed, ImageManifest) else parsed.manifests
    for part in parts:
        if not is_digest(part.digest):
            raise DataLoss(f"the manifest of {name} is damaged", f'"{part.digest[:200]}" is not a digest', _PUSH_AGAIN)
        if part.size < 0:
            raise DataLoss(f"the manifest of {name} is damaged", f"{part.digest} has a negative size", _PUSH_AGAIN)


class _Referring(msgspec.Struct, rename="camel"):
    """What of any manifest or index its subject's list of referrers says."""

    subject: Descriptor | None = None
    artifact_type: str = ""
    config: Descriptor | None = None
    annotations: dict[str, str] | None = None


def as_referrer(manifest: Manifest) -> tuple[str, Descriptor]:
    """The digest of its subject, and the entry that its subject's list of referrers has for it (distribution-spec,
    "Listing Referrers"). "" if it has none, or is of a kind in which none can be told."""
    found = manifest.descriptor
    try:
        value = msgspec.json.decode(manifest.content, type=_Referring)
    except NO_JSON:
        return "", found
    kind = value.artifact_type or (value.config.media_type if value.config else "")
    entry = Descriptor(found.media_type, found.digest, found.size, annotations=value.annotations, artifact_type=kind)
    return value.subject.digest if value.subject else "", entry


def check_image(manifest: ImageManifest, name: str) -> None:
    """Unsupported if the manifest is some other artifact (a chart, a signature), or has layers that cannot be used."""
    if manifest.config.media_type not in (DOCKER_CONFIG, OCI_CONFIG, "application/octet-stream", ""):
        raise Unsupported(f"{name} is not an image", f"its configuration is of media type {manifest.config.media_type}")
    for layer in manifest.layers:
        kind = layer.media_type
        if "nondistributable" in kind or ".foreign." in kind:
            raise Unsupported(
                f"{name} has a foreign layer",
                f"{layer.digest} is not to be had from its registry",
                "Push the image with all its layers (`--allow-nondistributable-artifacts`).",
            )
        if not _LAYER.fullmatch(kind):
            raise Unsupported(f"{name} is not an image", f"it has a layer of media type {kind}")


def decode_image(config: bytes, name: str) -> Image:
    """An image configuration; null members, which some tools write, count as absent. DataLoss if damaged."""
    try:
        raw = msgspec.json.decode(config, type=dict[str, Any])
        raw = {"architecture": "", "os": "linux", **_without_nulls(raw)}
        for part in ("config", "rootfs"):
            if part in raw:
                raw[part] = _without_nulls(raw[part])
        return msgspec.convert(raw, Image)
    except (*NO_JSON, AttributeError) as error:
        raise DataLoss(f"the configuration of {name} is damaged", str(error), "Build or push it again.") from error


def _without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in value.items() if item is not None}


def host_architecture() -> str:
    """This host's, in Go's words."""
    machine = host_platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def parse_platform(text: str) -> Platform:
    """ "linux/arm64/v8", "arm64" or "linux"; "" is this host. InvalidArgument otherwise."""
    parts = text.lower().split("/") if text else []
    is_plain = text.isascii() and len(parts) <= 3
    if not is_plain or not all(part and part.replace("_", "").replace("-", "").isalnum() for part in parts):
        raise InvalidArgument(f'"{text}" is not a platform', remedy="Write OS/ARCHITECTURE[/VARIANT], as linux/amd64.")
    if len(parts) == 1:
        parts = [parts[0], host_architecture()] if parts[0] in _SYSTEMS else ["linux", parts[0]]
        if _ARCHITECTURES.get(parts[1], parts[1]) not in (*_MACHINES, host_architecture()):
            raise InvalidArgument(
                f'"{text}" is not a platform',
                "it is neither an operating system nor an architecture",
                "Write OS/ARCHITECTURE[/VARIANT], as linux/amd64.",
            )
    os, architecture, variant = [*parts, "", "", ""][:3]
    architecture = _ARCHITECTURES.get(architecture, architecture) or host_architecture()
    return Platform(os=os or "linux", architecture=architecture, variant=variant)


def platform_name(platform: Platform) -> str:
    return "/".join(part for part in (platform.os, platform.architecture, platform.variant) if part)


def choose(index: Index, wanted: Platform) -> Descriptor:
    """The manifest for a platform; the first of the best. NotFound with Docker's text if there is none."""
    candidates = [entry for entry in index.manifests if entry.media_type in (*MANIFEST_TYPES, *INDEX_TYPES, "")]
    for architecture, variant in _acceptable(wanted):
        for entry in candidates:
            if entry.platform is not None and _matches(entry.platform, wanted.os, architecture, variant):
                return entry
    for entry in candidates:
        if entry.platform is None:
            return entry
    raise NotFound(
        f"no matching manifest for {platform_name(wanted)} in the manifest list entries",
        remedy=f"There are: {', '.join(_platform_names(index.manifests)) or 'none'}.",
    )


def fits(actual: Platform, wanted: Platform) -> bool:
    """Whether an image for `actual` runs where `wanted` is asked for, as `choose` has it."""
    return actual.architecture == "" or any(
        _matches(actual, wanted.os, architecture, variant) for architecture, variant in _acceptable(wanted)
    )


def _acceptable(wanted: Platform) -> Sequence[tuple[str, str]]:
    """Architectures and variants that run there, the best first; "*" is any variant."""
    architecture, variant = wanted.architecture, wanted.variant
    if architecture == "arm":
        return [("arm", each) for each in _from(_ARM_VARIANTS, variant or "v7")]
    if architecture == "arm64":
        own = [("arm64", each) for each in dict.fromkeys((variant or "v8", "v8", ""))]
        return [*own, *(("arm", each) for each in _ARM_VARIANTS)]
    if architecture == "amd64":
        own = [("amd64", each) for each in (_from(_AMD64_VARIANTS, variant) if variant else ("", "v1", "*"))]
        return [*own, ("386", "*")]
    return [(architecture, variant), (architecture, "")] if variant else [(architecture, ""), (architecture, "*")]


def _from(variants: Sequence[str], first: str) -> Sequence[str]:
    """`first` and the lower ones, and none."""
    return (first, *variants[variants.index(first) + 1 if first in variants else 0 :], "")


def _matches(platform: Platform, os: str, architecture: str, variant: str) -> bool:
    return platform.os == os and platform.architecture == architecture and variant in ("*", platform.variant)


def _platform_names(manifests: Sequence[Descriptor]) -> list[str]:
    return [platform_name(entry.platform) for entry in manifests if entry.platform and entry.platform.os != "unknown"]
