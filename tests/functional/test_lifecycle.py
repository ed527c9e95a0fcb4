"""Start, stop, kill, pause, wait, rename, update and rm: in every state, with right and wrong values."""

from __future__ import annotations

import http.client
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from lifecycle_support import actions, create, events, now, refused, start, state, wait_for_status

import support
from support import Engine, Hooper

pytestmark = pytest.mark.root

STUBBORN = ("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done")


def ready(engine: Engine, name: str) -> None:
    """Waits until its program has set its traps."""
    engine.docker("exec", name, "sleep", "0.2")


# --- states ---


def test_a_container_that_does_not_run(either: Engine) -> None:
    create(either, "c1")
    assert refused(either, "POST", "/containers/c1/stop")[0] == 304
    for method, path, body in (
        ("POST", "/containers/c1/kill", None),
        ("POST", "/containers/c1/pause", None),
        ("POST", "/containers/c1/resize?h=1&w=1", None),
        ("POST", "/containers/c1/exec", {"Cmd": ["true"]}),
        ("GET", "/containers/c1/top", None),
    ):
        status, text = refused(either, method, path, body)
        assert status == 409 and "is not running" in text, path
    assert refused(either, "POST", "/containers/c1/unpause")[0] in (409, 500)


def test_a_container_that_runs(either: Engine) -> None:
    start(either, "c1")
    assert refused(either, "POST", "/containers/c1/start")[0] == 304
    status, text = refused(either, "POST", "/containers/c1/unpause")
    assert status in (409, 500) and "is not paused" in text
    status, text = refused(either, "DELETE", "/containers/c1")
    assert status == 409 and "stop the container before" in text
    assert state(either, "c1")["Running"]


def test_a_container_that_is_paused(either: Engine) -> None:
    start(either, "c1")
    since = now()
    either.docker("pause", "c1")
    shown = state(either, "c1")
    assert (shown["Status"], shown["Running"], shown["Paused"]) == ("paused", True, True)
    for method, path, body, words in (
        ("POST", "/containers/c1/pause", None, "is already paused"),
        ("POST", "/containers/c1/start", None, "cannot start a paused container, try unpause instead"),
        ("POST", "/containers/c1/exec", {"Cmd": ["true"]}, "is paused"),
        ("DELETE", "/containers/c1", None, "paused"),
    ):
        status, text = refused(either, method, path, body)
        assert status == 409 and words in text, path
    either.docker("unpause", "c1")
    assert either.docker("exec", "c1", "echo", "on").stdout == "on\n"
    assert actions(either, "c1", since)[:2] == ["pause", "unpause"]


def test_a_paused_container_can_be_stopped_restarted_killed_and_removed(either: Engine) -> None:
    start(either, "c1", "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done")
    ready(either, "c1")
    either.docker("pause", "c1")
    either.docker("stop", "c1")
    assert state(either, "c1")["ExitCode"] == 5
    either.request("POST", "/containers/c1/start")
    either.docker("pause", "c1")
    either.docker("restart", "-t", "0", "c1")
    assert state(either, "c1")["Status"] == "running"
    either.docker("pause", "c1")
    either.docker("kill", "c1")
    wait_for_status(either, "c1", "exited")
    either.request("POST", "/containers/c1/start")
    either.docker("pause", "c1")
    either.docker("rm", "-f", "c1")
    assert either.request("GET", "/containers/c1/json")[0] == 404


def test_what_is_not_there(either: Engine) -> None:
    for verb in ("start", "stop", "restart", "kill", "pause", "unpause", "rename?name=x1", "wait", "resize?h=1&w=1"):
        status, text = refused(either, "POST", f"/containers/nothere/{verb}")
        assert status == 404 and "no such container: nothere" in text, verb
    for path in ("/containers/nothere", "/containers/nothere?force=1"):
        assert refused(either, "DELETE", path)[0] == 404
    assert refused(either, "POST", "/containers/nothere/update", {})[0] == 404


# --- signals ---


