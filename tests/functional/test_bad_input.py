"""What is wrong is said once, clearly, with Docker's status or exit code, and leaves nothing behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import support
from support import Hooper

pytestmark = pytest.mark.root


def test_an_unknown_image(clean: Hooper) -> None:
    status, content = clean.request("POST", "/containers/create", {"Image": "no/such:1"})
    assert (status, content["message"].splitlines()[0]) == (404, "No such image: no/such:1")


def test_a_name_that_is_taken(clean: Hooper) -> None:
    clean.docker("create", "--name", "taken", "busybox")
    status, content = clean.request("POST", "/containers/create?name=taken", {"Image": "busybox"})
    assert status == 409
    assert 'The container name "/taken" is already in use by container' in content["message"]
    assert "remove (or rename) that container" in content["message"]
    assert len(clean.request("GET", "/containers/json?all=1")[1]) == 1


def test_a_port_in_use(clean: Hooper) -> None:
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        sock.listen()
        port = sock.getsockname()[1]
        for client in (clean.docker, clean.hooper):
            done = client("run", "-d", "--name", "p1", "-p", f"{port}:80", "busybox", "sleep", "60", check=False)
            assert done.returncode == 125, done.stderr
            assert f"0.0.0.0:{port}" in done.stderr and "port is already allocated" in done.stderr
            assert clean.inspect("p1")["State"]["Status"] == "created"
            clean.clear()


@pytest.mark.parametrize("runtime", ["namespaces", "runc"])
@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (["nosuchprogram"], 127, 'exec: "nosuchprogram": executable file not found in $PATH'),
        (["/nosuch/program"], 127, "no such file or directory"),
        (["/etc/passwd"], 126, "permission denied"),
    ],
)
def test_a_command_that_cannot_run(clean: Hooper, runtime: str, command: list[str], code: int, text: str) -> None:
    for client in (clean.docker, clean.hooper):
        done = client("run", "--rm", "--runtime", runtime, "busybox", *command, check=False)
        assert done.returncode == code, done.stderr
        assert text in done.stderr
    assert clean.request("GET", "/containers/json?all=1")[1] == []


def test_exec_of_a_command_that_cannot_run(clean: Hooper) -> None:
    clean.docker("run", "-d", "--name", "e1", "busybox", "sleep", "60")
    for client in (clean.docker, clean.hooper):
        assert client("exec", "e1", "nosuchprogram", check=False).returncode == 127
        assert client("exec", "e1", "/etc/passwd", check=False).returncode == 126


@pytest.mark.parametrize("name", ["Bad:1", "a b", "x:", "a@sha256:12", "-x"])
def test_a_malformed_reference(clean: Hooper, name: str) -> None:
    from urllib.parse import quote

    status, content = clean.request("POST", "/containers/create", {"Image": name})
    assert status == 400 and "invalid reference format" in content["message"], content
    status, content = clean.request("POST", f"/images/create?fromImage={quote(name)}")
    assert status == 400 and "invalid reference format" in content["message"], content


def test_json_that_is_none(clean: Hooper) -> None:
    status, content = clean.request("POST", "/containers/create", b'{"Image": ')
    assert status == 400 and content["message"]


def test_a_value_of_the_wrong_type_is_named(clean: Hooper) -> None:
    status, content = clean.request("POST", "/containers/create", {"Image": "busybox", "HostConfig": {"Memory": "x"}})
    assert status == 400 and "Memory" in content["message"]


def test_an_unknown_route(clean: Hooper) -> None:
    assert clean.request("GET", "/v1.41/nonsense") == (404, {"message": "page not found"})


def test_a_registry_that_is_down(clean: Hooper) -> None:
    port = support.free_port()
    for client in (clean.docker, clean.hooper):
        done = client("pull", f"127.0.0.1:{port}/x:1", check=False)
        assert done.returncode == 1
        assert f"127.0.0.1:{port}" in done.stderr and "refused" in done.stderr
    assert clean.docker("images", "-q", f"127.0.0.1:{port}/x").stdout == ""


def test_a_registry_that_asks_for_a_password(clean: Hooper, short_tmp: Path) -> None:
    directory = short_tmp / "auth"
    directory.mkdir()
    # bcrypt of "secret"
    line = "someone:$2b$05$IhuqBpPXK2rPrlQ0ezSvv.AhzqLmOWGKQB6pqVYv5/yUpwvcZJzcG\n"
    with support.docker_registry(directory, htpasswd=line) as host:
        for client in (clean.docker, clean.hooper):
            done = client("pull", f"{host}/x:1", check=False)
            assert done.returncode == 1
            assert "login" in done.stderr or "unauthorized" in done.stderr.lower()


def test_a_corrupt_layer(clean: Hooper, short_tmp: Path) -> None:
    directory = short_tmp / "corrupt"
    directory.mkdir()
    with support.docker_registry(directory) as host:
        clean.docker("tag", "busybox", f"{host}/c:1")
        clean.docker("push", f"{host}/c:1")
        clean.docker("rmi", f"{host}/c:1")
        clean.docker("commit", clean.docker("create", "busybox").stdout.strip(), "keep:1")
        blobs = sorted((directory / "registry").glob("**/blobs/sha256/*/*/data"), key=lambda p: p.stat().st_size)
        content = bytearray(blobs[-1].read_bytes())
        content[len(content) // 2] ^= 1
        blobs[-1].write_bytes(bytes(content))
        with support.hooper(short_tmp / "fresh") as fresh:
            for client in (fresh.docker, fresh.hooper):
                done = client("pull", f"{host}/c:1", check=False)
                assert done.returncode == 1
                assert "sha256:" in done.stderr, done.stderr
                assert fresh.docker("images", "-aq").stdout == ""
            assert not list((fresh.data_root / "content").glob("**/" + blobs[-1].parent.name))
        clean.clear()
        clean.docker("rmi", "keep:1")


def daemon_command(directory: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return support.run(
        sys.executable, "-m", "hooper", "daemon", "--data-root", str(directory / "data"),
        "--exec-root", str(directory / "exec"), "--host", f"unix://{directory}/x.sock", *more, check=False,
    )  # fmt: skip


def test_a_wrong_configuration_key(short_tmp: Path) -> None:
    directory = short_tmp / "conf"
    directory.mkdir()
    (directory / "c.toml").write_text('[storage]\ndrivr = "vfs"\n')
    done = daemon_command(directory, "--config", str(directory / "c.toml"))
    assert done.returncode == 1
    assert 'unknown configuration key "storage.drivr"' in done.stderr
    assert 'Did you mean "storage.driver"?' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_driver_that_does_not_exist(short_tmp: Path) -> None:
    directory = short_tmp / "conf2"
    directory.mkdir()
    done = daemon_command(directory, "--storage-driver", "zfs")
    assert done.returncode == 1
    assert 'there is no storage driver "zfs"' in done.stderr and "overlay" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_daemons_on_one_data_root(engine: Hooper, short_tmp: Path) -> None:
    done = support.run(
        sys.executable, "-m", "hooper", "daemon", "--data-root", str(engine.data_root),
        "--exec-root", str(short_tmp / "two"), "--host", f"unix://{short_tmp}/two.sock", check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "is in use: another hooper daemon, pid" in done.stderr and "--data-root" in done.stderr


def test_no_permission_on_the_socket(engine: Hooper) -> None:
    os.chmod(engine.data_root.parent.parent, 0o755)
    os.chmod(engine.data_root.parent, 0o755)
    done = support.run(
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
        # It may read a Python that lies in root's home, and write nowhere.
        "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
        sys.executable, "-m", "hooper", "-H", engine.address, "ps", check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "permission denied" in done.stderr.lower() and "group" in done.stderr


def test_a_daemon_that_is_not_there() -> None:
    done = support.run(sys.executable, "-m", "hooper", "-H", "unix:///nonexistent.sock", "ps", check=False)
    assert done.returncode == 1
    assert "Cannot connect" in done.stderr and "unix:///nonexistent.sock" in done.stderr


@pytest.mark.parametrize(
    ("dockerfile", "place", "text"),
    [
        ("FROM busybox\nRNU true\n", "Dockerfile:2", "RNU"),
        ("FROM busybox\nRUN true\nCOPY missing /x\n", "Dockerfile:3", "missing"),
        ("FROM busybox\nCOPY ../x /x\n", "Dockerfile:2", "../x"),
        ("RUN true\n", "Dockerfile:1", "FROM"),
    ],
)
def test_a_wrong_dockerfile_names_file_and_line(
    clean: Hooper, tmp_path: Path, dockerfile: str, place: str, text: str
) -> None:
    (tmp_path / "Dockerfile").write_text(dockerfile)
    before = clean.docker("images", "-aq").stdout
    for client in (clean.docker, clean.hooper):
        done = client("build", str(tmp_path), check=False)
        assert done.returncode == 1
        assert place in done.stderr and text in done.stderr, done.stderr
    assert clean.docker("images", "-aq").stdout == before
    assert clean.docker("ps", "-aq").stdout == ""


def test_a_failing_run_gives_its_code(clean: Hooper, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo seen; exit 3\n")
    done = clean.docker("build", str(tmp_path), check=False)
    assert "returned a non-zero code: 3" in done.stderr and "seen" in done.stdout
    assert list((clean.exec_root / "containers").iterdir()) == []
