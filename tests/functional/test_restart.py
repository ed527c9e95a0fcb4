"""Restart policies: who runs again, who does not, and what can be done meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
from lifecycle_support import actions, create, events, now, refused, start, state, wait_for_status

import support
from support import Engine, Hooper

pytestmark = pytest.mark.root

ALWAYS = {"RestartPolicy": {"Name": "always"}}
TRAPPED = ("sh", "-c", "trap 'exit 5' TERM INT HUP USR1; while :; do sleep 0.05; done")


def restarts(engine: Engine, name: str) -> int:
    return int(engine.inspect(name)["RestartCount"])


def in_backoff(engine: Engine, name: str = "r1", least: int = 4) -> None:
    """Waits for a container that ends at once to be in one of its longer pauses."""
    support.until(
        lambda: restarts(engine, name) >= least and state(engine, name)["Status"] == "restarting", what="a backoff"
    )


def test_a_container_that_ends_is_started_again(either: Engine) -> None:
    since = now()
    start(either, "r1", "sh", "-c", "exit 3", host=ALWAYS)
    in_backoff(either)
    shown = state(either, "r1")
    assert (shown["Running"], shown["Restarting"], shown["Paused"], shown["Pid"]) == (True, True, False, 0)
    assert shown["ExitCode"] == 3 and not shown["FinishedAt"].startswith("0001")
    told = actions(either, "r1", since)
    assert told[:5] == ["create", "start", "die", "start", "die"]
    status = either.docker("ps", "--filter", "status=restarting", "--format", "{{.Status}}").stdout
    assert status.startswith("Restarting (3) ")


@pytest.mark.parametrize("policy", ["always", "unless-stopped", "on-failure"])
def test_a_success_counts_as_the_policy_says(either: Engine, policy: str) -> None:
    start(either, "r1", "true", host={"RestartPolicy": {"Name": policy}})
    if policy == "on-failure":
        wait_for_status(either, "r1", "exited")
        assert restarts(either, "r1") == 0
    else:
        support.until(lambda: restarts(either, "r1") >= 2, what="two restarts")


def test_on_failure_gives_up_in_the_end(either: Engine) -> None:
    since = now()
    policy = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2}}
    start(either, "r1", "sh", "-c", "exit 3", host=policy)
    wait_for_status(either, "r1", "exited")
    assert (restarts(either, "r1"), state(either, "r1")["ExitCode"]) == (2, 3)
    assert actions(either, "r1", since) == ["create", *["start", "die"] * 3]
    # A start by hand begins to count anew.
    either.request("POST", "/containers/r1/start")
    wait_for_status(either, "r1", "exited")
    assert restarts(either, "r1") == 2


def test_what_can_be_done_between_two_runs(either: Engine) -> None:
    start(either, "r1", "false", host=ALWAYS)
    in_backoff(either, least=5)
    assert refused(either, "POST", "/containers/r1/start")[0] == 304
    for method, path, body in (
        ("POST", "/containers/r1/pause", None),
        ("POST", "/containers/r1/exec", {"Cmd": ["true"]}),
        ("GET", "/containers/r1/top", None),
    ):
        status, text = refused(either, method, path, body)
        assert status == 409 and "is restarting, wait until the container is running" in text
    status, text = refused(either, "DELETE", "/containers/r1")
    assert status == 409 and "stop the container before" in text and "restarting" in text


def test_stop_ends_the_backoff(either: Engine) -> None:
    since = now()
    start(either, "r1", "sh", "-c", "exit 3", host=ALWAYS)
    in_backoff(either)
    assert either.request("POST", "/containers/r1/stop")[0] == 204
    assert (state(either, "r1")["Status"], state(either, "r1")["ExitCode"]) == ("exited", 3)
    assert actions(either, "r1", since)[-2:] == ["die", "stop"]
    assert refused(either, "POST", "/containers/r1/stop")[0] == 304
    # The backoff begins anew with the next start.
    either.request("POST", "/containers/r1/start")
    support.until(lambda: restarts(either, "r1") >= 3, 5, what="quick restarts")


def test_kill_and_rm_end_the_backoff(either: Engine) -> None:
    for name, command in (("r1", ["kill", "r1"]), ("r2", ["rm", "-f", "r2"])):
        start(either, name, "false", host=ALWAYS)
        in_backoff(either, name)
        either.docker(*command)
    wait_for_status(either, "r1", "exited")
    assert either.request("GET", "/containers/r2/json")[0] == 404


def test_restart_ends_the_backoff(either: Engine) -> None:
    start(either, "r1", "sh", "-c", "test -e /ok && exec sleep 100; touch /ok; exit 1", host=ALWAYS)
    support.until(lambda: restarts(either, "r1") == 1 and state(either, "r1")["Status"] == "running", what="a restart")
    either.docker("restart", "-t", "0", "r1")
    assert (restarts(either, "r1"), state(either, "r1")["Status"]) == (0, "running")


@pytest.mark.parametrize("signal", ["KILL", "HUP"])
def test_a_container_that_its_user_ends_stays_down(either: Engine, signal: str) -> None:
    start(either, "r1", *TRAPPED, host=ALWAYS)
    either.docker("exec", "r1", "sleep", "0.2")
    since = now()
    either.docker("kill", "-s", signal, "r1")
    wait_for_status(either, "r1", "exited")
    assert restarts(either, "r1") == 0
    number = {"KILL": 9, "HUP": 1}[signal]
    told = [(action, more.get("signal"), more.get("exitCode")) for action, more in events(either, "r1", since)]
    assert told == [("kill", str(number), None), ("die", None, "137" if signal == "KILL" else "5")]


def test_another_signal_than_the_stop_signal_ends_no_policy(either: Engine) -> None:
    start(either, "r1", *TRAPPED, host=ALWAYS, StopSignal="USR1")
    either.docker("exec", "r1", "sleep", "0.2")
    either.docker("kill", "-s", "TERM", "r1")
    support.until(lambda: restarts(either, "r1") == 1, what="a restart")
    support.until(lambda: state(either, "r1")["Status"] == "running", what="it runs")
    either.docker("exec", "r1", "sleep", "0.2")
    either.docker("kill", "-s", "USR1", "r1")
    wait_for_status(either, "r1", "exited")


def test_a_restart_that_fails_is_the_last(either: Engine) -> None:
    start(either, "r1", "sh", "-c", "mv /bin/sh /bin/gone; exit 1", host=ALWAYS)
    wait_for_status(either, "r1", "exited")
    assert 'exec: "sh": executable file not found in $PATH' in state(either, "r1")["Error"]


def test_update_changes_the_policy(either: Engine) -> None:
    start(either, "r1", *TRAPPED)
    either.docker("update", "--restart", "on-failure:3", "r1")
    assert either.inspect("r1")["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    either.docker("exec", "r1", "sh", "-c", "sleep 0.2; kill -USR1 1", check=False)
    support.until(lambda: restarts(either, "r1") == 1, what="a restart")
    support.until(lambda: state(either, "r1")["Status"] == "running", what="it runs")
    either.docker("update", "--restart", "no", "r1")
    either.docker("exec", "r1", "sh", "-c", "sleep 0.2; kill -USR1 1", check=False)
    wait_for_status(either, "r1", "exited")


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ({"RestartPolicy": {"Name": "sometimes"}}, "restart policy"),
        ({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}}, "maximum retry count cannot be used with"),
        ({"RestartPolicy": {"Name": "no", "MaximumRetryCount": 3}}, "maximum retry count cannot be used with"),
        ({"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -1}}, "maximum retry count cannot be negative"),
        ({"AutoRemove": True, **ALWAYS}, "can't create 'autoremove' container with restart policy"),
    ],
)
def test_policies_that_cannot_be(either: Engine, host: dict[str, Any], text: str) -> None:
    status, message = refused(either, "POST", "/containers/create", {"Image": "busybox", "HostConfig": host})
    assert status == 400 and text in message
    if "AutoRemove" in host:
        create(either, "auto", host={"AutoRemove": True})
        status, message = refused(either, "POST", "/containers/auto/update", ALWAYS)
        assert status == 409 and "restart policy cannot be updated because autoremove is enabled" in message
    else:
        create(either, "plain")
        assert refused(either, "POST", "/containers/plain/update", host)[0] == 400


def test_both_clients_refuse_rm_with_a_policy(clean: Hooper) -> None:
    for client in (clean.docker, clean.hooper):
        done = client("run", "--rm", "--restart", "always", "busybox", "true", check=False)
        assert done.returncode == 125 and "restart" in done.stderr.lower()


def test_a_wait_ends_with_the_run_and_not_with_the_policy(clean: Hooper) -> None:
    """Not so dockerd 20.10, which may tell the code of the run that follows."""
    start(clean, "r1", "sh", "-c", "sleep 0.3; exit 4", host=ALWAYS)
    status, answer = clean.request("POST", "/containers/r1/wait?condition=next-exit")
    assert (status, answer["StatusCode"]) == (200, 4)
