"""An image as Docker shows it: in a list, inspected, and its history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from hooper.api.engine import Variant
from hooper.api.model import History, ImageSummary
from hooper_api_docker.container_shapes import CONFIG_DEFAULTS
from hooper_api_docker.times import ZERO, parse_seconds, rfc3339

Json = dict[str, Any]


def summary(image: ImageSummary, version: tuple[int, int], containers: int = -1) -> Json:
    """An item of GET /images/json. `containers` -1: not counted."""
    shown: Json = {
        "Containers": containers,
        "Created": int(image.created),
        "Id": image.id,
        "Labels": image.labels,
        "ParentId": image.parent,
        "RepoDigests": image.digests,
        "RepoTags": image.tags,
        "SharedSize": -1 if containers < 0 else 0,
        "Size": image.size,
    }
    if version < (1, 44):
        shown["VirtualSize"] = image.size
    if version < (1, 43) and not (image.tags or image.digests):
        shown |= {"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}
    return shown


def variant(found: Variant) -> Json:
    """An item of `Manifests` in GET /images/json."""
    image = found.image.image
    platform = {"architecture": image.architecture, "os": image.os}
    if image.variant:
        platform["variant"] = image.variant
    return {
        "ID": found.manifest.digest,
        "Descriptor": {**msgspec.to_builtins(found.manifest), "platform": platform},
        "Available": True,
        "Size": {"Content": found.content, "Total": found.content + found.image.size},
        "Kind": "image",
        "ImageData": {
            "Platform": platform,
            "Containers": list(found.containers),
            "Size": {"Unpacked": found.image.size},
        },
    }


def inspect(image: ImageSummary, version: tuple[int, int], driver: str) -> Json:
    """The answer of GET /images/{name}/json. `driver` is that of the storage."""
    config: Json = msgspec.to_builtins(image.image.config)
    if version < (1, 50):
        config = CONFIG_DEFAULTS | config
    history = image.image.history
    shown: Json = {
        "Id": image.id,
        "RepoTags": image.tags,
        "RepoDigests": image.digests,
        "Parent": image.parent,
        "Comment": history[-1].comment if history else "",
        "Created": image.image.created or (rfc3339(int(image.created) * 10**9) if image.created else ZERO),
        "DockerVersion": "",
        "Author": image.image.author,
        "Config": config,
        "Architecture": image.image.architecture,
        "Os": image.image.os,
        "Size": image.size,
        "GraphDriver": {"Data": None, "Name": driver},
        "RootFS": {"Type": "layers", "Layers": image.image.rootfs.diff_ids},
        "Metadata": {"LastTagTime": rfc3339(int(image.last_tagged * 1e9)) if image.last_tagged else ZERO},
    }
    if image.image.variant:
        shown["Variant"] = image.image.variant
    if version < (1, 44):
        shown["VirtualSize"] = image.size
    if version < (1, 45):
        shown |= {"Container": "", "ContainerConfig": CONFIG_DEFAULTS | {"Labels": None}}
    return shown


def history(image: ImageSummary, sizes: Sequence[int]) -> list[Json]:
    """Newest first; steps that made no layer have size 0. Layers without a step get one."""
    steps = list(image.image.history)
    missing = len(sizes) - sum(not step.empty_layer for step in steps)
    steps = [History()] * max(0, missing) + steps
    left = iter(sizes)
    shown: list[Json] = [
        {
            "Id": "<missing>",
            "Created": parse_seconds(step.created) if step.created else 0,
            "CreatedBy": step.created_by,
            "Tags": None,
            "Size": 0 if step.empty_layer else next(left, 0),
            "Comment": step.comment,
        }
        for step in steps
    ]
    shown.reverse()
    if shown:
        shown[0] |= {"Id": image.id, "Tags": image.tags}
    return shown