def test_signals_by_name_and_number(either: Engine) -> None:
    traps = "; ".join(f"trap 'echo {n}' {n}" for n in (10, 37, 64))
    start(either, "c1", "sh", "-c", f"{traps}; while :; do sleep 0.05; done")
    ready(either, "c1")
    heard = ""
    pairs = {"USR1": 10, "SIGUSR1": 10, "usr1": 10, "10": 10, "RTMIN%2B3": 37, "64": 64}
    for given, number in pairs.items():
        assert either.request("POST", f"/containers/c1/kill?signal={given}")[0] == 204
        heard += f"{number}\n"
        support.until(lambda heard=heard: either.docker("logs", "c1").stdout == heard, what=given)  # type: ignore[misc]


def test_signals_that_do_not_exist(either: Engine) -> None:
    start(either, "c1")
    for signal in ("NOPE", "0", "65", "-1", "SIGRTMIN%2B99", "1.5"):
        status, text = refused(either, "POST", f"/containers/c1/kill?signal={signal}")
        assert status in (400, 500) and "signal" in text
    assert refused(either, "POST", "/containers/create", {"Image": "busybox", "StopSignal": "NOPE"})[0] == 400
    assert state(either, "c1")["Running"]


def test_the_stop_signal_of_container_and_image(either: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nSTOPSIGNAL SIGUSR2\n")
    either.docker("build", "-q", "-t", "signals", str(tmp_path))
    script = "trap 'exit 10' USR1; trap 'exit 12' USR2; while :; do sleep 0.05; done"
    either.docker("run", "-d", "--name", "s1", "signals", "sh", "-c", script)
    either.docker("run", "-d", "--name", "s2", "--stop-signal", "USR1", "signals", "sh", "-c", script)
    for name, code in (("s1", 12), ("s2", 10)):
        ready(either, name)
        either.docker("stop", name)
        assert state(either, name)["ExitCode"] == code


def test_stop_asks_and_then_kills(either: Engine) -> None:
    start(either, "c1", *STUBBORN)
    ready(either, "c1")
    since = now()
    either.docker("stop", "-t", "1", "c1")
    assert state(either, "c1")["ExitCode"] == 137
    told = [(action, more.get("signal")) for action, more in events(either, "c1", since) if "exec" not in action]
    assert told == [("kill", "15"), ("kill", "9"), ("die", None), ("stop", None)]


def test_stop_waits_as_long_as_it_is_told(clean: Hooper) -> None:
    script = "trap 'sleep 1; exit 6' TERM; trap 'exit 10' USR1; while :; do sleep 0.05; done"
    start(clean, "c1", "sh", "-c", script, StopTimeout=0)
    ready(clean, "c1")
    # -1 waits for ever, whatever the container's own patience is.
    assert clean.request("POST", "/containers/c1/stop?t=-1")[0] == 204
    assert state(clean, "c1")["ExitCode"] == 6
    clean.request("POST", "/containers/c1/start")
    ready(clean, "c1")
    assert clean.request("POST", "/containers/c1/stop?signal=USR1&t=5")[0] == 204
    assert state(clean, "c1")["ExitCode"] == 10
    clean.request("POST", "/containers/c1/start")
    ready(clean, "c1")
    assert clean.request("POST", "/containers/c1/stop")[0] == 204
    assert state(clean, "c1")["ExitCode"] == 137


def test_a_stop_with_wrong_values_stops_nothing(clean: Hooper) -> None:
    start(clean, "c1", host={"RestartPolicy": {"Name": "always"}})
    assert refused(clean, "POST", "/containers/c1/stop?signal=NOPE")[0] == 400
    assert refused(clean, "POST", "/containers/c1/stop?t=soon")[0] == 400
    assert state(clean, "c1")["Running"]


def test_a_signal_gives_128_and_its_number(clean: Hooper) -> None:
    for runtime in ("namespaces", "runc"):
        start(clean, runtime, host={"Runtime": runtime})
        # From outside: the kernel spares pid 1 what processes of its own namespace send.
        os.kill(state(clean, runtime)["Pid"], 9)
        wait_for_status(clean, runtime, "exited")
        assert state(clean, runtime)["ExitCode"] == 137
    start(clean, "init", "sh", "-c", "kill -6 $$", host={"Init": True})
    wait_for_status(clean, "init", "exited")
    assert state(clean, "init")["ExitCode"] == 134


# --- wait ---


class Wait:
    """A wait that the engine has taken note of; `answer` blocks."""

    def __init__(self, engine: Engine, name: str, condition: str) -> None:
        self._connection = support.UnixHttp(engine.socket_path)
        self._connection.request("POST", f"/v1.40/containers/{name}/wait?condition={condition}")
        self._response: http.client.HTTPResponse = self._connection.getresponse()
        self._answer: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        self._answer = json.loads(self._response.read())

    @property
    def over(self) -> bool:
        self._thread.join(0.3)
        return not self._thread.is_alive()

    def answer(self) -> int:
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._connection.close()
        return int(self._answer["StatusCode"])


def test_every_condition(either: Engine) -> None:
    create(either, "c1", "sh", "-c", "trap 'exit 4' TERM; while :; do sleep 0.05; done")
    assert Wait(either, "c1", "not-running").answer() == 0
    waits = [Wait(either, "c1", condition) for condition in ("next-exit", "removed")]
    assert not any(wait.over for wait in waits)
    either.request("POST", "/containers/c1/start")
    running = Wait(either, "c1", "not-running")
    ready(either, "c1")
    assert not running.over and not waits[0].over
    either.docker("stop", "c1")
    assert (running.answer(), waits[0].answer()) == (4, 4)
    assert not waits[1].over
    again = Wait(either, "c1", "next-exit")
    either.request("DELETE", "/containers/c1")
    assert waits[1].answer() == 4
    assert again.answer() == 4


def test_removed_is_told_after_the_removal(either: Engine) -> None:
    create(either, "c1", "sh", "-c", "exit 7", host={"AutoRemove": True})
    wait = Wait(either, "c1", "removed")
    either.request("POST", "/containers/c1/start")
    assert wait.answer() == 7
    assert either.request("GET", "/containers/c1/json")[0] == 404


def test_an_unknown_condition(clean: Hooper) -> None:
    create(clean, "c1")
    status, text = refused(clean, "POST", "/containers/c1/wait?condition=tomorrow")
    assert status == 400 and "invalid condition" in text and "next-exit" in text


# --- rename ---


def test_rename(either: Engine) -> None:
    since = now()
    create(either, "c1")
    create(either, "c2")
    for query, code, words in (
        ("name=", 400, "neither old nor new names may be empty"),
        ("name=a%20b", 400, "invalid container name"),
        ("name=c1", 400, "same name as its current name"),
        ("name=c2", 409, "already in use"),
    ):
        status, text = refused(either, "POST", f"/containers/c1/rename?{query}")
        assert status == code and words in text, query
    assert either.request("POST", "/containers/c1/rename?name=c3")[0] == 204
    assert either.request("GET", "/containers/c1/json")[0] == 404
    assert either.inspect("c3")["Name"] == "/c3"
    assert [more["oldName"] for action, more in events(either, "c3", since) if action == "rename"] == ["/c1"]


# --- update ---


def test_updates_that_cannot_be(either: Engine) -> None:
    host = {"Memory": 64 << 20, "MemorySwap": 128 << 20, "NanoCpus": 500_000_000}
    create(either, "c1", host=host)
    wrong: list[tuple[dict[str, Any], int, str]] = [
        ({"Memory": 1000}, 400, "minimum memory limit allowed is 6mb"),
        ({"MemoryReservation": 1000}, 400, "minimum memory reservation allowed is 6mb"),
        ({"Memory": 1 << 30}, 409, "update the memoryswap at the same time"),
        ({"NanoCpus": -1}, 400, "range of cpus is from 0.01 to"),
        ({"NanoCpus": 9999 * 10**9}, 400, "range of cpus is from 0.01 to"),
        ({"CpuQuota": 50000}, 409, "cpu quota cannot be updated as nanocpus has already been set"),
        ({"CpuPeriod": 50000}, 409, "cpu period cannot be updated as nanocpus has already been set"),
        ({"CpuPeriod": 5}, 400, "cpu cfs period can not be less than 1ms"),
        ({"CpuQuota": 5}, 400, "cpu cfs quota can not be less than 1ms"),
        ({"CpusetCpus": "999"}, 400, "requested cpus are not available - requested 999, available: 0"),
        ({"CpusetCpus": "x"}, 400, "invalid value x for cpuset cpus"),
        ({"CpusetMems": "77"}, 400, "requested memory nodes are not available - requested 77, available: 0"),
        ({"RestartPolicy": {"Name": "sometimes"}}, 400, "invalid restart policy"),
    ]
    for change, code, words in wrong:
        status, text = refused(either, "POST", "/containers/c1/update", change)
        assert status == code and words in text, change
    shown = either.inspect("c1")["HostConfig"]
    assert {name: shown[name] for name in host} == host


def test_updates_are_kept_and_in_force(either: Engine) -> None:
    changes = {
        "Memory": 96 << 20, "MemorySwap": 192 << 20, "MemoryReservation": 32 << 20, "CpuShares": 512,
        "CpuPeriod": 50000, "CpuQuota": 25000, "CpusetCpus": "0", "PidsLimit": 77,
    }  # fmt: skip
    create(either, "c1", host={"Memory": 64 << 20, "MemorySwap": 128 << 20})
    for _ in ("created", "running"):
        assert either.request("POST", "/containers/c1/update", changes)[0] == 200
        shown = either.inspect("c1")["HostConfig"]
        assert {name: shown[name] for name in changes} == changes
        either.request("POST", "/containers/c1/start")
        script = (
            "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us "
            "/sys/fs/cgroup/pids/pids.max 2>/dev/null || cd /sys/fs/cgroup && "
            "cat memory.max cpu.max pids.max 2>/dev/null || true"
        )
        limits = either.docker("exec", "c1", "sh", "-c", script).stdout.split()
        assert limits[0] == str(96 << 20) and "25000" in limits and "77" in limits
        changes = {**changes, "MemoryReservation": 48 << 20}


def test_an_explicit_limit_with_swap_survives_another_memory_limit(clean: Hooper) -> None:
    start(clean, "c1", host={"Memory": 64 << 20, "MemorySwap": 256 << 20})
    assert clean.request("POST", "/containers/c1/update", {"Memory": 96 << 20})[0] == 200
    shown = clean.inspect("c1")["HostConfig"]
    assert (shown["Memory"], shown["MemorySwap"]) == (96 << 20, 256 << 20)
    v1 = clean.docker("exec", "c1", "cat", "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", check=False)
    v2 = clean.docker("exec", "c1", "cat", "/sys/fs/cgroup/memory.swap.max", check=False)
    assert (v1.stdout.strip() or str(256 << 20), v2.stdout.strip() or str(160 << 20)) == (
        str(256 << 20),
        str(160 << 20),
    )


# --- ends ---


def test_a_lack_of_memory_is_told(either: Engine) -> None:
    since = now()
    limits = {"Memory": 16 << 20, "MemorySwap": 16 << 20}
    start(either, "c1", "sh", "-c", "head -c 100000000 /dev/zero | tail -c 90000000 >/dev/null; exit 9", host=limits)
    wait_for_status(either, "c1", "exited")
    if not isinstance(either, support.Hooper):
        # dockerd hears of it from elsewhere, and perhaps after the end.
        support.until(lambda: "oom" in actions(either, "c1", since) and state(either, "c1")["OOMKilled"])
    assert state(either, "c1")["OOMKilled"] is True
    told = [action for action in actions(either, "c1", since) if action in ("oom", "die")]
    assert told.count("die") == 1 and "oom" in told
    if isinstance(either, support.Hooper):
        assert (told[0], told[-1]) == ("oom", "die")
    # The next run starts with a clean record.
    start(either, "c2", host=limits)
    assert state(either, "c2")["OOMKilled"] is False


def test_a_start_that_fails_leaves_a_record(either: Engine) -> None:
    for name, command, code in (("c1", "nosuchprogram", 127), ("c2", "/etc/passwd", 126)):
        since = now()
        create(either, name, command)
        status, text = refused(either, "POST", f"/containers/{name}/start")
        assert status == 400 and f'exec: "{command}"' in text
        shown = state(either, name)
        assert (shown["Status"], shown["ExitCode"]) == ("created", code)
        assert command in shown["Error"]
        assert not {"start", "die"} & set(actions(either, name, since))
    create(either, "c3", "true", Entrypoint=["sh", "-c", "exit 8"])
    either.request("POST", "/containers/c3/start")
    wait_for_status(either, "c3", "exited")
    assert (state(either, "c3")["ExitCode"], state(either, "c3")["Error"]) == (8, "")


@pytest.mark.parametrize("client", ["docker", "hooper"])
def test_exit_codes_of_run(clean: Hooper, client: str) -> None:
    run = getattr(clean, client)
    for words, code in (
        (["--nosuchflag", "busybox", "true"], 125),
        (["--rm", "busybox", "/etc/passwd"], 126),
        (["--rm", "busybox", "nosuchprogram"], 127),
        (["--rm", "busybox", "sh", "-c", "kill -9 $$"], 0),
        (["--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137),
        (["--rm", "busybox", "sh", "-c", "exit 200"], 200),
    ):
        done = run("run", *words, check=False)
        # A program that is pid 1 and has no handler is not killed by its own signal.
        assert done.returncode == code, (words, done.stderr)


# --- rm ---


def volumes(engine: Engine) -> set[str]:
    return {volume["Name"] for volume in engine.request("GET", "/volumes")[1]["Volumes"] or ()}


def test_rm_keeps_and_removes_volumes_as_asked(either: Engine) -> None:
    before = volumes(either)
    either.docker("volume", "create", "named")
    try:
        for name, flags, left in (("c1", [], 1), ("c2", ["-v"], 0), ("c3", ["-f", "-v"], 0)):
            either.docker("run", "-d", "--name", name, "-v", "/anonymous", "-v", "named:/n", "busybox", "sleep", "100")
            if "-f" not in flags:
                either.docker("stop", "-t", "0", name)
            either.docker("rm", *flags, name)
            fresh = volumes(either) - before - {"named"}
            assert len(fresh) == left, name
            before |= fresh
        either.docker("run", "--rm", "-v", "/anonymous", "-v", "named:/n", "busybox", "true")
        assert volumes(either) == before | {"named"}
    finally:
        either.docker("volume", "rm", "named")
        either.docker("volume", "prune", "-f")


def test_rm_by_force_of_what_removes_itself_takes_its_volumes(clean: Hooper) -> None:
    before = volumes(clean)
    clean.docker("run", "-d", "--rm", "--name", "c1", "-v", "/anonymous", "busybox", "sleep", "100")
    assert len(volumes(clean)) == len(before) + 1
    clean.docker("rm", "-f", "c1")
    assert volumes(clean) == before


def test_a_restart_keeps_what_would_remove_itself(either: Engine) -> None:
    create(either, "c1", host={"AutoRemove": True})
    either.request("POST", "/containers/c1/start")
    either.docker("restart", "-t", "0", "c1")
    assert state(either, "c1")["Status"] == "running"
    either.docker("stop", "-t", "0", "c1")
    support.until(lambda: either.request("GET", "/containers/c1/json")[0] == 404, what="its removal")


def test_several_removals_at_once(clean: Hooper) -> None:
    for _ in range(5):
        start(clean, "c1", host={"AutoRemove": True})
        answers: list[int] = []

        def remove(answers: list[int] = answers) -> None:
            answers.append(clean.request("DELETE", "/containers/c1?force=1")[0])

        threads = [threading.Thread(target=remove) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 204 in answers and set(answers) <= {204, 404}
        assert clean.request("GET", "/containers/c1/json")[0] == 404


def test_removal_in_the_middle_of_a_start(clean: Hooper) -> None:
    for _ in range(5):
        create(clean, "c1")
        starting = threading.Thread(target=clean.request, args=("POST", "/containers/c1/start"))
        starting.start()
        assert clean.request("DELETE", "/containers/c1?force=1")[0] == 204
        starting.join()
        assert clean.request("GET", "/containers/c1/json")[0] == 404
    assert list((clean.exec_root / "containers").iterdir()) == []


@pytest.mark.parametrize("client", ["docker", "hooper"])
def test_the_id_file(clean: Hooper, client: str, tmp_path: Path) -> None:
    run = getattr(clean, client)
    file = tmp_path / "id"
    run("run", "--cidfile", str(file), "--name", "c1", "busybox", "true")
    assert file.read_text() == clean.inspect("c1")["Id"]
    again = run("run", "--cidfile", str(file), "busybox", "true", check=False)
    assert again.returncode == 125 and str(file) in again.stderr
    failed = run("run", "--cidfile", str(tmp_path / "no"), "--memory", "1k", "busybox", "true", check=False)
    assert failed.returncode == 125 and not (tmp_path / "no").exists()
