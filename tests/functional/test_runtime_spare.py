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
from runtime_support import HERE, Client, frames, launch, logged, make_launcher, spawn_of

from hooper.api import oci
from hooper.api.errors import NotFound
from hooper.runtime.client import Launcher, MonitorClient
from hooper.runtime.launcher import CONTAINERS
from hooper.runtime.protocol import Attach, NewNetns

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


async def descriptors_of(pid: int) -> int:
    """How many it has, when it has done what it does before it waits."""
    count = -1
    with anyio.fail_after(SECONDS):
        while (now := len(os.listdir(f"/proc/{pid}/fd"))) != count:
            count = now
            await anyio.sleep(0.3)
    return count


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


# --- monitors that have had a container ---


async def monitor_of(launcher: Launcher) -> int:
    """The one that has a container."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    with anyio.fail_after(SECONDS):
        while True:
            found = [pid for pid in map(int, children.read_text().split()) if name_of(pid) == "hooper-monitor"]
            if len(found) == 1:
                return found[0]
            await anyio.sleep(0.01)


async def waits_again(pid: int) -> bool:
    with anyio.move_on_after(SECONDS):
        while name_of(pid) not in ("hooper-spare", ""):
            await anyio.sleep(0.01)
    return name_of(pid) == "hooper-spare"


async def run(launcher: Launcher, directory: Path, *args: str, **options: object) -> tuple[int, int, bytes]:
    """The pid of a container's monitor, the container's exit code and its output."""
    client = Client()
    spawn = spawn_of(directory, *args, attached=[Attach(stdout=True)], **options)
    monitor, exit = await launch(launcher, spawn, client)
    pid = await monitor_of(launcher)
    output = await client.read_all()
    code = (await exit.wait()).exit_code
    monitor.release()
    return pid, code, frames(output)[1]


async def test_a_monitor_has_one_container_after_the_other(launcher: Launcher, tmp_path: Path) -> None:
    pids = set()
    for number in range(5):
        directory = tmp_path / f"c{number}"
        pid, *seen = await run(launcher, directory, "sh", "-c", f"echo {number}; exit {number}", **logged(directory))
        assert seen == [number, b"%d\n" % number]
        assert f'"{number}\\n"'.encode() in (directory / "c-json.log").read_bytes()
        assert await waits_again(pid)
        pids.add(pid)
    assert len(pids) == 1


async def test_nothing_of_its_container_is_left_in_it(launcher: Launcher, tmp_path: Path) -> None:
    waiting, _, _ = await run(launcher, tmp_path / "first", "true")
    assert await waits_again(waiting)
    made = await netns_made_by(waiting)
    before = await descriptors_of(waiting)
    monitor, exit = await launch(launcher, spawn_of(tmp_path / "c", "cat", netns="new", stdin=True))
    await monitor.hold("something", [0, 1])
    ended = anyio.Event()
    monitor.on_exec_exit(lambda exited: ended.set())
    await monitor.exec("e", oci.Process(args=["true"]))
    await ended.wait()
    await monitor.signal(signal.SIGKILL)
    await exit.wait()
    monitor.release()
    assert await waits_again(waiting)
    following = await netns_made_by(waiting)
    assert len(following) == 1 and not following & made
    assert await descriptors_of(waiting) == before


async def test_one_that_noted_an_error_is_not_trusted_again(launcher: Launcher, tmp_path: Path) -> None:
    directory = tmp_path / "c"
    waiting = await spare_of(launcher)
    monitor, exit = await launch(launcher, spawn_of(directory, "sleep", "60", **logged(directory)))
    (directory / "exit.json.tmp").mkdir()  # so that the end cannot be recorded
    await monitor.signal(signal.SIGKILL)
    await exit.wait()
    monitor.release()
    assert await gone(waiting)
    assert (directory / "monitor.log").exists()


async def test_one_that_could_not_make_its_container_ends(launcher: Launcher, tmp_path: Path) -> None:
    waiting = await spare_of(launcher)
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "true", backend="nothing"))
    with pytest.raises(NotFound):
        await monitor.created()
    await monitor.aclose()
    assert await gone(waiting)


async def test_one_that_has_children_left_ends(launcher: Launcher, tmp_path: Path) -> None:
    """What a container of the host's pid namespace leaves behind becomes the monitor's child."""
    waiting = await spare_of(launcher)
    script = "sleep 60 >/dev/null 2>&1 </dev/null & echo $!"
    pid, _, output = await run(launcher, tmp_path / "c", "sh", "-c", script)
    assert pid == waiting
    assert await gone(waiting)
    os.kill(int(output), signal.SIGKILL)


async def test_one_that_waits_again_ends_with_the_launcher(launcher: Launcher, tmp_path: Path) -> None:
    pid, _, _ = await run(launcher, tmp_path / "c", "true")
    assert await waits_again(pid)
    os.kill(launcher.pid, signal.SIGKILL)
    assert await gone(pid)


async def test_one_whose_launcher_has_gone_ends_after_its_container(launcher: Launcher, tmp_path: Path) -> None:
    monitor, exit = await launch(launcher, spawn_of(tmp_path / "c", "sleep", "60"))
    pid = await monitor_of(launcher)
    os.kill(launcher.pid, signal.SIGKILL)
    await monitor.signal(signal.SIGKILL)
    assert (await exit.wait()).exit_code == 128 + signal.SIGKILL
    monitor.release()
    assert await gone(pid)


async def test_it_has_a_bounded_number_of_containers(launcher: Launcher, tmp_path: Path) -> None:
    pids = [(await run(launcher, tmp_path / "c", "true"))[0] for _ in range(CONTAINERS + 1)]
    assert len(set(pids)) > 1
