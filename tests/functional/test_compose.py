"""docker-compose 1.29 brings a project of three services up, looks at it, changes it and takes it down."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import support
from support import Engine

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", autouse=True)
def first_compose() -> None:
    """The second one names containers otherwise."""
    if not shutil.which("docker-compose") or not support.run(
        "docker-compose", "version", "--short", check=False
    ).stdout.startswith("1."):
        pytest.skip("docker-compose 1 is not installed")


DOCKERFILE = """
FROM busybox
ARG GREETING=hello
RUN mkdir /www && echo $GREETING >/www/index.html
EXPOSE 80
CMD ["httpd", "-f", "-p", "80", "-h", "/www"]
"""
PROJECT = """
version: "2.4"
services:
  web:
    build:
      context: ./web
      args:
        GREETING: from the web
    ports:
      - "127.0.0.1:${PORT}:80"
    networks:
      front:
        aliases: [site]
    volumes:
      - content:/www/content:ro
    depends_on:
      store:
        condition: service_healthy
    labels:
      role: front
    restart: unless-stopped
    stop_signal: KILL
  store:
    image: busybox
    command: sh -c 'echo kept >/data/file; sleep 1; touch /tmp/ready; echo store is up; exec sleep 600'
    init: true
    volumes:
      - content:/data
    networks: [front]
    environment:
      - MODE=test
      - FROM_SHELL
    healthcheck:
      test: ["CMD", "test", "-e", "/tmp/ready"]
      interval: 300ms
      timeout: 5s
      retries: 30
    stop_grace_period: 1s
  worker:
    image: busybox
    command: sh -c 'echo worker starts; sleep 600'
    init: true
    depends_on: [store]
    networks: [front]
    mem_limit: 64m
    tmpfs: /scratch
    stop_grace_period: 1s
networks:
  front:
    driver: bridge
    labels:
      project: composed
volumes:
  content: {}
