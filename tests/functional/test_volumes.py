"""Volumes: made, filled, shared, listed, removed; and the mounts that a volume may be. On both engines."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

import support
from support import Engine, Hooper

pytestmark = pytest.mark.root


@pytest.fixture
def volumes(either: Engine) -> Iterator[Engine]:
    """An engine without volumes, before and after."""
    _forget(either)
    yield either
    _forget(either)


def _forget(engine: Engine) -> None:
    engine.clear()
    for volume in engine.request("GET", "/volumes")[1]["Volumes"] or []:
        engine.request("DELETE", f"/volumes/{volume['Name']}?force=1")


def inside(engine: Engine, *flags: str, script: str, image: str = "busybox") -> list[str]:
    return engine.docker("run", "--rm", *flags, image, "sh", "-c", f"{script}\ntrue").stdout.splitlines()


def names(engine: Engine, *filters: str) -> list[str]:
    words = [word for each in filters for word in ("--filter", each)]
    return sorted(engine.docker("volume", "ls", "-q", *words).stdout.split())


def volume(engine: Engine, name: str) -> dict[str, Any]:
    return dict(json.loads(engine.docker("volume", "inspect", name).stdout)[0])


def test_a_volume_in_inspect(volumes: Engine) -> None:
    assert volumes.docker("volume", "create", "--label", "a=b", "first").stdout == "first\n"
    assert volumes.docker("volume", "create", "first").stdout == "first\n"
    shown = volume(volumes, "first")
    assert shown.pop("CreatedAt")[:2] == "20"
    place = shown.pop("Mountpoint")
    assert shown == {"Driver": "local", "Labels": {"a": "b"}, "Name": "first", "Options": None, "Scope": "local"}
    (Path(place) / "file").write_text("x\n")
    assert inside(volumes, "-v", "first:/v", script="cat /v/file") == ["x"]
    volumes.docker("volume", "rm", "first")
    assert not Path(place).exists() and names(volumes) == []


def test_list_filters(volumes: Engine) -> None:
    volumes.docker("volume", "create", "--label", "kind=one", "first")
    volumes.docker("volume", "create", "--label", "kind=two", "second")
    volumes.docker("create", "-v", "second:/v", "busybox")
    assert names(volumes) == ["first", "second"]
    assert names(volumes, "label=kind") == ["first", "second"]
    assert names(volumes, "label=kind=two") == ["second"]
    assert names(volumes, "name=fir") == ["first"]
    assert names(volumes, "dangling=true") == ["first"]
    assert names(volumes, "dangling=false") == ["second"]
    assert names(volumes, "driver=local", "dangling=0") == ["second"]
    assert names(volumes, "driver=other") == []


def test_an_empty_volume_begins_with_what_the_image_has(volumes: Engine) -> None:
    recipe = (
        "FROM busybox\nRUN mkdir -p /data/sub && echo one >/data/sub/f && ln /data/sub/f /data/hard && ln -s sub/f "
        "/data/soft && chown -R user:extra /data && chmod 4750 /data/sub/f && chmod 1770 /data && mkdir /empty && "
        "chown user /empty\nVOLUME /data\n"
    )
    volumes.docker("build", "-t", "filled", "-", stdin=recipe)
    try:
        look = "cat /data/soft; stat -c %a:%u:%g:%h /data/sub/f /data; readlink /data/soft"
        full = ["one", "4750:1000:2000:2", "1770:1000:2000:3", "sub/f"]
        volumes.docker("volume", "create", "made-before")
        for flags in ([], ["-v", "named:/data"], ["-v", "made-before:/data"], ["--mount", "target=/data"]):
            assert inside(volumes, *flags, image="filled", script=look) == full
        assert inside(volumes, "-v", "empty:/empty", image="filled", script="stat -c %u /empty; ls -A /empty") == [
            "1000"
        ]
        for flags in (["-v", "v2:/data:nocopy"], ["--mount", "source=v3,target=/data,volume-nocopy"]):
            assert inside(volumes, *flags, image="filled", script="ls -A /data; stat -c %u /data") == ["0"]
        inside(volumes, "-v", "v4:/v", script="echo mine >/v/mine")
        assert inside(volumes, "-v", "v4:/data", image="filled", script="ls -A /data") == ["mine"]
    finally:
        _forget(volumes)
        volumes.docker("rmi", "-f", "filled")


def test_anonymous_volumes_go_with_their_container(volumes: Engine) -> None:
    volumes.docker("run", "--rm", "-v", "/a", "-v", "kept:/k", "busybox", "true")
    assert names(volumes) == ["kept"]
    volumes.docker("create", "--name", "c1", "-v", "/a", "-v", "kept:/k", "busybox")
    volumes.docker("rm", "-v", "c1")
    assert names(volumes) == ["kept"]
    volumes.docker("create", "--name", "c2", "-v", "/a", "busybox")
    volumes.docker("rm", "c2")
    (left,) = set(names(volumes)) - {"kept"}
    assert len(left) == 64
    volumes.docker("create", "--name", "c3", "-v", f"{left}:/a", "busybox")
    volumes.docker("rm", "-v", "c3")
    assert left in names(volumes)  # somebody named it


def test_volumes_in_use_stay(volumes: Engine) -> None:
    volumes.docker("create", "--name", "c1", "-v", "used:/u", "busybox")
    identity = volumes.inspect("c1")["Id"]
    for more in ([], ["--force"]):
        done = volumes.docker("volume", "rm", *more, "used", check=False)
        assert done.returncode == 1 and f"remove used: volume is in use - [{identity}]" in done.stderr
    status, answer = volumes.request("DELETE", "/volumes/used")
    assert status == 409 and "volume is in use" in answer["message"]
    volumes.docker("rm", "c1")
    volumes.docker("volume", "rm", "used")
    done = volumes.docker("volume", "rm", "used", check=False)
    assert done.returncode == 1 and "no such volume" in done.stderr


def test_prune(volumes: Engine) -> None:
    volumes.docker("volume", "create", "--label", "keep=1", "labelled")
    volumes.docker("volume", "create", "plain")
    volumes.docker("create", "--name", "c1", "-v", "used:/u", "busybox")

    def prune(filters: dict[str, list[str]]) -> list[str]:
        from urllib.parse import quote

        status, answer = volumes.request("POST", f"/v1.41/volumes/prune?filters={quote(json.dumps(filters))}")
        assert status == 200, answer
        return sorted(answer["VolumesDeleted"] or [])

    assert prune({"label": ["none"]}) == []
    assert prune({"label!": ["keep"]}) == ["plain"]
    assert prune({"label": ["keep=1"]}) == ["labelled"]
    assert prune({}) == []
    volumes.clear()
    assert prune({}) == ["used"]


def test_since_api_1_42_prune_takes_the_anonymous_ones(clean: Hooper) -> None:
    _forget(clean)
    clean.docker("volume", "create", "named")
    anonymous = clean.docker("volume", "create").stdout.strip()
    assert volume(clean, anonymous)["Labels"] == {"com.docker.volume.anonymous": ""}
    assert anonymous in clean.docker("volume", "prune", "--force").stdout
    assert names(clean) == ["named"]
    assert "named" in clean.docker("volume", "prune", "--force", "--all").stdout
    assert names(clean) == []


def test_mounts_give_options_and_labels(volumes: Engine) -> None:
    words = "type=volume,source=made,target=/v,volume-driver=local,volume-label=a=b,volume-opt=type=tmpfs," \
        "volume-opt=device=tmpfs,volume-opt=o=size=1m"  # fmt: skip
    (line,) = inside(volumes, "--mount", words, script="mount | grep ' /v '")
    assert line.startswith("tmpfs on /v type tmpfs") and "size=1024k" in line
    shown = volume(volumes, "made")
    assert shown["Labels"] == {"a": "b"}
    assert shown["Options"] == {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}


def mounted(place: str) -> bool:
    return f" {place} " in Path("/proc/self/mounts").read_text()


def test_a_volume_may_be_a_tmpfs_that_containers_share(volumes: Engine) -> None:
    opts = [word for each in ("type=tmpfs", "device=tmpfs", "o=size=1m,uid=5") for word in ("--opt", each)]
    volumes.docker("volume", "create", *opts, "shared")
    place = volume(volumes, "shared")["Mountpoint"]
    assert not mounted(place)
    volumes.docker("run", "-d", "--name", "c1", "-v", "shared:/s", "busybox", "sleep", "60")
    assert mounted(place)
    assert inside(volumes, "-v", "shared:/s", script="echo x >/s/x; stat -c %u /s") == ["5"]
    assert mounted(place)
    assert volumes.docker("exec", "c1", "cat", "/s/x").stdout == "x\n"
    volumes.docker("rm", "-f", "c1")
    assert not mounted(place)
    assert inside(volumes, "-v", "shared:/s", script="ls -A /s") == []


def test_a_volume_may_be_a_directory_of_the_host(volumes: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("host\n")
    for name, how in (("bound", "bind"), ("readonly", "bind,ro")):
        opts = [word for each in ("type=none", f"device={tmp_path}", f"o={how}") for word in ("--opt", each)]
        volumes.docker("volume", "create", *opts, name)
    shown = inside(volumes, "-v", "bound:/b", "-v", "readonly:/r", script="cat /b/file; echo y >/b/y; touch /r/z 2>&1")
    assert shown[0] == "host" and "Read-only" in shown[1]
    volumes.docker("volume", "rm", "bound", "readonly")
    assert sorted(os.listdir(tmp_path)) == ["file", "y"]


def test_a_mount_that_fails_is_told(volumes: Engine, tmp_path: Path) -> None:
    opts = [word for each in ("type=none", f"device={tmp_path}/none", "o=bind") for word in ("--opt", each)]
    volumes.docker("volume", "create", *opts, "broken")
    done = volumes.docker("run", "--rm", "-v", "broken:/b", "busybox", "true", check=False)
    assert done.returncode == 127  # the client's, for "no such file or directory"
    assert "failed to mount local volume" in done.stderr and "no such file or directory" in done.stderr
    assert volumes.docker("ps", "-aq").stdout == ""


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"Name": "a"}, 400, "volume name is too short, names should be at least two alphanumeric characters"),
        ({"Name": "a b"}, 400, "includes invalid characters for a local volume name"),
        ({"Name": "../x"}, 400, "If you intended to pass a host directory, use absolute path"),
        ({"Name": "x1", "DriverOpts": {"what": "1"}}, 400, 'create x1: invalid option: "what"'),
        ({"Name": "x1", "DriverOpts": {"type": "tmpfs"}}, 400, 'create x1: missing required option: "device"'),
        ({"Name": "x1", "DriverOpts": {"device": "/x"}}, 400, 'create x1: missing required option: "type"'),
        ({"Name": "x1", "DriverOpts": {"size": "1g"}}, 400, "quota size requested but no quota support"),
        ({"Name": 5}, 400, "Name"),
        ({"Labels": ["x"]}, 400, "Labels"),
    ],
)
def test_bad_requests(volumes: Engine, body: dict[str, Any], status: int, text: str) -> None:
    found, answer = volumes.request("POST", "/v1.41/volumes/create", body)
    assert (found, text in answer["message"]) == (status, True), answer
    assert names(volumes) == []


def test_a_driver_that_is_not_there(clean: Hooper) -> None:
    """Docker says the same after fifteen seconds."""
    status, answer = clean.request("POST", "/volumes/create", {"Name": "x1", "Driver": "none"})
    text = 'create x1: error looking up volume plugin none: plugin "none" not found'
    assert status == 404 and text in answer["message"]
    done = clean.docker("run", "--rm", "--volume-driver", "none", "-v", "x1:/x", "busybox", "true", check=False)
    assert done.returncode == 125 and text in done.stderr and "Unable to find image" not in done.stderr
    assert names(clean) == [] and clean.docker("ps", "-aq").stdout == ""


@pytest.mark.parametrize("filters", ['{"nope":["x"]}', '{"dangling":["x"]}', "x"])
def test_bad_filters(volumes: Engine, filters: str) -> None:
    from urllib.parse import quote

    assert volumes.request("GET", f"/v1.41/volumes?filters={quote(filters)}")[0] == 400


def test_cluster_volumes_need_a_swarm(clean: Hooper) -> None:
    status, answer = clean.request("PUT", "/volumes/x1?version=1", {"Spec": {}})
    assert status == 503 and "This node is not a swarm manager" in answer["message"]


def test_a_part_of_a_volume(clean: Hooper) -> None:
    script = "mkdir -p /v/a/b; echo deep >/v/a/b/f; ln -s /etc /v/out; ln -s a/b /v/in"
    inside(clean, "-v", "whole:/v", script=script)
    try:
        for runtime in ("namespaces", "runc"):
            for place in ("a/b", "in"):
                words = f"type=volume,source=whole,target=/p,volume-subpath={place}"
                assert inside(clean, "--runtime", runtime, "--mount", words, script="cat /p/f; ls /p") == ["deep", "f"]
        for place, text in (("none", "no such file"), ("out", "no such file")):
            words = f"type=volume,source=whole,target=/p,volume-subpath={place}"
            done = clean.docker("run", "--rm", "--mount", words, "busybox", "true", check=False)
            assert done.returncode == 127 and f'the subpath "{place}"' in done.stderr and text in done.stderr
    finally:
        clean.docker("volume", "rm", "whole")


def test_docker_py_volumes(volumes: Engine) -> None:
    client = docker.DockerClient(volumes.address, version="1.41")
    try:
        made = client.volumes.create("py", driver_opts={"type": "tmpfs", "device": "tmpfs"}, labels={"a": "b"})
        assert made.attrs["Labels"] == {"a": "b"}
        mounts = [
            docker.types.Mount("/v", "py", type="volume"),
            docker.types.Mount("/t", None, type="tmpfs", tmpfs_size=4096),
        ]
        output = client.containers.run(
            "busybox", "grep -c -e ' /v ' -e ' /t ' /proc/mounts", mounts=mounts, remove=True
        )
        assert output == b"2\n"
        with pytest.raises(docker.errors.NotFound):
            client.volumes.get("nope")
        made.remove()
    finally:
        client.close()


def test_mounted_volumes_survive_the_daemon(short_tmp: Path) -> None:
    from conftest import import_busybox

    with support.hooper(short_tmp / "vols") as daemon:
        import_busybox(daemon)
        daemon.docker("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "shared")
        place = volume(daemon, "shared")["Mountpoint"]
        try:
            for name in ("c1", "c2"):
                daemon.docker("run", "-d", "--name", name, "-v", "shared:/s", "busybox", "sh", "-c",
                              f"echo {name} >/s/{name}; sleep 600")  # fmt: skip
            support.until(lambda: inside(daemon, "-v", "shared:/s", script="ls /s") == ["c1", "c2"], what="both")
            process = daemon.inspect("c2")["State"]["Pid"]
            daemon.kill()
            os.kill(process, 9)  # one of them ends while nobody looks
            daemon.start()
            assert inside(daemon, "-v", "shared:/s", script="ls /s") == ["c1", "c2"]
            daemon.docker("stop", "-t", "0", "c1")
            assert not mounted(place)
        finally:
            support.run("umount", place, check=False)


def test_a_volume_with_a_deep_tree_can_be_removed(clean: Hooper) -> None:
    clean.docker("volume", "create", "deep")
    place = Path(json.loads(clean.docker("volume", "inspect", "deep").stdout)[0]["Mountpoint"])
    dig = "cd /v; i=0; while [ $i -lt 1500 ]; do mkdir d; cd d; i=$((i+1)); done; echo x > bottom"
    clean.docker("run", "--rm", "-v", "deep:/v", "busybox", "sh", "-c", dig)
    assert (place / "d" / "d").is_dir()
    clean.docker("volume", "rm", "deep")
    support.until(lambda: not list(place.parent.parent.glob("*deep*")), what="its removal")
    assert not place.exists()
