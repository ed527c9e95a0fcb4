"""docker-py, unmodified, against the real engine."""

from __future__ import annotations

import io
from collections.abc import Iterator

import docker
import pytest
from docker.errors import APIError, BuildError, ContainerError, ImageNotFound, NotFound

import support
from support import Hooper

pytestmark = pytest.mark.root


@pytest.fixture
def client(clean: Hooper) -> Iterator[docker.DockerClient]:
    made = docker.DockerClient(base_url=clean.address)
    yield made
    made.close()


def test_run_gives_output_and_raises_for_an_exit_code(client: docker.DockerClient) -> None:
    assert client.containers.run("busybox", ["echo", "hello"], remove=True) == b"hello\n"
    with pytest.raises(ContainerError) as error:
        client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 3"], remove=True)
    assert error.value.exit_status == 3 and b"bad" in error.value.stderr


def test_a_container_through_its_life(client: docker.DockerClient) -> None:
    container = client.containers.run(
        "busybox",
        ["sh", "-c", "trap 'exit 4' TERM; echo up; while :; do sleep 0.1; done"],
        detach=True,
        name="py1",
        labels={"a": "b"},
    )
    support.until(lambda: container.logs() == b"up\n", what="the log")
    assert [found.name for found in client.containers.list(filters={"label": "a=b"})] == ["py1"]
    code, output = container.exec_run(["sh", "-c", "echo in; exit 5"])
    assert (code, output) == (5, b"in\n")
    out, err = container.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True).output
    assert (out, err) == (b"o\n", b"e\n")
    assert container.stats(stream=False)["pids_stats"]["current"] >= 1
    assert any("sleep" in " ".join(row) or "sh" in " ".join(row) for row in container.top()["Processes"])
    container.stop(timeout=5)
    assert container.wait()["StatusCode"] == 4
    container.remove()
    with pytest.raises(NotFound):
        client.containers.get("py1")


def test_attach_streams_what_comes(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", ["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"])
    stream = container.attach(stream=True, logs=False)
    container.start()
    assert b"".join(stream) == b"1\n2\n3\n"


def test_build_tag_and_remove(client: docker.DockerClient) -> None:
    image, log = client.images.build(
        fileobj=io.BytesIO(b"FROM busybox\nRUN echo x >/x\nCMD cat /x\n"), tag="py/built:1"
    )
    assert client.containers.run("py/built:1", remove=True) == b"x\n"
    assert any("Successfully built" in line.get("stream", "") for line in log)
    assert image.tag("py/other", "2")
    client.images.remove("py/built:1")
    client.images.remove("py/other:2")
    with pytest.raises(ImageNotFound):
        client.images.get("py/built:1")
    with pytest.raises(BuildError, match="non-zero code: 3"):
        client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN exit 3\n"))


def test_networks_and_volumes(client: docker.DockerClient) -> None:
    network = client.networks.create("pynet", labels={"k": "v"})
    volume = client.volumes.create("pyvol")
    try:
        container = client.containers.run(
            "busybox", ["sleep", "60"], detach=True, network="pynet", volumes={"pyvol": {"bind": "/v", "mode": "rw"}}
        )
        network.reload()
        assert [found.id for found in network.containers] == [container.id]
        with pytest.raises(APIError, match="in use"):
            volume.remove()
        container.remove(force=True)
    finally:
        network.remove()
        volume.remove(force=True)
    assert client.networks.list(names=["pynet"]) == []


def test_push_and_pull(client: docker.DockerClient, registry: str) -> None:
    client.images.get("busybox").tag(f"{registry}/py/busybox", "1")
    lines = list(client.images.push(f"{registry}/py/busybox", tag="1", stream=True, decode=True))
    assert not [line for line in lines if "error" in line]
    client.images.remove(f"{registry}/py/busybox:1")
    assert client.images.pull(f"{registry}/py/busybox", tag="1").tags
    client.images.remove(f"{registry}/py/busybox:1")


def test_events_and_system(client: docker.DockerClient) -> None:
    import time

    since = time.time()
    client.containers.run("busybox", "true", remove=True)
    actions = [event["Action"] for event in client.events(since=since, until=time.time() + 0.2, decode=True)]
    assert "start" in actions and "die" in actions
    assert client.ping() and client.version()["ApiVersion"] == "1.50"
    assert client.info()["Driver"] in ("overlay", "vfs")
    assert client.df()["Images"]


def test_forced_removal_at_the_moment_of_the_end(client: docker.DockerClient) -> None:
    """Whichever comes first: the removal succeeds and leaves nothing."""
    for _ in range(15):
        container = client.containers.run("busybox", ["sh", "-c", "sleep 0.02"], detach=True)
        container.remove(force=True)
    assert client.containers.list(all=True) == []
