"""What `docker ps` shows and hides: every filter, the format, sizes and the last ones; prune's filters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lookin_support import create, run, wait

import support
from support import Engine

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def populated(_either: Engine) -> Iterator[tuple[Engine, int]]:
    """aa: runs, on a network, with a volume and a published port. bb: runs. cc: ended with 3. dd: never started."""
    engine, port = _either, support.free_port()
    engine.docker("network", "create", "psnet")
    engine.docker("volume", "create", "psvol")
    aa = ("--label", "x=1", "--label", "y", "-v", "psvol:/vol", "-p", f"127.0.0.1:{port}:80", "--network", "psnet")
    engine.docker("run", "-d", "--name", "aa", *aa, "busybox", "sh", "-c", "echo hello >/f; sleep 600")
    engine.docker(
        "run", "-d", "--name", "bb", "--label", "x=2", "--expose", "99", "-v", "/tmp:/t", "busybox", "sleep", "9"
    )
    run(engine, "cc", ["sh", "-c", "exit 3"])
    wait(engine, "cc")
    create(engine, "dd", ["true"])
    try:
        yield engine, port
    finally:
        engine.clear()
        engine.docker("volume", "rm", "psvol")
        engine.docker("network", "rm", "psnet")


def names(engine: Engine, *words: str) -> list[str]:
    return engine.docker("ps", "--format", "{{.Names}}", *words).stdout.split()


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("name=aa", "aa"), ("name=^/aa$", "aa"), ("name=^a", "aa"), ("name=zz", ""), ("name=[", ""),
        ("label=x", "bb aa"), ("label=x=1", "aa"), ("label=y", "aa"), ("label=x=3", ""),
        ("exited=3", "cc"), ("exited=0", ""),
        ("status=running", "bb aa"), ("status=exited", "cc"), ("status=created", "dd"), ("status=paused", ""),
        ("ancestor=busybox", "dd cc bb aa"), ("ancestor=busybox:latest", "dd cc bb aa"), ("ancestor=nosuch", ""),
        ("before=bb", "aa"), ("since=bb", "dd cc"),
        ("volume=psvol", "aa"), ("volume=/vol", "aa"), ("volume=/t", "bb"), ("volume=/tmp", "bb"), ("volume=/x", ""),
        ("network=psnet", "aa"), ("network=bridge", "dd cc bb"), ("network=nosuch", ""),
        ("publish=80", ""), ("publish=1-79/udp", ""),
        ("expose=99", "bb"), ("expose=98-100/tcp", "bb"), ("expose=99/udp", ""), ("expose=80", "aa"),
        ("health=none", "dd cc bb aa"), ("health=healthy", ""), ("health=starting", ""),
        ("isolation=default", "dd cc bb aa"), ("is-task=false", "dd cc bb aa"), ("is-task=true", ""),
    ],
)  # fmt: skip
def test_a_filter_chooses(populated: tuple[Engine, int], chosen: str, expected: str) -> None:
    assert names(populated[0], "-a", "--filter", chosen) == expected.split()


def test_publish_is_about_ports_of_the_host(populated: tuple[Engine, int]) -> None:
    engine, port = populated
    for text in (f"{port}", f"{port}/tcp", f"{port - 1}-{port + 1}"):
        assert names(engine, "-a", "--filter", f"publish={text}") == ["aa"]
    assert names(engine, "-a", "--filter", f"publish={port}/udp") == []


def test_an_id_is_chosen_by_its_beginning(populated: tuple[Engine, int]) -> None:
    engine = populated[0]
    assert names(engine, "-a", "--filter", f"id={engine.inspect('cc')['Id'][:20]}") == ["cc"]


def test_filters_add_up_and_values_are_alternatives(populated: tuple[Engine, int]) -> None:
    engine = populated[0]
    assert names(engine, "--filter", "status=running", "--filter", "status=exited") == ["cc", "bb", "aa"]
    assert names(engine, "--filter", "label=x", "--filter", "label=y") == ["aa"]
    assert names(engine, "--filter", "volume=psvol", "--filter", "name=b") == []
    assert names(engine, "-a", "--filter", "exited=3", "--filter", "exited=0") == ["cc"]


def test_without_all_only_running_ones_are_listed(populated: tuple[Engine, int]) -> None:
    engine = populated[0]
    assert names(engine) == ["bb", "aa"]
    assert names(engine, "--filter", "exited=3") == []
    assert names(engine, "--filter", "before=dd") == ["bb", "aa"]


def test_the_last_ones_are_of_any_state(populated: tuple[Engine, int]) -> None:
    engine = populated[0]
    assert names(engine, "--last", "2") == ["dd", "cc"]
    assert names(engine, "--latest") == ["dd"]
    assert names(engine, "-n", "1", "--filter", "status=running") == ["bb"]


@pytest.mark.parametrize(
    "wrong",
    ["status=bogus", "health=bogus", "is-task=bogus", "exited=x", "publish=x", "expose=x", "nosuch=1", "label!=x",
     "before=nosuch", "since=nosuch"],
)  # fmt: skip
def test_a_wrong_filter_is_an_error(populated: tuple[Engine, int], wrong: str) -> None:
    done = populated[0].docker("ps", "-a", "--filter", wrong, check=False)
    assert done.returncode == 1 and done.stdout == ""


def test_the_format_has_every_field(populated: tuple[Engine, int]) -> None:
    engine, port = populated
    form = "{{.Names}}|{{.Image}}|{{.Command}}|{{.State}}|{{.Labels}}|{{.Mounts}}|{{.LocalVolumes}}|{{.Networks}}"
    lines = engine.docker("ps", "-a", "--no-trunc", "--format", form).stdout.splitlines()
    assert lines == [
        'dd|busybox|"true"|created|||0|bridge',
        "cc|busybox|\"sh -c 'exit 3'\"|exited|||0|bridge",
        'bb|busybox|"sleep 9"|running|x=2|/tmp|0|bridge',
        "aa|busybox|\"sh -c 'echo hello >/f; sleep 600'\"|running|x=1,y=|psvol|1|psnet",
    ]
    shown = engine.docker("ps", "-a", "--format", "{{.Names}} {{.Ports}} {{.Status}} {{.RunningFor}}").stdout
    lines = shown.splitlines()
    assert lines[0].startswith("dd  Created ") and lines[1].startswith("cc  Exited (3) ")
    assert lines[2].startswith("bb 99/tcp Up ") and lines[3].startswith(f"aa 127.0.0.1:{port}->80/tcp Up ")


def test_sizes_are_of_what_the_container_wrote(populated: tuple[Engine, int]) -> None:
    engine = populated[0]
    support.until(lambda: "A /f" in engine.docker("diff", "aa").stdout, what="the file")
    found = {item["Names"][0]: item for item in engine.request("GET", "/containers/json?all=1&size=1")[1]}
    assert found["/aa"]["SizeRw"] == len("hello\n") and "SizeRw" not in found["/dd"]
    assert found["/aa"]["SizeRootFs"] == found["/dd"]["SizeRootFs"] + len("hello\n") > 1_000_000
    shown = engine.request("GET", "/containers/dd/json?size=1")[1]
    assert shown["SizeRw"] == 0 and shown["SizeRootFs"] == found["/dd"]["SizeRootFs"]
    assert "SizeRw" not in engine.inspect("aa")


@pytest.mark.parametrize(
    ("chosen", "left"),
    [
        (["label=p"], {"three", "four"}),
        (["label!=p"], {"one", "two"}),
        (["label!=p=1"], {"one"}),
        (["label=p", "label!=p=1"], {"one", "three", "four"}),
        (["until=1h"], {"one", "two", "three", "four"}),
        ([], set()),
    ],
)
def test_prune_takes_what_its_filters_name(either: Engine, chosen: list[str], left: set[str]) -> None:
    for name, words in {"one": ["-l", "p=1"], "two": ["-l", "p=2"], "three": [], "four": ["-l", "q"]}.items():
        either.docker("create", "--name", name, *words, "busybox", "true")
    words = [word for text in chosen for word in ("--filter", text)]
    assert "Total reclaimed space: 0B" in either.docker("container", "prune", "-f", *words).stdout
    assert set(names(either, "-a")) & {"one", "two", "three", "four"} == left
    assert either.docker("container", "prune", "-f", "--filter", "nosuch=1", check=False).returncode == 1
