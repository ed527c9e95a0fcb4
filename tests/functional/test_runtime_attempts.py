"""Containers whose quick way fails, early or late, or is broken off: they are made the other way, unnoticed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest
from runtime_support import BOTH, Client, Exit, frames, launch, spawn_of

from hooper.api.errors import StartFailed
from hooper.runtime.client import Launcher

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        "launcher", ["FailsEarly", "FailsToComplete", "FailsLate", "FakeAttempt"], indirect=True, scope="function"
    ),
]


async def test_output_and_exit_code(launcher: Launcher, tmp_path: Path) -> None:
    client = Client()
    spawn = spawn_of(tmp_path / "c", "sh", "-c", "echo out; echo err >&2; exit 3", attached=[BOTH])
    monitor, exit = await launch(launcher, spawn, client)
    assert frames(await client.read_all()) == {1: b"out\n", 2: b"err\n"}
    assert (await exit.wait()).exit_code == 3
    monitor.release()


async def test_many_that_end_at_once(launcher: Launcher, tmp_path: Path) -> None:
    """Their end may be seen before it is known that they have begun."""

    async def one(number: int) -> None:
        monitor, exit = await launch(launcher, spawn_of(tmp_path / f"c{number}", "sh", "-c", f"exit {number}"))
        assert (await exit.wait()).exit_code == number
        monitor.release()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number in range(12):
                tasks.start_soon(one, number)


async def test_waits_for_its_start(launcher: Launcher, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "touch", str(mark)))
    await monitor.created()
    await anyio.sleep(0.05)
    assert not mark.exists()
    await monitor.start()
    assert (await Exit(monitor).wait()).exit_code == 0
    assert mark.exists()
    monitor.release()


async def test_the_other_way_says_what_is_wrong(launcher: Launcher, tmp_path: Path) -> None:
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "/missing"))
    with pytest.raises(StartFailed) as caught:
        await monitor.start()
    assert caught.value.exit_code == 127
    with anyio.fail_after(10):
        await monitor.closed.wait()
    assert (tmp_path / "c/fake-deleted").exists()


async def test_given_up_before_its_start(launcher: Launcher, tmp_path: Path) -> None:
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "sleep", "60"))
    pid = await monitor.created()
    await monitor.aclose()
    with anyio.fail_after(10):
        await monitor.closed.wait()
    assert not Path(f"/proc/{pid}").exists()
    assert not (tmp_path / "c/monitor.sock").exists()


async def test_killed_before_its_start(launcher: Launcher, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """By whom ever: that is its end, or, if it was seen before the start, it is made once more."""
    if request.node.callspec.params["launcher"] == "FailsEarly":
        pytest.skip("what waits is no attempt any more")
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "sleep", "60"))
    os.kill(await monitor.created(), signal.SIGKILL)
    await monitor.start()
    await monitor.signal(signal.SIGTERM)
    assert (await Exit(monitor).wait()).exit_code in (128 + signal.SIGKILL, 128 + signal.SIGTERM)
    monitor.release()


async def test_a_terminal_has_no_quick_way(launcher: Launcher, tmp_path: Path) -> None:
    client = Client()
    spawn = spawn_of(tmp_path / "c", "sh", "-c", "test -t 1 && echo yes", tty=True, attached=[BOTH])
    monitor, exit = await launch(launcher, spawn, client)
    assert await client.read_all() == b"yes\r\n"
    assert (await exit.wait()).exit_code == 0
    monitor.release()
