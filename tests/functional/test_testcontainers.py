"""testcontainers-python, unmodified and without its reaper, on images that are here."""

from __future__ import annotations

import shutil
import time
import urllib.request
from pathlib import Path

import pytest

import support
from support import Engine

testcontainers = pytest.importorskip("testcontainers.core.container")
from testcontainers.core.config import testcontainers_config  # noqa: E402
from testcontainers.core.container import DockerContainer  # noqa: E402
from testcontainers.core.image import DockerImage  # noqa: E402
from testcontainers.core.network import Network  # noqa: E402
from testcontainers.core.waiting_utils import wait_for_logs  # noqa: E402

pytestmark = pytest.mark.root
HTTPD = "mkdir /www && echo page >/www/index.html && echo ready && exec httpd -f -p 80 -h /www"


@pytest.fixture(autouse=True)
def engine_of_the_test(either: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("DOCKER_HOST", either.address)
    monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
    return either


def test_a_container_with_a_port_and_a_log() -> None:
    with DockerContainer("busybox").with_command(["sh", "-c", HTTPD]).with_exposed_ports(80).with_env("A", "b") as web:
        wait_for_logs(web, "ready", timeout=20)
        host, port = web.get_container_host_ip(), int(web.get_exposed_port(80))
        deadline = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(f"http://{host}:{port}/", timeout=5) as answer:
                    assert answer.read() == b"page\n"
                break
            except OSError:
                assert time.monotonic() < deadline
        assert web.exec(["sh", "-c", "echo $A; exit 3"]) == (3, b"b\n")
        out, err = web.get_logs()
        assert b"ready" in out and err == b""
        identifier = web.get_wrapped_container().id
    with pytest.raises(Exception, match="No such container"):
        web.get_docker_client().client.containers.get(identifier)


def test_containers_on_a_network_of_their_own() -> None:
    with Network() as network:
        web = DockerContainer("busybox").with_command(["sh", "-c", HTTPD])
        with web.with_network(network).with_network_aliases("site") as served:
            wait_for_logs(served, "ready", timeout=20)
            with DockerContainer("busybox").with_command("sleep 600").with_network(network) as client:
                assert client.exec("wget -qO- http://site/") == (0, b"page\n")


def test_volumes_and_keywords(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("of the host\n")
    tmp_path.chmod(0o755)
    container = DockerContainer("busybox").with_kwargs(mem_limit="32m", user="1000")
    with container.with_volume_mapping(str(tmp_path), "/v", "ro").with_command("sleep 600") as made:
        assert made.exec("cat /v/file") == (0, b"of the host\n")
        assert made.exec("id -u") == (0, b"1000\n")
        assert made.exec("touch /v/x").exit_code == 1
        assert made.get_wrapped_container().attrs["HostConfig"]["Memory"] == 32 << 20


def test_an_image_that_is_built_for_the_test(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo built >/built\nCMD cat /built; sleep 600\n")
    with DockerImage(path=tmp_path, tag="testcontainers-built:1") as image, DockerContainer(str(image)) as made:
        wait_for_logs(made, "built", timeout=20)


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="docker-compose is not installed")
def test_a_compose_project(tmp_path: Path) -> None:
    """By docker-compose 1.29: the docker command line has no compose of its own here."""
    from testcontainers.compose import DockerCompose

    command = tmp_path / "docker"
    command.write_text('#!/bin/sh\nshift\nexec docker-compose "$@"\n')
    command.chmod(0o755)
    (tmp_path / "docker-compose.yml").write_text(
        "version: '2.4'\nservices:\n  one:\n    image: busybox\n    init: true\n    command: sleep 600\n"
    )
    with DockerCompose(str(tmp_path), wait=False, docker_command_path=str(command)) as project:
        out, _, code = project.exec_in_container(["echo", "inside"], "one")
        assert (out.strip(), code) == ("inside", 0)


def test_nothing_is_left(either: Engine) -> None:
    with DockerContainer("busybox").with_command("sleep 600"):
        assert len(either.request("GET", "/containers/json")[1]) == 1
    support.until(lambda: either.request("GET", "/containers/json?all=1")[1] == [], what="the end")
