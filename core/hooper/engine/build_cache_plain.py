"""--cache-from an image that nothing is known of but itself: what its history says of its layers.

A command is taken from it if the image has come about as the recipe says up to that command, word by word, and the
layers below are the very ones that the build has. Files that are copied are compared by their layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hooper.api.build_graph import Node, Run
from hooper.api.builder import Plan
from hooper.api.model import Image
from hooper.api.registry import Descriptor
from hooper.engine.build_cache_formats import Entry
from hooper.engine.build_image import Made
from hooper.engine.layers import chain_ids

Lineage = Mapping[Node, Sequence[str]]
"""Of each command: how an image that has it has come about, from its first step to this one."""


def lineage(plan: Plan, base: Image | None) -> Lineage:
    """Of the commands that make the plan's image, whose base image is `base`. One with mounts depends on more."""
    texts = [step.created_by for step in base.history] if base else []
    found: dict[Node, Sequence[str]] = {}
    for step in plan.steps:
        if step.stage in plan.stages and step.created_by:
            texts.append(step.created_by)
            if isinstance(step.node, Run) and not step.node.mounts:
                found[step.node] = tuple(texts)
    return found


def taken(image: Image, blobs: Sequence[Descriptor], texts: Sequence[str], base: Made) -> Entry | None:
    """What the image has for the command that ends `texts`, on `base`."""
    history, count = image.history[: len(texts)], len(base.diff_ids) + 1
    if [step.created_by for step in history] != list(texts) or not texts or history[-1].empty_layer:
        return None
    diff_ids = tuple(image.rootfs.diff_ids[:count])
    if sum(not step.empty_layer for step in history) != count or diff_ids[:-1] != base.diff_ids:
        return None
    made = Made(chain_ids(diff_ids)[-1], diff_ids, history[-1].created or image.created, True)
    return Entry(made, blobs[:count])
