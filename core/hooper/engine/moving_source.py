"""The source's side of a move: marked, stopped, sent, sealed, and then gone or free again."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import anyio

from hooper.api.errors import Conflict, DataLoss, HooperError, NotModified
from hooper.api.model import Container, Departure
from hooper.api.moving import Begin, Begun, Manifest, Section, SectionEnd
from hooper.engine import moving_plan as plans
from hooper.engine.core import Core
from hooper.engine.layer_work import check_tar
from hooper.engine.moving_ask import ask
from hooper.engine.moving_format import StreamWriter, check_layer_result, check_transfer
from hooper.engine.moving_pipe import joined, on_thread
from hooper.engine.store import check_stays

if TYPE_CHECKING:
    from hooper.api.storage import LayerResult
    from hooper.engine.containers import ContainerService

MOVING, SEALED, GONE = "moving", "sealed", "gone"
FIRST_QUESTION_SECONDS, LAST_QUESTION_SECONDS = 5.0, 300.0
"""Between questions for the outcome of a move whose client is silent."""


class Sender:
    """Writes containers as streams."""

    def __init__(self, core: Core, containers: ContainerService) -> None:
        self._core, self._containers = core, containers

    async def write(self, manifest: Manifest, container: Container, output: int) -> None:
        writer = StreamWriter(output)
        try:
            await on_thread(writer.manifest, manifest)
            for section in manifest.sections:
                await self._section(writer, container, section)
            await on_thread(writer.finish)
        except BrokenPipeError as error:
            raise DataLoss("the container was not written to its end", "nobody reads it any more") from error

    async def _section(self, writer: StreamWriter, container: Container, section: Section) -> None:
        core = self._core
        if section.kind == "blob":
            found = await self._blob(writer, section.digest)
            check_layer_result(f"blob {section.digest}", section.digest, section.size, found)
        elif section.kind == "layer":
            result, found = await joined(
                lambda output: core.storage.diff(section.chain_id, output), writer.section, work_reads=False
            )
            check_tar(result.diff_id, section.diff_id)
            _check(f"layer {section.diff_id}", result, found)
        elif section.kind == "container":
            result, found = await joined(
                lambda output: core.storage.diff(container.id, output), writer.section, work_reads=False
            )
            _check(f"container {container.name}", result, found)
        elif section.kind == "volume":
            await self._volume(writer, container, section.name)
        else:
            await self._tree(writer, str(core.data_dir(container.id)))

    async def _blob(self, writer: StreamWriter, digest: str) -> SectionEnd:
        descriptor = self._core.images.layers.content.open(digest)
        try:
            return await on_thread(writer.section, descriptor)
        finally:
            os.close(descriptor)

    async def _volume(self, writer: StreamWriter, container: Container, name: str) -> None:
        volumes = self._core.volumes
        if container.id in self._containers.lifecycle.live:
            # It is mounted, and must stay so.
            point = next(point for point in container.mounts if point.type == "volume" and point.name == name)
            await self._tree(writer, point.source)
            return
        path = await volumes.mount(name, container.id)
        try:
            await self._tree(writer, str(path))
        finally:
            await volumes.unmount(name, container.id)

    async def _tree(self, writer: StreamWriter, path: str) -> None:
        packed, found = await joined(
            lambda output: self._core.workers.run("hooper.content.pack:pack_tree", {"path": path}, [output]),
            writer.section,
            work_reads=False,
        )
        check_layer_result(path, packed["diff_id"], packed["size"], found)


def _check(what: str, result: LayerResult, found: SectionEnd) -> None:
    check_layer_result(what, result.diff_id, result.size, found)


class _Outgoing:
    """What is known of a move in this daemon's life alone."""

    def __init__(self, manifest: Manifest, idle: float) -> None:
        self.manifest, self.idle = manifest, idle
        self.touched = time.monotonic()
        self.sending = False


