"""docker-py, unmodified: what programs commonly do with it, for API versions of all ages."""

from __future__ import annotations

import io
import struct
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound
from docker.types import Healthcheck, IPAMConfig, IPAMPool, LogConfig, Mount, Ulimit

import support
from support import Engine

pytestmark = pytest.mark.root


@pytest.fixture(params=["auto", "1.24", "1.40"])
def aged(either: Engine, request: pytest.FixtureRequest) -> Iterator[docker.DockerClient]:
    made = docker.DockerClient(base_url=either.address, version=request.param, timeout=30)
    yield made
    made.close()


@pytest.fixture
def client(either: Engine) -> Iterator[docker.DockerClient]:
    made = docker.DockerClient(base_url=either.address, timeout=30)
    yield made
    made.close()


def archive(name: str, content: bytes) -> bytes:
    return support.context_tar({name: content})


def test_the_everyday_things_work_with_every_version(aged: docker.DockerClient) -> None:
    container = aged.containers.run(
        "busybox", ["sh", "-c", "echo started; exec sleep 600"], detach=True, name="everyday", environment={"A": "b"},
        labels={"l": "1"}, ports={"80/tcp": None}, volumes={"everyvol": {"bind": "/v", "mode": "rw"}},
    )  # fmt: skip
    support.until(lambda: container.logs() == b"started\n", what="the log")
    assert [found.name for found in aged.containers.list(filters={"label": "l=1"})] == ["everyday"]
    assert container.exec_run("sh -c 'echo $A; exit 2'") == (2, b"b\n")
    assert container.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True).output == (b"o\n", b"e\n")
    assert container.put_archive("/v", archive("file", b"content"))
    stream, stat = container.get_archive("/v/file")
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
        assert tar.extractfile("file").read() == b"content"  # type: ignore[union-attr]
    assert stat["name"] == "file" and stat["size"] == 7
    assert container.stats(stream=False)["memory_stats"]["usage"] > 0
    assert container.top(ps_args="-o pid,comm")["Titles"] == ["PID", "COMMAND"]
    container.reload()
    assert container.ports["80/tcp"][0]["HostPort"].isdigit() and container.status == "running"
    assert container.diff() is None or all(set(item) == {"Path", "Kind"} for item in container.diff())
    container.pause()
    container.unpause()
    container.rename("everyday2")
    container.restart(timeout=0)
    container.kill()
    assert container.wait()["StatusCode"] == 137
    image = container.commit("everyday", "1", message="m", author="a", changes=["CMD true"])
    assert "everyday:1" in [tag for found in aged.images.list("everyday") for tag in found.tags]
    assert image.attrs["Config"]["Cmd"] == ["/bin/sh", "-c", "true"] and image.history()[0]["Comment"] == "m"
    container.remove(v=True)
    aged.images.remove("everyday:1")
    aged.volumes.get("everyvol").remove()
    assert aged.info()["OSType"] == "linux" and aged.version()["Version"] and aged.ping()
    if aged.api._version != "1.24":
        assert aged.df()["Images"]
    assert aged.networks.list(names=["bridge"])


def test_run_gives_output_streams_and_raises(client: docker.DockerClient) -> None:
    assert client.containers.run("busybox", "echo hello", remove=True) == b"hello\n"
    both = client.containers.run("busybox", ["sh", "-c", "echo o; echo e >&2"], stdout=True, stderr=True, remove=True)
    assert sorted(both.split()) == [b"e", b"o"]
    lines = client.containers.run("busybox", ["sh", "-c", "for i in 1 2 3; do echo $i; done"], stream=True, remove=True)
    assert b"".join(lines) == b"1\n2\n3\n"
    with pytest.raises(ContainerError) as error:
        client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 3"], remove=True)
    assert error.value.exit_status == 3 and error.value.stderr == b"bad\n"
    with pytest.raises(APIError, match="nosuchprogram"):
        client.containers.run("busybox", "nosuchprogram", remove=True)
    with pytest.raises(ImageNotFound):
        client.containers.create("localhost:1/nosuch:1")


def test_an_attached_socket_in_both_directions(client: docker.DockerClient) -> None:
    container = client.containers.create("busybox", "cat", stdin_open=True, tty=True)
    sock = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    sock._sock.sendall(b"hello\n")
    wanted, read = b"hello\r\nhello\r\n", b""
    while len(read) < len(wanted) and (data := sock._sock.recv(100)):
        read += data
    # The echo of the terminal, and what cat makes of it.
    assert read == wanted
    sock.close()
    container.remove(force=True)


