"""Unmodified clients against the front-end: the docker command line and docker-py."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors
import pytest

from api_docker_fake import IMAGE_ID, Served, served

needs_cli = pytest.mark.skipif(not shutil.which("docker"), reason="the docker command line is not installed")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as running:
        yield running


def cli(server: Served, *arguments: str, text: str = "", code: int = 0) -> str:
    environment = {**os.environ, "DOCKER_HOST": server.url, "DOCKER_CONFIG": str(server.path.parent)}
    environment.pop("DOCKER_BUILDKIT", None)
    done = subprocess.run(
        ["docker", *arguments], input=text, capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stdout + (done.stderr if code else "")


@needs_cli
def test_cli_version_info_and_lists(server: Served) -> None:
    assert cli(server, "version", "-f", "{{.Server.Version}} {{.Server.APIVersion}} {{.Client.APIVersion}}") == (
        "9.9 1.50 1.50\n"
    )
    assert "Storage Driver: overlay" in cli(server, "info")
    cli(server, "create", "--name", "one", "busybox", "true")
    listed = cli(server, "ps", "-a", "--format", "{{.Names}}|{{.Status}}|{{.Ports}}|{{.Command}}")
    assert listed == 'one|Created|90/udp, 0.0.0.0:8080->80/tcp|"sleep 1"\n'
    assert cli(server, "images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}") == "busybox:latest 1kB\n"
    assert cli(server, "inspect", "-f", "{{.Name}} {{.HostConfig.ShmSize}} {{.NetworkSettings.IPAddress}}", "one") == (
        "/one 0 172.17.0.2\n"
    )
    assert cli(server, "history", "-q", "--no-trunc", "busybox").split() == [IMAGE_ID, "<missing>"]
    assert "TYPE" in cli(server, "system", "df")
    assert "bridge" in cli(server, "network", "ls")
    assert "No such container" in cli(server, "inspect", "--type", "container", "nope", code=1)


@needs_cli
def test_cli_runs_attached_and_takes_the_exit_code(server: Served) -> None:
    assert cli(server, "run", "--name", "one", "busybox", "exit", code=7) == "end"
    assert cli(server, "run", "-i", "--name", "two", "busybox", "exit", text="hello", code=7) == "HELLOend"


@needs_cli
def test_cli_pulls_what_is_missing(server: Served) -> None:
    assert "Pulling" in cli(server, "run", "host:5000/other:1", "true", code=125)
    assert server.engine.pulls[0][0] == "host:5000/other:1"


@needs_cli
def test_cli_exec_logs_cp_and_exit_codes(server: Served) -> None:
    cli(server, "run", "-d", "--name", "one", "busybox", "sleep")
    assert cli(server, "exec", "one", "true") == "end"
    assert cli(server, "exec", "-i", "one", "cat", text="hey") == "HEYend"
    assert "executable file not found" in cli(server, "exec", "one", "nosuch", code=127)
    assert cli(server, "logs", "one") == "one\nthree\n"
    assert "tar of" in cli(server, "cp", "one:/etc/passwd", "-")
    assert cli(server, "top", "one").split() == ["PID", "CMD", "1", "sleep", "-ef"]
    assert "10B / 100B" in cli(server, "stats", "--no-stream", "one")
    assert cli(server, "wait", "two", code=1).strip().endswith("No such container: two")


@needs_cli
def test_cli_builds_with_the_classic_builder(server: Served, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\n")
    assert "Successfully tagged app:latest" in cli(server, "build", "-t", "app", str(context))
    assert b"FROM scratch" in server.engine.builds.context


@needs_cli
def test_cli_saves_and_loads(server: Served, tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar"
    cli(server, "save", "-o", str(archive), "busybox")
    assert archive.read_bytes() == server.engine.archive
    assert cli(server, "load", "-i", str(archive)) == "Loaded image: busybox:latest\n"
    assert "a/b" in cli(server, "rmi", "a/b")


def test_docker_py(server: Served) -> None:
    client = docker.DockerClient(base_url=server.url, timeout=20)
    try:
        assert client.ping() and client.version()["ApiVersion"] == "1.50"
        assert client.images.list()[0].tags == ["busybox:latest"]
        with pytest.raises(docker.errors.ImageNotFound):
            client.images.get("nosuch")
        container = client.containers.create(
            "busybox", ["sleep", "1"], name="py", ports={"80/tcp": 8080}, environment={"a": "b"}, mem_limit="64m",
            volumes={"/tmp": {"bind": "/t", "mode": "ro"}}, labels=["x"], restart_policy={"Name": "on-failure"},
            log_config=docker.types.LogConfig(), ulimits=[docker.types.Ulimit(name="nofile", soft=1, hard=2)],
        )  # fmt: skip
        request = server.engine.containers.requests[0]
        assert request.host_config.memory == 64 << 20 and request.config.env == ["a=b"]
        assert request.host_config.port_bindings["80/tcp"][0].host_port == "8080"
        container.start()
        container.reload()
        assert container.status == "running" and container.attrs["Name"] == "/py"
        assert container.exec_run("true").output == b"end"
        assert container.logs() == b"one\ntwo\nthree\n"
        container.kill()
        assert container.wait()["StatusCode"] == 7
        assert [c.name for c in client.containers.list(all=True)] == ["py"]
        container.remove()
        assert client.networks.list()[0].name == "bridge"
        assert client.volumes.create().name == "anonymous"
        client.networks.create("n", ipam=docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool("10.1.0.0/16")]))
        assert server.engine.networks.made.pools[0].subnet == "10.1.0.0/16"
    finally:
        client.close()
