"""What a person does at a terminal: watch containers, resize, detach, send signals; by docker's rules."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import Terminal

import support

pytestmark = pytest.mark.root


def program(engine: support.Engine, *words: str) -> list[str]:
    return [sys.executable, "-m", "hooper", "-H", engine.address, *words]


@pytest.fixture
def busy(clean: support.Hooper) -> support.Hooper:
    """An engine with a container that keeps a processor busy and one that sleeps."""
    clean.docker("run", "-d", "--name", "busy", "busybox", "sh", "-c", "while :; do :; done")
    clean.docker("run", "-d", "--name", "lazy", "busybox", "sleep", "1000")
    return clean


def test_top_is_a_live_view(busy: support.Hooper) -> None:
    terminal = Terminal(program(busy, "top", "--interval", "0.5"), rows=20, columns=110)
    terminal.expect(b"r reverse")
    assert "NAME" in terminal.text and "DISK WRITE" in terminal.text
    assert terminal.text.index("busy ") < terminal.text.index("lazy ")
    for key, order in (b"m", b"by memory"), (b"a", b"by name"), (b"r", b"by name reversed"), (b"c", b"by cpu"):
        terminal.forget()
        terminal.type(key)
        terminal.expect(order)
    terminal.forget()
    terminal.resize(8, 60)
    terminal.expect(b"\x1b[H")
    busy.docker("rm", "-f", "lazy")
    terminal.expect(b"1 running")
    terminal.type(b"q")
    assert terminal.wait() == 0
    assert b"\x1b[?1049l" in terminal.seen, "the screen is given back"


@pytest.mark.parametrize("key", [b"\x03", b"q"])
def test_top_leaves_the_terminal_as_it_was(busy: support.Hooper, key: bytes) -> None:
    terminal = Terminal(["sh", "-c", f"{' '.join(program(busy, 'top'))}; stty -a"])
    terminal.expect(b"r reverse")
    terminal.type(key)
    terminal.expect(b" icanon")
    assert b" -icanon" not in terminal.seen and b"\x1b[?25h" in terminal.seen
    terminal.wait()


def test_top_without_a_terminal_prints_lines(busy: support.Hooper) -> None:
    lines = busy.hooper("top", "--no-stream").stdout.splitlines()
    assert lines[0].split()[:2] == ["NAME", "CPU"]
    assert [line.split()[0] for line in lines[1:]] == ["busy", "lazy"]
    assert float(lines[1].split()[1]) > float(lines[2].split()[1])
    by_name = busy.hooper("top", "--no-stream", "--sort", "name").stdout
    assert "\x1b" not in by_name
    with subprocess.Popen(program(busy, "top", "--interval", "0.1"), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        seen = [next(process.stdout) for _ in range(9)]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert sum(line.startswith("NAME") for line in seen) == 3
    assert busy.hooper("top", "--sort", "nosuch", check=False).returncode == 125
    assert busy.hooper("top", "--interval", "0", check=False).returncode == 125


def test_the_terminals_size_follows(clean: support.Hooper) -> None:
    script = "stty size; trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done"
    terminal = Terminal(
        program(clean, "run", "-it", "--name", "sized", "busybox", "sh", "-c", script), rows=31, columns=91
    )
    terminal.expect(b"31 91")
    terminal.expect(b"ready")
    terminal.resize(40, 100)
    terminal.expect(b"40 100")
    other = Terminal(program(clean, "exec", "-it", "sized", "sh", "-c", script), rows=22, columns=66)
    other.expect(b"22 66")
    other.expect(b"ready")
    other.resize(23, 67)
    other.expect(b"23 67")
    other.kill()
    terminal.kill()


@pytest.mark.parametrize("words", [("run", "-it"), ("attach",), ("start", "-ai"), ("exec", "-it")])
def test_keys_of_ones_own_detach(clean: support.Hooper, words: tuple[str, ...]) -> None:
    shell = ("busybox", "sh", "-c", "read x; sleep 1000")
    if words[0] in ("attach", "exec"):
        clean.docker("run", "-dit", "--name", "left", *shell)
    elif words[0] == "start":
        clean.docker("create", "-it", "--name", "left", *shell)
    rest = {"run": ("--name", "left", *shell), "exec": ("left", "cat")}.get(words[0], ("left",))
    terminal = Terminal(program(clean, *words, "--detach-keys", "ctrl-x,y", *rest))
    terminal.expect_raw()
    terminal.type(b"a\x18")
    terminal.expect(b"a")
    terminal.type(b"y")
    terminal.expect(b"read escape sequence")
    assert terminal.wait() == (1 if words[0] in ("exec", "attach") else 0)
    assert clean.inspect("left")["State"]["Running"]


@pytest.fixture
def trap() -> str:
    """The script of a container that tells of signals, and ends with 9 at SIGTERM."""
    return "trap 'echo one' USR1; trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 0.1; done"


@pytest.mark.parametrize("words", [("run", "--name", "caught"), ("attach", "caught"), ("start", "-a", "caught")])
def test_signals_go_to_the_process(clean: support.Hooper, trap: str, words: tuple[str, ...]) -> None:
    command = ("busybox", "sh", "-c", trap)
    if words[0] == "attach":
        clean.docker("run", "-d", "--name", "caught", *command)
    elif words[0] == "start":
        clean.docker("create", "--name", "caught", *command)
    line = program(clean, *words, *(command if words[0] == "run" else ()))
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout
        if words[0] == "attach":
            support.until(lambda: _catches(client.pid, signal.SIGUSR1), what="the client's handlers")
        else:
            assert next(client.stdout) == "ready\n"
        client.send_signal(signal.SIGUSR1)
        assert next(client.stdout) == "one\n"
        client.send_signal(signal.SIGTERM)
        assert client.stdout.read() == "term\n"
        assert client.wait(20) == 9


def _catches(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1)


def test_signals_stay_here_without_the_proxy(clean: support.Hooper, trap: str) -> None:
    line = program(clean, "run", "--name", "kept", "--sig-proxy=false", "busybox", "sh", "-c", trap)
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout
        assert next(client.stdout) == "ready\n"
        client.send_signal(signal.SIGTERM)
        assert client.wait(20) == -signal.SIGTERM
    assert clean.inspect("kept")["State"]["Running"]


def test_files_of_variables_labels_and_ids(clean: support.Hooper, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# comment\nA=1\nHOME_OF_TEST\n\nB= x=y \nGONE_OF_TEST\n")
    (tmp_path / "labels").write_text("com.example.a=b\nplain\n")
    identifier = tmp_path / "id"
    os.environ["HOME_OF_TEST"] = "taken"
    flags = (
        "--env-file",
        str(tmp_path / "env"),
        "--label-file",
        str(tmp_path / "labels"),
        "--cidfile",
        str(identifier),
    )
    try:
        created = clean.hooper("create", *flags, "busybox").stdout.strip()
        found = clean.inspect(created)
        assert identifier.read_text() == created
        identifier.unlink()
        other = clean.inspect(clean.docker("create", *flags, "busybox").stdout.strip())
    finally:
        del os.environ["HOME_OF_TEST"]
    assert {"A=1", "HOME_OF_TEST=taken", "B= x=y "} <= set(found["Config"]["Env"])
    assert (found["Config"]["Env"], found["Config"]["Labels"]) == (other["Config"]["Env"], other["Config"]["Labels"])
    assert clean.hooper("create", *flags, "busybox", check=False).returncode == 125


def test_the_flags_of_run_make_the_same_container_as_dockers(clean: support.Hooper, tmp_path: Path) -> None:
    flags = (
        "--add-host", "db:10.0.0.5", "--annotation", "k=v", "-a", "stdout", "--blkio-weight", "300", "--cap-add",
        "NET_ADMIN", "--cap-drop", "MKNOD", "--cgroupns", "private", "-c", "512", "--cpus", "1.5", "--cpuset-cpus",
        "0", "--device", "/dev/null:/dev/x:r", "--device-cgroup-rule", "c 1:3 r", "--dns", "1.1.1.1", "--dns-option",
        "ndots:1", "--dns-search", "example.com", "--domainname", "d", "--entrypoint", "sh", "-e", "A=b", "--expose",
        "80-81/udp", "--group-add", "7", "--health-cmd", "true", "--health-interval", "5s", "--health-retries", "2",
        "-h", "host", "--init", "-i", "--ipc", "shareable", "-l", "a=b", "--log-driver", "json-file", "--log-opt",
        "max-size=1m", "-m", "64m", "--memory-reservation", "32m", "--memory-swap", "128m", "--mount",
        "type=tmpfs,dst=/t,tmpfs-size=1m", "--mount", f"type=bind,src={tmp_path},dst=/b,ro", "--oom-score-adj", "5",
        "--pid", "host", "--pids-limit", "9", "-p", "127.0.0.1:8000-8001:80-81", "-P", "--privileged", "--read-only",
        "--restart", "on-failure:3", "--security-opt", "no-new-privileges", "--shm-size", "1m", "--stop-signal",
        "INT", "--stop-timeout", "3", "--sysctl", "net.core.somaxconn=5", "--tmpfs", "/run:size=1m", "-t",
        "--ulimit", "nofile=5:6", "-u", "1", "-v", "vol:/v:ro", "-v", "/anon", "-w", "/w",
    )  # fmt: skip
    found = []
    for run in (clean.docker, clean.hooper):
        found.append(clean.inspect(run("create", *flags, "busybox", "-c", "true").stdout.strip()))
        clean.clear()
    for part in ("Config", "HostConfig"):
        for one in found:
            for own in ("ConsoleSize", "MemorySwappiness"):
                one[part].pop(own, None)
        assert found[1][part] == found[0][part]
    clean.docker("volume", "rm", "vol")