"""


class Project:
    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine, self.directory, self.port = engine, directory, support.free_port()

    def compose(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ, "COLUMNS": "200",  # it would wrap the names in its tables
            "DOCKER_HOST": self.engine.address, "DOCKER_CONFIG": "/nonexistent", "PORT": str(self.port),
            "COMPOSE_PROJECT_NAME": "composed", "FROM_SHELL": "yes", "COMPOSE_HTTP_TIMEOUT": "60",
        }  # fmt: skip
        return support.run("docker-compose", *words, check=check, cwd=self.directory, env=environment)

    def names(self, **filters: object) -> set[str]:
        query = f"all=1&filters={json.dumps({'label': ['com.docker.compose.project=composed'], **filters})}"
        found = self.engine.request("GET", f"/containers/json?{query.replace(' ', '')}")[1]
        return {item["Names"][0].removeprefix("/") for item in found}

    def page(self, path: str = "/") -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return str(answer.read().decode())


@pytest.fixture
def project(either: Engine, tmp_path: Path) -> Iterator[Project]:
    (tmp_path / "web").mkdir()
    (tmp_path / "web/Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "docker-compose.yml").write_text(PROJECT)
    made = Project(either, tmp_path)
    try:
        yield made
    finally:
        made.compose("down", "-v", "--rmi", "local", "--remove-orphans", "-t", "1", check=False)


def test_a_project_through_its_life(project: Project) -> None:
    project.compose("up", "-d")
    all_three = {"composed_web_1", "composed_store_1", "composed_worker_1"}
    assert project.names(status=["running"]) == all_three
    _facts(project)
    _looked_into(project)
    _changed(project)
    project.compose("down", "-v", "-t", "1")
    assert project.names() == set()
    assert project.engine.request("GET", "/networks/composed_front")[0] == 404
    assert project.engine.request("GET", "/volumes/composed_content")[0] == 404


def _facts(project: Project) -> None:
    """What compose asked for is what the engine made."""
    store, web = project.engine.inspect("composed_store_1"), project.engine.inspect("composed_web_1")
    assert store["State"]["Health"]["Status"] == "healthy"
    assert store["State"]["StartedAt"] < web["State"]["StartedAt"]
    assert {"MODE=test", "FROM_SHELL=yes"} <= set(store["Config"]["Env"])
    assert store["Config"]["Healthcheck"]["Interval"] == 300_000_000
    front = web["NetworkSettings"]["Networks"]["composed_front"]
    assert {"web", "site"} <= set(front["Aliases"])
    assert web["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    assert project.engine.inspect("composed_worker_1")["HostConfig"]["Memory"] == 64 << 20
    support.until(lambda: "from the web" in _try(project.page), what="the page")
    assert project.page("/content/file") == "kept\n"


def _try(call: Any) -> str:
    try:
        return str(call())
    except OSError:
        return ""


def _looked_into(project: Project) -> None:
    shown = project.compose("ps").stdout
    assert "composed_web_1" in shown and "Up (healthy)" in shown and f"127.0.0.1:{project.port}->80/tcp" in shown
    assert project.compose("ps", "-q", "web").stdout.strip() == project.engine.inspect("composed_web_1")["Id"]
    logs = project.compose("logs", "--no-color").stdout
    assert "store is up" in logs and "worker starts" in logs
    assert project.compose("exec", "-T", "store", "cat", "/data/file").stdout == "kept\n"
    assert project.compose("exec", "-T", "store", "sh", "-c", "exit 3", check=False).returncode == 3
    assert project.compose("exec", "-T", "worker", "wget", "-qO-", "http://site/").stdout == "from the web\n"
    assert project.compose("exec", "-T", "worker", "nslookup", "store").returncode == 0
    assert project.compose("port", "web", "80").stdout == f"127.0.0.1:{project.port}\n"
    assert project.compose("run", "--rm", "--no-deps", "-T", "worker", "echo", "once").stdout.endswith("once\n")


def _changed(project: Project) -> None:
    project.compose("up", "-d", "--scale", "worker=2", "-t", "1")
    assert {"composed_worker_1", "composed_worker_2"} < project.names(status=["running"])
    project.compose("up", "-d", "--scale", "worker=1", "-t", "1")
    assert "composed_worker_2" not in project.names()
    before = project.engine.inspect("composed_web_1")["State"]["StartedAt"]
    project.compose("restart", "-t", "1", "web")
    assert project.engine.inspect("composed_web_1")["State"]["StartedAt"] > before
    project.compose("stop", "-t", "1", "worker")
    assert project.names(status=["exited"]) == {"composed_worker_1"}
    project.compose("rm", "-f", "worker")
    assert "composed_worker_1" not in project.names()
    unchanged = project.engine.inspect("composed_store_1")["Id"]
    project.compose("up", "-d")
    assert project.engine.inspect("composed_store_1")["Id"] == unchanged


def test_attached_up_shows_the_logs_and_takes_an_exit_code(either: Engine, tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").write_text(
        """
version: "2.4"
services:
  ends:
    image: busybox
    command: sh -c 'sleep 1; echo over; exit 4'
  stays:
    image: busybox
    init: true
    command: sleep 600
"""
    )
    project = Project(either, tmp_path)
    try:
        done = project.compose("up", "--exit-code-from", "ends", "-t", "1", check=False)
        assert done.returncode == 4 and "over" in done.stdout
    finally:
        project.compose("down", "-t", "1")


def test_a_service_that_never_gets_healthy_stops_the_project(either: Engine, tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").write_text(
        """
version: "2.4"
services:
  sick:
    image: busybox
    init: true
    command: sleep 600
    healthcheck: {test: ["CMD", "false"], interval: 200ms, retries: 2}
  waits:
    image: busybox
    command: "true"
    depends_on: {sick: {condition: service_healthy}}
"""
    )
    project = Project(either, tmp_path)
    try:
        done = project.compose("up", "-d", check=False)
        assert done.returncode == 1 and "unhealthy" in done.stderr
        assert "composed_waits_1" not in project.names()
    finally:
        project.compose("down", "-t", "1")
