"""The image that a solved build makes: its configuration, its layers and how it came to them.

History and times follow BuildKit: a step that adds no layer has the time of the layer before it (the first ones, that
of the first new layer), so that a build that finds everything in the cache makes the same image again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from hooper.api.build_graph import Node, Step
from hooper.api.builder import HistoryStep, Plan
from hooper.api.model import History, Image, RootFS
from hooper.engine.clock import rfc3339

MISSING = "a layer that the history of its image does not mention"


class Made(msgspec.Struct, frozen=True):
    """A file system, as a node has left it."""

    chain: str
    """Chain id, "" without layers."""
    diff_ids: tuple[str, ...]
    """Of its layers, from the lowest on."""
    created: str
    """RFC 3339: when the topmost layer was made; "" if nobody knows."""
    added: bool
    """The node has put a layer on its base's."""


def image_of(plan: Plan, results: Mapping[Node, Made], base: Image | None, *, epoch: int | None) -> Image:
    """The image of a plan. `results` has at least what `plan.result` stands on, down to the base image.

    `base` is that of `plan.base`. `epoch`: no time in the image is later than these seconds.
    """
    diff_ids = list(results[plan.result].diff_ids)
    old = _repaired(base) if base else []
    new = _history(plan, results, len(base.rootfs.diff_ids) if base else 0)
    history = _timed(old, new, base.created if base else "")
    image = Image(
        architecture=plan.architecture,
        os="linux",
        variant=plan.variant,
        author=plan.author,
        config=plan.config,
        rootfs=RootFS(diff_ids),
        history=history,
        created=history[-1].created if history else base.created if base else "",
    )
    return clamped(image, epoch)


def clamped(image: Image, epoch: int | None) -> Image:
    """The image without any time later than `epoch` (seconds); what has no time gets that one."""
    if epoch is None:
        return image
    history = [msgspec.structs.replace(step, created=_earlier(step.created, epoch)) for step in image.history]
    return msgspec.structs.replace(image, history=history, created=_earlier(image.created, epoch))


def _earlier(created: str, epoch: int) -> str:
    return created if created and _is_by(created, epoch) else rfc3339(epoch * 1_000_000_000)


def _is_by(created: str, epoch: int) -> bool:
    """Whether a time is not after `epoch`. Of what is no time in RFC 3339 nobody knows."""
    try:
        time = datetime.fromisoformat(created)
    except ValueError:
        return False
    return (time if time.tzinfo else time.replace(tzinfo=UTC)) <= datetime.fromtimestamp(epoch, UTC)


# --- the base image -----------------------------------------------------------------------------------


def _repaired(base: Image) -> list[History]:
    """Its history, with one entry that is not empty for each layer: some tools write less, or more."""
    layers, history = len(base.rootfs.diff_ids), list(base.history)
    surplus = sum(not step.empty_layer for step in history) - layers
    for index, step in enumerate(history):
        if surplus <= 0:
            break
        if not step.empty_layer:
            history[index] = msgspec.structs.replace(step, empty_layer=True)
            surplus -= 1
    return history + [History(created=base.created, comment=MISSING) for _ in range(-surplus)]


# --- what is new --------------------------------------------------------------------------------------


def _history(plan: Plan, results: Mapping[Node, Made], below: int) -> list[History]:
    """One entry for each step that leaves a trace, and one for each further layer of a step that adds several.

    `below` layers are the base image's. Those that have no layer have no time yet. A layer that no step of the plan
    claims (its step leaves no trace) gets an entry that says so by its node's name.
    """
    history: list[History] = []
    at = below
    for step in (step for step in plan.steps if step.stage in plan.stages):
        reached = len(results[step.node].diff_ids) if step.node is not None else at
        if not step.created_by:
            continue
        for _ in range(at, reached):
            history.append(_entry(plan, step, _made_at(step.node, results)))
        if reached <= at:
            history.append(_entry(plan, step, None))
        at = max(at, reached)
    node = plan.result
    history += [
        History(created=_made_at(node, results), created_by=node.name, author=plan.author)
        for _ in range(at, len(results[node].diff_ids))
    ]
    return history


def _entry(plan: Plan, step: HistoryStep, created: str | None) -> History:
    return History(
        created=created or "", created_by=step.created_by, author=plan.author, empty_layer=created is None
    )  # fmt: skip


def _made_at(node: Node | None, results: Mapping[Node, Made]) -> str:
    """When the topmost layer below `node` was made: its own, or that of the nearest below it that has one."""
    while node is not None:
        made = results.get(node)
        if made is not None and made.added:
            return made.created
        node = node.base if isinstance(node, Step) else None
    return ""


def _timed(old: list[History], new: list[History], base_created: str) -> list[History]:
    """All of the history; steps without a layer get the time of the layer before, or of the first new one."""
    layers = [step.created for step in new if not step.empty_layer and step.created]
    earlier = [step.created for step in old if step.created]
    time = layers[0] if layers else earlier[-1] if earlier else base_created
    timed = list(old)
    for step in new:
        time = step.created or time
        timed.append(msgspec.structs.replace(step, created=time))
    return timed
