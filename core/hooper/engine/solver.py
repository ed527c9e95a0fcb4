"""Carries out a graph of steps: each node once, as soon as its inputs are there, side by side where it can.

What a node does is `Work`'s. This module knows order, the cache, and that two builds may want the same step at the
same time: it is run once then, and both see its output.
"""

from __future__ import annotations

import copy
import os
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Protocol

import anyio

from hooper.api.build_graph import Node
from hooper.engine.build_image import Made
from hooper.engine.build_sources import Tree

Result = Made | Tree
Results = Mapping[Node, Result]
Output = Callable[[int, bytes], Awaitable[None]]
"""Takes what a command writes: 1 (stdout) or 2, and bytes."""

_REPLAYED = 256 * 1024
"""Bytes of output that a build sees of a step which another one began."""


class Report(Protocol):
    """Is told of each node; a node that is `started` is `done` or `failed` later, any other is `done` alone."""

    async def started(self, node: Node) -> None: ...

    async def output(self, node: Node, stream: int, data: bytes) -> None: ...

    async def done(self, node: Node, result: Result, *, cached: bool) -> None: ...

    async def failed(self, node: Node, error: Exception) -> None: ...


class Work(Protocol):
    """What the nodes of one build mean."""

    async def key(self, node: Node, results: Results) -> str:
        """Digest of the step and of its inputs' results; "" for a node that is not cached (a source of files)."""

    async def recall(self, key: str, node: Node, results: Results) -> Made | None:
        """What a finished step has left, if all of it is still there."""

    async def perform(self, key: str, node: Node, results: Results, output: Output) -> Result:
        """Carries the node out, and remembers the outcome under a key that is not ""."""


class Solver:
    """For one build; `flights` and `limit` (steps at the same time) are the engine's."""

    def __init__(self, work: Work, flights: Flights, limit: anyio.CapacityLimiter, report: Report) -> None:
        self._work, self._flights, self._limit, self._report = work, flights, limit, report
        self.results: dict[Node, Result] = {}
        self._error: Exception | None = None

    async def solve(self, target: Node) -> Result:
        """The result of `target`, and of all that it needs in `results`. Raises the first error of any node."""
        waits, dependents = _order(target)
        async with anyio.create_task_group() as tasks:

            async def resolve(node: Node) -> None:
                try:
                    self.results[node] = await self._resolve(node)
                except Exception as error:
                    # The others are cancelled on account of this one.
                    self._error = self._error or error
                    tasks.cancel_scope.cancel()
                    return
                for dependent in dependents[node]:
                    waits[dependent] -= 1
                    if not waits[dependent]:
                        tasks.start_soon(resolve, dependent)

            for node in [node for node, count in waits.items() if not count]:
                tasks.start_soon(resolve, node)
        if self._error is not None:
            raise self._error
        return self.results[target]

    async def _resolve(self, node: Node) -> Result:
        try:
            return await self._cached_or_made(node)
        except Exception as error:
            if self._error is None:
                await self._report.failed(node, error)
            raise

    async def _cached_or_made(self, node: Node) -> Result:
        key = await self._work.key(node, self.results)
        if key and not node.fresh:
            known = await self._work.recall(key, node, self.results)
            if known is not None:
                await self._report.done(node, known, cached=True)
                return known
        async with self._limit:
            await self._report.started(node)
            made = await self._made(key, node)
        await self._report.done(node, made, cached=False)
        return made

    async def _made(self, key: str, node: Node) -> Result:
        async def output(stream: int, data: bytes) -> None:
            await self._report.output(node, stream, data)

        if not key:
            return await self._work.perform(key, node, self.results, output)

        async def perform(tell: Output) -> Result:
            return await self._work.perform(key, node, self.results, tell)

        shared = f"{key}/{os.urandom(8).hex()}" if node.fresh else key
        return await self._flights.join(shared, perform, output)


def _order(target: Node) -> tuple[dict[Node, int], dict[Node, list[Node]]]:
    """Of each node that is needed: how many others it waits for, and which wait for it.

    Without recursion: chains are long.
    """
    waits: dict[Node, int] = {}
    dependents: dict[Node, list[Node]] = defaultdict(list)
    todo = [target]
    while todo:
        node = todo.pop()
        if node in waits:
            continue
        inputs = dict.fromkeys(node.inputs())
        waits[node] = len(inputs)
        for needed in inputs:
            dependents[needed].append(node)
        todo += inputs
    return waits, dependents


class _Flight:
    """A step that is being carried out, and the builds that wait for it."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.scope = anyio.CancelScope()
        self.result: Result | None = None
        self.error: Exception | None = None
        self.waiting = 0
        self.abandoned = False
        """The build that began it is gone: its error may be on account of that."""
        self._listeners: list[Output] = []
        self._said: deque[tuple[int, bytes]] = deque()
        self._size = self._dropped = 0

    async def listen(self, output: Output) -> None:
        """Passes on what was said up to now, and then what follows, in this order."""
        told = self._dropped
        while told < self._dropped + len(self._said):
            told = max(told, self._dropped)
            stream, data = self._said[told - self._dropped]
            told += 1
            await output(stream, data)
        self._listeners.append(output)

    def leave(self, output: Output) -> None:
        if output in self._listeners:
            self._listeners.remove(output)

    async def tell(self, stream: int, data: bytes) -> None:
        self._said.append((stream, data))
        self._size += len(data)
        while self._size > _REPLAYED:
            self._size -= len(self._said.popleft()[1])
            self._dropped += 1
        for listener in list(self._listeners):
            # A build whose client is gone is cancelled by its own; the step goes on for the others.
            with suppress(Exception):
                await listener(stream, data)


class Flights:
    """One an engine: the steps under way, by key."""

    def __init__(self, background: Callable[..., object]) -> None:
        """`background` runs a coroutine function as long as the engine lives."""
        self._background = background
        self._flights: dict[str, _Flight] = {}

    async def join(self, key: str, perform: Callable[[Output], Awaitable[Result]], output: Output) -> Result:
        """Carries the step out, or waits for the one that does. A step that nobody waits for any more is cancelled.

        Returns only when the step has ended if it was begun here, also when cancelled: it uses what the caller has.
        """
        while True:
            flight = self._flights.get(key)
            begun = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight()
                self._background(self._fly, key, flight, perform)
            await self._wait(flight, output, begun=begun)
            if flight.result is not None:
                return flight.result
            if flight.error is not None and (begun or not flight.abandoned):
                raise flight.error if begun else copy.copy(flight.error)

    async def _wait(self, flight: _Flight, output: Output, *, begun: bool) -> None:
        flight.waiting += 1
        try:
            await flight.listen(output)
            await flight.done.wait()
        finally:
            flight.waiting -= 1
            flight.leave(output)
            if not flight.done.is_set():
                if not flight.waiting:
                    flight.scope.cancel()
                if begun:
                    flight.abandoned = True
                    with anyio.CancelScope(shield=True):
                        await flight.done.wait()

    async def _fly(self, key: str, flight: _Flight, perform: Callable[[Output], Awaitable[Result]]) -> None:
        try:
            with flight.scope:
                flight.result = await perform(flight.tell)
        except Exception as error:
            flight.error = error
        finally:
            del self._flights[key]
            flight.done.set()


def needed(targets: Iterable[Node]) -> set[Node]:
    """These nodes, and all that they need."""
    found: set[Node] = set()
    todo = list(targets)
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += node.inputs()
    return found
