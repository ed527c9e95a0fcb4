"""The rules of health checks, restart policies and updates, apart from any container that runs."""

from __future__ import annotations

import re
from typing import Any

import anyio
import pytest

from hooper.api.errors import Conflict, InvalidArgument
from hooper.api.model import (
    Container,
    ContainerConfig,
    ContainerState,
    Health,
    Healthcheck,
    HostConfig,
    ProbeResult,
    RestartPolicy,
)
from hooper.engine import health, restarts, updates
from hooper.engine.clock import rfc3339

S = 10**9
START = 1_700_000_000


def moment(seconds: float) -> str:
    """So long after the container's start."""
    return rfc3339(int((START + seconds) * S))


def container(
    name: str = "c", check: Healthcheck | None = None, policy: str = "", most: int = 0, **state: Any
) -> Container:
    host = HostConfig(restart_policy=RestartPolicy(name=policy, maximum_retry_count=most))
    made = ContainerState(**{"started_at": moment(0), "health": Health(), **state})
    return Container(
        id=f"id-{name}", name=name, created="", config=ContainerConfig(healthcheck=check), host_config=host, state=made
    )


def probe(code: int, seconds: float) -> ProbeResult:
    return ProbeResult(start=moment(seconds), end=moment(seconds + 1), exit_code=code, output="")


def after(made: Container, *results: ProbeResult) -> Health:
    for result in results:
        made.state.health = health.judged(made, result)
    assert made.state.health is not None
    return made.state.health


def test_three_failures_in_a_row_make_it_unhealthy() -> None:
    made = container(check=Healthcheck(test=["CMD", "x"]))
    assert after(made, probe(1, 1), probe(2, 2)).status == "starting"
    assert after(made, probe(0, 3)).failing_streak == 0
    assert (after(made, probe(1, 4), probe(-1, 5)).status, made.state.health.failing_streak) == ("healthy", 2)  # type: ignore[union-attr]
    found = after(made, probe(1, 6))
    assert (found.status, found.failing_streak) == ("unhealthy", 3)
    assert [result.exit_code for result in found.log] == [2, 0, 1, -1, 1]
    assert after(made, probe(0, 7)).status == "healthy"


def test_the_start_period_ends_with_its_time_or_a_success() -> None:
    check = Healthcheck(test=["CMD", "x"], start_period=10 * S, retries=1)
    assert after(container(check=check), probe(1, 9.9)).status == "starting"
    assert after(container(check=check), probe(1, 10)).status == "unhealthy"
    assert after(container(check=check), probe(0, 1), probe(1, 2)).status == "unhealthy"


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (None, []),
        ([], []),
        (["NONE"], []),
        (["CMD", "a", "b"], ["a", "b"]),
        (["CMD-SHELL", "a b"], ["/bin/sh", "-c", "a b"]),
        (["OTHER", "a"], []),
    ],
)
def test_what_a_probe_runs(test: list[str] | None, words: list[str]) -> None:
    assert health.command(ContainerConfig(healthcheck=Healthcheck(test=test))) == words


def test_when_the_next_probe_is_due() -> None:
    def due(check: Healthcheck, now: float, **state: Any) -> float:
        return round(health.pause_before_next(container(check=check, **state), START + now), 3)

    plain = Healthcheck(test=["CMD", "x"], interval=20 * S)
    assert due(plain, 0) == 20
    assert due(Healthcheck(test=["CMD", "x"]), 0) == 30
    # From the end of the last one, also for a daemon that was not there; never at once twice, whatever the clock does.
    logged = Health(status="healthy", log=[probe(0, 40)])
    assert due(plain, 45, health=logged) == 16
    assert due(plain, 400, health=logged) == 0
    assert due(plain, -1000, health=logged) == 20
    # What an earlier run of the container logged does not count.
    assert due(plain, 5, health=Health(log=[probe(0, -90)])) == 15
    starting = Healthcheck(test=["CMD", "x"], interval=20 * S, start_period=60 * S)
    assert due(starting, 0) == 5
    assert due(starting, 0, health=Health(status="healthy")) == 20
    assert due(starting, 61) == 0
    assert due(Healthcheck(test=["CMD", "x"], interval=20 * S, start_period=60 * S, start_interval=S), 0) == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "500ms"), (0.0015, "1.5ms"), (1, "1s"), (1.5, "1.5s"), (90, "1m30s"), (7200, "2h0m0s")]
)
def test_durations_as_docker_tells_them(seconds: float, text: str) -> None:
    assert health._go_duration(seconds) == text


