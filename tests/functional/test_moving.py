"""Containers moved between two engines and through files: all of it arrives, and what cannot is said before."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import moving_support as moving
import pytest

import conftest
import support
from hooper.client.errors import ApiError

pytestmark = pytest.mark.root
Pair = tuple[support.Hooper, support.Hooper]
LOOP = "trap exit TERM; echo hello; while :; do echo x >>/data/log; sleep 0.1 & wait; done"


@pytest.fixture(scope="module")
def daemons(short_tmp: Path) -> Iterator[Pair]:
    with support.hooper(short_tmp / "ma") as one, support.hooper(short_tmp / "mb") as other:
        conftest.import_busybox(one)
        yield one, other


@pytest.fixture
def pair(daemons: Pair) -> Iterator[Pair]:
    """Two engines; the first has the image busybox. What a test makes is removed after it."""
    yield daemons
    for daemon in daemons:
        daemon.clear()
        daemon.docker("volume", "prune", "-af")
        daemon.docker("network", "prune", "-f")
        assert moving.left_over(daemon) == []


def _busy(engine: support.Engine, *more: str) -> None:
    """A container that writes, with two networks, a named and an anonymous volume, and files of every kind."""
    engine.docker("network", "create", "--label", "n=1", "inner")
    engine.docker("volume", "create", "--label", "v=1", "data")
    words = [
        "run", "-d", "--name", "web", "--network", "inner", "--network-alias", "w", "-v", "data:/data", "-v", "/anon",
        "--label", "l=1", "-e", "A=1", "--memory", "64m", "--restart", "on-failure:3", "--stop-signal", "TERM",
    ]  # fmt: skip
    engine.docker(*words, *more, "busybox", "sh", "-c", LOOP)
    engine.docker("network", "connect", "--alias", "q", "bridge", "web")
    script = (
        "rm /etc/group; rm -r /var; mkdir -m 1750 /new; echo a >/new/a; ln /new/a /new/b; mknod /new/null c 1 3;"
        " mkfifo /new/fifo; ln -s ../nowhere /new/link; chown 1000:2000 /new/a; chmod 4755 /new/b; : >/new/.hidden;"
        " dd if=/dev/urandom of=/new/big bs=1M count=8 2>/dev/null; echo kept >/anon/kept; ln /data/log /data/other"
    )
    engine.docker("exec", "web", "sh", "-c", script)
    mounted = f"/proc/{engine.inspect('web')['State']['Pid']}/root"
    os.setxattr(f"{mounted}/new/a", "user.note", b"\x00bytes")
    os.setxattr(f"{mounted}/new", "trusted.note", b"directory")
    os.setxattr(f"{mounted}/data/log", "user.note", b"volume")


def _about(document: dict[str, Any]) -> dict[str, Any]:
    """What of an inspection must be the same on both sides."""
    host = {key: value for key, value in document["HostConfig"].items() if key != "ContainerIDFile"}
    networks = {name: settings["Aliases"] for name, settings in document["NetworkSettings"]["Networks"].items()}
    mounts = sorted((m["Type"], m.get("Name", ""), m["Destination"], m["RW"]) for m in document["Mounts"])
    return {
        "id": document["Id"], "name": document["Name"], "created": document["Created"], "image": document["Image"],
        "config": document["Config"], "host": host, "networks": networks, "mounts": mounts,
        "running": document["State"]["Running"],
    }  # fmt: skip


def test_a_busy_container_arrives_as_it_was(pair: Pair) -> None:
    here, there = pair
    _busy(here)
    before = here.inspect("web")
    here.docker("stop", "web")
    frozen = moving.files(here, "web")
    here.docker("start", "web")
    anonymous = next(mount["Name"] for mount in before["Mounts"] if mount["Destination"] == "/anon")

    done = here.hooper("container", "move", "web", there.address)

    assert done.stdout == "web\n"
    assert not moving.has(here, "web")
    assert here.docker("volume", "ls", "-q").stdout == ""
    after = there.inspect("web")
    assert _about(after) == _about(before)
    assert moving.files(there, "web") == frozen
    seen = there.docker("exec", "web", "sh", "-c", "stat -c %h /data/log; cat /anon/kept; test ! -e /var && echo gone")
    assert seen.stdout.split() == ["2", "kept", "gone"]
    root = f"/proc/{after['State']['Pid']}/root"
    assert os.getxattr(f"{root}/data/log", "user.note") == b"volume"
    volume = json.loads(there.docker("volume", "inspect", "data").stdout)[0]
    assert volume["Labels"] == {"v": "1"}
    assert anonymous in there.docker("volume", "ls", "-q").stdout
    assert there.request("GET", "/networks/inner")[1]["Labels"] == {"n": "1"}
    assert there.docker("logs", "web").stdout.splitlines() == ["hello"] * 3
    assert there.docker("image", "ls", "-q", "busybox:latest").stdout

    back = there.hooper("container", "move", "web", here.address)

    assert back.stdout == "web\n"
    assert not moving.has(there, "web")
    assert _about(here.inspect("web")) == _about(before)


def test_only_the_layers_that_are_lacking_are_carried(pair: Pair) -> None:
    here, there = pair
    here.docker("create", "--name", "one", "busybox")
    moving.move(here.address, there.address, "one")
    here.docker("create", "--name", "two", "busybox")
    plan, verdict = moving.mover(here.address, there.address).prepare("two")
    assert len(plan["manifest"]["image"]["layers"]) == 1 and verdict["layers"] == []
    sent: list[int] = []
    mover = moving.mover(here.address, there.address)
    mover._meter = sent.append
    mover.move(plan, verdict)
    assert sum(sent) < plan["manifest"]["image"]["layers"][0]["size"] / 4
    assert there.inspect("two")["State"]["Status"] == "created"


def test_an_image_that_was_made_elsewhere_can_be_saved_where_it_arrives(pair: Pair, tmp_path: Path) -> None:
    """Its tar cannot be written again from the files alone: the form in which it came goes with it."""
    here, there = pair
    (tmp_path / "rootfs.tar").write_bytes(support.busybox_tar())
    support.write_docker_archive(tmp_path / "rootfs.tar", tmp_path / "image.tar", "foreign:1")
    here.docker("load", "-i", str(tmp_path / "image.tar"))
    here.docker("create", "--name", "one", "foreign:1", "true")
    moving.move(here.address, there.address, "one")
    there.docker("save", "-o", str(tmp_path / "again.tar"), "foreign:1")
    identity = here.docker("image", "inspect", "-f", "{{.Id}}", "foreign:1").stdout
    assert there.docker("image", "inspect", "-f", "{{.Id}}", "foreign:1").stdout == identity
    there.docker("rm", "one")
    there.docker("rmi", "foreign:1")
    assert moving.rows(there, "SELECT count(*) FROM layer_blobs") == [(0,)]
    here.docker("rmi", "foreign:1")


def test_a_container_that_has_ended_keeps_its_exit_code(pair: Pair) -> None:
    here, there = pair
    here.docker("run", "--name", "job", "busybox", "sh", "-c", "exit 42", check=False)
    moving.move(here.address, there.address, "job")
    state = there.inspect("job")["State"]
    assert (state["Status"], state["ExitCode"], state["Running"]) == ("exited", 42, False)


def test_one_that_removes_itself_survives_the_move_and_not_its_end(pair: Pair) -> None:
    here, there = pair
    here.docker("run", "-d", "--rm", "--name", "brief", "--stop-signal", "KILL", "busybox", "sleep", "600")
    moving.move(here.address, there.address, "brief")
    assert there.inspect("brief")["HostConfig"]["AutoRemove"] is True
    there.docker("stop", "brief")
    support.until(lambda: not moving.has(there, "brief"), what="removed at its end")


def test_a_dry_run_tells_sizes_and_touches_nothing(pair: Pair) -> None:
    here, there = pair
    _busy(here)
    done = here.hooper("container", "move", "--dry-run", "web", there.address)
    rows = [line.split() for line in done.stdout.splitlines()]
    assert {row[0] for row in rows} == {"WHAT", "container", "layer", "volume", "logs", "network", "total"}
    assert next(row[:2] for row in rows if row[0] == "container") == ["container", "web"]
    assert any(row[:2] == ["network", "inner"] and row[-1] == "create" for row in rows)
    assert here.inspect("web")["State"]["Running"] and not moving.has(there, "web")


def test_the_target_may_be_a_context(pair: Pair, tmp_path: Path) -> None:
    here, there = pair
    here.docker("create", "--name", "one", "busybox")
    environment = {**os.environ, "DOCKER_CONFIG": str(tmp_path)}
    here.hooper("context", "create", "other", "--docker", f"host={there.address}", env=environment)
    here.hooper("container", "move", "one", "other", env=environment)
    assert moving.has(there, "one")
    failed = there.hooper("container", "move", "one", "nobody", env=environment, check=False)
    assert failed.returncode == 1 and "nobody" in failed.stderr


@pytest.mark.dockerd
def test_a_target_that_is_a_dockerd_is_told_at_once(pair: Pair, peer: support.Engine) -> None:
    here, _ = pair
    here.docker("run", "-d", "--name", "web", "busybox", "sleep", "600")
    failed = here.hooper("container", "move", "web", peer.address, check=False)
    assert failed.returncode == 1 and "it is no hooper" in failed.stderr and "hooper commit" in failed.stderr
    assert here.inspect("web")["State"]["Running"]


# --- what stands in the way ------------------------------------------------------------------------------------


def _refused(here: support.Hooper, there: support.Hooper, name: str, *flags: str) -> str:
    """The message; nothing has happened to the container."""
    before = here.inspect(name)["State"]
    failed = here.hooper("container", "move", *flags, name, there.address, check=False)
    assert failed.returncode == 1, failed.stdout
    assert here.inspect(name)["State"] == before
    return failed.stderr


def test_a_name_that_is_taken_is_refused(pair: Pair) -> None:
    here, there = pair
    for engine in pair:
        conftest.import_busybox(engine)
        engine.docker("run", "-d", "--name", "web", "busybox", "sleep", "600")
    assert "already in use" in _refused(here, there, "web")


def test_moving_to_where_it_is_is_refused(pair: Pair) -> None:
    here, _ = pair
    here.docker("create", "--name", "web", "busybox")
    assert "on this engine already" in _refused(here, here, "web")


def test_a_paused_container_is_refused(pair: Pair) -> None:
    here, there = pair
    here.docker("run", "-d", "--name", "web", "busybox", "sleep", "600")
    here.docker("pause", "web")
    assert "hooper unpause web" in _refused(here, there, "web")


def test_directories_of_the_host_are_left_behind_only_if_allowed(pair: Pair, tmp_path: Path) -> None:
    here, there = pair
    here.docker("create", "--name", "web", "-v", f"{tmp_path}:/host", "busybox")
    assert "--allow-binds" in _refused(here, there, "web")
    moving.move(here.address, there.address, "web", allow_binds=True)
    assert there.inspect("web")["Mounts"][0]["Source"] == str(tmp_path)


def _with_volume(engine: support.Engine, content: str) -> None:
    conftest.import_busybox(engine)
    engine.docker("run", "--rm", "-v", "data:/data", "busybox", "sh", "-c", f"echo {content} >/data/f")


@pytest.mark.parametrize(("choice", "content"), [("reuse", "theirs"), ("replace", "mine")])
def test_a_volume_that_is_there_and_not_empty(pair: Pair, choice: str, content: str) -> None:
    here, there = pair
    _with_volume(here, "mine")
    _with_volume(there, "theirs")
    here.docker("create", "--name", "web", "-v", "data:/data", "busybox", "cat", "/data/f")
    message = _refused(here, there, "web")
    assert "volume named data" in message and "--volumes=reuse" in message
    here.hooper("container", "move", "--volumes", choice, "web", there.address)
    assert there.docker("start", "-a", "web").stdout == f"{content}\n"
    # What was not carried stays.
    assert here.docker("volume", "ls", "-q").stdout == ("data\n" if choice == "reuse" else "")


def test_a_volume_in_use_is_not_replaced(pair: Pair) -> None:
    here, there = pair
    _with_volume(here, "mine")
    _with_volume(there, "theirs")
    there.docker("run", "-d", "--name", "user", "-v", "data:/data", "busybox", "sleep", "600")
    here.docker("create", "--name", "web", "-v", "data:/data", "busybox")
    assert "user runs with it" in _refused(here, there, "web", "--volumes=replace")


def test_a_volume_that_others_use_stays_as_well(pair: Pair) -> None:
    here, there = pair
    _with_volume(here, "mine")
    here.docker("create", "--name", "other", "-v", "data:/data", "busybox")
    here.docker("create", "--name", "web", "-v", "data:/data", "busybox", "cat", "/data/f")
    done = here.hooper("container", "move", "web", there.address)
    assert "WARNING" in done.stderr and "other" in done.stderr
    assert here.docker("volume", "ls", "-q").stdout == "data\n"
    assert there.docker("start", "-a", "web").stdout == "mine\n"


def test_networks_that_are_missing(pair: Pair) -> None:
    here, there = pair
    for name in ("outer", "inner"):
        here.docker("network", "create", name)
    here.docker("create", "--name", "web", "--network", "inner", "busybox")
    here.docker("network", "connect", "outer", "web")
    assert "network" in _refused(here, there, "web", "--networks=require")
    moving.move(here.address, there.address, "web", networks="skip")
    assert list(there.inspect("web")["NetworkSettings"]["Networks"]) == ["none"]


def test_a_static_address_is_kept_where_it_is_free(pair: Pair) -> None:
    here, there = pair
    for engine, subnet in ((here, "10.213.1.0/24"), (there, "10.213.2.0/24")):
        engine.docker("network", "create", "--subnet", subnet, "fixed")
    here.docker("run", "-d", "--name", "web", "--network", "fixed", "--ip", "10.213.1.77", "busybox", "sleep", "600")
    done = here.hooper("container", "move", "--stop-timeout", "0", "web", there.address)
    assert "10.213.1.77" in done.stderr
    assert there.inspect("web")["NetworkSettings"]["Networks"]["fixed"]["IPAddress"].startswith("10.213.2.")
    assert not there.inspect("web")["NetworkSettings"]["Networks"]["fixed"]["IPAMConfig"].get("IPv4Address")


def test_wrong_values_of_flags(pair: Pair) -> None:
    here, there = pair
    for flag in ("--volumes=keep", "--networks=all"):
        failed = here.hooper("container", "move", flag, "web", there.address, check=False)
        assert failed.returncode == 125 and flag.partition("=")[0] in failed.stderr
    assert "not said" in here.hooper("container", "move", "web", check=False).stderr
    assert "No such container" in here.hooper("container", "move", "nobody", there.address, check=False).stderr


def test_a_start_that_fails_there_leaves_it_here(pair: Pair) -> None:
    here, there = pair
    conftest.import_busybox(there)
    port = support.free_port()
    publish = ("-p", f"{port}:80", "--stop-signal", "KILL", "busybox", "sleep", "600")
    here.docker("run", "-d", "--name", "web", "-v", "data:/data", *publish)
    there.docker("create", "--name", "thief", *publish)
    mover = moving.mover(here.address, there.address)
    begin = mover._begin

    def steal(*arguments: Any) -> None:
        begin(*arguments)
        there.docker("start", "thief")

    mover._begin = steal  # type: ignore[method-assign]
    with pytest.raises(ApiError, match=str(port)):
        mover.move(*mover.prepare("web"))
    assert not moving.has(there, "web")
    assert there.docker("volume", "ls", "-q").stdout == ""
    assert moving.left_over(there) == []
    # The two share one host, so that the port is taken here as well: it says so, and starts when it is free.
    assert here.inspect("web")["State"]["Error"]
    there.docker("rm", "-f", "thief")
    here.docker("start", "web")


# --- files -----------------------------------------------------------------------------------------------------


def test_saved_and_loaded_elsewhere(pair: Pair, tmp_path: Path) -> None:
    here, there = pair
    _busy(here)
    file = str(tmp_path / "web.hooper")
    here.hooper("container", "save", "web", "-o", file)
    assert here.inspect("web")["State"]["Status"] == "running"
    done = there.hooper("container", "load", "-i", file)
    assert done.stdout == "Loaded container: web\n"
    assert there.inspect("web")["State"]["Status"] == "exited"
    before, after = _about(here.inspect("web")), _about(there.inspect("web"))
    assert {**after, "running": True} == before
    there.docker("start", "web")
    assert there.docker("exec", "web", "cat", "/anon/kept").stdout == "kept\n"
    assert "already in use" in there.hooper("container", "load", "-i", file, check=False).stderr


def test_loaded_beside_itself_it_gets_another_id(pair: Pair, tmp_path: Path) -> None:
    here, _ = pair
    here.docker("run", "--name", "job", "busybox", "echo", "said")
    file = str(tmp_path / "job.hooper")
    here.hooper("container", "save", "job", "-o", file)
    here.hooper("container", "load", "-i", file, "--name", "copy")
    one, copy = here.inspect("job"), here.inspect("copy")
    assert one["Id"] != copy["Id"] and copy["Id"] in copy["LogPath"]
    assert here.docker("logs", "copy").stdout == "said\n"
    assert here.docker("start", "-a", "copy").stdout == "said\n"


def test_save_and_load_through_a_pipe(pair: Pair) -> None:
    here, there = pair
    here.docker("create", "--name", "piped", "busybox")
    status, _ = here.request("GET", "/containers/piped/json")
    assert status == 200
    connection = support.UnixHttp(here.socket_path)
    connection.request("GET", "/hooper/containers/piped/save")
    data = connection.getresponse().read()
    connection.close()
    status, answer = there.request("POST", "/hooper/containers/load", data, {"Content-Type": "application/x-tar"})
    assert status == 201 and answer["name"] == "piped"


def test_hostile_and_cut_files_are_refused_with_nothing_left(pair: Pair) -> None:
    here, there = pair
    _with_volume(here, "mine")
    here.docker("run", "--name", "web", "-v", "data:/data", "busybox", "sh", "-c", "echo a >/new")
    connection = support.UnixHttp(here.socket_path)
    connection.request("GET", "/hooper/containers/web/save")
    good = connection.getresponse().read()
    connection.close()
    images = there.docker("image", "ls", "-aq").stdout
    layers = moving.rows(there, "SELECT chain_id FROM layers ORDER BY 1")
    blobs = moving.rows(there, "SELECT digest FROM blobs ORDER BY 1")
    chosen = random.Random(7)
    for number in range(24):
        data = bytearray(good)
        if number % 2:
            del data[chosen.randrange(len(data) - 1024) :]
        else:
            # A byte that is not in the zeros behind something.
            place = chosen.choice([i for i in chosen.sample(range(len(data) - 1024), 400) if data[i]])
            data[place] ^= 1 << chosen.randrange(8)
        status, answer = there.request(
            "POST", "/hooper/containers/load", bytes(data), {"Content-Type": "application/x-tar"}
        )
        if status == 201:
            # What was changed says nothing: a time or an owner in a header of the outer archive.
            there.docker("rm", "-v", "web")
            there.docker("volume", "rm", "data")
            there.docker("image", "rm", "busybox:latest", check=False)
            continue
        assert 400 <= status < 600 and answer["message"], (number, status)
        assert "Error:" not in answer["message"].partition(":")[0], answer
        assert not moving.has(there, "web")
        assert there.docker("volume", "ls", "-q").stdout == ""
        assert there.docker("image", "ls", "-aq").stdout == images
        assert moving.left_over(there) == []
    assert moving.rows(there, "SELECT chain_id FROM layers ORDER BY 1") == layers
    assert moving.rows(there, "SELECT digest FROM blobs ORDER BY 1") == blobs


def test_the_log_of_a_hostile_file_cannot_be_a_link(pair: Pair, tmp_path: Path) -> None:
    here, there = pair
    here.docker("run", "--name", "web", "busybox", "true")
    directory = here.data_root / "containers" / here.inspect("web")["Id"]
    (directory / "trap").symlink_to("/etc/passwd")
    file = str(tmp_path / "web.hooper")
    here.hooper("container", "save", "web", "-o", file)
    failed = there.hooper("container", "load", "-i", file, check=False)
    assert failed.returncode == 1 and "is no file" in failed.stderr
    assert not moving.has(there, "web") and moving.left_over(there) == []


def test_a_file_that_is_something_else_is_told_so(pair: Pair, tmp_path: Path) -> None:
    here, _ = pair
    file = tmp_path / "x.tar"
    here.docker("save", "-o", str(file), "busybox")
    failed = here.hooper("container", "load", "-i", str(file), check=False)
    assert failed.returncode == 1 and "no container that hooper saved" in failed.stderr
    shutil.copy("/etc/hostname", file)
    assert here.hooper("container", "load", "-i", str(file), check=False).returncode == 1
