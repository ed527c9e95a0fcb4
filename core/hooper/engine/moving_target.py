"""The target's side of a move: what arrives is kept aside and invisible until it is complete."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hooper.api.errors import Conflict, DataLoss
from hooper.api.moving import Manifest, Offer, Section, Wishes
from hooper.engine.core import Core
from hooper.engine.init_layer import InitLayers
from hooper.engine.layers import Lease, open_blob
from hooper.engine.moving_check import Checker, adopted
from hooper.engine.moving_format import StreamReader, check_layer_result, check_transfer
from hooper.engine.moving_pipe import joined, on_thread
from hooper.engine.moving_store import RECEIVED, RECEIVING, Arrival, ArrivalStore, PlacedVolume
from hooper.engine.packing import Packer

LEFT_SECONDS = 3600.0
"""How long the layers of a move that broke off are kept for another try."""


class Receiver:
    """Takes streams apart. Whoever calls it undoes the arrival if it raises."""

    def __init__(self, core: Core, init_layers: InitLayers, arrivals: ArrivalStore, checker: Checker) -> None:
        self._core, self._init_layers, self._arrivals, self._checker = core, init_layers, arrivals, checker
        layers = core.images.layers
        self._packer = Packer(layers, layers.content, core.workers, core.host.data_root / "scratch")

    async def admit(
        self, transfer: str, manifest: Manifest, wishes: Wishes, *, copy: bool, keep_seconds: float
    ) -> Arrival:
        """Checks what is coming, and records it before anything of it is made."""
        check_transfer(transfer)
        verdict = await self._checker.check(Offer(manifest=manifest, wishes=wishes), copy=copy)
        container = adopted(self._core, manifest, wishes, verdict)
        # From here to the record nothing is awaited.
        if self._arrivals.state(transfer)[0]:
            raise Conflict("the transfer has been received before", remedy="Move the container again.")
        if any(other.container.id == container.id for other in self._arrivals.unfinished()):
            raise Conflict(
                f"container {container.name} is arriving here already",
                "another transfer of it is not at its end",
                "Try again in a moment.",
            )
        sent = {section.name for section in manifest.sections if section.kind == "volume"}
        arrival = Arrival(
            id=transfer,
            manifest=manifest,
            wishes=wishes,
            container=container,
            start=manifest.running and not copy,
            keep_seconds=keep_seconds,
            volumes=[
                PlacedVolume(name=name, place=place, staged=f"v{number}" if name in sent and place != "reuse" else "")
                for number, (name, place) in enumerate(verdict.volumes.items())
            ],
            networks=[name for name, place in verdict.networks.items() if place == "create"],
            warnings=verdict.warnings,
        )
        self._arrivals.save(arrival)
        return arrival

    async def take(self, arrival: Arrival, reader: StreamReader) -> None:
        """Everything after the manifest; the arrival is `received` then, also after a crash of the host."""
        self._arrivals.make_directory(arrival.id)
        with self._lease() as lease:
            for part in arrival.manifest.image.layers:
                lease.add("layer", part.chain_id)
            for section in arrival.manifest.sections:
                self._check_wanted(arrival)
                await self._section(arrival, reader, section, lease)
            await on_thread(reader.finish)
            if not arrival.prepared:
                raise DataLoss("this is no container that hooper saved", "it has no files of the container")
            await on_thread(sync_file_system, self._core.host.data_root)
            self._check_wanted(arrival)
            self._arrivals.advance(arrival, RECEIVED)

    def _check_wanted(self, arrival: Arrival) -> None:
        if self._arrivals.state(arrival.id)[0] != RECEIVING:
            raise Conflict(f"container {arrival.container.name} is not wanted any more", "its move was given up")

    @contextmanager
    def _lease(self) -> Iterator[Lease]:
        """If the connection breaks, which cancels this, layers stay for another try."""
        with self._core.images.layers.lease() as lease:
            try:
                yield lease
                lease.supersede()
            except Exception:
                raise
            except BaseException:
                lease.leave(LEFT_SECONDS)
                raise

    async def _section(self, arrival: Arrival, reader: StreamReader, section: Section, lease: Lease) -> None:
        if section.kind in ("blob", "layer"):
            await self._layer(arrival, reader, section, lease)
        elif section.kind == "container":
            await self._container(arrival, reader)
        elif section.kind == "volume":
            await self._volume(arrival, reader, section)
        else:
            await self._state(arrival, reader)

    async def _layer(self, arrival: Arrival, reader: StreamReader, section: Section, lease: Lease) -> None:
        """Kept in a file first: it is checked before it is unpacked, and a blob is stored as it is."""
        layers = self._core.images.layers
        chains = [part.chain_id for part in arrival.manifest.image.layers]
        number = chains.index(section.chain_id)
        parent = chains[number - 1] if number else ""
        with self._packer.temporary() as file:
            found = await on_thread(reader.section, file)
            if section.kind == "layer":
                check_layer_result(f"layer {section.diff_id}", section.diff_id, found.size, found)
                await layers.unpack(section.diff_id, parent, lambda: _rewound(file))
                return
            check_layer_result(f"blob {section.digest}", section.digest, section.size, found)
            lease.add("blob", section.digest)
            await self._packer.store(file, section.digest, section.size)
        layers.add_blob(section.digest, section.media_type, section.size)
        await layers.unpack(section.diff_id, parent, open_blob(layers.content, section.digest))
        layers.add_blob(section.digest, section.media_type, section.size, section.diff_id)

    async def _container(self, arrival: Arrival, reader: StreamReader) -> None:
        core, container = self._core, arrival.container
        image = arrival.manifest.image
        chain = image.layers[-1].chain_id if image.layers else ""
        core.images.layers.ancestry(chain)
        await core.storage.prepare(container.id, await self._init_layers.parent(chain))
        arrival.prepared = True
        self._arrivals.save(arrival)
        result, found = await joined(
            lambda source: core.storage.apply(container.id, source), reader.section, work_reads=True
        )
        check_layer_result(f"container {container.name}", result.diff_id, result.size, found)

    async def _volume(self, arrival: Arrival, reader: StreamReader, section: Section) -> None:
        placed = next(volume for volume in arrival.volumes if volume.name == section.name)
        if not placed.staged:
            await on_thread(reader.section, None)
            return
        await self._unpack(
            self._arrivals.directory(arrival.id) / placed.staged / "new", reader, f"volume {placed.name}"
        )

    async def _state(self, arrival: Arrival, reader: StreamReader) -> None:
        directory = self._arrivals.directory(arrival.id) / "state"
        await self._unpack(directory, reader, "the state of the container")
        await self._core.workers.run(
            "hooper.engine.moving_volumes:check_state",
            {"path": str(directory), "old": arrival.manifest.container.id, "new": arrival.container.id},
        )

    async def _unpack(self, directory: Path, reader: StreamReader, what: str) -> None:
        directory.mkdir(mode=0o755, parents=True)
        result, found = await joined(
            lambda source: self._core.workers.run(
                "hooper.content.files:unpack_archive", {"root": str(directory)}, [source]
            ),
            reader.section,
            work_reads=True,
        )
        check_layer_result(what, result["diff_id"], result["size"], found)


@contextmanager
def _rewound(descriptor: int) -> Iterator[int]:
    os.lseek(descriptor, 0, os.SEEK_SET)
    yield descriptor


def sync_file_system(directory: Path) -> None:
    """Writes everything on the file system of a directory to the disk. OSError passes through."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(descriptor) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(directory))
    finally:
        os.close(descriptor)
