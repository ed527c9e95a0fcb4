"""Restart policies: whether and when a container runs again."""

from __future__ import annotations

from collections.abc import Iterable

import anyio

from hooper.api.errors import InvalidArgument
from hooper.api.model import Container, RestartPolicy
from hooper.engine.clock import NEVER

FIRST_BACKOFF_S = 0.1
LAST_BACKOFF_S = 60.0
STEADY_S = 10.0
"""A run of at least so long resets the backoff."""


def check(policy: RestartPolicy) -> None:
    """InvalidArgument for a policy that does not exist."""
    if policy.name not in ("", "no", "always", "unless-stopped", "on-failure"):
        raise InvalidArgument(
            f"invalid restart policy '{policy.name}'", remedy="There are no, always, unless-stopped, on-failure[:N]."
        )
    if policy.maximum_retry_count < 0:
        raise InvalidArgument("maximum retry count cannot be negative")
    if policy.maximum_retry_count and policy.name not in ("", "on-failure"):
        raise InvalidArgument(
            f"maximum retry count cannot be used with restart policy '{policy.name}'",
            remedy="It can only be used with on-failure.",
        )


def wanted(container: Container) -> bool:
    """A container that has just ended, and not because somebody wanted it to, is to run again."""
    policy = container.host_config.restart_policy
    if container.stopped_by_user or policy.name in ("", "no"):
        return False
    return policy.name != "on-failure" or _tries_left(container)


def wanted_at_boot(container: Container) -> bool:
    """A container that rests when a daemon starts is to run: as Docker has it, "always" means also one that
    was stopped by hand, and none is started that never ran."""
    policy, state = container.host_config.restart_policy.name, container.state
    if state.started_at == NEVER:
        return False
    if state.status == "restarting" or policy == "always":
        return True
    if container.stopped_by_user:
        return False
    return policy == "unless-stopped" or (policy == "on-failure" and _tries_left(container))


def _tries_left(container: Container) -> bool:
    most = container.host_config.restart_policy.maximum_retry_count
    return container.state.exit_code != 0 and (not most or container.restart_count < most)


def in_waves(containers: Iterable[Container]) -> list[list[Container]]:
    """Containers to start, so that one whose namespace another joins comes in an earlier wave."""
    left = {container.id: container for container in containers}
    waves = []
    while left:
        names = {name for c in left.values() for name in (c.id, c.name)}
        ready = [c for c in left.values() if not _joined(c) & names] or list(left.values())
        waves.append(ready)
        for container in ready:
            del left[container.id]
    return waves


def _joined(container: Container) -> set[str]:
    host = container.host_config
    modes = (host.network_mode, host.pid_mode, host.ipc_mode)
    return {mode.removeprefix("container:") for mode in modes if mode.startswith("container:")}


class Backoff:
    """How long each container waits for its next run: twice as long each time."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}
        self._pauses: dict[str, anyio.CancelScope] = {}

    async def pause(self, container_id: str) -> bool:
        """Waits; False if `cancel` ended it."""
        seconds = self._next.get(container_id, FIRST_BACKOFF_S)
        self._next[container_id] = min(2 * seconds, LAST_BACKOFF_S)
        with anyio.CancelScope() as scope:
            self._pauses[container_id] = scope
            await anyio.sleep(seconds)
        if self._pauses.get(container_id) is scope:
            del self._pauses[container_id]
        return not scope.cancelled_caught

    def cancel(self, container_id: str) -> None:
        """Harmless if none is under way."""
        if scope := self._pauses.pop(container_id, None):
            scope.cancel()

    def reset(self, container_id: str) -> None:
        """The next one is short again."""
        self._next.pop(container_id, None)
