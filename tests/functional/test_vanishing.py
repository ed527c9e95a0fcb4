"""Clients that go away in the middle: whatever they were doing, nothing of it is left in the daemon or on the host."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from lookin_support import connect, create, hijacked, read_head, run

import support
from support import Engine, Hooper

pytestmark = pytest.mark.root

ALL = {"stream": 1, "stdin": 1, "stdout": 1, "stderr": 1}
OFTEN = 5
NOISE = "while :; do echo 0123456789012345678901234567890123456789; done"


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    pending = [pid]
    while pending:
        for child in children(pending.pop()):
            if child not in found:
                found.add(child)
                pending.append(child)
    return found


class State:
    """What the daemon holds, with the processes of this host that come from it and what it has mounted."""

    def __init__(self, daemon: Hooper) -> None:
        assert daemon.process
        self._pid, self._roots = daemon.process.pid, (daemon.data_root, daemon.exec_root)

    def count(self) -> dict[str, object]:
        everybody = descendants(self._pid)
        # The resolver that an earlier test needed ends after a minute, and with it the socket to it.
        resolvers = {pid for pid in everybody if _is_resolver(pid)}
        # Monitors that wait for a container are as many as there were ends of containers; each has one channel.
        spares = {pid for pid in everybody if _is_spare(pid)}
        everybody -= resolvers | spares
        files = _open_files(self._pid)
        for _ in resolvers:
            files.remove("socket")
        return {
            "descriptors": sorted(files),
            "descriptors of children": sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in everybody if _lives(pid))
            - len(spares),
            "processes": len(everybody),
            "mounts": sum(any(str(root) in line for root in self._roots) for line in _mounts()),
            "scratch": sorted(str(path) for path in self._roots[0].glob("scratch/*")),
            "builds": sorted(str(path) for path in self._roots[0].glob("builds/*")),
        }


def _open_files(pid: int) -> list[str]:
    """What each descriptor is: sockets and pipes without their numbers."""
    directory = f"/proc/{pid}/fd"
    found = []
    for number in os.listdir(directory):
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(f"{directory}/{number}").partition(":[")[0])
    return found


def _is_resolver(pid: int) -> bool:
    try:
        return b"hooper.dns.process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def _is_spare(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text() == "hooper-spare\n"
    except FileNotFoundError:
        return False


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}/fd").exists()


def _mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


@pytest.fixture
def leaves_nothing(clean: Hooper) -> Iterator[Callable[[], None]]:
    """Compares with the moment when the test calls what it is given."""
    state = State(clean)
    before: dict[str, object] = {}

    def remember() -> None:
        """Once nothing changes any more."""
        while (now := state.count()) != before:
            before.clear()
            before.update(now)
            time.sleep(1.2)  # longer than a process waits for an exec

    yield remember

    def same() -> bool:
        try:
            return state.count() == before
        except OSError:
            return False  # a process ended meanwhile

    try:
        support.until(same, 15)
    except AssertionError:
        assert state.count() == before


def abandon(engine: Engine, request: str, *, read: int = 1, body: bytes = b"") -> None:
    """Sends a request, reads a little of the answer and is gone."""
    with connect(engine) as sock:
        sock.sendall(request.replace("\n", "\r\n").encode() + body)
        if read:
            read_head(sock)
            sock.recv(read)


def test_attach(clean: Hooper, leaves_nothing: Callable[[], None]) -> None:
    run(clean, "noisy", ["sh", "-c", NOISE], OpenStdin=True)
    run(clean, "terminal", ["cat"], OpenStdin=True, Tty=True)
    leaves_nothing()
    for name in ("noisy", "terminal"):
        for _ in range(OFTEN):
            with hijacked(clean, f"/containers/{name}/attach", **ALL) as sock:
                sock.sendall(b"x\n")
                sock.recv(10)
    assert clean.inspect("noisy")["State"]["Running"] and clean.inspect("terminal")["State"]["Running"]


def test_attach_to_what_never_starts(clean: Hooper, leaves_nothing: Callable[[], None]) -> None:
    create(clean, "waits", ["true"], OpenStdin=True)
    leaves_nothing()
    for _ in range(OFTEN):
        with hijacked(clean, "/containers/waits/attach", **ALL):
            pass


def test_logs_that_are_followed(clean: Hooper, leaves_nothing: Callable[[], None]) -> None:
    run(clean, "noisy", ["sh", "-c", "while :; do echo x; sleep 0.05; done"])
    run(clean, "silent", ["sleep", "600"])
    leaves_nothing()
    for _ in range(OFTEN):
        abandon(clean, "GET /containers/noisy/logs?stdout=1&follow=1 HTTP/1.1\nHost: d\n\n")
        with connect(clean) as sock:
            sock.sendall(b"GET /containers/silent/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: d\r\n\r\n")
            read_head(sock)


def test_exec(clean: Hooper, leaves_nothing: Callable[[], None]) -> None:
    run(clean, "box", ["sleep", "600"], HostConfig={"Init": True})
    leaves_nothing()
    for command in (["cat"], ["sh", "-c", "echo x; cat"], ["sh", "-c", f"timeout 1 sh -c '{NOISE}'"]):
        for tty in (False, True):
            body = {"Cmd": command, "AttachStdin": True, "AttachStdout": True, "Tty": tty}
            identifier = clean.request("POST", "/containers/box/exec", body)[1]["Id"]
            with hijacked(clean, f"/exec/{identifier}/start", {"Tty": tty}) as sock:
                sock.sendall(b"x\n")
                sock.recv(1)
            if tty:
                # A terminal's program goes on without its client.
                pid = clean.request("GET", f"/exec/{identifier}/json")[1]["Pid"]
                if pid:
                    _kill(pid)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return


def test_events_stats_and_waits(clean: Hooper, leaves_nothing: Callable[[], None]) -> None:
    run(clean, "box", ["sleep", "600"])
    leaves_nothing()
    for _ in range(OFTEN):
        for path in ("/events", "/events?since=1", "/containers/box/stats", "/containers/box/wait"):
            method = "POST" if path.endswith("wait") else "GET"
            with connect(clean) as sock:
                sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
                read_head(sock)
        # Gone before the answer.
        abandon(clean, "GET /containers/box/stats?stream=0 HTTP/1.1\nHost: d\n\n", read=0)


def test_export_and_copies(clean: Hooper, leaves_nothing: Callable[[], None]) -> None:
    run(clean, "box", ["sh", "-c", "head -c 20000000 /dev/urandom >/large; touch /ready; sleep 600"])
    support.until(lambda: clean.docker("exec", "box", "test", "-e", "/ready", check=False).returncode == 0)
    leaves_nothing()
    for _ in range(OFTEN):
        abandon(clean, "GET /containers/box/export HTTP/1.1\nHost: d\n\n")
        abandon(clean, "GET /containers/box/archive?path=/large HTTP/1.1\nHost: d\n\n")
        upload = "PUT /containers/box/archive?path=/tmp HTTP/1.1\nHost: d\nContent-Length: 1000000\n\n"
        abandon(clean, upload, read=0, body=support.context_tar({"half": "x" * 100_000})[:60_000])
        abandon(clean, "GET /images/get?names=busybox HTTP/1.1\nHost: d\n\n")
        load = "POST /images/load HTTP/1.1\nHost: d\nContent-Length: 1000000\n\n"
        abandon(clean, load, read=0, body=support.context_tar({"half": "x" * 100_000})[:60_000])


def test_build(clean: Hooper, leaves_nothing: Callable[[], None]) -> None:
    context = support.context_tar({"Dockerfile": f"FROM busybox\nRUN {NOISE}\n"})
    warm = support.context_tar({"Dockerfile": "FROM busybox\nRUN true\n"})
    status, _ = clean.request("POST", "/build?nocache=1", warm, {"Content-Type": "application/x-tar"})
    assert status == 200
    leaves_nothing()
    for turn in range(OFTEN):
        head = f"POST /build?nocache=1 HTTP/1.1\nHost: d\nContent-Length: {len(context)}\n\n"
        with connect(clean) as sock:
            sock.sendall(head.replace("\n", "\r\n").encode() + context)
            read_head(sock)
            # The step's own line has it once: the container is about to be started then, or it runs.
            seen = b""
            while seen.count(b"0123456789") < 1 + 10 * (turn % 2):
                seen += sock.recv(65536)
        half = f"POST /build HTTP/1.1\nHost: d\nContent-Length: {len(context)}\n\n"
        abandon(clean, half, read=0, body=context[: len(context) // 2])


def test_pull(clean: Hooper, leaves_nothing: Callable[[], None]) -> None:
    """From a registry that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        leaves_nothing()
        for _ in range(OFTEN):
            request = f"POST /images/create?fromImage=127.0.0.1:{port}/a&tag=1 HTTP/1.1\nHost: d\n\n"
            with connect(clean) as sock:
                sock.sendall(request.replace("\n", "\r\n").encode())
                accepted, _ = silent.accept()
                accepted.recv(10)
            accepted.close()


