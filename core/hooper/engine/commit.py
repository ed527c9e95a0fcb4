"""An image out of what a container has changed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from hooper.api.model import Container, ContainerConfig, History, Image, ImageConfig
from hooper.api.reference import Reference
from hooper.engine.changes import apply_changes
from hooper.engine.clock import rfc3339
from hooper.engine.core import Core
from hooper.engine.layers import Lease, chain_id
from hooper.engine.merge import merged


@dataclass(frozen=True)
class Commit:
    """What the caller of a commit wishes."""

    reference: str = ""
    comment: str = ""
    author: str = ""
    changes: Sequence[str] = ()
    config: ContainerConfig | None = None


async def commit(core: Core, container: Container, wish: Commit) -> str:
    """The id of the new image: the container's own with one layer more, and its configuration."""
    reference = Reference.parse(wish.reference).with_default_tag() if wish.reference else None
    config = _configuration(container, wish)
    base = await core.images.get(container.image_id)
    now = rfc3339()
    step = History(
        created=now, created_by=" ".join([container.path, *container.args]), author=wish.author, comment=wish.comment
    )
    image = Image(
        architecture=base.image.architecture,
        os=base.image.os,
        variant=base.image.variant,
        config=config,
        history=[*base.image.history, step],
        created=now,
        author=wish.author,
    )
    with core.images.layers.lease() as lease:
        lease.add("layer", base.chain)
        layer = await _layer(core, container, base.chain, lease)
        image_id = await core.images.create_image(image, layer, [str(reference)] if reference else [], parent=base.id)
    name = reference.familiar if reference else ""
    core.emit(container, "commit", comment=wish.comment, imageID=image_id, imageRef=name)
    return image_id


def _configuration(container: Container, wish: Commit) -> ImageConfig:
    """The container's with the changes; or what is wished with the changes, filled up with the container's."""
    given = wish.config if wish.config != ContainerConfig() else None
    config = _config(given or container.config)
    apply_changes(config, wish.changes)
    if given is None:
        return config
    names = [field.name for field in msgspec.structs.fields(ImageConfig)]
    whole = merged(ContainerConfig(**{name: getattr(config, name) for name in names}), container.config)
    return msgspec.structs.replace(_config(whole), on_build=config.on_build)


def _config(config: ContainerConfig) -> ImageConfig:
    fields = [field.name for field in msgspec.structs.fields(ImageConfig)]
    return ImageConfig(**{name: getattr(config, name) for name in fields})


async def _layer(core: Core, container: Container, parent: str, lease: Lease) -> str:
    """The container goes on with its own snapshot, so the changes are written out and applied to a new one.

    The lease keeps the layer until the image has it.
    """
    scratch = core.host.data_root / "scratch"
    scratch.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as spool:
        result = await core.storage.diff(container.id, spool.fileno())
        lease.add("layer", chain_id(parent, result.diff_id))

        @contextmanager
        def source() -> Iterator[int]:
            os.lseek(spool.fileno(), 0, os.SEEK_SET)
            yield spool.fileno()

        layer = await core.images.layers.unpack(result.diff_id, parent, source)
    return layer.chain_id
