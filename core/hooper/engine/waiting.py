"""Who waits for what of which container."""

from __future__ import annotations

from collections.abc import Awaitable

import anyio

from hooper.api.engine import WaitResult
from hooper.api.errors import InvalidArgument

CONDITIONS = ("not-running", "next-exit", "removed")


class Waiter:
    """One wait that has been registered."""

    def __init__(self, condition: str) -> None:
        if condition not in CONDITIONS:
            raise InvalidArgument(f'invalid condition: "{condition}"', remedy=f"There are {', '.join(CONDITIONS)}.")
        self.condition = condition
        self._done = anyio.Event()
        self._result = WaitResult(0)

    def resolve(self, result: WaitResult) -> None:
        self._result = result
        self._done.set()

    async def result(self) -> WaitResult:
        await self._done.wait()
        return self._result


_GONE = 256
"""So many containers that are removed are remembered, the latest."""


class Waiters:
    def __init__(self) -> None:
        self._waiting: dict[str, list[Waiter]] = {}
        self._gone: dict[str, WaitResult] = {}

    def register(self, container_id: str, condition: str) -> Waiter:
        waiter = Waiter(condition)
        self._waiting.setdefault(container_id, []).append(waiter)
        return waiter

    def exited(self, container_id: str, result: WaitResult) -> None:
        """The container's process has ended and all of it is recorded."""
        self._resolve(container_id, ("not-running", "next-exit"), result)

    def removed(self, container_id: str, result: WaitResult) -> None:
        self._resolve(container_id, CONDITIONS, result)

    def keep(self, container_id: str, result: WaitResult) -> None:
        """For who waited at the daemon before, and asks this one when the container is removed already."""
        self._gone[container_id] = result
        while len(self._gone) > _GONE:
            del self._gone[next(iter(self._gone))]

    def gone(self, container_id: str) -> WaitResult | None:
        """What is kept of a container by its whole id."""
        return self._gone.get(container_id)

    def _resolve(self, container_id: str, conditions: tuple[str, ...], result: WaitResult) -> None:
        waiting = self._waiting.pop(container_id, [])
        for waiter in waiting:
            if waiter.condition in conditions:
                waiter.resolve(result)
        if rest := [waiter for waiter in waiting if waiter.condition not in conditions]:
            self._waiting[container_id] = rest


async def _known(result: WaitResult) -> WaitResult:
    return result


def known(result: WaitResult) -> Awaitable[WaitResult]:
    """A wait that is over already."""
    return _known(result)
