"""--squash: all that a build adds to its base image, as one layer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from hooper.api.manifests import digest_of
from hooper.api.model import History, Image, RootFS
from hooper.engine.build_layers import BuildLayers
from hooper.engine.layers import chain_ids

if TYPE_CHECKING:
    from hooper.engine.images import ImageService


async def squash(
    images: ImageService, layers: BuildLayers, image: Image, base: Image | None, base_id: str = ""
) -> tuple[Image, str]:
    """The image with one layer on those of `base`, whose id is `base_id`, and the chain id of its file system.

    The history is Docker's: each step stays, without a layer, and one entry says what was merged.
    """
    diff_ids, kept = image.rootfs.diff_ids, base.rootfs.diff_ids if base else []
    chains = chain_ids(diff_ids)
    if len(diff_ids) == len(kept):
        return image, chains[-1] if chains else ""
    parent = chains[len(kept) - 1] if kept else ""
    chain, diff_id = await _merged(images, layers, chains[len(kept) :], parent)
    rootfs = RootFS([*kept, diff_id])
    return msgspec.structs.replace(image, rootfs=rootfs, history=_history(image, base, base_id)), chain


async def _merged(
    images: ImageService, layers: BuildLayers, chains: list[str], parent: str
) -> tuple[str, str]:  # fmt: skip
    """Chain id and diff id of one layer on `parent` that changes what all of `chains` change there."""
    async with layers.snapshot(parent) as (key, _):
        for chain in chains:
            layer = images.layers.get(chain)
            assert layer is not None
            with images.packer.temporary() as tar:
                await images.packer.write_tar(layer, tar)
                os.lseek(tar, 0, os.SEEK_SET)
                await images.layers.storage.apply(key, tar)
        merged = await layers.keep(key, parent)
    return merged.chain_id, merged.diff_id


def _history(image: Image, base: Image | None, base_id: str) -> list[History]:
    below = base.rootfs.diff_ids if base else []
    history, seen = [], 0
    for step in image.history:
        new = seen >= len(below)
        seen += not step.empty_layer
        history.append(msgspec.structs.replace(step, empty_layer=True) if new else step)
    whole = digest_of(msgspec.json.encode(image))
    comment = f"merge {whole} to {base_id}" if base_id else f"create new from {whole}"
    return [*history, History(created=image.created, comment=comment)]
