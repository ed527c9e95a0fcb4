"""The monitor that waits for its container: whose it becomes, and when it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from runtime_support import HERE, make_launcher, spawn_of

from hooper.runtime.client import Launcher, MonitorClient
from hooper.runtime.protocol import NewNetns

pytestmark = [pytest.mark.anyio, pytest.mark.root]

SECONDS = 10


@pytest.fixture
async def launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Launcher]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *sys.path]))
    launcher = make_launcher(tmp_path)
    await launcher.start()
    yield launcher
    await launcher.aclose()


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def spare_of(launcher: Launcher, other_than: int = 0) -> int:
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    with anyio.fail_after(SECONDS):
        while True:
            found = [pid for pid in map(int, children.read_text().split()) if name_of(pid) == "hooper-spare"]
            if found and found != [other_than]:
                assert len(found) == 1
                return found[0]
            await anyio.sleep(0.01)


async def gone(pid: int) -> bool:
    with anyio.move_on_after(SECONDS):
        while name_of(pid):
            await anyio.sleep(0.01)
    return not name_of(pid)


def namespace_of(pid: int) -> int:
    return os.stat(f"/proc/{pid}/ns/net").st_ino


async def sandbox_of(monitor: MonitorClient) -> int:
    """Which network namespace a monitor's container has."""
    descriptor = await monitor.sandbox()
    try:
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def netns_of(pid: int) -> set[int]:
    """Which network namespaces a process holds by descriptors, beside the host's, which making one needs."""
    found: set[int] = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it may be closed meanwhile
            text = os.readlink(link)
            if text.startswith("net:["):
                found.add(int(text[5:-1]))
    return found - {os.stat("/proc/self/ns/net").st_ino}


async def netns_made_by(pid: int) -> set[int]:
    with anyio.fail_after(SECONDS):
        while not (made := netns_of(pid)):
            await anyio.sleep(0.01)
    return made


async def test_a_container_gets_the_one_that_waits_and_another_waits_then(launcher: Launcher, tmp_path: Path) -> None:
    waiting = await spare_of(launcher)
    made = await netns_made_by(waiting)
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "sleep", "60", netns="new"))
    assert {await sandbox_of(monitor)} == made
    await monitor.created()
    assert name_of(waiting) == "hooper-monitor"
    following = await spare_of(launcher)
    assert following != waiting
    await monitor.aclose()
    assert await gone(waiting)
    assert name_of(following) == "hooper-spare"


async def test_another_namespace_is_made_for_whom_the_usual_one_does_not_fit(
    launcher: Launcher, tmp_path: Path
) -> None:
    waiting = await spare_of(launcher)
    made = await netns_made_by(waiting)
    spawn = spawn_of(tmp_path / "c", "sleep", "60", netns="new", new_netns=NewNetns(disable_ipv6=True))
    monitor = await launcher.spawn(spawn)
    assert await sandbox_of(monitor) not in made
    await monitor.created()
    assert not made & netns_of(waiting)
    await monitor.aclose()


async def test_a_container_on_the_host_network_keeps_no_namespace(launcher: Launcher, tmp_path: Path) -> None:
    waiting = await spare_of(launcher)
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "sleep", "60"))
    await monitor.created()
    assert name_of(waiting) == "hooper-monitor" and netns_of(waiting) == set()
    await monitor.aclose()


async def test_containers_start_without_the_one_that_waited(launcher: Launcher, tmp_path: Path) -> None:
    waiting = await spare_of(launcher)
    os.kill(waiting, signal.SIGKILL)
    assert await gone(waiting)
    for number in range(3):  # at once: none waits for the second and the third
        monitor = await launcher.spawn(spawn_of(tmp_path / f"c{number}", "true"))
        await monitor.created()
        await monitor.aclose()


async def test_it_ends_with_the_launcher_whatever_runs(launcher: Launcher, tmp_path: Path) -> None:
    await spare_of(launcher)
    running = await launcher.spawn(spawn_of(tmp_path / "c", "sleep", "60"))
    await running.created()
    await running.start()
    waiting = await spare_of(launcher)
    os.kill(launcher.pid, signal.SIGKILL)
    assert await gone(waiting)
    await running.signal(signal.SIGKILL)
    await running.aclose()
