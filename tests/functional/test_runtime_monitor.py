"""Launcher, monitors and their client, with a backend that isolates nothing."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import runtime_fake

from hooper.api import oci
from hooper.api.driver import HostInfo
from hooper.api.errors import Conflict, HooperError, Internal, NotFound, StartFailed, Unavailable
from hooper.api.isolation import Bundle, Outline
from hooper.api.logs import LogTarget
from hooper.runtime import wire
from hooper.runtime.client import Launcher, MonitorClient, read_exit
from hooper.runtime.protocol import Attach, ExecExited, Exited, NewNetns, Spawn

pytestmark = pytest.mark.anyio
HERE = Path(__file__).parent


class _Log:
    def warning(self, *arguments: object, **values: object) -> None:
        logging.getLogger(__name__).warning("%s %s", arguments, values)


def make_launcher(tmp_path: Path, backend: str = "FakeBackend") -> Launcher:
    host = HostInfo(True, 1, (6, 1), "amd64", tmp_path, tmp_path)
    backends = [
        ("fake", f"runtime_fake:{backend}", runtime_fake.FakeConfig(memory=42)),
        ("broken", "runtime_missing:Backend", None),
    ]
    loggers = [("json-file", "hooper_log_jsonfile.driver:JsonFileDriver", None)]
    return Launcher(backends, loggers, host, _Log())


@pytest.fixture(params=["FakeBackend", "FakeWithin"])
async def launcher(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Launcher]:
    """With a backend that makes containers, and with one whose containers make themselves."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *sys.path]))
    launcher = make_launcher(tmp_path, request.param)
    await launcher.start()
    yield launcher
    await launcher.aclose()


def spawn_of(directory: Path, *args: str, **options: object) -> Spawn:
    directory.mkdir(exist_ok=True)
    spec = oci.Spec(oci_version="1.0.2", process=oci.Process(args=list(args)), root=oci.Root(path="/"))
    spec.hostname = str(options.pop("hostname", ""))
    bundle = Bundle(id=directory.name, directory=directory, spec=spec, rootfs=())
    choices: dict[str, Any] = {"backend": "fake", "netns": "host", "log_driver": "none", **options}
    return Spawn(
        container_id=bundle.id,
        directory=str(directory),
        bundle=wire.pack(bundle),
        outline=Outline(bundle.id),
        **choices,
    )


def logged(directory: Path) -> dict[str, object]:
    target = LogTarget(container_id="c", container_name="c", image="i", directory=directory)
    return {"log_driver": "json-file", "log": target}


class Client:
    """The user's end of a connection."""

    def __init__(self) -> None:
        self.sock, self.theirs = socket.socketpair()
        self.sock.settimeout(20)

    def give(self) -> int:
        return self.theirs.fileno()

    def given(self) -> None:
        self.theirs.close()

    async def read_all(self) -> bytes:
        def read() -> bytes:
            parts = []
            while part := self.sock.recv(1 << 20):
                parts.append(part)
            return b"".join(parts)

        return await anyio.to_thread.run_sync(read)

    async def read_until(self, end: bytes) -> bytes:
        def read() -> bytes:
            data = b""
            while end not in data:
                part = self.sock.recv(65536)
                assert part, data
                data += part
            return data

        return await anyio.to_thread.run_sync(read)


def frames(data: bytes) -> dict[int, bytes]:
    streams = {1: b"", 2: b""}
    while data:
        number, size = struct.unpack(">BxxxL", data[:8])
        assert len(data) >= 8 + size
        streams[number] += data[8 : 8 + size]
        data = data[8 + size :]
    return streams


class Exit:
    def __init__(self, monitor: MonitorClient) -> None:
        self._event, self.value = anyio.Event(), Exited(exit_code=-1, oom_killed=False, time_ns=0)
        monitor.on_exit(self._set)

    def _set(self, exited: Exited) -> None:
        self.value = exited
        self._event.set()

    async def wait(self) -> Exited:
        with anyio.fail_after(20):
            await self._event.wait()
        return self.value


async def launch(launcher: Launcher, spawn: Spawn, *clients: Client) -> tuple[MonitorClient, Exit]:
    monitor = await launcher.spawn(spawn, [client.give() for client in clients])
    for client in clients:
        client.given()
    assert await monitor.created() > 0
    started = await monitor.start()
    assert started.time_ns > 0
    return monitor, Exit(monitor)


BOTH = Attach(stdout=True, stderr=True)
ALL = Attach(stdin=True, stdout=True, stderr=True)


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


async def test_killed_before_its_start(launcher: Launcher, tmp_path: Path) -> None:
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


async def test_stdin_is_passed_and_its_end_too(launcher: Launcher, tmp_path: Path) -> None:
    client = Client()
    request = Attach(stdin=True, stdout=True, stderr=True, received=b"first ")
    spawn = spawn_of(tmp_path / "c", "cat", stdin=True, stdin_once=True, attached=[request])
    _, exit = await launch(launcher, spawn, client)
    client.sock.sendall(b"second")
    client.sock.shutdown(socket.SHUT_WR)
    assert frames(await client.read_all())[1] == b"first second"
    assert (await exit.wait()).exit_code == 0


