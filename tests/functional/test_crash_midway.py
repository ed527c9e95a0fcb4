"""The daemon is killed in the middle of something, and another takes its place.

Containers go on untouched, what was under way ends as it should, and nothing is left over.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lifecycle_support import S, actions, create, now, start, state, wait_for_status

import support
from conftest import import_busybox
from support import Hooper

pytestmark = pytest.mark.root


MARK = "MIDWAY"
"""A variable of the environment that all processes of the daemon inherit."""


@pytest.fixture(scope="module")
def shared(short_tmp: Path) -> Iterator[Hooper]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, str(short_tmp))
        with support.hooper(short_tmp / "midway") as daemon:
            import_busybox(daemon)
            yield daemon


@pytest.fixture
def own(shared: Hooper) -> Iterator[Hooper]:
    """A daemon that the test may kill; nothing of the test's containers may be left when they are removed."""
    before = traces(shared)
    yield shared
    shared.clear()
    support.until(lambda: traces(shared) == before, what=f"{traces(shared)} like {before}")


def traces(engine: Hooper) -> dict[str, int]:
    """How much of what containers are made of is there, of this daemon's own."""
    mounts = Path("/proc/self/mounts").read_text()
    return {
        "mounts": mounts.count(str(engine.data_root)) + mounts.count(str(engine.exec_root)),
        "directories": len(list(engine.data_root.glob("containers/*"))),
        "run directories": len(list(engine.exec_root.glob("containers/*"))),
        "monitors": len(monitors()),
    }


