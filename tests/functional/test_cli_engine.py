"""The command line against a running engine: the test run's own, or the one whose address is in HOOPER_TEST_ENGINE,
which then has an image "busybox"."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_support import Terminal

IMAGE = "busybox"
PROGRAM = [sys.executable, "-m", "hooper"]
pytestmark = pytest.mark.root


@pytest.fixture(scope="module", autouse=True)
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """HOOPER_HOST names the engine for as long as these tests run."""
    given = os.environ.get("HOOPER_TEST_ENGINE", "")
    before = os.environ.get("HOOPER_HOST")
    os.environ["HOOPER_HOST"] = chosen = given or request.getfixturevalue("engine").address
    yield chosen
    if before is None:
        del os.environ["HOOPER_HOST"]
    else:
        os.environ["HOOPER_HOST"] = before


def hooper(*words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *words],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def name() -> Iterator[str]:
    chosen = f"hooper-cli-{uuid.uuid4().hex[:8]}"
    yield chosen
    hooper("rm", "-f", "-v", chosen)


def terminal_of(*words: str) -> Terminal:
    return Terminal([*PROGRAM, *words])


@pytest.fixture
def running(name: str) -> str:
    assert hooper("run", "-d", "--name", name, "-e", "A=b", IMAGE, "sleep", "300").returncode == 0
    return name


def test_run_keeps_the_streams_apart_and_passes_the_exit_code_on() -> None:
    done = hooper("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)


def test_run_passes_stdin_on_to_its_end() -> None:
    text = "line\n" * 200_000
    done = hooper("run", "--rm", "-i", IMAGE, "cat", stdin=text)
    assert done.returncode == 0
    assert done.stdout == text


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["run", "--rm", IMAGE, "no-such-program"], 127),
        (["run", "--rm", IMAGE, "/etc"], 126),
        (["run", "--rm", "--pull", "never", "no-such-image-here", "true"], 125),
        (["run", "--rm", "--memory", "4q", IMAGE], 125),
        (["exec", "no-such-container", "true"], 1),
        (["stop", "no-such-container"], 1),
        (["inspect", "no-such-thing"], 1),
    ],
)
def test_exit_codes_of_failures(words: list[str], code: int) -> None:
    done = hooper(*words)
    assert done.returncode == code
    assert done.stderr.startswith("hooper: ")


def test_flags_after_the_image_are_the_commands_own() -> None:
    assert hooper("run", "--rm", IMAGE, "echo", "--rm", "-n", "x").stdout == "--rm -n x\n"


def test_a_signal_goes_to_the_container(name: str) -> None:
    script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    client = subprocess.Popen(
        [*PROGRAM, "run", "--rm", "--name", name, IMAGE, "sh", "-c", script],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdout
    assert client.stdout.readline() == "ready\n"
    client.send_signal(signal.SIGTERM)
    rest, _ = client.communicate(timeout=30)
    assert (rest, client.returncode) == ("caught\n", 5)


def test_a_terminal_is_passed_through(name: str) -> None:
    terminal = terminal_of("run", "-it", "--rm", "--name", name, IMAGE, "sh")
    terminal.expect(b"# ")
    terminal.type(b"tty >/dev/null && echo is-a-tty-$((40+2))\n")
    terminal.expect(b"is-a-tty-42")
    terminal.type(b"exit 9\n")
    assert terminal.wait() == 9


def test_detach_keys_leave_the_container_running(name: str) -> None:
    terminal = terminal_of("run", "-it", "--name", name, IMAGE, "sh")
    terminal.expect(b"# ")
    terminal.type(b"\x10\x11")
    terminal.expect(b"read escape sequence")
    assert terminal.wait() == 0
    assert hooper("inspect", "-f", "{{.State.Running}}", name).stdout == "true\n"


def test_a_tty_without_a_terminal_is_refused() -> None:
    done = hooper("run", "--rm", "-it", IMAGE, "true")
    assert done.returncode != 0
    assert "not a TTY" in done.stderr


def test_exec(running: str) -> None:
    assert hooper("exec", "-e", "X=y", running, "sh", "-c", "echo $A$X").stdout == "by\n"
    assert hooper("exec", "-i", running, "cat", stdin="typed").stdout == "typed"
    assert hooper("exec", running, "sh", "-c", "exit 4").returncode == 4
    assert hooper("exec", "-d", running, "touch", "/made").returncode == 0


def test_ps_lists_and_formats(running: str) -> None:
    table = hooper("ps", "--filter", f"name={running}").stdout.splitlines()
    assert table[0].split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert table[1].endswith(running)
    row = json.loads(hooper("ps", "--filter", f"name={running}", "--format", "json").stdout)
    assert (row["Names"], row["Command"], row["State"]) == (running, '"sleep 300"', "running")
    assert hooper("ps", "-q", "--no-trunc", "--filter", f"name={running}").stdout.strip().startswith(row["ID"])


def test_logs(name: str) -> None:
    hooper("run", "--name", name, IMAGE, "sh", "-c", "echo one; echo two; echo bad >&2")
    done = hooper("logs", name)
    assert (done.stdout, done.stderr) == ("one\ntwo\n", "bad\n")


def test_start_attached_and_wait(name: str) -> None:
    assert hooper("create", "--name", name, IMAGE, "sh", "-c", "echo started; exit 3").returncode == 0
    done = hooper("start", "-a", name)
    assert (done.stdout, done.returncode) == ("started\n", 3)
    assert hooper("wait", name).stdout == "3\n"


def test_cp_both_ways(running: str, tmp_path: Path) -> None:
    (tmp_path / "dir" / "sub").mkdir(parents=True)
    (tmp_path / "dir" / "sub" / "file").write_text("content")
    assert hooper("cp", str(tmp_path / "dir"), f"{running}:/copied").returncode == 0
    assert hooper("exec", running, "cat", "/copied/sub/file").stdout == "content"
    assert hooper("cp", f"{running}:/copied/sub/file", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_text() == "content"
    assert hooper("cp", f"{running}:/copied/.", str(tmp_path / "whole")).returncode == 0
    assert (tmp_path / "whole" / "sub" / "file").read_text() == "content"
    assert hooper("cp", f"{running}:/nosuch", str(tmp_path)).returncode == 1


def test_build_sends_what_is_not_ignored(name: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nARG WHO\nCOPY . /x\nRUN echo $WHO >/x/who\n")
    (tmp_path / ".dockerignore").write_text("secret\n")
    (tmp_path / "secret").write_text("s")
    (tmp_path / "open").write_text("o")
    identifiers = tmp_path.parent / f"{name}.iid"
    words = ("-t", f"{name}:1", "--build-arg", "WHO=me", "--iidfile", str(identifiers), str(tmp_path))
    assert hooper("build", *words).returncode == 0
    try:
        assert identifiers.read_text().startswith("sha256:")
        assert (
            hooper("run", "--rm", f"{name}:1", "sh", "-c", "ls /x; cat /x/who").stdout == "Dockerfile\nopen\nwho\nme\n"
        )
    finally:
        hooper("rmi", f"{name}:1")


def test_save_and_load(tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    assert hooper("save", "-o", str(archive), IMAGE).returncode == 0
    assert hooper("load", "-i", str(archive)).stdout.startswith("Loaded image")
