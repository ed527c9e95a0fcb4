"""stats, top, diff, port, commit, system df, info and version: shapes and rules, for API versions of all ages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from lookin_support import create, run, wait

import support
from support import Engine, UnixHttp

pytestmark = pytest.mark.root

VERSIONS = ("", "/v1.24", "/v1.40")
CGROUP_V1 = not Path("/sys/fs/cgroup/cgroup.controllers").exists()


def get(engine: Engine, path: str) -> Any:
    status, answer = engine.request("GET", path)
    assert status == 200, answer
    return answer


# stats


def test_one_sample_has_all_groups(either: Engine) -> None:
    run(either, "busy", ["sh", "-c", "while :; do :; done"])
    found = get(either, "/containers/busy/stats?stream=0")
    assert found["name"] == "/busy" and found["id"] == either.inspect("busy")["Id"]
    assert found["preread"] < found["read"] and found["preread"] > "2000"
    now, before = found["cpu_stats"], found["precpu_stats"]
    assert now["cpu_usage"]["total_usage"] > before["cpu_usage"]["total_usage"] > 0
    assert now["system_cpu_usage"] > before["system_cpu_usage"] and now["online_cpus"] >= 1
    assert set(now["throttling_data"]) == {"periods", "throttled_periods", "throttled_time"}
    assert found["memory_stats"]["usage"] > 0 and found["memory_stats"]["limit"] > 1 << 20
    assert found["pids_stats"]["current"] == 1 and found["num_procs"] == 0 and found["storage_stats"] == {}
    assert set(found["networks"]) == {"eth0"} and set(found["networks"]["eth0"]) == {
        f"{way}_{what}" for way in ("rx", "tx") for what in ("bytes", "packets", "errors", "dropped")
    }
    assert set(found["blkio_stats"]) == {
        "io_service_bytes_recursive", "io_serviced_recursive", "io_queue_recursive", "io_service_time_recursive",
        "io_wait_time_recursive", "io_merged_recursive", "io_time_recursive", "sectors_recursive",
    }  # fmt: skip
    if CGROUP_V1:
        assert len(now["cpu_usage"]["percpu_usage"]) >= 1 and found["memory_stats"]["max_usage"] > 0
        assert found["blkio_stats"]["io_queue_recursive"] == []
    else:
        assert "percpu_usage" not in now["cpu_usage"] and "cache" not in found["memory_stats"]["stats"]


def test_one_shot_has_nothing_before(either: Engine) -> None:
    run(either, "shot", ["sleep", "60"])
    found = get(either, "/v1.41/containers/shot/stats?stream=0&one-shot=1")
    assert found["precpu_stats"]["cpu_usage"]["total_usage"] == 0 and "system_cpu_usage" not in found["precpu_stats"]
    older = get(either, "/v1.40/containers/shot/stats?stream=0&one-shot=1")
    assert older["precpu_stats"]["system_cpu_usage"] > 0
    assert either.request("GET", "/v1.41/containers/shot/stats?one-shot=1")[0] == 400


def test_one_that_does_not_run_has_empty_groups(either: Engine) -> None:
    create(either, "still", ["true"])
    found = get(either, "/containers/still/stats?stream=0")
    assert found["read"].startswith("0001-") and found["pids_stats"] == found["memory_stats"] == {}
    assert found["cpu_stats"]["cpu_usage"]["total_usage"] == 0 and "networks" not in found
    assert either.request("GET", "/containers/nosuch/stats?stream=0")[0] == 404


def test_a_stream_goes_on_and_ends_with_the_container(either: Engine) -> None:
    run(either, "flow", ["sleep", "60"])
    connection = UnixHttp(either.socket_path)
    connection.request("GET", "/containers/flow/stats")
    answer = connection.getresponse()
    first, second = json.loads(answer.readline()), json.loads(answer.readline())
    assert second["preread"] == first["read"] < second["read"]
    assert second["precpu_stats"] == first["cpu_stats"]
    either.docker("rm", "-f", "flow")
    rest = [json.loads(line) for line in answer if line.strip()]
    assert all("message" not in line and "error" not in line for line in rest)
    connection.close()


def test_the_cli_shows_them_once(either: Engine) -> None:
    run(either, "shown", ["sleep", "60"])
    create(either, "still", ["true"])
    form = "{{.Name}}|{{.PIDs}}|{{.CPUPerc}}"
    lines = either.docker("stats", "--no-stream", "-a", "--format", form).stdout.split()
    assert sorted(lines)[1] == "still|0|0.00%" and sorted(lines)[0].startswith("shown|1|")
    assert either.docker("stats", "--no-stream", "nosuch", check=False).returncode == 1


# top, diff, port


def test_top_takes_options_of_ps(either: Engine) -> None:
    run(either, "tall", ["sh", "-c", "sleep 61 & sleep 62; true"])
    support.until(lambda: len(get(either, "/containers/tall/top")["Processes"]) == 3, what="three processes")
    found = get(either, "/containers/tall/top")
    assert found["Titles"] == "UID PID PPID C STIME TTY TIME CMD".split()
    assert {row[-1] for row in found["Processes"]} == {"sh -c sleep 61 & sleep 62; true", "sleep 61", "sleep 62"}
    assert get(either, "/containers/tall/top?ps_args=-o%20pid,comm")["Titles"] == ["PID", "COMMAND"]
    assert get(either, "/containers/tall/top?ps_args=aux")["Titles"][0] == "USER"
    for wrong in ("-o%20comm", "--nonsense"):
        assert either.request("GET", f"/containers/tall/top?ps_args={wrong}")[0] in (400, 500)
    create(either, "still", ["true"])
    assert either.request("GET", "/containers/still/top")[0] in (409, 500)


def test_diff_names_what_was_added_changed_and_deleted(either: Engine) -> None:
    script = "echo x >/etc/passwd; mkdir -p /new/sub; echo x >/new/sub/f; rm -r /home; rm /etc/group; echo y >/tmp/t"
    run(either, "differs", ["sh", "-c", script])
    wait(either, "differs")
    found = {(item["Path"], item["Kind"]) for item in get(either, "/containers/differs/changes")}
    assert found == {
        ("/etc", 0), ("/etc/passwd", 0), ("/etc/group", 2), ("/home", 2), ("/new", 1), ("/new/sub", 1),
        ("/new/sub/f", 1), ("/tmp", 0), ("/tmp/t", 1),
    }  # fmt: skip
    create(either, "still", ["true"])
    assert not get(either, "/containers/still/changes")


def test_port_shows_what_is_published(either: Engine) -> None:
    port = support.free_port()
    either.docker(
        "run", "-d", "--name", "open", "-p", f"127.0.0.1:{port}:80", "--expose", "81", "busybox", "sleep", "60"
    )
    assert either.docker("port", "open").stdout == f"80/tcp -> 127.0.0.1:{port}\n"
    assert either.docker("port", "open", "80").stdout == f"127.0.0.1:{port}\n"
    for absent in ("81", "80/udp"):
        assert either.docker("port", "open", absent, check=False).returncode == 1


# commit


def commit(engine: Engine, change: str) -> int:
    query = urlencode({"container": "source", "repo": "committed", "tag": "1", "changes": change, "pause": 0})
    return engine.request("POST", f"/commit?{query}", {})[0]


@pytest.mark.parametrize(
    ("change", "field", "expected"),
    [
        ('CMD ["a","b c"]', "Cmd", ["a", "b c"]),
        ("CMD echo $X", "Cmd", ["/bin/sh", "-c", "echo $X"]),
        ('cmd ["low"]', "Cmd", ["low"]),
        ('ENTRYPOINT ["/e"]', "Entrypoint", ["/e"]),
        ("ENTRYPOINT sh x", "Cmd", None),
        ('ENV A=1 B="2 3"', "Env", ["A=1", "B=2 3", "PATH=/bin"]),
        ("ENV A 1 2", "Env", ["A=1 2", "PATH=/bin"]),
        ("ENV B=$A:${PATH}:${NO:-none}", "Env", ["A=orig", "B=orig:/bin:none", "PATH=/bin"]),
        ("LABEL a=b \"c d\"='$A'", "Labels", {"a": "b", "c d": "$A", "l": "1"}),
        ("LABEL a=$A", "Labels", {"a": "orig", "l": "1"}),
        ("EXPOSE 80 90/udp", "ExposedPorts", {"80/tcp": {}, "90/udp": {}}),
        ("EXPOSE 70-72", "ExposedPorts", {"70/tcp": {}, "71/tcp": {}, "72/tcp": {}}),
        ("VOLUME /a /b", "Volumes", {"/a": {}, "/b": {}}),
        ('VOLUME ["/c d"]', "Volumes", {"/c d": {}}),
        ("USER me:grp", "User", "me:grp"),
        ("WORKDIR /w", "WorkingDir", "/w"),
        ("WORKDIR rel/$A", "WorkingDir", "/tmp/rel/orig"),
        ("ONBUILD RUN x", "OnBuild", ["RUN x"]),
        ("HEALTHCHECK NONE", "Healthcheck", {"Test": ["NONE"]}),
        ('HEALTHCHECK CMD ["a","b"]', "Healthcheck", {"Test": ["CMD", "a", "b"]}),
        (
            "HEALTHCHECK --interval=1m30s --timeout=2s --retries=3 CMD curl x",
            "Healthcheck",
            {"Test": ["CMD-SHELL", "curl x"], "Interval": 90 * 10**9, "Timeout": 2 * 10**9, "Retries": 3},
        ),
        ("ENV A=1\nLABEL z=1", "Labels", {"l": "1", "z": "1"}),
    ],
)
def test_a_change_of_a_commit(committed: Engine, change: str, field: str, expected: object) -> None:
    assert commit(committed, change) == 201
    found = get(committed, "/images/committed:1/json")["Config"].get(field)
    committed.request("DELETE", "/images/committed:1")
    assert (sorted(found) if field == "Env" else found) == expected


@pytest.mark.parametrize(
    "change", ["RUN x", "FROM x", "BOGUS", "ENV", "USER", "EXPOSE foo", "ONBUILD FROM x", "HEALTHCHECK x", 'LABEL a="b']
)
def test_a_change_that_cannot_be(committed: Engine, change: str) -> None:
    assert commit(committed, change) in (400, 500)  # the second is what dockerd 20.10 says of some
    assert committed.request("GET", "/images/committed:1/json")[0] == 404


@pytest.fixture(scope="module")
def committed(_either: Engine) -> Iterator[Engine]:
    """With a container "source" that runs."""
    script = "echo added >/added; sleep 600"
    _either.docker(
        "run", "-d", "--name", "source", "-e", "A=orig", "--label", "l=1", "-w", "/tmp", "busybox", "sh", "-c", script
    )
    yield _either
    _either.docker("rm", "-f", "source")


def test_a_configuration_in_the_body_is_filled_up_with_the_containers(committed: Engine) -> None:
    body = {"Cmd": ["new"], "Labels": {"m": "2"}, "Env": ["C=3"]}
    query = "container=source&repo=committed&tag=1&changes=USER%20me&pause=0"
    assert committed.request("POST", f"/commit?{query}", body)[0] == 201
    found = get(committed, "/images/committed:1/json")["Config"]
    committed.request("DELETE", "/images/committed:1")
    assert (found["Cmd"], found["Labels"], found["User"]) == (["new"], {"l": "1", "m": "2"}, "me")
    assert sorted(found["Env"]) == ["A=orig", "C=3", "PATH=/bin"] and found["WorkingDir"] == "/tmp"


def test_what_a_commit_keeps(either: Engine) -> None:
    run(either, "keeps", ["sh", "-c", "echo added >/added"], Labels={"l": "1"})
    wait(either, "keeps")
    done = either.docker("commit", "-a", "me <x>", "-m", "words", "keeps", "kept:1")
    image = get(either, "/images/kept:1/json")
    assert done.stdout.strip() == image["Id"]
    assert (image["Author"], image["Comment"]) == ("me <x>", "words")
    assert len(image["RootFS"]["Layers"]) == 2 and image["Config"]["Labels"] == {"l": "1"}
    newest = get(either, "/images/kept:1/history")[0]
    assert newest["Comment"] == "words" and newest["Tags"] == ["kept:1"] and newest["Size"] > 0
    assert either.docker("run", "--rm", "kept:1", "cat", "/added").stdout == "added\n"
    either.docker("rmi", "kept:1")
    for wrong in ("BAD", "a@sha256:" + "a" * 64):
        assert either.docker("commit", "keeps", wrong, check=False).returncode == 1


# the engine


def test_disk_usage(either: Engine) -> None:
    either.docker("run", "--name", "writes", "-v", "dfvol:/v", "busybox", "sh", "-c", "echo hi >/f; echo hello >/v/f")
    found = get(either, "/system/df")
    (container,) = (item for item in found["Containers"] if item["Names"] == ["/writes"])
    assert container["SizeRw"] == 3 and container["SizeRootFs"] > 1_000_000
    (volume,) = (item for item in found["Volumes"] if item["Name"] == "dfvol")
    assert volume["UsageData"] == {"RefCount": 1, "Size": 6}
    image = next(item for item in found["Images"] if "busybox:latest" in item["RepoTags"])
    assert image["Containers"] >= 1 and image["SharedSize"] >= 0 and found["LayersSize"] >= image["Size"]
    either.docker("commit", "writes", "dfshare:1")
    shared = {tag: item["SharedSize"] for item in get(either, "/system/df")["Images"] for tag in item["RepoTags"] or ()}
    assert shared["dfshare:1"] == shared["busybox:latest"] > 1_000_000
    either.docker("rmi", "dfshare:1")
    table = either.docker("system", "df", "--format", "{{.Type}}:{{.TotalCount}}:{{.Active}}").stdout.splitlines()
    assert [line.partition(":")[0] for line in table] == ["Images", "Containers", "Local Volumes", "Build Cache"]
    assert "dfvol" in either.docker("system", "df", "-v").stdout
    either.docker("rm", "writes")
    either.docker("volume", "rm", "dfvol")


def test_disk_usage_of_some_kinds(clean: Engine) -> None:
    """Since API 1.42, which dockerd 20.10 does not speak."""
    found = get(clean, "/system/df?type=volume&type=container")
    assert found["Images"] is None and found["BuildCache"] is None and "LayersSize" not in found
    assert found["Volumes"] is not None and found["Containers"] is not None
    assert clean.request("GET", "/system/df?type=nosuch")[0] == 400
    assert get(clean, "/v1.41/system/df?type=volume")["Images"] is not None


def test_finished_build_steps_are_listed(clean: Engine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nENV a=b\nRUN head -c 100000 /dev/zero >/large\n")
    clean.docker("build", "-t", "stepped", str(tmp_path))
    steps = {step["Description"]: step for step in get(clean, "/system/df")["BuildCache"]}
    step = next(step for text, step in steps.items() if "100000" in text)
    assert step["Shared"] and step["Size"] > 100_000 and not step["InUse"] and step["LastUsedAt"] > "2000"
    clean.docker("rmi", "stepped")
    steps = {step["ID"]: step for step in get(clean, "/system/df")["BuildCache"]}
    assert not steps[step["ID"]]["Shared"]
    clean.docker("builder", "prune", "-af")
    assert get(clean, "/system/df")["BuildCache"] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_info_and_version(either: Engine, version: str) -> None:
    info = get(either, f"{version}/info")
    for name, kind in {
        "ID": str, "Containers": int, "ContainersRunning": int, "ContainersPaused": int, "ContainersStopped": int,
        "Images": int, "Driver": str, "DriverStatus": list, "MemoryLimit": bool, "SwapLimit": bool, "CpuCfsQuota": bool,
        "CPUShares": bool, "CPUSet": bool, "PidsLimit": bool, "IPv4Forwarding": bool, "OomKillDisable": bool,
        "NFd": int, "NGoroutines": int, "SystemTime": str, "LoggingDriver": str, "CgroupDriver": str,
        "NEventsListener": int, "KernelVersion": str, "OperatingSystem": str, "OSType": str, "Architecture": str,
        "IndexServerAddress": str, "NCPU": int, "MemTotal": int, "DockerRootDir": str, "Name": str, "Labels": list,
        "ServerVersion": str, "Runtimes": dict, "DefaultRuntime": str, "LiveRestoreEnabled": bool,
        "SecurityOptions": list, "Debug": bool, "ExperimentalBuild": bool, "HttpProxy": str, "InitBinary": str,
    }.items():  # fmt: skip
        assert isinstance(info[name], kind), name
    assert info["Swarm"]["LocalNodeState"] == "inactive" and info["Swarm"]["RemoteManagers"] is None
    assert set(info["Plugins"]) == {"Volume", "Network", "Authorization", "Log"}
    assert {"json-file", "none"} & set(info["Plugins"]["Log"]) and info["DefaultRuntime"] in info["Runtimes"]
    assert "docker.io" in info["RegistryConfig"]["IndexConfigs"] and info["Containers"] >= 0
    found = get(either, f"{version}/version")
    assert set(found) >= {
        "Platform", "Components", "Version", "ApiVersion", "MinAPIVersion", "GitCommit", "GoVersion", "Os", "Arch",
        "KernelVersion", "BuildTime",
    }  # fmt: skip
    assert found["Components"][0]["Name"] == "Engine"
    assert found["Components"][0]["Details"]["ApiVersion"] == found["ApiVersion"]


def test_counts_in_info_follow_the_containers(either: Engine) -> None:
    def counts() -> tuple[int, ...]:
        info = get(either, "/info")
        return tuple(info[f"Containers{name}"] for name in ("", "Running", "Paused", "Stopped"))

    before = counts()
    run(either, "one", ["sleep", "60"])
    run(either, "two", ["sleep", "60"])
    create(either, "three", ["true"])
    either.docker("pause", "two")
    assert tuple(now - then for now, then in zip(counts(), before, strict=True)) == (3, 1, 1, 1)
    either.docker("unpause", "two")


@pytest.mark.parametrize("version", VERSIONS)
def test_containers_and_images_for_clients_of_all_ages(either: Engine, version: str) -> None:
    identifier = run(either, "aged", ["sleep", "60"], Labels={"a": "b"}, HostConfig={"NetworkMode": "default"})
    (listed,) = get(either, f"{version}/containers/json?all=1")
    assert set(listed) >= {
        "Id", "Names", "Image", "ImageID", "Command", "Created", "Ports", "Labels", "State", "Status", "HostConfig",
        "NetworkSettings", "Mounts",
    }  # fmt: skip
    assert listed["Id"] == identifier and listed["Names"] == ["/aged"] and listed["Image"] == "busybox"
    assert listed["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    shown = get(either, f"{version}/containers/aged/json")
    assert shown["NetworkSettings"]["IPAddress"] == listed["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert shown["State"]["Running"] and shown["Config"]["Labels"] == {"a": "b"}
    image = next(item for item in get(either, f"{version}/images/json") if "busybox:latest" in (item["RepoTags"] or ()))
    assert image["Id"] == listed["ImageID"] and image["Size"] > 1_000_000 and image["ParentId"] == ""
    detail = get(either, f"{version}/images/busybox/json")
    assert detail["Id"] == image["Id"] and detail["RootFS"]["Type"] == "layers"
    if version:
        assert image["VirtualSize"] == image["Size"] == detail["VirtualSize"]
        assert detail["ContainerConfig"]["Cmd"] is None and detail["Config"]["Hostname"] == ""


@pytest.mark.parametrize(("version", "status"), [("9.99", 400), ("1.24", 200), ("1.41", 200)])
def test_versions_that_are_spoken(either: Engine, version: str, status: int) -> None:
    assert either.request("GET", f"/v{version}/containers/json")[0] == status
