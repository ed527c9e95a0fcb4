"""What a layout says that it has: index.json (OCI image-spec, image-layout.md), or manifest.json of `docker save`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from hooper.api.errors import DataLoss, InvalidArgument, NotFound
from hooper.api.layout import INDEX, TAG_NAME, WHOLE_NAME, blob_path
from hooper.api.manifests import (
    NO_JSON,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_TAR,
    OCI_MANIFEST,
    ImageManifest,
    Index,
    decode_image,
    digest_of,
    make_manifest,
)
from hooper.api.reference import Reference, is_digest
from hooper.api.registry import Descriptor, Manifest, Platform
from hooper_registry_layout.files import Files, read

DOCKER_MANIFEST = "manifest.json"
_CHUNK = 1 << 20
_COMPRESSED = {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}


class DockerEntry(msgspec.Struct, rename="pascal"):
    config: str
    layers: list[str]
    repo_tags: list[str] | None = None


def load_index(files: Files, shown: str) -> Index:
    """index.json; an empty one if there is none. DataLoss."""
    if not files.has(INDEX):
        return Index(schema_version=2, media_type=OCI_INDEX, manifests=[])
    try:
        return msgspec.json.decode(read(files, INDEX), type=Index)
    except NO_JSON as error:
        raise DataLoss(f"{INDEX} of {shown} is damaged", str(error), "Write the layout again.") from error


def names_of(entry: Descriptor) -> list[str]:
    """All that an entry of the index may be called, the one that says most first."""
    notes = entry.annotations or {}
    given = [notes[key] for key in (WHOLE_NAME, TAG_NAME) if notes.get(key)]
    short = [_familiar(text) for text in given if "/" in text]
    return list(dict.fromkeys((*short, *given)))


def _familiar(text: str) -> str:
    try:
        return Reference.parse(text).familiar
    except InvalidArgument:
        return text


def find(index: Index, name: str, shown: str) -> Descriptor:
    """The entry of that name, or the only one for "". NotFound; InvalidArgument if several are called so."""
    found = [entry for entry in index.manifests if not name or name in names_of(entry)]
    if not found:
        known = ", ".join(sorted({text for entry in index.manifests for text in names_of(entry)[:1]}))
        raise NotFound(
            f"manifest for {shown}{':' if name else ''}{name} not found", remedy=f"There are: {known or 'none'}."
        )
    if len({entry.digest for entry in found}) > 1:
        names = ", ".join(sorted({text for entry in found for text in names_of(entry)}))
        raise InvalidArgument(f"{shown} has several images", f"there are {names}", "Say which: PATH:REFERENCE.")
    return found[0]


def annotated(manifest: Manifest, name: str, platform: Platform | None = None) -> Descriptor:
    """An entry of the index, under a name: a tag, or a whole reference, which tools write in two annotations."""
    notes = {}
    if name:
        notes = {TAG_NAME: name}
        if "/" in name or ":" in name:
            try:
                reference = Reference.parse(name).with_default_tag()
            except InvalidArgument:
                reference = None
            if reference is not None and not reference.digest:
                notes = {TAG_NAME: reference.tag, WHOLE_NAME: str(reference)}
    found = manifest.descriptor
    return Descriptor(found.media_type, found.digest, found.size, annotations=notes or None, platform=platform)


class Archived(NamedTuple):
    """What `docker save` of old wrote, as a layout would have it."""

    listed: Index
    manifests: dict[str, bytes]
    blobs: dict[str, str]
    """Names of files, by digest."""


def docker_index(files: Files, shown: str) -> Archived:
    """The images of manifest.json, whose manifests are made of it. DataLoss."""
    try:
        entries = msgspec.json.decode(read(files, DOCKER_MANIFEST), type=list[DockerEntry])
    except NO_JSON as error:
        raise DataLoss(f"{DOCKER_MANIFEST} of {shown} is damaged", str(error), "Save it again.") from error
    made = Archived(Index(schema_version=2, media_type=OCI_INDEX, manifests=[]), {}, {})
    for entry in entries:
        manifest, platform = _docker_manifest(files, entry, shown, made.blobs)
        made.manifests[manifest.descriptor.digest] = manifest.content
        for name in entry.repo_tags or [""]:
            made.listed.manifests.append(annotated(manifest, name, platform))
    return made


def _docker_manifest(
    files: Files, entry: DockerEntry, shown: str, blobs: dict[str, str]
) -> tuple[Manifest, Platform | None]:
    config = read(files, entry.config)
    image = decode_image(config, shown)
    diff_ids = image.rootfs.diff_ids
    if len(diff_ids) != len(entry.layers):
        raise DataLoss(f"{shown} is damaged", "an image's configuration does not fit its layers", "Save it again.")
    layers = [_layer(files, name, diff_id) for name, diff_id in zip(entry.layers, diff_ids, strict=True)]
    blobs |= {layer.digest: name for layer, name in zip(layers, entry.layers, strict=True)}
    digest = digest_of(config)
    blobs[digest] = entry.config
    manifest = make_manifest(
        ImageManifest(
            schema_version=2,
            media_type=OCI_MANIFEST,
            config=Descriptor(OCI_CONFIG, digest, len(config)),
            layers=layers,
        )
    )
    return manifest, Platform(os=image.os, architecture=image.architecture, variant=image.variant)


def _layer(files: Files, name: str, diff_id: str) -> Descriptor:
    part = files.open(name)
    try:
        kind = _COMPRESSED.get(os.pread(part.descriptor, 2, part.offset), "")
        digest = _hashed(part.descriptor, part.offset, part.size) if kind else diff_id
        return Descriptor(f"{OCI_LAYER_TAR}{kind}", digest, part.size)
    finally:
        os.close(part.descriptor)


def _hashed(descriptor: int, offset: int, size: int) -> str:
    digest = hashlib.sha256()
    while size and (chunk := os.pread(descriptor, min(size, _CHUNK), offset)):
        digest.update(chunk)
        offset, size = offset + len(chunk), size - len(chunk)
    return f"sha256:{digest.hexdigest()}"


def docker_entries(files: Files, index: Index) -> list[dict[str, Any]]:
    """manifest.json for a layout: its images, where an index stands for the first of its images that is there."""
    found: dict[str, dict[str, Any]] = {}
    for entry in index.manifests:
        manifest = _image(files, entry)
        if manifest is None:
            continue
        known = found.setdefault(
            manifest.config.digest,
            {
                "Config": blob_path(manifest.config.digest),
                "RepoTags": [],
                "Layers": [blob_path(layer.digest) for layer in manifest.layers],
            },
        )
        known["RepoTags"] += [text for text in _tags(entry) if text not in known["RepoTags"]]
    return [{**entry, "RepoTags": entry["RepoTags"] or None} for entry in found.values()]


def _tags(entry: Descriptor) -> Iterable[str]:
    whole = (entry.annotations or {}).get(WHOLE_NAME, "")
    return [_familiar(whole)] if whole else []


def _image(files: Files, entry: Descriptor) -> ImageManifest | None:
    """What an entry stands for; None if it is no image. Indexes may lead back to themselves: blobs are not verified."""
    waiting, seen = [entry], set[str]()
    while waiting:
        digest = waiting.pop().digest
        if digest in seen or not is_digest(digest) or not files.has(blob_path(digest)):
            continue
        seen.add(digest)
        try:
            value = msgspec.json.decode(read(files, blob_path(digest)), type=dict[str, Any])
            if "manifests" in value:
                waiting += reversed(msgspec.convert(value, Index).manifests)
            elif "config" in value:
                return msgspec.convert(value, ImageManifest)
        except NO_JSON:
            continue
    return None


def check_digest(content: bytes, digest: str, shown: str) -> None:
    """DataLoss if the content is something else."""
    if not is_digest(digest):
        raise InvalidArgument(f'"{digest}" is not a digest')
    algorithm, _, wanted = digest.partition(":")
    if hashlib.new(algorithm, content).hexdigest() != wanted:
        raise DataLoss(f"blob {digest} of {shown} is damaged", remedy="Write the layout again.")
