"""exec over the Engine API and through the docker command line."""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from lookin_support import create, frames, hijacked, of, read_to_end, read_until, run

import support
from support import Engine, Hooper

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def box(_either: Engine) -> Iterator[Engine]:
    """With a container "box" that runs."""
    run(_either, "box", ["sleep", "600"], Env=["SET=1"], WorkingDir="/tmp")
    yield _either
    _either.clear()


def make(engine: Engine, *command: str, **more: Any) -> str:
    body = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True, **more}
    status, answer = engine.request("POST", "/containers/box/exec", body)
    assert status == 201, answer
    return str(answer["Id"])


def start(engine: Engine, identifier: str, **body: Any) -> bytes:
    with hijacked(engine, f"/exec/{identifier}/start", {"Detach": False, "Tty": False, **body}) as sock:
        return read_to_end(sock)


def inspect(engine: Engine, identifier: str) -> dict[str, Any]:
    status, answer = engine.request("GET", f"/exec/{identifier}/json")
    assert status == 200, answer
    return dict(answer)


def test_streams_are_told_apart_and_the_code_is_kept(box: Engine) -> None:
    identifier = make(box, "sh", "-c", "echo out; echo err >&2; exit 7")
    before = inspect(box, identifier)
    assert before["Running"] is False and before["ExitCode"] is None
    data = start(box, identifier)
    assert sorted(frames(data)) == [(1, b"out\n"), (2, b"err\n")]
    support.until(lambda: not inspect(box, identifier)["Running"], what="the end")
    after = inspect(box, identifier)
    assert after["ExitCode"] == 7 and after["ContainerID"] == box.inspect("box")["Id"]
    assert after["ProcessConfig"] == {
        "tty": False, "entrypoint": "sh", "arguments": ["-c", "echo out; echo err >&2; exit 7"], "privileged": False,
    }  # fmt: skip
    assert set(after) >= {"ID", "OpenStdin", "OpenStdout", "OpenStderr", "CanRemove", "DetachKeys", "Pid"}


def test_only_attached_streams_come(box: Engine) -> None:
    identifier = make(box, "sh", "-c", "echo out; echo err >&2", AttachStdout=False)
    assert frames(start(box, identifier)) == [(2, b"err\n")]


def test_stdin_ends_with_a_half_close(box: Engine) -> None:
    identifier = make(box, "sh", "-c", "cat; echo end", AttachStdin=True)
    with hijacked(box, f"/exec/{identifier}/start", {}) as sock:
        sock.sendall(b"some text\n")
        sock.shutdown(socket.SHUT_WR)
        assert of(1, read_to_end(sock)) == b"some text\nend\n"


def test_user_environment_and_directory(box: Engine) -> None:
    command = ("sh", "-c", "id -u; id -g; pwd; echo $SET $ADDED")
    assert of(1, start(box, make(box, *command))) == b"0\n0\n/tmp\n1\n"
    identifier = make(box, *command, User="user:2000", WorkingDir="/home", Env=["ADDED=2", "SET=3"])
    assert of(1, start(box, identifier)) == b"1000\n2000\n/home\n3 2\n"
    assert inspect(box, identifier)["ProcessConfig"]["user"] == "user:2000"


@pytest.mark.parametrize(("user", "text"), [("nosuchuser", "user nosuchuser"), ("user:nosuchgroup", "nosuchgroup")])
def test_an_unknown_user_is_an_error(box: Engine, user: str, text: str) -> None:
    done = box.docker("exec", "-u", user, "box", "true", check=False)
    assert done.returncode == 126 and text in done.stdout + done.stderr


def test_privileges_are_those_of_the_container_unless_asked_for(box: Engine) -> None:
    """Of hooper alone: runc needs more than every host gives."""
    if not isinstance(box, Hooper):
        pytest.skip("runc needs capabilities that not every host gives")

    def capabilities(**more: Any) -> int:
        output = of(1, start(box, make(box, "cat", "/proc/self/status", **more)))
        found = re.search(rb"CapEff:\s*([0-9a-f]+)", output)
        assert found
        return int(found[1], 16)

    sys_admin = 1 << 21
    assert not capabilities() & sys_admin
    assert capabilities(Privileged=True) & sys_admin


def test_a_terminal_has_a_size_that_changes(box: Engine) -> None:
    identifier = make(box, "sh", "-c", "read x; stty size; echo $TERM", Tty=True, AttachStdin=True)
    with hijacked(box, f"/exec/{identifier}/start", {"Tty": True}) as sock:
        assert box.request("POST", f"/exec/{identifier}/resize?h=31&w=71")[0] == 200
        sock.sendall(b"\n")
        output = read_to_end(sock)
    assert b"31 71" in output and b"xterm" in output