def monitors() -> list[int]:
    """The pids of this daemon's monitors, and of no other's."""
    found = []
    mark = f"{MARK}={os.environ[MARK]}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            own = mark in (entry / "environ").read_bytes().split(b"\0")
            if own and (entry / "comm").read_text().strip() == "hooper-monitor":
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def client(engine: Hooper, program: str, *words: str) -> subprocess.Popen[str]:
    """A client that goes on in the background."""
    command = ["docker"] if program == "docker" else [sys.executable, "-m", "hooper"]
    return subprocess.Popen(
        [*command, "-H", engine.address, *words],
        env={**os.environ, "DOCKER_CONFIG": "/nonexistent"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def crash(engine: Hooper) -> None:
    """Kills the daemon and starts another."""
    engine.kill()
    engine.start()


def sleepers(seconds: int) -> list[int]:
    """The pids of `sleep SECONDS`, wherever they run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", str(seconds).encode()]:
            found.append(int(entry.parent.name))
    return found


# --- an attached run ---

COUNTING = "i=0; while [ ! -e /stop ]; do echo line $i; i=$((i+1)); sleep 0.05; done; echo last; exit 5"


def let_end(engine: Hooper, name: str) -> None:
    """The container may be gone, and the exec with it, before the client asks for the exec's exit code."""
    engine.docker("exec", name, "touch", "/stop", check=False)


@pytest.mark.parametrize("program", ["docker", "hooper"])
def test_an_attached_run(own: Hooper, program: str) -> None:
    process = client(own, program, "run", "--name", "a1", "busybox", "sh", "-c", COUNTING)
    support.until(lambda: "line 2\n" in own.docker("logs", "a1", check=False).stdout, what="output")
    pid = state(own, "a1")["Pid"]
    crash(own)
    assert (state(own, "a1")["Pid"], state(own, "a1")["Status"]) == (pid, "running")
    let_end(own, "a1")
    out, err = process.communicate(timeout=20)
    lines = out.splitlines()
    # Its output came all the while, without a gap.
    assert lines == [f"line {n}" for n in range(len(lines) - 1)] + ["last"] and len(lines) > 4
    assert own.docker("logs", "a1").stdout == out
    assert own.docker("wait", "a1").stdout == "5\n"
    if program == "hooper":
        # dockerd's own client gives up its wait with the connection.
        assert (process.returncode, err) == (5, "")


def test_stdin_of_an_attached_run(own: Hooper) -> None:
    process = client(own, "hooper", "run", "-i", "--name", "a1", "busybox", "sh", "-c", "cat; exit 6")
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("before\n")
    process.stdin.flush()
    assert process.stdout.readline() == "before\n"
    crash(own)
    process.stdin.write("after\n")
    out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == ("after\n", "", 6)


def test_a_run_that_removes_itself(own: Hooper) -> None:
    process = client(own, "hooper", "run", "--rm", "--name", "a1", "busybox", "sh", "-c", COUNTING)
    support.until(lambda: "line 2\n" in own.docker("logs", "a1", check=False).stdout, what="output")
    crash(own)
    let_end(own, "a1")
    out, err = process.communicate(timeout=20)
    assert (out.splitlines()[-1], err, process.returncode) == ("last", "", 5)
    assert own.request("GET", "/containers/a1/json")[0] == 404


def test_a_run_whose_client_is_slower_than_its_removal(own: Hooper) -> None:
    process = client(own, "hooper", "run", "--rm", "--name", "a1", "busybox", "sh", "-c", COUNTING)
    support.until(lambda: "line 2\n" in own.docker("logs", "a1", check=False).stdout, what="output")
    process.send_signal(signal.SIGSTOP)
    crash(own)
    let_end(own, "a1")
    support.until(lambda: own.request("GET", "/containers/a1/json")[0] == 404, what="its removal")
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=20)
    assert (out.splitlines()[-1], err, process.returncode) == ("last", "", 5)


@pytest.mark.parametrize("flags", [[], ["--rm"]], ids=["kept", "removed"])
def test_a_run_that_ends_while_no_daemon_runs(own: Hooper, flags: list[str]) -> None:
    process = client(own, "hooper", "run", *flags, "--name", "a1", "busybox", "sh", "-c", COUNTING)
    support.until(lambda: "line 2\n" in own.docker("logs", "a1", check=False).stdout, what="output")
    pid = state(own, "a1")["Pid"]
    own.kill()
    Path(f"/proc/{pid}/root/stop").touch()
    support.until(lambda: not os.path.exists(f"/proc/{pid}"), what="its end")
    own.start()
    out, err = process.communicate(timeout=20)
    assert (out.splitlines()[-1], err, process.returncode) == ("last", "", 5)
    assert own.request("GET", "/containers/a1/json")[0] == (404 if flags else 200)


# --- logs -f ---


def test_logs_that_are_followed(own: Hooper) -> None:
    start(own, "l1", "sh", "-c", COUNTING)
    process = client(own, "docker", "logs", "-f", "l1")
    assert process.stdout is not None
    assert process.stdout.readline() == "line 0\n"
    pid = state(own, "l1")["Pid"]
    own.kill()
    # The client learns of it, instead of waiting for ever.
    seen = process.communicate(timeout=20)[0].splitlines()
    assert seen == [f"line {n}" for n in range(1, len(seen) + 1)]
    own.start()
    assert state(own, "l1")["Pid"] == pid
    again = client(own, "docker", "logs", "-f", "l1")
    let_end(own, "l1")
    lines = again.communicate(timeout=20)[0].splitlines()
    assert lines == [f"line {n}" for n in range(len(lines) - 1)] + ["last"] and len(lines) > len(seen)
    assert again.returncode == 0


# --- an exec ---


@pytest.mark.parametrize("program", ["docker", "hooper"])
def test_an_exec_that_ends_under_the_next_daemon(own: Hooper, program: str) -> None:
    start(own, "e1")
    process = client(own, program, "exec", "-i", "e1", "sh", "-c", "echo begun; cat; exit 7")
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    (exec_id,) = own.inspect("e1")["ExecIDs"]
    crash(own)
    assert own.inspect("e1")["ExecIDs"] == [exec_id]
    status, shown = own.request("GET", f"/exec/{exec_id}/json")
    assert status == 200 and shown["Running"] and shown["Pid"] > 0
    assert shown["ProcessConfig"]["arguments"] == ["-c", "echo begun; cat; exit 7"]
    since = now()
    process.stdin.write("more\n")
    out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == ("more\n", "", 7)
    assert own.inspect("e1")["ExecIDs"] is None
    assert actions(own, "e1", since) == ["exec_die"]
    again, message = own.request("POST", f"/exec/{exec_id}/start", {"Detach": True})
    assert again == 409, message


def test_an_exec_that_ends_while_no_daemon_runs(own: Hooper) -> None:
    start(own, "e1", "sh", "-c", "while [ ! -e /stop ]; do sleep 0.05; done")
    ids = []
    for script in ("while [ ! -e /go ]; do sleep 0.05; done; exit 8", "sleep 300"):
        made = own.request("POST", "/containers/e1/exec", {"Cmd": ["sh", "-c", script]})[1]["Id"]
        assert own.request("POST", f"/exec/{made}/start", {"Detach": True})[0] == 200
        ids.append(made)
    root = f"/proc/{state(own, 'e1')['Pid']}/root"
    pid = own.request("GET", f"/exec/{ids[0]}/json")[1]["Pid"]
    own.kill()
    Path(f"{root}/go").touch()
    support.until(lambda: not os.path.exists(f"/proc/{pid}"), what="its end")
    own.start()
    support.until(lambda: not own.request("GET", f"/exec/{ids[0]}/json")[1]["Running"], what="a report")
    assert own.request("GET", f"/exec/{ids[0]}/json")[1]["ExitCode"] == 8
    assert own.inspect("e1")["ExecIDs"] == [ids[1]]
    # And one that its container's end takes along, unseen.
    init = state(own, "e1")["Pid"]
    own.kill()
    Path(f"{root}/stop").touch()
    support.until(lambda: not os.path.exists(f"/proc/{init}"), what="its end")
    own.start()
    assert state(own, "e1")["Status"] == "exited"
    shown = own.request("GET", f"/exec/{ids[1]}/json")[1]
    assert (shown["Running"], shown["ExitCode"]) == (False, 137)


# --- a health check ---


def test_a_probe_that_nobody_waits_for_is_ended(own: Hooper) -> None:
    check = {"Test": ["CMD-SHELL", "test -e /quick || sleep 301"], "Interval": S // 5, "Timeout": 300 * S}
    start(own, "h1", "sh", "-c", "touch /quick; sleep 302", Healthcheck=check)
    support.until(lambda: state(own, "h1")["Health"]["Status"] == "healthy", what="healthy")
    own.docker("exec", "h1", "rm", "/quick")
    support.until(lambda: sleepers(301), what="a slow probe")
    old = sleepers(301)
    pid, log = state(own, "h1")["Pid"], state(own, "h1")["Health"]["Log"]
    own.kill()
    assert sleepers(301) == old
    own.start()
    # What was known is known: a probe that was broken off says nothing.
    shown = state(own, "h1")
    assert (shown["Pid"], shown["Health"]["Status"], shown["Health"]["Log"][: len(log)]) == (pid, "healthy", log)
    support.until(lambda: not set(old) & set(sleepers(301)), what="the end of the old probe")
    support.until(lambda: sleepers(301), what="another one")
    assert len(sleepers(301)) == 1 and len(own.inspect("h1")["ExecIDs"]) == 1
    own.docker("exec", "h1", "touch", "/quick")
    own.docker("rm", "-f", "h1")
    assert sleepers(301) == []


def test_the_state_of_health_outlives_the_daemon(own: Hooper) -> None:
    check = {"Test": ["CMD", "false"], "Interval": S // 10, "Retries": 1}
    start(own, "h1", Healthcheck=check)
    start(own, "h2", Healthcheck={**check, "Interval": 600 * S})
    support.until(lambda: state(own, "h1")["Health"]["Status"] == "unhealthy", what="unhealthy")
    before = state(own, "h1")["Health"]["FailingStreak"]
    since = now()
    crash(own)
    assert state(own, "h1")["Health"]["Status"] == "unhealthy"
    assert state(own, "h2")["Health"] == {"Status": "starting", "FailingStreak": 0, "Log": []}
    support.until(lambda: state(own, "h1")["Health"]["FailingStreak"] > before + 2, what="more probes")
    assert "health_status: unhealthy" not in actions(own, "h1", since)
    own.docker("pause", "h1")
    crash(own)
    assert state(own, "h1")["Paused"]
    assert own.docker("ps", "--filter", "name=h1", "--format", "{{.Status}}").stdout.strip().endswith("(Paused)")
    last = state(own, "h1")["Health"]["Log"][-1]
    time.sleep(0.3)
    assert state(own, "h1")["Health"]["Log"][-1] == last
    own.docker("unpause", "h1")
    support.until(lambda: state(own, "h1")["Health"]["Log"][-1] != last, what="probes again")


# --- a restart backoff ---


def restarts(engine: Hooper, name: str) -> int:
    return int(engine.inspect(name)["RestartCount"])


def in_backoff(engine: Hooper, name: str, least: int) -> None:
    support.until(
        lambda: restarts(engine, name) >= least and state(engine, name)["Status"] == "restarting", what="a backoff"
    )


def test_a_restart_backoff_goes_on(own: Hooper) -> None:
    start(own, "r1", "sh", "-c", "exit 3", host={"RestartPolicy": {"Name": "always"}})
    in_backoff(own, "r1", 4)
    count = restarts(own, "r1")
    since = now()
    own.kill()
    own.start()
    assert state(own, "r1")["ExitCode"] in (0, 3)
    support.until(lambda: restarts(own, "r1") > count, what="another run")
    told = [action for action in actions(own, "r1", since) if action in ("start", "die")]
    # It did not run when it was taken over, so that the first thing to happen is a start.
    assert told[:2] == ["start", "die"]
    own.docker("stop", "r1")
    assert (state(own, "r1")["Status"], state(own, "r1")["ExitCode"]) == ("exited", 3)


def test_a_limit_of_restarts_holds_across_daemons(own: Hooper) -> None:
    policy = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 5}}
    start(own, "r1", "sh", "-c", "echo run; exit 3", host=policy)
    in_backoff(own, "r1", 4)
    crash(own)
    wait_for_status(own, "r1", "exited")
    assert (restarts(own, "r1"), state(own, "r1")["ExitCode"]) == (5, 3)
    assert own.docker("logs", "r1").stdout == "run\n" * 6
    crash(own)
    time.sleep(0.5)
    assert state(own, "r1")["Status"] == "exited"


def test_an_end_while_no_daemon_runs_is_followed_by_a_restart(own: Hooper) -> None:
    script = "test -e /again && exec sleep 303; touch /again; while [ ! -e /go ]; do sleep 0.05; done; exit 4"
    for name, policy in (("r1", "on-failure"), ("r2", "unless-stopped"), ("r3", "no")):
        start(own, name, "sh", "-c", script, host={"RestartPolicy": {"Name": policy}})
    pids = [state(own, name)["Pid"] for name in ("r1", "r2", "r3")]
    own.docker("exec", "r1", "sleep", "0.1")
    own.kill()
    for pid in pids:
        Path(f"/proc/{pid}/root/go").touch()
        support.until(lambda pid=pid: not os.path.exists(f"/proc/{pid}"), what="its end")  # type: ignore[misc]
    own.start()
    for name in ("r1", "r2"):
        wait_for_status(own, name, "running")
        assert restarts(own, name) == 1
    assert (state(own, "r3")["Status"], state(own, "r3")["ExitCode"]) == ("exited", 4)


def test_what_a_daemon_starts_when_it_starts(own: Hooper) -> None:
    """As Docker documents it: "always" is started with the daemon even after a stop by hand."""
    policies = {"always": "running", "unless-stopped": "exited", "on-failure": "exited", "no": "exited"}
    for name in policies:
        start(own, name, "sh", "-c", "sleep 304", host={"RestartPolicy": {"Name": name}})
    create(own, "never", host={"RestartPolicy": {"Name": "always"}})
    own.docker("stop", "-t", "0", *policies)
    crash(own)
    for name, status in policies.items():
        wait_for_status(own, name, status)
    assert state(own, "never")["Status"] == "created"


def test_after_the_machine_was_restarted(own: Hooper) -> None:
    """All processes end at once and the run directories are gone; the policies say who runs again."""
    wanted = {"always": "running", "unless-stopped": "running", "on-failure": "running", "no": "exited"}
    for name in wanted:
        start(own, name, "sleep", "305", host={"RestartPolicy": {"Name": name}})
    # This one joins another's network, and has to wait for it.
    joined = {"RestartPolicy": {"Name": "always"}, "NetworkMode": "container:always"}
    start(own, "aa-joined", "sleep", "305", host=joined)
    start(own, "stopped", "sleep", "305", host={"RestartPolicy": {"Name": "unless-stopped"}})
    own.docker("stop", "-t", "0", "stopped")
    create(own, "gone", "sleep", "305", host={"AutoRemove": True})
    own.request("POST", "/containers/gone/start")
    names = [*wanted, "aa-joined", "gone"]
    pids = [state(own, name)["Pid"] for name in names]
    watching = monitors()
    assert len(watching) == len(names)
    own.kill()
    for pid in (*watching, *pids):
        os.kill(pid, 9)
    support.until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), what="no process")
    own.start()
    for name, status in {**wanted, "aa-joined": "running", "stopped": "exited"}.items():
        wait_for_status(own, name, status)
    assert state(own, "no")["ExitCode"] == 255
    assert own.request("GET", "/containers/gone/json")[0] == 404