def test_an_exec_as_socket_and_as_stream(client: docker.DockerClient) -> None:
    container = client.containers.run("busybox", "sleep 600", detach=True)
    _, sock = container.exec_run("cat", stdin=True, socket=True)
    sock._sock.sendall(b"some text\n")
    stream, size = struct.unpack(">BxxxL", sock._sock.recv(8))
    assert stream == 1 and sock._sock.recv(size) == b"some text\n"
    sock.close()
    _, lines = container.exec_run("sh -c 'echo a; echo b >&2'", stream=True, demux=True)
    assert {part for pair in lines for part in pair if part} == {b"a\n", b"b\n"}
    made = client.api.exec_create(container.id, "sh -c 'exit 7'", user="user", workdir="/tmp", environment=["A=b"])
    client.api.exec_start(made["Id"], detach=True)
    support.until(lambda: client.api.exec_inspect(made["Id"])["ExitCode"] == 7, what="the exit code")


def test_logs_follow_and_attach_streams(client: docker.DockerClient) -> None:
    script = "sleep 0.5; for i in 1 2 3; do echo out$i; echo err$i >&2; sleep 0.1; done"
    container = client.containers.run("busybox", ["sh", "-c", script], detach=True)
    attached = container.attach(stream=True, logs=True, stdout=True, stderr=False)
    assert b"".join(attached).split() == [b"out1", b"out2", b"out3"]
    assert len(list(container.logs(stream=True, follow=True))) >= 2
    assert container.logs(stderr=False).endswith(b"out3\n") and container.logs(stdout=False).endswith(b"err3\n")
    assert container.logs(tail=1) in (b"out3\n", b"err3\n")
    stamped = container.logs(timestamps=True, stderr=False).splitlines()
    assert all(line.startswith(b"20") for line in stamped)
    assert container.logs(since=int(time.time()) + 100) == b"" and container.logs(until=1) == b""


def test_events_are_followed_and_closed(client: docker.DockerClient) -> None:
    stream = client.events(decode=True, filters={"event": ["start"], "type": "container"})
    found: list[dict[str, Any]] = []

    def follow() -> None:
        found.extend(stream)

    follower = threading.Thread(target=follow)
    follower.start()
    client.containers.run("busybox", "true", name="followed", remove=True)
    support.until(lambda: found, what="the event")
    stream.close()
    follower.join(10)
    assert found[0]["Actor"]["Attributes"]["name"] == "followed" and not follower.is_alive()


def test_stats_are_streamed(client: docker.DockerClient) -> None:
    container = client.containers.run("busybox", "sleep 600", detach=True)
    samples = container.stats(decode=True)
    first, second = next(samples), next(samples)
    assert second["preread"] == first["read"]
    samples.close()


def test_images_are_built_saved_loaded_and_pruned(client: docker.DockerClient, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nARG A\nLABEL made=here\nRUN echo $A >/a\nCMD cat /a\n")
    image, log = client.images.build(path=str(tmp_path), tag="pybuilt:1", buildargs={"A": "arg"}, rm=True)
    assert any("Successfully tagged pybuilt:1" in line.get("stream", "") for line in log)
    assert client.containers.run("pybuilt:1", remove=True) == b"arg\n"
    saved = b"".join(image.save(named=True))
    client.images.remove("pybuilt:1")
    with pytest.raises(ImageNotFound):
        client.images.get("pybuilt:1")
    (loaded,) = client.images.load(saved)
    assert loaded.tags == ["pybuilt:1"] and loaded.labels == {"made": "here"}
    assert loaded.tag("pybuilt", "2") and {"pybuilt:1", "pybuilt:2"} == set(client.images.get("pybuilt:2").tags)
    client.images.remove(loaded.id, force=True)
    assert client.images.list("pybuilt") == []
    assert set(client.images.prune()) == {"ImagesDeleted", "SpaceReclaimed"}


def test_a_container_with_many_settings(client: docker.DockerClient, tmp_path: Path) -> None:
    container = client.containers.create(
        "busybox", ["sleep", "600"], name="settings", hostname="host1", user="user", working_dir="/tmp",
        environment=["A=b"], mem_limit="64m", nano_cpus=500_000_000, cpu_shares=512, pids_limit=50, shm_size="16m",
        cap_add=["NET_ADMIN"], cap_drop=["CHOWN"], read_only=True, tmpfs={"/scratch": "size=1m"}, init=True,
        extra_hosts={"other": "10.1.2.3"}, dns=["9.9.9.9"], sysctls={"net.ipv4.ip_unprivileged_port_start": "0"},
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 2},
        ulimits=[Ulimit(name="nofile", soft=99, hard=99)],
        log_config=LogConfig(type="json-file", config={"max-size": "1m"}), stop_signal="SIGINT",
        mounts=[Mount("/m", str(tmp_path), type="bind", read_only=True), Mount("/t", None, type="tmpfs")],
        healthcheck=Healthcheck(test=["CMD", "true"], interval=10**9), security_opt=["no-new-privileges"],
    )  # fmt: skip
    container.start()
    config, host = container.attrs["Config"], client.api.inspect_container(container.id)["HostConfig"]
    assert (config["Hostname"], config["User"], config["StopSignal"]) == ("host1", "user", "SIGINT")
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"], host["ShmSize"]) == (
        64 << 20,
        500_000_000,
        50,
        16 << 20,
    )
    assert host["CapAdd"] and host["Init"] and host["RestartPolicy"]["MaximumRetryCount"] == 2
    script = "ulimit -n; cat /etc/hostname; grep -c 10.1.2.3 /etc/hosts; touch /scratch/x && id -u"
    assert container.exec_run(["sh", "-c", script]).output.split(b"\n")[:3] == [b"99", b"host1", b"1"]
    assert container.exec_run(["touch", "/x"]).exit_code == 1
    container.update(mem_limit="96m", memswap_limit="192m")
    container.reload()
    assert container.attrs["HostConfig"]["Memory"] == 96 << 20
    container.stop(timeout=1)


