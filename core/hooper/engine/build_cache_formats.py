"""How finished steps are written down for other engines.

A target of type registry or local is an OCI manifest: its configuration is a `Document`, its layers are blobs that the
document names. Inline, an image's own configuration has the steps that its layers are of. Nothing is believed of
what others wrote but which key stands for which layers; those are verified when they come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from hooper.api.errors import DataLoss
from hooper.api.manifests import NO_JSON
from hooper.api.model import Image
from hooper.api.registry import Descriptor
from hooper.engine.build_image import Made
from hooper.engine.layers import LayerBlob, chain_ids

DOCUMENT = "application/vnd.hooper.buildcache.config.v1+json"
"""Media type of the document."""
VERSION = 1
MODES = ("min", "max")
_T = TypeVar("_T")


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A finished step: what its key stands for."""

    key: str
    diff_ids: tuple[str, ...]
    """Of the file system, from the lowest layer on."""
    created: str = ""
    added: bool = False
    parent: str = ""
    """Key of the base's step, "" for none."""
    description: str = ""


class Entry(NamedTuple):
    """What a source has under a key."""

    made: Made
    blobs: Sequence[Descriptor]
    """Of its layers, from the lowest on; none if they are known to be here."""


class WrittenLayer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    diff_id: str
    digest: str
    size: int
    media_type: str
    parent: int = -1
    """Number of the layer below, which comes earlier; -1: none."""


class WrittenStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    key: str
    layer: int = -1
    """Number of the topmost layer: in `Document.layers`, or of the image that has it inline; -1: no layer."""
    created: str = ""
    added: bool = False
    parent: str = ""
    description: str = ""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    layers: list[WrittenLayer]
    steps: list[WrittenStep]


class Inline(msgspec.Struct, frozen=True, kw_only=True):
    """Of an image: see `hooper.api.model.Image.build_cache`."""

    steps: list[WrittenStep]


# --- writing ------------------------------------------------------------------------------------------


def selected(records: Iterable[Record], result: Sequence[str], mode: str) -> list[Record]:
    """The steps to be written: with "min" those whose layers are the lowest of `result`'s, with "max" all."""
    return [
        record for record in records if mode == "max" or tuple(result[: len(record.diff_ids)]) == record.diff_ids
    ]  # fmt: skip


def chains_of(records: Iterable[Record]) -> list[str]:
    """Every layer that the records need, by chain id, lower ones first."""
    return list(dict.fromkeys(chain for record in records for chain in chain_ids(record.diff_ids)))


def write_document(records: Sequence[Record], blobs: Mapping[str, LayerBlob]) -> bytes:
    """`blobs` by chain id, of all `chains_of` these records."""
    numbers: dict[str, int] = {}
    layers: list[WrittenLayer] = []
    steps: list[WrittenStep] = []
    for record in records:
        number = -1
        for chain, diff_id in zip(chain_ids(record.diff_ids), record.diff_ids, strict=True):
            if chain not in numbers:
                blob, numbers[chain] = blobs[chain], len(layers)
                layers.append(
                    WrittenLayer(
                        diff_id=diff_id, digest=blob.digest, size=blob.size, media_type=blob.media_type, parent=number
                    )
                )
            number = numbers[chain]
        steps.append(
            WrittenStep(
                key=record.key, layer=number, created=record.created, added=record.added, parent=record.parent,
                description=record.description,
            )
        )  # fmt: skip
    return msgspec.json.encode(Document(version=VERSION, layers=layers, steps=steps))


def with_inline(image: Image, records: Sequence[Record]) -> Image:
    """The image with the steps that its layers are of, for --cache-to=type=inline. Call it before the export."""
    steps = [
        WrittenStep(key=record.key, layer=len(record.diff_ids) - 1, created=record.created, added=record.added)
        for record in selected(records, image.rootfs.diff_ids, "min")
    ]
    return msgspec.structs.replace(image, build_cache=msgspec.to_builtins(Inline(steps=steps)))


# --- reading ------------------------------------------------------------------------------------------


def read_document(content: bytes, name: str) -> dict[str, Entry]:
    """The entries of a document by key. DataLoss if it is damaged, or of a later version."""
    document = _converted(content, Document, name)
    if document.version != VERSION:
        raise DataLoss(f"the build cache {name} cannot be read", f"its version is {document.version}")
    stacks: list[tuple[WrittenLayer, ...]] = []
    for number, layer in enumerate(document.layers):
        if not -1 <= layer.parent < number:
            raise DataLoss(f"the build cache {name} is damaged", f"layer {number} is on layer {layer.parent}")
        stacks.append((*(stacks[layer.parent] if layer.parent >= 0 else ()), layer))
    return {step.key: _entry(step, stacks, name) for step in document.steps}


def _entry(step: WrittenStep, stacks: Sequence[Sequence[WrittenLayer]], name: str) -> Entry:
    if not -1 <= step.layer < len(stacks):
        raise DataLoss(f"the build cache {name} is damaged", f"it has no layer {step.layer}")
    stack = stacks[step.layer] if step.layer >= 0 else ()
    blobs = [Descriptor(layer.media_type, layer.digest, layer.size) for layer in stack]
    return Entry(_made(step, tuple(layer.diff_id for layer in stack)), blobs)


def read_inline(image: Image, blobs: Sequence[Descriptor], name: str) -> dict[str, Entry]:
    """The entries that an image has inline; {} if it has none. `blobs` are its layers', none if it is stored here."""
    if image.build_cache is None:
        return {}
    diff_ids = tuple(image.rootfs.diff_ids)
    entries = {}
    for step in _converted(image.build_cache, Inline, name).steps:
        count = step.layer + 1
        if not 0 <= count <= len(diff_ids):
            raise DataLoss(f"the build cache of {name} is damaged", f"it has no layer {step.layer}")
        entries[step.key] = Entry(_made(step, diff_ids[:count]), blobs[:count])
    return entries


def _made(step: WrittenStep, diff_ids: tuple[str, ...]) -> Made:
    chains = chain_ids(diff_ids)
    return Made(chain=chains[-1] if chains else "", diff_ids=diff_ids, created=step.created, added=step.added)


def _converted(value: Any, kind: type[_T], name: str) -> _T:
    try:
        return msgspec.json.decode(value, type=kind) if isinstance(value, bytes) else msgspec.convert(value, kind)
    except NO_JSON as error:
        raise DataLoss(f"the build cache {name} is damaged", str(error), "Write it again.") from error
