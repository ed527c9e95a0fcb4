"""Moving containers: the use cases of both sides, put together. Imported when the first of them is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable

import anyio

from hooper.api.errors import Conflict, NotFound
from hooper.api.moving import Arrived, Begin, Begun, Manifest, Moves, Offer, Plan, TransferState, Verdict, Wishes
from hooper.engine import moving_plan as plans
from hooper.engine.containers import ContainerService
from hooper.engine.core import Core
from hooper.engine.init_layer import InitLayers
from hooper.engine.layers import KeyedLocks
from hooper.engine.moving_check import Checker
from hooper.engine.moving_commit import Committer
from hooper.engine.moving_format import StreamReader
from hooper.engine.moving_pipe import on_thread
from hooper.engine.moving_source import Departures, Sender
from hooper.engine.moving_store import ABORTED, COMMITTED, COMMITTING, RECEIVED, RECEIVING, Arrival, ArrivalStore
from hooper.engine.moving_target import Receiver
from hooper.state.database import Database

DIRECTORY = "moving"


class MovingService(Moves):
    def __init__(
        self,
        core: Core,
        containers: ContainerService,
        init_layers: InitLayers,
        database: Database,
        engine_id: Callable[[], str],
    ) -> None:
        self._core, self._containers, self._engine = core, containers, engine_id()
        self._sender = Sender(core, containers)
        self._departures = Departures(core, containers, self._sender)
        self._arrivals = ArrivalStore(database, core.host.data_root / DIRECTORY)
        self._checker = Checker(core, self._engine)
        self._receiver = Receiver(core, init_layers, self._arrivals, self._checker)
        self._committer = Committer(core, containers, database, self._arrivals)
        self._locks = KeyedLocks()
        streams = max(2, os.cpu_count() or 1)
        self._outgoing, self._incoming = anyio.Semaphore(streams), anyio.Semaphore(streams)

    async def engine_id(self) -> str:
        return self._engine

    # --- the source ----------------------------------------------------------------------------------

    async def plan(self, name: str) -> Plan:
        return await plans.plan(self._core, self._core.store.get(name), self._engine)

    async def save(self, name: str, output: int) -> None:
        container = self._core.store.get(name)
        manifest = await plans.describe(self._core, container, self._engine)
        manifest.sections = plans.sections(self._core, manifest, None, set())
        pausing = container.state.status == "running" and container.moving is None
        async with self._outgoing:
            if pausing:
                await self._containers.lifecycle.pause(container)
            try:
                await self._sender.write(manifest, container, output)
            finally:
                if pausing and container.id in self._containers.lifecycle.live:
                    with anyio.CancelScope(shield=True):
                        await self._containers.lifecycle.unpause(container)
        self._core.emit(container, "export")

    async def begin(self, name: str, request: Begin) -> Begun:
        return await self._departures.begin(name, request, self._engine)

    async def send(self, name: str, transfer: str, output: int) -> None:
        async with self._outgoing:
            await self._departures.send(name, transfer, output)

    async def keep(self, name: str, transfer: str) -> None:
        self._departures.keep(name, transfer)

    async def seal(self, name: str, transfer: str) -> None:
        self._departures.seal(name, transfer)

    async def confirm(self, name: str, transfer: str) -> None:
        await self._departures.confirm(name, transfer)

    async def undo(self, name: str, transfer: str) -> bool:
        return await self._departures.undo(name, transfer)

    # --- the target ----------------------------------------------------------------------------------

    async def check(self, offer: Offer) -> Verdict:
        if offer.manifest.engine == self._engine:
            raise Conflict(
                f"container {offer.manifest.container.name} is on this engine already",
                "source and target are the same",
                "Name the context or address of another one.",
            )
        return await self._checker.check(offer)

    async def receive(self, transfer: str, wishes: Wishes, archive: int, *, keep_seconds: float) -> None:
        arrival = await self._received(transfer, wishes, archive, copy=False, keep_seconds=keep_seconds)
        self._core.background(self._expire, arrival.id, arrival.keep_seconds)

    async def _received(
        self, transfer: str, wishes: Wishes, archive: int, *, copy: bool, keep_seconds: float = 0.0
    ) -> Arrival:
        async with self._incoming:
            reader = await on_thread(StreamReader, archive)
            manifest = await on_thread(reader.manifest)
            if not copy:
                await self._supersede(manifest)
            arrival = await self._receiver.admit(transfer, manifest, wishes, copy=copy, keep_seconds=keep_seconds)
            try:
                await self._receiver.take(arrival, reader)
            except BaseException:
                await self._committer.undo(arrival)
                raise
            return arrival

    async def _supersede(self, manifest: Manifest) -> None:
        """Drops what an earlier try left complete: its source has taken the container back, or it could not try."""
        for other in self._arrivals.unfinished():
            same = other.manifest.container.id == manifest.container.id and other.manifest.engine == manifest.engine
            if same and other.state == RECEIVED:
                await self.abandon(other.id)

    async def _expire(self, transfer: str, seconds: float) -> None:
        """Drops what nobody commits."""
        await anyio.sleep(seconds)
        if self._arrivals.state(transfer)[0] == RECEIVED:
            self._core.log.warning("a container that arrived was never committed", transfer=transfer)
            await self.abandon(transfer)

    async def commit(self, transfer: str) -> Arrived:
        async with self._locks.hold(transfer):
            state, container_id = self._arrivals.state(transfer)
            if state == COMMITTED:
                container = self._core.store.by_id(container_id)
                return Arrived(id=container_id, name=container.name if container else "")
            arrival = self._arrivals.get(transfer)
            if arrival is None or state != RECEIVED:
                raise NotFound(
                    "there is nothing to commit",
                    "the transfer was given up" if arrival is None else f"the transfer is {state}",
                    "Move the container again.",
                )
            return await self._committer.commit(arrival)

    async def state(self, transfer: str) -> TransferState:
        state, container = self._arrivals.state(transfer)
        state = "" if state == ABORTED else state
        return TransferState(engine=self._engine, state=state, container=container if state else "")

    async def abandon(self, transfer: str) -> TransferState:
        async with self._locks.hold(transfer):
            arrival = self._arrivals.get(transfer)
            if arrival is not None and arrival.state == RECEIVING:
                # Whoever receives it finds out, and removes it.
                self._arrivals.advance(arrival, ABORTED)
            elif arrival is not None and arrival.state == RECEIVED:
                await self._committer.undo(arrival)
        return await self.state(transfer)

    async def forget(self, transfer: str) -> None:
        if self._arrivals.state(transfer)[0] == COMMITTED:
            self._arrivals.delete(transfer)

    async def load(self, wishes: Wishes, archive: int) -> Arrived:
        transfer = os.urandom(16).hex()
        arrival = await self._received(transfer, wishes, archive, copy=True)
        return await self._committer.commit(arrival)

    # --- after a crash -------------------------------------------------------------------------------

    async def recover(self) -> set[str]:
        """Finishes or undoes what an earlier daemon left; ids of containers that go on waiting for their commit."""
        waiting = set()
        for arrival in self._arrivals.unfinished():
            if arrival.state == COMMITTING:
                await self._committer.complete(arrival)
            elif arrival.state == RECEIVED:
                waiting.add(arrival.container.id)
                self._core.background(self._expire, arrival.id, arrival.keep_seconds)
            else:
                await self._committer.undo(arrival)
        await self._departures.recover()
        return waiting