class Departures:
    """The moves away from this engine. A container's record of its move is part of the container."""

    def __init__(self, core: Core, containers: ContainerService, sender: Sender) -> None:
        self._core, self._containers, self._sender = core, containers, sender
        self._active: dict[str, _Outgoing] = {}

    async def begin(self, name: str, request: Begin, engine: str) -> Begun:
        check_transfer(request.transfer)
        container = self._core.store.get(name)
        async with self._containers.lifecycle.lock(container.id):
            self._check_movable(container)
            await plans.describe(self._core, container, engine)
            self._mark(container, request)
        try:
            await self._stop(container, request.stop_timeout)
            manifest = await plans.describe(self._core, container, engine)
            without = set(request.without_volumes)
            manifest.sections = plans.sections(self._core, manifest, set(request.layers), without)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._free(container)
            raise
        self._active[request.transfer] = _Outgoing(manifest, request.idle_seconds)
        self._core.background(self._watch, container, request.transfer)
        assert container.moving is not None
        return Begun(id=container.id, was_running=container.moving.was_running)

    def _check_movable(self, container: Container) -> None:
        check_stays(container)
        if container.state.status == "paused":
            raise Conflict(
                f"cannot move container {container.name}",
                "it is paused",
                f"Let it go on first: hooper unpause {container.name}",
            )

    def _mark(self, container: Container, request: Begin) -> None:
        """The intent. While it stands the container is neither started nor removed, also if it is an --rm one."""
        without = set(request.without_volumes)
        container.moving = Departure(
            transfer=request.transfer,
            to=request.to,
            engine=request.engine,
            was_running=container.state.running,
            stopped_by_user=container.stopped_by_user,
            auto_remove=container.host_config.auto_remove,
            carried=[name for name in plans.volume_names(container) if name not in without],
        )
        container.host_config.auto_remove = False
        self._core.store.save(container)
        self._core.store.checkpoint()

    async def _stop(self, container: Container, timeout: int | None) -> None:
        if not container.state.running:
            return
        try:
            await self._containers.lifecycle.stop(container, "", timeout)
        except NotModified:
            return  # it has ended by itself meanwhile

    async def _watch(self, container: Container, transfer: str) -> None:
        """Undoes a move whose client has gone away without a word."""
        while outgoing := self._active.get(transfer):
            left = outgoing.touched + outgoing.idle - time.monotonic()
            if outgoing.sending or left > 0:
                await anyio.sleep(max(left, 0.2))
                continue
            self._core.log.warning("move undone: its client is gone", container=container.id, transfer=transfer)
            departure = container.moving
            await self.undo(container.id, transfer)
            if departure is not None:
                # It was never sealed, so there is nothing to learn: the question frees what is there.
                await on_thread(ask, departure.to, transfer, departure.engine)
            return

    def _found(self, name: str, transfer: str) -> tuple[Container, Departure]:
        container = self._core.store.get(name)
        departure = container.moving
        if departure is None or departure.transfer != transfer:
            raise Conflict(
                f"container {container.name} is not on its way by this transfer",
                "the move was undone, or never began" if departure is None else "another one moves it",
                "Move it again.",
            )
        return container, departure

    async def send(self, name: str, transfer: str, output: int) -> None:
        container, departure = self._found(name, transfer)
        outgoing = self._active.get(transfer)
        if departure.state != MOVING or outgoing is None or outgoing.sending:
            raise Conflict(f"container {container.name} is not to be sent now", f"the move is {departure.state}")
        outgoing.sending = True
        complete = False
        try:
            await self._sender.write(outgoing.manifest, container, output)
            complete = True
        finally:
            outgoing.sending = False
            outgoing.touched = time.monotonic()
            if not complete:
                self._core.background(self.undo, container.id, transfer)

    def keep(self, name: str, transfer: str) -> None:
        self._found(name, transfer)
        if outgoing := self._active.get(transfer):
            outgoing.touched = time.monotonic()

    def seal(self, name: str, transfer: str) -> None:
        """Sealing twice is harmless."""
        container, departure = self._found(name, transfer)
        outgoing = self._active.get(transfer)
        if departure.state == MOVING and (outgoing is None or outgoing.sending):
            raise Conflict(f"container {container.name} has not been sent", "the move was broken off")
        if departure.state != MOVING:
            return
        departure.state = SEALED
        self._core.store.save(container)
        self._core.store.checkpoint()
        self._active.pop(transfer, None)
        patience = min(FIRST_QUESTION_SECONDS, outgoing.idle) if outgoing else FIRST_QUESTION_SECONDS
        self._core.background(self._resolve, container, transfer, patience)

    async def _resolve(self, container: Container, transfer: str, pause: float) -> None:
        """Asks the target what became of a sealed move, as long as its client does not say it."""
        while True:
            await anyio.sleep(pause)
            pause = min(2 * pause, LAST_QUESTION_SECONDS)
            departure = container.moving
            if departure is None or departure.transfer != transfer or departure.state != SEALED:
                return
            outcome = await on_thread(ask, departure.to, transfer, departure.engine)
            if outcome:
                self._core.log.info("move resolved", container=container.id, to=departure.to, outcome=outcome)
                await self._apply(container, transfer, outcome)
                return

    async def _apply(self, container: Container, transfer: str, outcome: str) -> None:
        departure = container.moving
        if departure is None or departure.transfer != transfer or departure.state != SEALED:
            return  # the client was quicker
        if outcome == "committed":
            await self.confirm(container.id, transfer)
        else:
            await self.undo(container.id, transfer)

    async def confirm(self, name: str, transfer: str) -> None:
        container, departure = self._found(name, transfer)
        if departure.state == MOVING:
            raise Conflict(f"container {container.name} cannot have arrived", "its move was never sealed")
        departure.state = GONE
        self._core.store.save(container)
        self._core.store.checkpoint()
        with anyio.CancelScope(shield=True):
            await self.remove(container)

    async def remove(self, container: Container) -> None:
        """Takes away what is elsewhere now. A daemon that starts calls it again for one that was broken off."""
        departure = container.moving
        assert departure is not None
        self._core.emit(container, "move", to=departure.to)
        await self._containers.discard(container)
        for name in departure.carried:
            try:
                await self._core.volumes.remove(name, force=True)
            except Conflict:
                continue  # another container uses it

    async def undo(self, name: str, transfer: str) -> bool:
        container, departure = self._found(name, transfer)
        if departure.state == GONE:
            raise Conflict(f"container {container.name} is elsewhere", f"it was moved to {departure.to}")
        with anyio.CancelScope(shield=True):
            if await self._free(container):
                return True
        return False

    async def _free(self, container: Container) -> bool:
        """Restores the container as it was before; True if it was started again."""
        departure = container.moving
        if departure is None:
            return False
        self._active.pop(departure.transfer, None)
        async with self._containers.lifecycle.lock(container.id):
            container.moving = None
            container.host_config.auto_remove = departure.auto_remove
            container.stopped_by_user = departure.stopped_by_user
            self._core.store.save(container)
            self._core.store.checkpoint()
        if not departure.was_running or container.id in self._containers.lifecycle.live:
            return False
        try:
            await self._containers.lifecycle.start(container)
        except NotModified:
            return True
        except HooperError as error:
            self._core.log.warning("cannot start again after a move", container=container.id, error=str(error))
            return False
        return True

    async def recover(self) -> None:
        """After a start of the daemon: a move that was not sealed is undone, one that was confirmed is finished."""
        for container in self._core.store.all():
            departure = container.moving
            if departure is None:
                continue
            if departure.state == GONE:
                await self.remove(container)
            elif departure.state == SEALED:
                self._core.background(self._resolve, container, departure.transfer, FIRST_QUESTION_SECONDS)
            else:
                self._core.background(self._free, container)
