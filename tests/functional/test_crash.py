"""The daemon is killed: containers go on, and the next daemon knows all about them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import support
from conftest import import_busybox
from support import Hooper

pytestmark = pytest.mark.root


@pytest.fixture
def own(short_tmp: Path) -> Iterator[Hooper]:
    with support.hooper(short_tmp / f"own{time.monotonic_ns() % 100000}") as daemon:
        import_busybox(daemon)
        yield daemon


def alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def test_a_running_container_is_taken_over(own: Hooper) -> None:
    script = "i=0; while [ ! -e /stop ]; do echo line $i; i=$((i+1)); sleep 0.1; done; exit 5"
    own.docker("run", "-d", "--name", "c1", "busybox", "sh", "-c", script)
    pid = own.inspect("c1")["State"]["Pid"]
    support.until(lambda: "line 3" in own.docker("logs", "c1").stdout, what="some lines")
    own.kill()
    time.sleep(0.5)
    assert alive(pid)
    own.start()
    assert own.docker("ps", "-q", "--no-trunc").stdout.strip() == own.inspect("c1")["Id"]
    assert own.inspect("c1")["State"]["Pid"] == pid
    lines = own.docker("logs", "c1").stdout.splitlines()
    assert lines == [f"line {n}" for n in range(len(lines))] and len(lines) > 6
    assert own.docker("exec", "c1", "touch", "/stop").returncode == 0
    assert own.docker("wait", "c1").stdout.strip() == "5"
    own.docker("rm", "c1")


def test_an_exit_while_no_daemon_ran_is_reported(own: Hooper) -> None:
    own.docker("run", "-d", "--name", "c1", "busybox", "sh", "-c", "sleep 0.5; echo last; exit 6")
    pid = own.inspect("c1")["State"]["Pid"]
    own.kill()
    support.until(lambda: not alive(pid), what="the end of the container")
    time.sleep(0.3)
    own.start()
    state = own.inspect("c1")["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 6)
    assert own.docker("logs", "c1").stdout == "last\n"


def test_a_published_port_goes_on(own: Hooper) -> None:
    import urllib.request

    port = support.free_port()
    serve = "mkdir /www; echo hello >/www/index.html; exec httpd -f -p 80 -h /www"
    own.docker("run", "-d", "--name", "h1", "-p", f"{port}:80", "busybox", "sh", "-c", serve)

    def page() -> bytes:
        try:
            return bytes(urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).read())
        except OSError:
            return b""

    support.until(page, what="the page")
    own.kill()
    assert page() == b"hello\n"
    own.start()
    assert page() == b"hello\n"
    assert own.docker("port", "h1").stdout.splitlines()[0].endswith(f":{port}")
    refused = own.docker("run", "--rm", "-p", f"{port}:80", "busybox", "true", check=False)
    assert refused.returncode == 125 and "already allocated" in refused.stderr
    own.docker("rm", "-f", "h1")
    assert page() == b""


def test_a_half_done_build_leaves_nothing(own: Hooper, tmp_path: Path) -> None:
    import subprocess

    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo one >/one\nRUN sleep 60\n")
    build = subprocess.Popen(
        ["docker", "-H", own.address, "build", str(tmp_path)],
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    runs = own.exec_root / "containers"
    support.until(lambda: any("sleep" in text for text in commands_below(runs)), what="the second RUN")
    own.kill()
    build.wait(20)
    own.start()
    assert list(runs.iterdir()) == []
    assert list((own.data_root / "containers").iterdir()) == []
    assert own.docker("ps", "-aq").stdout == ""


def commands_below(runs: Path) -> list[str]:
    """The command lines of processes whose root lies in one of those directories' mounts: all sleeps here."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [text for text in found if text.startswith("sleep 60")] if any(runs.iterdir()) else []


def test_two_daemons_do_not_disturb_each_other(own: Hooper, engine: Hooper) -> None:
    own.docker("run", "-d", "--name", "same", "busybox", "sleep", "60")
    engine.docker("run", "-d", "--name", "same", "busybox", "sleep", "60")
    own.docker("rm", "-f", "same")
    assert engine.inspect("same")["State"]["Running"]
    engine.docker("rm", "-f", "same")