def test_networks(client: docker.DockerClient) -> None:
    pool = IPAMPool(subnet="10.99.7.0/24", gateway="10.99.7.1")
    network = client.networks.create("pynet1", ipam=IPAMConfig(pool_configs=[pool]), labels={"n": "1"}, internal=True)
    container = client.containers.run("busybox", "sleep 600", detach=True)
    try:
        network.connect(container, aliases=["other"], ipv4_address="10.99.7.77")
        network.reload()
        assert [found.id for found in network.containers] == [container.id] and network.attrs["Internal"]
        assert b"10.99.7.77" in container.exec_run("ip addr").output
        with pytest.raises(APIError):
            network.remove()
        network.disconnect(container)
        assert [found.name for found in client.networks.list(filters={"label": "n=1"})] == ["pynet1"]
    finally:
        container.remove(force=True)
        network.remove()
    with pytest.raises(NotFound):
        client.networks.get("pynet1")
    unused = client.networks.create("pynet2", labels={"gone": "1"})
    assert client.networks.prune(filters={"label": "gone"})["NetworksDeleted"] == [unused.name]


def test_volumes(client: docker.DockerClient) -> None:
    volume = client.volumes.create("pyvol1", labels={"v": "1"})
    assert client.volumes.get("pyvol1").attrs["Driver"] == "local"
    assert [found.name for found in client.volumes.list(filters={"label": "v=1"})] == ["pyvol1"]
    mount = {"pyvol1": {"bind": "/v", "mode": "rw"}}
    client.containers.run("busybox", ["sh", "-c", "echo kept >/v/f"], volumes=mount, remove=True)
    mount["pyvol1"]["mode"] = "ro"
    assert client.containers.run("busybox", "cat /v/f", volumes=mount, remove=True) == b"kept\n"
    with pytest.raises(ContainerError, match="Read-only"):
        client.containers.run("busybox", "touch /v/g", volumes=mount, remove=True)
    volume.remove()
    with pytest.raises(NotFound):
        client.volumes.get("pyvol1")


def test_low_level_calls(client: docker.DockerClient) -> None:
    api = client.api
    host = api.create_host_config(auto_remove=False, port_bindings={"80/tcp": ("127.0.0.1", None)})
    made = api.create_container("busybox", ["sleep", "600"], ports=[(80, "tcp")], host_config=host, name="low")
    api.start(made["Id"])
    assert api.port(made["Id"], 80)[0]["HostIp"] == "127.0.0.1"
    api.resize(made["Id"], 20, 60) if api.inspect_container("low")["Config"]["Tty"] else None
    assert api.containers(quiet=True, all=True)[0]["Id"] == made["Id"]
    with tarfile.open(fileobj=io.BytesIO(b"".join(api.export("low")))) as tar:
        assert any(name.endswith("bin/busybox") for name in tar.getnames())
    assert api.import_image_from_data(archive("x", b"y"), repository="imported", tag="1")
    assert api.inspect_image("imported:1")["Size"] > 0
    api.remove_image("imported:1")
    api.stop(made["Id"], timeout=0)
    assert api.wait(made["Id"])["StatusCode"] in (0, 137)
    pruned = api.prune_containers()
    assert made["Id"] in pruned["ContainersDeleted"] and pruned["SpaceReclaimed"] >= 0
    with pytest.raises(NotFound):
        api.inspect_container("low")
