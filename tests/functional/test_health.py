"""Health checks: what is run when, what is made of it, and what shows of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lifecycle_support import S, actions, create, events, now, refused, start, state

import support
from support import Engine, Hooper

pytestmark = pytest.mark.root

FAST = S // 10


def health(engine: Engine, name: str) -> dict[str, Any]:
    return dict(state(engine, name)["Health"])


def wait_for_health(engine: Engine, name: str, status: str) -> None:
    support.until(lambda: health(engine, name)["Status"] == status, what=f"{name} {status}: {health(engine, name)}")


def shown_status(engine: Engine, name: str) -> str:
    return engine.docker("ps", "-a", "--filter", f"name={name}", "--format", "{{.Status}}").stdout.strip()


def listed(engine: Engine, value: str) -> list[str]:
    return engine.docker("ps", "--filter", f"health={value}", "--format", "{{.Names}}").stdout.split()


def test_a_container_becomes_healthy_unhealthy_and_healthy_again(either: Engine) -> None:
    since = now()
    check = {"Test": ["CMD-SHELL", "echo seen; test -e /ok"], "Interval": FAST, "Retries": 2}
    create(either, "h1", "sh", "-c", "touch /ok; sleep 100", Healthcheck=check)
    assert "Health" not in state(either, "h1")
    either.request("POST", "/containers/h1/start")
    wait_for_health(either, "h1", "healthy")
    assert shown_status(either, "h1").endswith("(healthy)")
    assert listed(either, "healthy") == ["h1"] and listed(either, "unhealthy") == listed(either, "none") == []
    either.docker("exec", "h1", "rm", "/ok")
    wait_for_health(either, "h1", "unhealthy")
    assert health(either, "h1")["FailingStreak"] >= 2
    assert shown_status(either, "h1").endswith("(unhealthy)")
    assert listed(either, "unhealthy") == ["h1"]
    either.docker("exec", "h1", "touch", "/ok")
    wait_for_health(either, "h1", "healthy")
    assert health(either, "h1")["FailingStreak"] == 0
    told = [action for action in actions(either, "h1", since) if action.startswith("health_status")]
    assert told == ["health_status: healthy", "health_status: unhealthy", "health_status: healthy"]


def test_the_log_keeps_the_last_five_results(either: Engine) -> None:
    check = {"Test": ["CMD", "sh", "-c", "echo out; echo err >&2; exit 3"], "Interval": FAST}
    start(either, "h1", Healthcheck=check)
    support.until(lambda: health(either, "h1")["FailingStreak"] > 5, what="six probes")
    log = health(either, "h1")["Log"]
    assert len(log) == 5
    assert {(entry["ExitCode"], *sorted(entry["Output"].split())) for entry in log} == {(3, "err", "out")}
    moments = [moment for entry in log for moment in (entry["Start"], entry["End"])]
    assert [moment[:19] for moment in moments] == sorted(moment[:19] for moment in moments)


def test_a_probe_is_an_exec_with_its_events(either: Engine) -> None:
    since = now()
    start(either, "h1", Healthcheck={"Test": ["CMD-SHELL", "exit 0"], "Interval": FAST})
    wait_for_health(either, "h1", "healthy")
    told = events(either, "h1", since)
    first = next(attributes["execID"] for action, attributes in told if action.startswith("exec_create"))
    own = [(action, more.get("exitCode")) for action, more in told if more.get("execID") == first]
    assert own == [
        ("exec_create: /bin/sh -c exit 0", None),
        ("exec_start: /bin/sh -c exit 0", None),
        ("exec_die", "0"),
    ]


def test_a_probe_sees_what_the_container_sees(either: Engine) -> None:
    script = "echo $X $PWD $(id -u) $HOSTNAME $(readlink /proc/self/fd/0)"
    check = {"Test": ["CMD-SHELL", script], "Interval": FAST}
    start(either, "h1", Healthcheck=check, Env=["X=7"], WorkingDir="/tmp", User="1000", Hostname="named")
    wait_for_health(either, "h1", "healthy")
    assert health(either, "h1")["Log"][0]["Output"] == "7 /tmp 1000 named /dev/null\n"


def test_long_output_is_cut(either: Engine) -> None:
    check = {"Test": ["CMD-SHELL", "head -c 300000 /dev/zero | tr '\\0' x; echo end"], "Interval": FAST}
    start(either, "h1", Healthcheck=check)
    wait_for_health(either, "h1", "healthy")
    assert health(either, "h1")["Log"][0]["Output"] == "x" * 4096 + "..."


def test_a_probe_that_takes_too_long_is_killed(either: Engine) -> None:
    check = {"Test": ["CMD", "sleep", "33"], "Interval": FAST, "Timeout": S // 5, "Retries": 1}
    start(either, "h1", Healthcheck=check)
    wait_for_health(either, "h1", "unhealthy")
    first = health(either, "h1")["Log"][0]
    assert (first["ExitCode"], first["Output"]) == (-1, "Health check exceeded timeout (200ms)")


@pytest.mark.parametrize("runtime", ["namespaces", "runc"])
def test_what_a_late_probe_started_ends_with_it(clean: Hooper, runtime: str) -> None:
    check = {"Test": ["CMD-SHELL", "echo begun; sleep 34; true"], "Interval": 10 * S, "Timeout": S // 5, "Retries": 1}
    check |= {"StartPeriod": 20 * S, "StartInterval": FAST}
    start(clean, "h1", Healthcheck=check, host={"Runtime": runtime})
    support.until(lambda: len(health(clean, "h1")["Log"]) >= 3, what="three probes")
    assert health(clean, "h1")["Log"][0]["Output"] == "Health check exceeded timeout (200ms): begun\n"
    assert clean.docker("top", "h1").stdout.count("sleep 34") <= 1


def test_a_probe_that_cannot_run_has_failed(either: Engine) -> None:
    start(either, "h1", Healthcheck={"Test": ["CMD", "nosuchprogram"], "Interval": FAST, "Retries": 1})
    wait_for_health(either, "h1", "unhealthy")
    first = health(either, "h1")["Log"][0]
    assert first["ExitCode"] == -1
    assert 'exec: "nosuchprogram": executable file not found in $PATH' in first["Output"]


def test_failures_in_the_start_period_do_not_count(either: Engine) -> None:
    check = {"Test": ["CMD", "false"], "Interval": FAST, "StartPeriod": 60 * S, "Retries": 1}
    start(either, "h1", Healthcheck=check)
    support.until(lambda: len(health(either, "h1")["Log"]) >= 3, what="three probes")
    assert (health(either, "h1")["Status"], health(either, "h1")["FailingStreak"]) == ("starting", 0)
    assert shown_status(either, "h1").endswith("(health: starting)")
    assert listed(either, "starting") == ["h1"]


def test_a_success_ends_the_start_period(either: Engine) -> None:
    check = {"Test": ["CMD-SHELL", "test ! -e /bad"], "Interval": FAST, "StartPeriod": 60 * S, "Retries": 1}
    start(either, "h1", Healthcheck=check)
    wait_for_health(either, "h1", "healthy")
    either.docker("exec", "h1", "touch", "/bad")
    wait_for_health(either, "h1", "unhealthy")


def test_the_start_interval_holds_until_the_first_success(clean: Hooper) -> None:
    check = {"Test": ["CMD", "true"], "Interval": 600 * S, "StartPeriod": 60 * S, "StartInterval": FAST}
    start(clean, "h1", Healthcheck=check)
    wait_for_health(clean, "h1", "healthy")
    # The next one is ten minutes off.
    clean.docker("exec", "h1", "sleep", "0.4")
    assert len(health(clean, "h1")["Log"]) == 1


def test_none_and_unknown_forms_check_nothing(either: Engine) -> None:
    for name, test in (("h1", ["NONE"]), ("h2", ["WHATEVER", "true"])):
        start(either, name, Healthcheck={"Test": test, "Interval": FAST})
        assert "Health" not in state(either, name)
    assert sorted(listed(either, "none")) == ["h1", "h2"]


def test_values_that_cannot_be(either: Engine) -> None:
    for check, message in (
        ({"Interval": 500}, "interval in healthcheck cannot be less than 1ms"),
        ({"Timeout": -1}, "timeout in healthcheck cannot be less than 1ms"),
        ({"StartPeriod": 5}, "startperiod in healthcheck cannot be less than 1ms"),
        ({"Retries": -1}, "retries in healthcheck cannot be negative"),
    ):
        body = {"Image": "busybox", "Healthcheck": {"Test": ["CMD", "true"], **check}}
        status, text = refused(either, "POST", "/containers/create", body)
        assert status == 400 and message in text


def test_an_unknown_filter_value(either: Engine) -> None:
    done = either.docker("ps", "--filter", "health=fine", check=False)
    assert done.returncode == 1 and "health" in done.stderr


def test_what_ended_is_not_healthy_and_begins_anew(either: Engine) -> None:
    start(either, "h1", Healthcheck={"Test": ["CMD", "true"], "Interval": FAST})
    wait_for_health(either, "h1", "healthy")
    either.docker("stop", "-t", "0", "h1")
    ended = health(either, "h1")
    assert ended["Status"] == "unhealthy" and ended["Log"]
    either.request("POST", "/containers/h1/start")
    wait_for_health(either, "h1", "healthy")


def test_a_paused_container_is_not_probed(either: Engine) -> None:
    start(either, "h1", Healthcheck={"Test": ["CMD", "true"], "Interval": FAST})
    wait_for_health(either, "h1", "healthy")
    either.docker("pause", "h1")
    assert shown_status(either, "h1").endswith("(Paused)")
    last = health(either, "h1")["Log"][-1]
    either.docker("run", "--rm", "busybox", "sleep", "0.4")
    assert health(either, "h1")["Log"][-1] == last
    either.docker("unpause", "h1")
    support.until(lambda: health(either, "h1")["Log"][-1] != last, what="another probe")
    wait_for_health(either, "h1", "healthy")


def test_stop_and_pause_in_the_middle_of_a_probe(either: Engine) -> None:
    start(either, "h1", Healthcheck={"Test": ["CMD", "sleep", "35"], "Interval": FAST})
    support.until(lambda: either.inspect("h1")["ExecIDs"], what="a probe")
    either.docker("pause", "h1")
    either.docker("unpause", "h1")
    support.until(lambda: either.inspect("h1")["ExecIDs"], what="a probe")
    either.docker("stop", "-t", "0", "h1")
    assert state(either, "h1")["Status"] == "exited"
    support.until(lambda: not either.inspect("h1")["ExecIDs"], what="no exec")
    either.docker("rm", "h1")


@pytest.mark.parametrize("client", ["docker", "hooper"])
def test_an_image_brings_a_check_and_flags_change_it(clean: Hooper, tmp_path: Path, client: str) -> None:
    _image(clean, tmp_path)
    run = getattr(clean, client)
    run("run", "-d", "--name", "i1", "checked", "sleep", "100")
    wait_for_health(clean, "i1", "healthy")
    run("run", "-d", "--name", "i2", "--health-cmd", "false", "--health-retries", "1", "checked", "sleep", "100")
    wait_for_health(clean, "i2", "unhealthy")
    assert clean.inspect("i2")["Config"]["Healthcheck"] == {
        "Test": ["CMD-SHELL", "false"], "Interval": S // 5, "Timeout": 2 * S, "StartPeriod": S // 100, "Retries": 1,
    }  # fmt: skip
    run("run", "-d", "--name", "i3", "--no-healthcheck", "checked", "sleep", "100")
    assert "Health" not in state(clean, "i3")
    words = ("--health-interval", "1m30s", "--health-timeout", "5s", "--health-start-period", "2s")
    run("create", "--name", "i4", *words, "--health-start-interval", "1s", "checked", "true")
    assert clean.inspect("i4")["Config"]["Healthcheck"] == {
        "Test": ["CMD-SHELL", "true"], "Interval": 90 * S, "Timeout": 5 * S, "StartPeriod": 2 * S,
        "StartInterval": S, "Retries": 4,
    }  # fmt: skip
    refusal = run("create", "--no-healthcheck", "--health-cmd", "true", "checked", check=False)
    assert refusal.returncode == 125 and "no-healthcheck" in refusal.stderr


def _image(engine: Engine, directory: Path) -> None:
    options = "--interval=200ms --timeout=2s --start-period=10ms --retries=4"
    (directory / "Dockerfile").write_text(f"FROM busybox\nHEALTHCHECK {options} CMD true\n")
    engine.docker("build", "-q", "-t", "checked", str(directory))


def test_a_shell_of_the_image_does_not_run_the_check(either: Engine, tmp_path: Path) -> None:
    text = 'FROM busybox\nSHELL ["/bin/sh", "-eu", "-c"]\nHEALTHCHECK --interval=100ms CMD echo $-\n'
    (tmp_path / "Dockerfile").write_text(text)
    either.docker("build", "-q", "-t", "shelled", str(tmp_path))
    either.docker("run", "-d", "--name", "s1", "shelled", "sleep", "100")
    wait_for_health(either, "s1", "healthy")
    assert health(either, "s1")["Log"][0]["Output"] == "c\n"
