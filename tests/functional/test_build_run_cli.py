"""RUN with all its mounts and networks, as `hooper build` is used."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import support
from conftest import import_busybox
from support import Hooper

pytestmark = pytest.mark.root

HIDDEN = f"s3cr3t-{os.urandom(8).hex()}"


@pytest.fixture(scope="module")
def daemon(short_tmp: Path) -> Iterator[Hooper]:
    with support.hooper(short_tmp / "runcli") as made:
        import_busybox(made)
        yield made


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text(HIDDEN)
    root = tmp_path / "context"
    root.mkdir()
    (root / "file").write_text("from the context\n")
    return root


def build(
    daemon: Hooper, context: Path, recipe: str, *words: str, check: bool = True
) -> subprocess.CompletedProcess[str]:
    (context / "Dockerfile").write_text(recipe)
    return daemon.hooper("build", "--progress", "plain", *words, str(context), check=check)


def test_every_kind_of_mount(daemon, context):
    recipe = """FROM busybox AS other
RUN echo other > /made
FROM busybox
RUN --mount=target=/src --mount=from=other,source=/made,target=/from/made \\
    --mount=type=cache,target=/root/cache --mount=type=tmpfs,target=/scratch,size=1m \\
    --mount=type=secret,id=token --mount=type=secret,id=token,env=TOKEN \\
    cat /src/file /from/made > /kept && touch /scratch/x /root/cache/x && \\
    test "$(cat /run/secrets/token)" = "$TOKEN" && test -n "$TOKEN"
"""
    build(daemon, context, recipe, "-t", "mounts", "--secret", f"id=token,src={context.parent}/secret")
    ran = daemon.hooper("run", "--rm", "mounts", "sh", "-c", "cat /kept; ls /root /run /scratch /src /from 2>&1; true")
    assert ran.stdout.startswith("from the context\nother\n")
    for place in ("/run", "/scratch", "/src", "/from"):
        assert f"ls: {place}: No such file" in ran.stdout
    shown = daemon.hooper("history", "--no-trunc", "mounts").stdout + daemon.hooper("inspect", "mounts").stdout
    assert HIDDEN not in shown
    found = support.run("grep", "-rlaF", HIDDEN, str(daemon.data_root), str(daemon.exec_root), check=False)
    assert found.stdout == ""
    assert HIDDEN not in daemon.log_tail()


def test_a_secret_that_is_missing(daemon, context):
    recipe = "FROM busybox\nRUN --mount=type=secret,id=nope,required true\n"
    failed = build(daemon, context, recipe, check=False)
    assert failed.returncode != 0
    said = failed.stdout + failed.stderr
    assert "secret nope: not found" in said
    assert "--secret id=nope,src=FILE" in said
    assert "Dockerfile:2" in said


def test_an_agent_of_the_client(daemon, context, short_tmp):
    path = short_tmp / "agent.sock"
    recipe = "FROM busybox\nRUN --mount=type=ssh,required test -S $SSH_AUTH_SOCK && echo there: $SSH_AUTH_SOCK\n"
    with socket.socket(socket.AF_UNIX) as agent:
        agent.bind(str(path))
        agent.listen()
        done = build(daemon, context, recipe, "--ssh", f"default={path}")
    assert "there: /run/buildkit/ssh_agent.0" in done.stdout + done.stderr
    failed = build(daemon, context, recipe + "# again\n", "--no-cache", check=False)
    said = failed.stdout + failed.stderr
    assert "SSH agent default: not found" in said
    assert "--ssh default" in said


def test_a_network_of_the_users(daemon, context):
    daemon.hooper("network", "create", "app")
    daemon.hooper("run", "-d", "--name", "db", "--network", "app", "busybox", "sleep", "100")
    try:
        recipe = "FROM busybox\nRUN ping -c 1 -W 5 db\n"
        build(daemon, context, recipe, "--network", "app")
        failed = build(daemon, context, recipe, "--network", "nosuch", check=False)
        assert 'network "nosuch"' in failed.stdout + failed.stderr
    finally:
        daemon.hooper("rm", "-f", "db")
        daemon.hooper("network", "rm", "app")


def test_a_daemon_that_is_killed_meanwhile(daemon, context):
    recipe = """FROM busybox
RUN --mount=type=cache,target=/c echo first > /c/f
RUN --mount=type=cache,target=/c cat /c/f; if test -e /c/again; then exit 0; fi; touch /c/again; sleep 600
"""
    (context / "Dockerfile").write_text(recipe)
    command = [sys.executable, "-m", "hooper", "-H", daemon.address, "build", "--progress", "plain", str(context)]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    again = "*/data/again"
    support.until(lambda: list((daemon.data_root / "builds" / "caches").glob(again)), what="the second step runs")
    daemon.kill()
    client.communicate(timeout=60)
    assert client.returncode != 0
    daemon.start()
    assert os.listdir(daemon.exec_root / "containers") == []
    done = build(daemon, context, recipe)
    assert "first" in done.stdout + done.stderr
