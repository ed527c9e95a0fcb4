"""What a container consists of, as the source of a move sees it."""

from __future__ import annotations

import anyio.to_thread
import msgspec

import hooper
from hooper.api.errors import HooperError, NotFound
from hooper.api.model import Container
from hooper.api.moving import ImagePart, LayerPart, Manifest, NetworkPart, Plan, Section, VolumePart
from hooper.api.reference import Reference
from hooper.engine.clock import rfc3339
from hooper.engine.core import Core
from hooper.engine.volumes import directory_size


async def plan(core: Core, container: Container, engine: str) -> Plan:
    """Everything with its size; a volume takes as long as walking it does."""
    manifest = await describe(core, container, engine, sizes=True)
    departure = container.moving
    return Plan(
        manifest=manifest,
        container_size=(await core.storage.usage(container.id)).size,
        state_size=await anyio.to_thread.run_sync(directory_size, core.data_dir(container.id)),
        binds=[f"{point.source} on {point.destination}" for point in container.mounts if point.type == "bind"],
        moving=departure.transfer if departure else "",
        moving_to=departure.to if departure else "",
        moving_engine=departure.engine if departure else "",
        moving_sealed=departure is not None and departure.state != "moving",
    )


async def describe(core: Core, container: Container, engine: str, *, sizes: bool = False) -> Manifest:
    """The manifest, without sections. NotFound if its image is gone here."""
    return Manifest(
        hooper=hooper.__version__,
        created=rfc3339(),
        engine=engine,
        running=container.moving.was_running if container.moving else container.state.running,
        container=_as_it_was(container),
        image=await _image(core, container),
        networks=await _networks(core, container),
        volumes=[await _volume(core, container, name, sizes) for name in volume_names(container)],
    )


def _as_it_was(container: Container) -> Container:
    """A copy without the marks of the move."""
    copy = msgspec.convert(msgspec.to_builtins(container), Container)
    if departure := copy.moving:
        copy.moving = None
        copy.stopped_by_user = departure.stopped_by_user
        copy.host_config.auto_remove = departure.auto_remove
    return copy


async def _image(core: Core, container: Container) -> ImagePart:
    try:
        found = await core.images.get(container.image_id)
    except NotFound:
        raise NotFound(
            f"the image of container {container.name} is gone",
            f"{container.image_id} was removed by force",
            f"Make a new one of the container (hooper commit {container.name}), and a container of that.",
        ) from None
    layers = core.images.layers
    parts = []
    for layer in layers.ancestry(found.chain):
        blobs = layers.blobs(layer.diff_id)
        size = blobs[0].size if blobs else layer.size
        parts.append(LayerPart(diff_id=layer.diff_id, chain_id=layer.chain_id, size=size))
    tag = _tag(core, container.config.image, found.id)
    return ImagePart(id=found.id, config=core.images.store.config(found.id), tag=tag, layers=parts)


def _tag(core: Core, name: str, image_id: str) -> str:
    try:
        reference = Reference.parse(name).with_default_tag()
    except HooperError:
        return ""  # the container was made with an id
    if reference.digest or core.images.store.lookup(reference) != image_id:
        return ""
    return str(reference)


async def _networks(core: Core, container: Container) -> list[NetworkPart]:
    """Those that exist: one that a container has never been started in may be missing, here as there."""
    builtin = {network.name for network in await core.networks.list({"type": ["builtin"]})}
    present = {network.name: network for network in await core.networks.list()}
    return [
        NetworkPart(network=present[name], predefined=name in builtin) for name in container.networks if name in present
    ]


def volume_names(container: Container) -> list[str]:
    """Of the volumes that it mounts, each once."""
    return list(dict.fromkeys(point.name for point in container.mounts if point.type == "volume"))


def users_of(core: Core, name: str, container: Container) -> list[Container]:
    """Other containers that mount a volume."""
    return [other for other in core.store.all() if other.id != container.id and name in volume_names(other)]


async def _volume(core: Core, container: Container, name: str, sizes: bool) -> VolumePart:
    volume = await core.volumes.get(name)
    size = 0
    if sizes:
        path = await core.volumes.mount(name, container.id)
        size = await anyio.to_thread.run_sync(directory_size, path)
    return VolumePart(volume=volume, size=size, shared_with=[other.name for other in users_of(core, name, container)])


def sections(core: Core, manifest: Manifest, layers: set[str] | None, without_volumes: set[str]) -> list[Section]:
    """What is to follow the manifest. `layers`: chain ids of those to carry; None: all."""
    found = []
    for part in manifest.image.layers:
        if layers is not None and part.chain_id not in layers:
            continue
        section = Section(kind="layer", diff_id=part.diff_id, chain_id=part.chain_id)
        if blobs := core.images.layers.blobs(part.diff_id):
            blob = blobs[0]
            section.kind, section.digest, section.media_type, section.size = (
                "blob", blob.digest, blob.media_type, blob.size,
            )  # fmt: skip
        found.append(section)
    found.append(Section(kind="container"))
    found += [
        Section(kind="volume", name=part.volume.name)
        for part in manifest.volumes
        if part.volume.name not in without_volumes
    ]
    found.append(Section(kind="state"))
    return found
