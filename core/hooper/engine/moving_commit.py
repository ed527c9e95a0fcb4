"""What arrived becomes the engine's own, in steps that can each be done again or undone after a crash."""

from __future__ import annotations

import shutil
import sqlite3

import anyio
import anyio.to_thread
import msgspec

from hooper.api.errors import Conflict, HooperError, NotFound, NotModified
from hooper.api.manifests import OCI_CONFIG, decode_image
from hooper.api.model import EndpointIPAM, EndpointSettings
from hooper.api.moving import Arrived
from hooper.api.reference import Reference
from hooper.content.removal import discard
from hooper.engine.containers import ContainerService
from hooper.engine.core import Core
from hooper.engine.moving_check import occupied, subnets_free, unusable
from hooper.engine.moving_store import COMMITTING, RECEIVING, Arrival, ArrivalStore, PlacedVolume
from hooper.engine.store import name_taken
from hooper.state.database import Database


class Committer:
    def __init__(self, core: Core, containers: ContainerService, database: Database, arrivals: ArrivalStore) -> None:
        self._core, self._containers = core, containers
        self._database, self._arrivals = database, arrivals

    async def commit(self, arrival: Arrival) -> Arrived:
        """All or nothing, whatever cancels the caller."""
        with anyio.CancelScope(shield=True):
            self._arrivals.advance(arrival, COMMITTING)
            try:
                await self._settle(arrival)
                if arrival.start:
                    await self._containers.lifecycle.start(arrival.container)
            except BaseException:
                await self.undo(arrival)
                raise
            await self._finish(arrival)
        container = arrival.container
        return Arrived(id=container.id, name=container.name, warnings=arrival.warnings)

    async def _finish(self, arrival: Arrival) -> None:
        self._arrivals.committed(arrival)
        await self._remove_directory(arrival)

    async def complete(self, arrival: Arrival) -> None:
        """After a crash in the middle of a commit: it is finished, or undone if it cannot be."""
        try:
            await self._settle(arrival)
        except HooperError as error:
            self._core.log.warning("cannot finish a move", container=arrival.container.id, error=str(error))
            await self.undo(arrival)
            return
        await self._finish(arrival)
        if arrival.start:
            self._core.background(self._start, arrival.container.id)

    async def _start(self, container_id: str) -> None:
        container = self._core.store.by_id(container_id)
        if container is None:
            return
        try:
            await self._containers.lifecycle.start(container)
        except NotModified:
            return  # it went on while the daemon was away

    # --- the steps, each harmless when it is done again ------------------------------------------

    async def _settle(self, arrival: Arrival) -> None:
        await self._image(arrival)
        for name in arrival.networks:
            await self._network(arrival, name)
        for volume in arrival.volumes:
            await self._volume(arrival, volume)
        self._state(arrival)
        await self._container(arrival)

    async def _image(self, arrival: Arrival) -> None:
        core, part = self._core, arrival.manifest.image
        images = core.images.store
        if not images.exists(part.id):
            arrival.made_image = True
            self._arrivals.save(arrival)
            chain = part.layers[-1].chain_id if part.layers else ""
            size = sum(layer.size for layer in core.images.layers.ancestry(chain))
            await core.images.layers.put(part.config, OCI_CONFIG)
            images.add(part.id, decode_image(part.config, part.id), chain, size)
        if not part.tag or arrival.tag:
            return
        reference = Reference.parse(part.tag)
        owner = images.lookup(reference)
        if owner is None:
            arrival.tag = part.tag
            self._arrivals.save(arrival)
            images.tag(reference, part.id)
        elif owner != part.id:
            arrival.warnings.append(f"The name {reference.familiar} is another image's there, and stays so.")

    async def _network(self, arrival: Arrival, name: str) -> None:
        networks = self._core.networks
        present = {network.name for network in await networks.list()}
        if name in present:
            return
        wanted = next(part.network for part in arrival.manifest.networks if part.network.name == name)
        pools = wanted.pools if subnets_free(wanted, await occupied(self._core)) else []
        arrival.made_networks.append(name)
        self._arrivals.save(arrival)
        await networks.create(
            msgspec.structs.replace(wanted, id="", created=0.0, bridge_name="", config_from="", pools=pools)
        )

    async def _volume(self, arrival: Arrival, placed: PlacedVolume) -> None:
        volumes = self._core.volumes
        part = next(part for part in arrival.manifest.volumes if part.volume.name == placed.name)
        try:
            await volumes.get(placed.name)
        except NotFound:
            placed.made = True
            self._arrivals.save(arrival)
        wanted = msgspec.structs.replace(part.volume, mountpoint="", created_at="")
        volume, _ = await volumes.obtain(wanted, arrival.container.id)
        for point in arrival.container.mounts:
            if point.type == "volume" and point.name == placed.name:
                point.driver, point.source = volume.driver, volume.mountpoint
        if placed.staged:
            await self._swap("put_in", arrival, placed)

    async def _swap(self, function: str, arrival: Arrival, placed: PlacedVolume) -> None:
        real = await self._core.volumes.mount(placed.name, arrival.container.id)
        try:
            arguments = {
                "staged": str(self._arrivals.directory(arrival.id) / placed.staged),
                "real": str(real),
                "home": str(self._core.host.data_root.resolve()),
                "replace": placed.place == "replace",
            }
            await self._core.workers.run(f"hooper.engine.moving_volumes:{function}", arguments)
        finally:
            await self._core.volumes.unmount(placed.name, arrival.container.id)

    def _state(self, arrival: Arrival) -> None:
        place = self._core.data_dir(arrival.container.id)
        received = self._arrivals.directory(arrival.id) / "state"
        place.parent.mkdir(mode=0o710, parents=True, exist_ok=True)
        if received.exists():
            shutil.rmtree(place, ignore_errors=True)
            received.rename(place)
        place.mkdir(exist_ok=True)
        place.chmod(0o710)

    async def _container(self, arrival: Arrival) -> None:
        core, container = self._core, arrival.container
        if present := core.store.by_id(container.id):
            if not arrival.added:
                raise Conflict(f"container {container.id[:12]} is on this engine already")
            arrival.container = present
            return
        if owner := core.store.id_of_name(container.name):
            raise name_taken(container.name, owner)
        for name, settings in container.networks.items():
            await self._free_addresses(name, settings)
        with self._database.transaction():
            core.store.add(container)
            arrival.added = True
            self._arrivals.save(arrival)
        for volume in arrival.volumes:
            core.volumes.use(volume.name, container.id)
        core.emit(container, "create")

    async def _free_addresses(self, name: str, settings: EndpointSettings) -> None:
        network = next((network for network in await self._core.networks.list() if network.name == name), None)
        if network is None:
            return
        bad = unusable(settings, network, await self._core.networks.endpoints(network))
        asked = settings.ipam_config
        if not bad or asked is None:
            return
        settings.ipam_config = EndpointIPAM(
            ipv4_address="" if asked.ipv4_address in bad else asked.ipv4_address,
            ipv6_address="" if asked.ipv6_address in bad else asked.ipv6_address,
            link_local_ips=asked.link_local_ips,
        )

    # --- undoing ---------------------------------------------------------------------------------

    async def undo(self, arrival: Arrival) -> None:
        """Nothing of it is left, whatever state it is in. What cannot be removed is logged, and the rest goes on."""
        self._arrivals.drop_ballast(arrival.id)
        with anyio.CancelScope(shield=True):
            await self._attempt("container", self._remove_container, arrival)
            self._core.volumes.give_up(arrival.container.id)
            for volume in reversed(arrival.volumes):
                await self._attempt("volume", self._remove_volume, arrival, volume)
            for name in reversed(arrival.made_networks):
                await self._attempt("network", self._core.networks.remove, name)
            await self._attempt("image", self._remove_image, arrival)
            await self._remove_directory(arrival)
            self._arrivals.delete(arrival.id)

    async def _attempt(self, what: str, function: object, *arguments: object) -> None:
        assert callable(function)
        try:
            await function(*arguments)
        except NotFound:
            return
        except (HooperError, OSError, sqlite3.Error) as error:
            self._core.log.error("cannot undo a part of a move", part=what, error=str(error))

    async def _remove_container(self, arrival: Arrival) -> None:
        container = arrival.container
        if arrival.added:
            present = self._core.store.by_id(container.id)
            if present is not None:
                await self._containers.discard(present)
            return
        if arrival.prepared:
            await self._core.storage.remove(container.id)
        if self._core.store.by_id(container.id) is None:
            shutil.rmtree(self._core.data_dir(container.id), ignore_errors=True)

    async def _remove_volume(self, arrival: Arrival, placed: PlacedVolume) -> None:
        if arrival.state == RECEIVING:
            return
        if placed.staged and await self._exists(placed.name):
            await self._swap("take_out", arrival, placed)
        if placed.made:
            await self._core.volumes.remove(placed.name, force=True)

    async def _exists(self, name: str) -> bool:
        try:
            await self._core.volumes.get(name)
        except NotFound:
            return False
        return True

    async def _remove_image(self, arrival: Arrival) -> None:
        images, image_id = self._core.images.store, arrival.manifest.image.id
        if arrival.tag and images.lookup(Reference.parse(arrival.tag)) == image_id:
            images.untag(Reference.parse(arrival.tag), image_id)
        used = self._core.images.containers_using(image_id) or images.references(image_id) or images.children(image_id)
        if arrival.made_image and images.exists(image_id) and not used:
            images.delete(image_id)
        await self._core.images.collector.collect()

    async def _remove_directory(self, arrival: Arrival) -> None:
        directory = self._arrivals.directory(arrival.id)
        await anyio.to_thread.run_sync(discard, directory)