async def test_stdin_stays_open_without_stdin_once(launcher: Launcher, tmp_path: Path) -> None:
    client, other = Client(), Client()
    monitor, exit = await launch(launcher, spawn_of(tmp_path / "c", "cat", stdin=True, attached=[ALL]), client)
    client.sock.sendall(b"one\n")
    client.sock.shutdown(socket.SHUT_WR)
    assert b"one\n" in await client.read_until(b"one\n")
    await monitor.attach(ALL, other.give())
    other.given()
    other.sock.sendall(b"two\n")
    assert b"two\n" in await other.read_until(b"two\n")
    assert b"two\n" in await client.read_until(b"two\n")
    await monitor.signal(signal.SIGTERM)
    assert (await exit.wait()).exit_code == 143


async def test_without_stdin_the_process_reads_an_end(launcher: Launcher, tmp_path: Path) -> None:
    client = Client()
    _, exit = await launch(launcher, spawn_of(tmp_path / "c", "cat", attached=[ALL]), client)
    with suppress(BrokenPipeError):
        client.sock.sendall(b"ignored")
    assert (await exit.wait()).exit_code == 0
    assert await client.read_all() == b""


async def test_a_lot_of_stdin_comes_through(launcher: Launcher, tmp_path: Path) -> None:
    client = Client()
    spawn = spawn_of(tmp_path / "c", "sha256sum", stdin=True, stdin_once=True, attached=[ALL])
    await launch(launcher, spawn, client)
    data = os.urandom(1 << 20) * 8

    def send() -> None:
        client.sock.sendall(data)
        client.sock.shutdown(socket.SHUT_WR)

    await anyio.to_thread.run_sync(send)
    assert hashlib.sha256(data).hexdigest().encode() in frames(await client.read_all())[1]