def test_detach_keys_let_go_of_an_exec(box: Engine) -> None:
    """It goes on; dockerd 20.10 takes it for ended."""
    identifier = make(box, "cat", Tty=True, AttachStdin=True, DetachKeys="ctrl-b")
    with hijacked(box, f"/exec/{identifier}/start", {"Tty": True}) as sock:
        sock.sendall(b"hello\n")
        read_until(sock, b"hello\r\nhello\r\n")
        sock.sendall(b"\x02")
        read_to_end(sock)
    assert inspect(box, identifier)["DetachKeys"] == base64.b64encode(b"\x02").decode()
    if isinstance(box, Hooper):
        assert inspect(box, identifier)["Running"]
    refused = {"Cmd": ["cat"], "Tty": True, "DetachKeys": "ctrl-1"}
    assert box.request("POST", "/containers/box/exec", refused)[0] >= 400


def test_a_detached_one_goes_on_alone(box: Engine) -> None:
    identifier = make(box, "sh", "-c", "echo done >/tmp/done; exit 5")
    status, _ = box.request("POST", f"/exec/{identifier}/start", {"Detach": True})
    assert status == 200
    support.until(lambda: inspect(box, identifier)["ExitCode"] == 5, what="the exit code")
    assert box.docker("exec", "box", "cat", "/tmp/done").stdout == "done\n"


def test_running_ones_are_shown_by_the_container(box: Engine) -> None:
    identifier = make(box, "sleep", "600")
    box.request("POST", f"/exec/{identifier}/start", {"Detach": True})
    assert identifier in box.inspect("box")["ExecIDs"]
    assert inspect(box, identifier)["Pid"] > 0


def test_wrong_requests(box: Engine) -> None:
    assert box.request("POST", "/containers/box/exec", {"Cmd": []})[0] == 400
    assert box.request("POST", "/containers/nosuch/exec", {"Cmd": ["true"]})[0] == 404
    assert box.request("POST", "/exec/nosuch/start", {})[0] == 404
    assert box.request("GET", "/exec/nosuch/json")[0] == 404
    identifier = make(box, "true")
    start(box, identifier)
    support.until(lambda: inspect(box, identifier)["ExitCode"] == 0, what="the end")
    if isinstance(box, Hooper):  # dockerd 20.10 says 200
        assert box.request("POST", f"/exec/{identifier}/start", {})[0] == 409
    create(box, "still", ["true"])
    assert box.request("POST", "/containers/still/exec", {"Cmd": ["true"]})[0] == 409


def test_nothing_is_executed_in_a_paused_container(box: Engine) -> None:
    identifier = make(box, "true")
    box.docker("pause", "box")
    assert box.request("POST", "/containers/box/exec", {"Cmd": ["true"]})[0] == 409
    assert box.request("POST", f"/exec/{identifier}/start", {})[0] == 409
    box.docker("unpause", "box")


def test_exit_codes_of_the_command_line(box: Engine) -> None:
    for command, code in ((["sh", "-c", "exit 3"], 3), (["nosuch"], 127), (["/etc/passwd"], 126), (["/tmp"], 126)):
        # dockerd 20.10 knows no 127 here.
        expected = code if isinstance(box, Hooper) else min(code, 126)
        assert box.docker("exec", "box", *command, check=False).returncode == expected, command
    assert box.docker("exec", "box", "sh", "-c", "kill -9 $$", check=False).returncode == 137
    assert box.docker("exec", "-i", "box", "cat", stdin="x").stdout == "x"
    assert box.docker(
        "exec", "-e", "A=b", "-u", "user", "-w", "/", "box", "sh", "-c", "echo $A $PWD; id -un"
    ).stdout == ("b /\nuser\n")
    assert box.docker("exec", "-d", "box", "sh", "-c", "exit 9").returncode == 0


def test_an_exec_in_a_directory_that_is_not_there(either: support.Engine) -> None:
    either.docker("run", "-d", "--name", "wd", "busybox", "sleep", "60")
    done = either.docker("exec", "-w", "/nosuch", "wd", "true", check=False)
    assert (done.returncode, 'chdir to cwd ("/nosuch")' in done.stdout + done.stderr) == (126, True)
    assert either.docker("exec", "wd", "test", "-e", "/nosuch", check=False).returncode == 1