@pytest.mark.parametrize(
    ("policy", "code", "count", "by_user", "again"),
    [
        ("", 1, 0, False, False),
        ("no", 1, 0, False, False),
        ("always", 0, 99, False, True),
        ("always", 0, 0, True, False),
        ("unless-stopped", 0, 0, False, True),
        ("unless-stopped", 0, 0, True, False),
        ("on-failure", 0, 0, False, False),
        ("on-failure", 1, 2, False, True),
        ("on-failure", 1, 3, False, False),
        ("on-failure", 1, 0, True, False),
    ],
)
def test_who_runs_again(policy: str, code: int, count: int, by_user: bool, again: bool) -> None:
    made = container(policy=policy, most=3 if policy == "on-failure" else 0, exit_code=code, status="exited")
    made.restart_count, made.stopped_by_user = count, by_user
    assert restarts.wanted(made) is again
    # At the start of a daemon it is the same, but for "always".
    assert restarts.wanted_at_boot(made) is (again or policy == "always")
    made.state.started_at = "0001-01-01T00:00:00Z"
    assert not restarts.wanted_at_boot(made)


def test_containers_that_join_others_come_later() -> None:
    made = {name: container(name) for name in "abcd"}
    made["a"].host_config.network_mode = "container:b"
    made["b"].host_config.pid_mode = "container:id-c"
    made["d"].host_config.ipc_mode = "container:elsewhere"
    assert [[c.name for c in wave] for wave in restarts.in_waves(made.values())] == [["c", "d"], ["b"], ["a"]]
    made["c"].host_config.ipc_mode = "container:a"
    assert [[c.name for c in wave] for wave in restarts.in_waves(made.values())] == [["d"], ["a", "b", "c"]]


@pytest.mark.anyio
async def test_the_backoff_doubles_up_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(anyio, "sleep", sleep)
    backoff = restarts.Backoff()
    for _ in range(12):
        assert await backoff.pause("c")
    assert slept == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60, 60]
    backoff.reset("c")
    assert await backoff.pause("c") and slept[-1] == 0.1


@pytest.mark.anyio
async def test_a_backoff_that_is_cancelled() -> None:
    backoff = restarts.Backoff()
    backoff._next["c"] = 60
    ended: list[bool] = []

    async def wait() -> None:
        ended.append(await backoff.pause("c"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.sleep(0.01)
        backoff.cancel("c")
        backoff.cancel("other")
    assert ended == [False]


@pytest.mark.parametrize(("text", "found"), [("0", {0}), ("0-2,4", {0, 1, 2, 4}), ("1,1", {1})])
def test_lists_of_processors(text: str, found: set[int]) -> None:
    assert updates.numbers(text) == found


@pytest.mark.parametrize("text", ["x", "1-", "-1", "2-1", "1,,2", "0-99999999"])
def test_lists_of_processors_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        updates.numbers(text)


def test_a_limit_below_the_one_it_needs() -> None:
    made = container()
    made.host_config = HostConfig(memory=64 << 20, memory_swap=128 << 20)
    with pytest.raises(Conflict, match="update the memoryswap at the same time"):
        updates.check(made, HostConfig(memory=256 << 20))
    updates.check(made, HostConfig(memory=256 << 20, memory_swap=-1))
    with pytest.raises(InvalidArgument, match="larger than memory limit"):
        updates.check(made, HostConfig(memory=256 << 20, memory_swap=128 << 20))
    assert updates.in_force(made.host_config, HostConfig(memory=96 << 20)).memory_swap == 128 << 20
    assert updates.in_force(made.host_config, HostConfig(cpu_shares=5)).memory_swap == 0