async def test_attach_is_exact_for_50_megabytes(launcher: Launcher, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 50
    (tmp_path / "data").write_bytes(data)
    client = Client()
    _, exit = await launch(launcher, spawn_of(tmp_path / "c", "cat", str(tmp_path / "data"), attached=[BOTH]), client)
    assert frames(await client.read_all())[1] == data
    assert (await exit.wait()).exit_code == 0


async def test_a_slow_client_gets_every_byte_and_holds_the_container_back(launcher: Launcher, tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 12
    (tmp_path / "data").write_bytes(data)
    client = Client()
    script = f"cat {tmp_path}/data; touch {tmp_path}/written"
    _, exit = await launch(launcher, spawn_of(tmp_path / "c", "sh", "-c", script, attached=[BOTH]), client)
    await anyio.sleep(0.5)
    assert not (tmp_path / "written").exists()
    assert frames(await client.read_all())[1] == data
    assert (await exit.wait()).exit_code == 0


async def test_a_client_that_stands_still_does_not_hold_the_exit_back_for_ever(
    launcher: Launcher, tmp_path: Path
) -> None:
    client = Client()
    script = "head -c 1500000 /dev/zero"
    monitor, exit = await launch(launcher, spawn_of(tmp_path / "c", "sh", "-c", script, attached=[BOTH]), client)
    client.sock.recv(1)
    client.sock.setblocking(True)
    got = 1
    while got < 400_000:
        got += len(client.sock.recv(65536))
    assert (await exit.wait()).exit_code == 0
    monitor.release()
    rest = await client.read_all()
    assert got + len(rest) > 1_500_000


async def test_a_client_that_vanishes_is_dropped(launcher: Launcher, tmp_path: Path) -> None:
    lost, client = Client(), Client()
    script = "read x; head -c 3000000 /dev/zero; echo end"
    spawn = spawn_of(tmp_path / "c", "sh", "-c", script, stdin=True, attached=[BOTH, ALL])
    _, exit = await launch(launcher, spawn, lost, client)
    lost.sock.close()
    client.sock.sendall(b"\n")
    assert len(frames(await client.read_all())[1]) == 3_000_004
    assert (await exit.wait()).exit_code == 0


async def test_only_what_was_asked_for(launcher: Launcher, tmp_path: Path) -> None:
    out, err = Client(), Client()
    wanted = [Attach(stdout=True), Attach(stderr=True)]
    await launch(launcher, spawn_of(tmp_path / "c", "sh", "-c", "echo o; echo e >&2", attached=wanted), out, err)
    assert frames(await out.read_all()) == {1: b"o\n", 2: b""}
    assert frames(await err.read_all()) == {1: b"", 2: b"e\n"}


async def test_output_held_open_by_an_orphan_is_cut(launcher: Launcher, tmp_path: Path) -> None:
    client = Client()
    script = "sleep 30 & echo $!"
    _, exit = await launch(launcher, spawn_of(tmp_path / "c", "sh", "-c", script, attached=[BOTH]), client)
    assert (await exit.wait()).exit_code == 0
    os.kill(int(frames(await client.read_all())[1]), signal.SIGKILL)


async def test_terminal(launcher: Launcher, tmp_path: Path) -> None:
    client = Client()
    script = "stty size; read line; echo got $line; stty size; exit 4"
    spawn = spawn_of(
        tmp_path / "c",
        "sh",
        "-c",
        script,
        tty=True,
        stdin=True,
        stdin_once=True,
        console_size=(40, 100),
        attached=[ALL],
    )
    monitor, exit = await launch(launcher, spawn, client)
    assert await client.read_until(b"\n") == b"40 100\r\n"
    await monitor.resize(50, 120)
    client.sock.sendall(b"hello\n")
    rest = await client.read_all()
    assert b"got hello\r\n50 120\r\n" in rest
    assert (await exit.wait()).exit_code == 4


async def test_detach_keys_end_the_connection_alone(launcher: Launcher, tmp_path: Path) -> None:
    client = Client()
    spawn = spawn_of(tmp_path / "c", "cat", tty=True, stdin=True, stdin_once=True, attached=[ALL])
    monitor, exit = await launch(launcher, spawn, client)
    client.sock.sendall(b"a\n")
    await client.read_until(b"a\r\na\r\n")
    client.sock.sendall(b"\x10")
    client.sock.sendall(b"\x11")
    assert await client.read_all() == b""
    again = Client()
    await monitor.attach(ALL, again.give())
    again.given()
    again.sock.sendall(b"b\n")
    assert b"b\r\nb\r\n" in await again.read_until(b"b\r\nb\r\n")
    await monitor.signal(signal.SIGKILL)
    assert (await exit.wait()).exit_code == 137


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


async def test_a_launcher_that_died_is_started_again(launcher: Launcher, tmp_path: Path) -> None:
    monitor, exit = await launch(launcher, spawn_of(tmp_path / "c", "sleep", "60"))
    os.kill(launcher.pid, signal.SIGKILL)
    await anyio.to_thread.run_sync(os.waitid, os.P_PID, launcher.pid, os.WEXITED | os.WNOWAIT)
    _, other = await launch(launcher, spawn_of(tmp_path / "d", "true"))
    assert (await other.wait()).exit_code == 0
    await monitor.signal(signal.SIGKILL)
    assert (await exit.wait()).exit_code == 137


async def test_a_daemon_killed_with_its_launcher_leaves_the_container_running(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    script = textwrap.dedent(f"""
        import anyio, os, pathlib, signal
        import test_runtime_monitor as t
        async def main():
            launcher = t.make_launcher(pathlib.Path({str(tmp_path)!r}))
            await t.launch(launcher, t.spawn_of(pathlib.Path({str(directory)!r}), "sleep", "60"))
            os.kill(launcher.pid, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        anyio.run(main)
    """)
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    # Its output is read to the end: a monitor that held it open would hang this test.
    daemon = await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, check=False, timeout=60
        )
    )
    assert daemon.returncode == -signal.SIGKILL, daemon.stderr
    monitor, status = await MonitorClient.connect(directory)
    assert Path(f"/proc/{status.pid}").exists()
    await monitor.signal(signal.SIGKILL)
    assert (await Exit(monitor).wait()).exit_code == 137


async def test_a_launcher_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(HooperError, match="cannot start the launcher"):
        await make_launcher(tmp_path).start()


@pytest.mark.root
async def test_a_new_network_namespace(launcher: Launcher, tmp_path: Path) -> None:
    how = NewNetns(disable_ipv6=True, sysctls={"net.ipv4.ip_forward": "1"})
    options = {"netns": "new", "new_netns": how}
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "sleep", "60", **options))
    sandbox = await monitor.sandbox()
    shown = await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            [
                "nsenter",
                f"--net=/proc/self/fd/{sandbox}",
                "sh",
                "-c",
                "cat /sys/class/net/lo/flags /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/lo/disable_ipv6",
            ],
            pass_fds=[sandbox],
            capture_output=True,
            text=True,
            check=True,
        )
    )
    assert shown.stdout.split() == ["0x9", "1", "1"]
    assert os.fstat(sandbox).st_ino != os.stat("/proc/self/ns/net").st_ino
    await monitor.created()
    again = await monitor.get_sandbox()
    assert os.fstat(again).st_ino == os.fstat(sandbox).st_ino
    os.close(again)
    os.close(sandbox)
    await monitor.aclose()


@pytest.mark.root
async def test_a_sysctl_outside_the_network_is_refused(launcher: Launcher, tmp_path: Path) -> None:
    options = {"netns": "new", "new_netns": NewNetns(sysctls={"net/../kernel/hostname": "x"})}
    monitor = await launcher.spawn(spawn_of(tmp_path / "c", "true", **options))
    with pytest.raises(HooperError, match="network namespace"):
        await monitor.created()