def test_a_websocket(clean: Hooper, leaves_nothing: Callable[[], None]) -> None:
    from lookin_support import WebSocket

    run(clean, "noisy", ["sh", "-c", NOISE], OpenStdin=True)
    web = WebSocket(clean, "/containers/noisy/attach/ws", ALL)
    web.read(b"0123456789")
    web.socket.close()
    leaves_nothing()
    for _ in range(OFTEN):
        web = WebSocket(clean, "/containers/noisy/attach/ws", ALL)
        web.read(b"0123456789")
        web.socket.close()


def test_programs_that_are_killed(clean: Hooper, leaves_nothing: Callable[[], None]) -> None:
    """The docker command line, killed while it is attached, follows, executes and watches."""
    run(clean, "noisy", ["sh", "-c", "while :; do echo x; sleep 0.05; done"], OpenStdin=True)
    leaves_nothing()
    for words in (["attach", "noisy"], ["logs", "-f", "noisy"], ["exec", "-i", "noisy", "cat"], ["stats"], ["events"]):
        command = ["docker", "-H", clean.address, *words]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as client:
            time.sleep(0.4)
            client.kill()


def test_the_daemon_still_answers(clean: Hooper) -> None:
    for _ in range(20):
        with connect(clean) as sock:
            sock.sendall(b"GET /containers/json HTTP/1.1\r\n")
    assert json.dumps(clean.request("GET", "/containers/json")[1]) == "[]"
