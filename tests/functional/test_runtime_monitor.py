"""Monitors and their client: a container's making, its life and its end, and further processes in it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from runtime_support import ALL, BOTH, Client, Exit, frames, launch, logged, spawn_of

from hooper.api import oci
from hooper.api.errors import Conflict, Internal, NotFound, StartFailed, Unavailable, to_wire
from hooper.runtime import wire
from hooper.runtime.client import Launcher, MonitorClient, read_exit
from hooper.runtime.protocol import Attach, ExecExited, Failed, Sandbox

pytestmark = pytest.mark.anyio


async def test_output_and_exit_code_reach_the_client_before_exited(launcher: Launcher, tmp_path: Path) -> None:
    client = Client()
    spawn = spawn_of(tmp_path / "c", "sh", "-c", "echo out; echo err >&2; exit 3", attached=[BOTH])
    monitor, exit = await launch(launcher, spawn, client)
    exited = await exit.wait()
    client.sock.setblocking(False)
    data = b""
    while part := client.sock.recv(65536):
        data += part
    assert frames(data) == {1: b"out\n", 2: b"err\n"}
    assert exited.exit_code == 3 and not exited.oom_killed
    assert (tmp_path / "c/fake-deleted").exists()
    assert read_exit(tmp_path / "c") == exited
    monitor.release()


async def test_nothing_runs_before_start(launcher: Launcher, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "touch", str(mark)))
    await monitor.created()
    assert not mark.exists()
    await monitor.start()
    await Exit(monitor).wait()
    assert mark.exists()


async def test_closing_before_start_leaves_nothing(launcher: Launcher, tmp_path: Path) -> None:
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "true"))
    pid = await monitor.created()
    await monitor.aclose()
    assert (tmp_path / "c/fake-deleted").exists()
    assert not (tmp_path / "c/monitor.sock").exists()
    assert read_exit(tmp_path / "c") is None
    with anyio.fail_after(10):
        while Path(f"/proc/{pid}").exists():
            await anyio.sleep(0.01)


async def test_a_start_that_is_given_up_leaves_nothing_though_it_came_about(launcher: Launcher, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "sh", "-c", f"touch {mark}; exec sleep 60"))
    pid = await monitor.created()
    starting = asyncio.ensure_future(monitor.start())
    await asyncio.sleep(0)
    deadline = time.monotonic() + 10
    while not mark.exists():  # without a turn of the loop: the answer is there and not heard
        assert time.monotonic() < deadline
        time.sleep(0.001)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await monitor.aclose()
    assert not Path(f"/proc/{pid}").exists()
    assert (tmp_path / "c" / "fake-deleted").exists()


async def test_a_create_that_fails_is_told(launcher: Launcher, tmp_path: Path) -> None:
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "true", hostname="fail-create"))
    with pytest.raises(StartFailed) as caught:
        await monitor.created()
    assert caught.value.exit_code == 125
    with anyio.fail_after(10):
        await monitor.closed.wait()


async def test_a_start_that_fails_is_told_and_the_monitor_goes(launcher: Launcher, tmp_path: Path) -> None:
    client = Client()
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "/missing", attached=[BOTH]), [client.give()])
    client.given()
    await monitor.created()
    with pytest.raises(StartFailed) as caught:
        await monitor.start()
    assert caught.value.exit_code == 127
    assert await client.read_all() == b""
    with anyio.fail_after(10):
        await monitor.closed.wait()
    assert (tmp_path / "c/fake-deleted").exists()


@pytest.mark.parametrize("backend", ["broken", "unheard-of"])
async def test_a_backend_that_is_not_there_fails_alone(launcher: Launcher, tmp_path: Path, backend: str) -> None:
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "true", backend=backend))
    with pytest.raises(NotFound, match=backend):
        await monitor.created()


async def test_killed_by_a_signal(launcher: Launcher, tmp_path: Path) -> None:
    monitor, exit = await launch(launcher, spawn_of(tmp_path / "c", "sleep", "60"))
    await monitor.signal(signal.SIGKILL)
    assert (await exit.wait()).exit_code == 137
    await monitor.signal(signal.SIGKILL)


async def test_a_second_start_is_refused_and_changes_nothing(launcher: Launcher, tmp_path: Path) -> None:
    monitor, exit = await launch(launcher, spawn_of(tmp_path / "c", "sleep", "60"))
    with pytest.raises(Conflict):
        await monitor.start()
    assert await monitor.processes()
    await monitor.signal(signal.SIGTERM)
    assert (await exit.wait()).exit_code == 143


async def test_who_starts_late_hears_why_it_could_not_be_made(launcher: Launcher, tmp_path: Path) -> None:
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "true", hostname="fail-create"))
    await monitor.closed.wait()
    with pytest.raises(StartFailed, match="asked to fail"):
        await monitor.start()


async def test_what_fails_before_its_monitor_looks_is_told(launcher: Launcher, tmp_path: Path) -> None:
    monitor = await launcher.spawn(spawn_of(tmp_path / "early", "true", hostname="fail-create"))
    with anyio.fail_after(10), pytest.raises(StartFailed, match="asked to fail"):
        await monitor.start()
    with anyio.fail_after(10):
        await monitor.closed.wait()


async def test_a_namespace_that_comes_with_the_news_of_a_failure_is_given_to_nobody() -> None:
    """Its descriptor is closed by the time that who waits for it goes on."""
    ours, theirs = wire.pair()
    before = len(os.listdir("/proc/self/fd"))
    monitor = MonitorClient(ours, spawned=True)
    waiting = asyncio.ensure_future(monitor.sandbox())
    await anyio.lowlevel.checkpoint()
    with theirs:
        wire.send(theirs, wire.encode(Sandbox()), [0])
        wire.send(theirs, wire.encode(Failed(error=to_wire(StartFailed("cannot create", "asked to fail")))))
    with anyio.fail_after(10), pytest.raises(StartFailed, match="asked to fail"):
        await waiting
    await monitor.aclose()
    assert len(os.listdir("/proc/self/fd")) == before - 2


async def test_killed_before_its_start(launcher: Launcher, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["launcher"] == "FakeAttempt":
        pytest.skip("whatever ends an attempt, the container is made once more: see test_runtime_attempts")
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "true"))
    os.kill(await monitor.created(), signal.SIGKILL)
    assert (await Exit(monitor).wait()).exit_code == 137
    with pytest.raises(Conflict):
        await monitor.start()
    monitor.release()


async def test_default_signal_actions(launcher: Launcher, tmp_path: Path) -> None:
    """What Python ignores is not ignored in a container."""
    monitor, exit = await launch(launcher, spawn_of(tmp_path / "c", "sleep", "60"))
    await monitor.signal(signal.SIGPIPE)
    assert (await exit.wait()).exit_code == 128 + signal.SIGPIPE


async def test_exec(launcher: Launcher, tmp_path: Path) -> None:
    monitor, exit = await launch(launcher, spawn_of(tmp_path / "c", "sleep", "60"))
    ended: list[ExecExited] = []
    monitor.on_exec_exit(ended.append)
    client = Client()
    process = oci.Process(args=["sh", "-c", "cat; echo e >&2; exit 5"])
    attach = Attach(stdin=True, stdout=True, stderr=True, exec_id="e1")
    assert await monitor.exec("e1", process, attach, client.give(), stdin=True) > 0
    client.given()
    client.sock.sendall(b"in")
    client.sock.shutdown(socket.SHUT_WR)
    assert frames(await client.read_all()) == {1: b"in", 2: b"e\n"}
    with anyio.fail_after(10):
        while not ended:
            await anyio.sleep(0.01)
    assert (ended[0].exec_id, ended[0].exit_code) == ("e1", 5)
    with pytest.raises(StartFailed) as caught:
        await monitor.exec("e2", oci.Process(args=["/missing"]))
    assert caught.value.exit_code == 127
    with pytest.raises(Conflict):
        await monitor.resize(1, 1, "e2")
    await monitor.signal(signal.SIGKILL)
    await exit.wait()


async def test_exec_with_terminal_and_detached(launcher: Launcher, tmp_path: Path) -> None:
    monitor, exit = await launch(launcher, spawn_of(tmp_path / "c", "sleep", "60"))
    client = Client()
    size = oci.ConsoleSize(height=30, width=90)
    process = oci.Process(args=["sh", "-c", "stty size; read x; stty size"], terminal=True, console_size=size)
    attach = Attach(stdin=True, stdout=True, exec_id="e1")
    await monitor.exec("e1", process, attach, client.give(), stdin=True)
    client.given()
    assert await client.read_until(b"\n") == b"30 90\r\n"
    await monitor.resize(31, 91, "e1")
    client.sock.sendall(b"\n")
    assert b"31 91" in await client.read_all()
    mark = tmp_path / "mark"
    await monitor.exec("e2", oci.Process(args=["touch", str(mark)]))
    with anyio.fail_after(10):
        while not mark.exists():
            await anyio.sleep(0.01)
    await monitor.signal(signal.SIGKILL)
    await exit.wait()


async def test_an_exec_that_does_not_come_is_waited_for_for_a_moment(launcher: Launcher, tmp_path: Path) -> None:
    monitor, exit = await launch(launcher, spawn_of(tmp_path / "c", "sleep", "60"))
    waiting = tmp_path / "c" / f"fake-expected-{await monitor.created()}"
    assert not waiting.exists()
    monitor.expect_exec()
    for there in (True, False):
        with anyio.move_on_after(10):
            while waiting.exists() is not there:
                await anyio.sleep(0.01)
        assert waiting.exists() is there
    await monitor.signal(signal.SIGKILL)
    await exit.wait()
    monitor.expect_exec()


async def test_execs_end_before_the_container(launcher: Launcher, tmp_path: Path) -> None:
    monitor, exit = await launch(launcher, spawn_of(tmp_path / "c", "sleep", "60"))
    order: list[str] = []
    client = Client()
    attach = Attach(stdout=True, exec_id="e1")
    pid = await monitor.exec("e1", oci.Process(args=["sleep", "50"]), attach, client.give())
    client.given()
    monitor.on_exec_exit(lambda ended: order.append(ended.exec_id))
    monitor.on_exit(lambda _: order.append("container"))
    await monitor.signal(signal.SIGKILL)
    with anyio.fail_after(20):
        while len(order) < 2:
            await anyio.sleep(0.01)
    assert order == ["e1", "container"]
    assert await client.read_all() == b""
    os.kill(pid, signal.SIGKILL)
    del exit


async def test_verbs_of_the_backend(launcher: Launcher, tmp_path: Path) -> None:
    monitor, exit = await launch(launcher, spawn_of(tmp_path / "c", "sleep", "60"))
    await monitor.pause()
    assert (tmp_path / "c/fake-paused").exists()
    await monitor.resume()
    assert not (tmp_path / "c/fake-paused").exists()
    assert (await monitor.stats()).memory_usage == 42
    assert len(await monitor.processes()) == 1
    with pytest.raises(Internal, match="a bug in a backend"):
        await monitor.update(oci.Resources())
    assert "a bug in a backend" in (tmp_path / "c/monitor.log").read_text()
    with pytest.raises(NotFound):
        await monitor.get_sandbox()
    await monitor.signal(signal.SIGKILL)
    await exit.wait()


async def test_held_descriptors_stay_open(launcher: Launcher, tmp_path: Path) -> None:
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "sleep", "60"))
    await monitor.created()
    pairs = [socket.socketpair() for _ in range(2)]
    await monitor.start([pairs[0][1].fileno()])
    await monitor.hold("net", [pairs[1][1].fileno()])
    for ours, theirs in pairs:
        theirs.close()
        ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        pairs[0][0].recv(1)
    await monitor.unhold("net")
    assert pairs[1][0].recv(1) == b""
    await monitor.signal(signal.SIGKILL)
    await Exit(monitor).wait()
    monitor.release()
    pairs[0][0].settimeout(10)
    assert pairs[0][0].recv(1) == b""


async def test_output_is_logged(launcher: Launcher, tmp_path: Path) -> None:
    directory = tmp_path / "c"
    _, exit = await launch(launcher, spawn_of(directory, "sh", "-c", "echo o; printf tail >&2", **logged(directory)))
    await exit.wait()
    lines = sorted((directory / "c-json.log").read_text().splitlines())
    assert [line.split(',"time"')[0] for line in lines] == [
        '{"log":"o\\n","stream":"stdout"',
        '{"log":"tail","stream":"stderr"',
    ]


async def test_a_later_daemon_takes_over(launcher: Launcher, tmp_path: Path) -> None:
    directory = tmp_path / "c"
    spawn = spawn_of(directory, "sh", "-c", "read x; echo $x; exit 6", stdin=True)
    first, _ = await launch(launcher, spawn)
    await first.aclose()
    second, status = await MonitorClient.connect(directory)
    third, _ = await MonitorClient.connect(directory)
    assert status.started and not status.paused and status.pid > 0 and status.started_ns > 0
    assert (directory / "monitor.sock").stat().st_mode & 0o777 == 0o600
    client = Client()
    await second.attach(ALL, client.give())
    client.given()
    client.sock.sendall(b"hello\n")
    assert frames(await client.read_all())[1] == b"hello\n"
    assert (await Exit(second).wait()).exit_code == 6
    assert (await Exit(third).wait()).exit_code == 6
    second.release()
    third.release()
    with pytest.raises(OSError):  # noqa: PT011  any kind of "nobody is there"
        await MonitorClient.connect(directory)


async def test_an_exit_without_a_daemon_is_kept(launcher: Launcher, tmp_path: Path) -> None:
    directory = tmp_path / "c"
    monitor, _ = await launch(launcher, spawn_of(directory, "sh", "-c", "sleep 0.2; exit 7"))
    await monitor.aclose()
    with anyio.fail_after(10):
        while (exited := read_exit(directory)) is None:
            await anyio.sleep(0.01)
    assert exited.exit_code == 7
    with anyio.fail_after(10):
        while (directory / "monitor.sock").exists():
            await anyio.sleep(0.01)


async def test_a_monitor_that_is_killed_is_noticed(launcher: Launcher, tmp_path: Path) -> None:
    monitor, _ = await launch(launcher, spawn_of(tmp_path / "c", "sleep", "60"))
    lost = anyio.Event()
    monitor.on_lost(lost.set)
    status = Path(f"/proc/{(await monitor.processes())[0]}/status").read_text()
    assert "hooper-monitor" in status
    os.kill((await monitor.processes())[0], signal.SIGKILL)
    with anyio.fail_after(10):
        await lost.wait()
    with pytest.raises(Unavailable):
        await monitor.stats()
