"""What goes through a monitor: stdin, output, terminals, and the clients that take it."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from runtime_support import ALL, BOTH, Client, frames, launch, spawn_of

from hooper.api import oci
from hooper.runtime.client import Launcher
from hooper.runtime.protocol import Attach

pytestmark = pytest.mark.anyio


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


async def test_an_exec_whose_client_does_not_read_the_head_is_not_held_up(launcher: Launcher, tmp_path: Path) -> None:
    monitor, exit = await launch(launcher, spawn_of(tmp_path / "c", "sleep", "60"))
    client, head = Client(), b"HTTP/1.1 101 UPGRADED\r\n\r\n"
    client.theirs.sendall(head)
    attach = Attach(stdout=True, stderr=True, exec_id="e1", follows_head=True)
    await monitor.exec("e1", oci.Process(args=["echo", "out"]), attach, client.give())
    client.given()
    await anyio.sleep(0.3)
    assert await client.read_all() == head + b"\x01\x00\x00\x00\x00\x00\x00\x04out\n"
    await monitor.signal(signal.SIGKILL)
    await exit.wait()
