"""Events: their order and attributes through the life of everything, filters, and times."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from lookin_support import hijacked, read_to_end, run

import support
from support import Engine, Hooper

pytestmark = pytest.mark.root

Event = dict[str, Any]


def recorded(engine: Engine, since: float, **filters: list[str]) -> list[Event]:
    """What has happened since then."""
    query = urlencode({"since": f"{since:.6f}", "until": f"{time.time():.6f}", "filters": json.dumps(filters)})
    status, answer = engine.request("GET", f"/events?{query}")
    assert status == 200, answer
    return [answer] if isinstance(answer, dict) else [json.loads(line) for line in answer.splitlines()]


@contextmanager
def events(engine: Engine) -> Iterator[list[Event]]:
    """The events of the block, in the end."""
    time.sleep(0.01)
    found: list[Event] = []
    since = time.time()
    yield found
    found += recorded(engine, since)


def shown(event: Event) -> str:
    attributes = event["Actor"]["Attributes"]
    words = [f"{key}={value}" for key, value in sorted(attributes.items()) if not re.fullmatch("[0-9a-f]{64}", value)]
    return " ".join([event["Type"], event["Action"], *words])


def lines(found: list[Event], *types: str) -> list[str]:
    return [shown(event) for event in found if not types or event["Type"] in types]


def test_the_life_of_a_container(either: Engine) -> None:
    command = "trap 'exit 4' TERM; while :; do sleep 0.05; done"
    with events(either) as found:
        either.docker("create", "--name", "ev1", "--label", "k=v", "busybox", "sh", "-c", command)
        for words in ("start ev1", "pause ev1", "unpause ev1", "exec ev1 sh -c false", "exec ev1 true", "top ev1",
                      "rename ev1 ev2", "update --cpu-shares 512 ev2"):  # fmt: skip
            either.docker(*words.split(), check=False)
        time.sleep(0.3)  # for the trap to be set
        either.docker("restart", "-t", "9", "ev2")
        time.sleep(0.3)
        either.docker("stop", "-t", "9", "ev2")
        either.docker("rm", "ev2")
    one, two = "image=busybox k=v name=ev1", "image=busybox k=v name=ev2"
    ended = [
        f"container kill {two} signal=15",
        f"container die exitCode=4 {two}",
        "network disconnect name=bridge type=bridge",
        f"container stop {two}",
    ]
    started = ["network connect name=bridge type=bridge", f"container start {two}"]
    assert lines(found) == [
        f"container create {one}",
        "network connect name=bridge type=bridge",
        f"container start {one}",
        f"container pause {one}",
        f"container unpause {one}",
        f"container exec_create: sh -c false {one}",
        f"container exec_start: sh -c false {one}",
        f"container exec_die exitCode=1 {one}",
        f"container exec_create: true  {one}",
        f"container exec_start: true  {one}",
        f"container exec_die exitCode=0 {one}",
        f"container top {one}",
        f"container rename {two} oldName=/ev1",
        f"container update {two}",
        *ended,
        *started,
        f"container restart {two}",
        *ended,
        f"container destroy {two}",
    ]
    first = next(event for event in found if event["Action"] == "start")
    assert (first["status"], first["from"], first["scope"]) == ("start", "busybox", "local")
    assert first["id"] == first["Actor"]["ID"] and first["timeNano"] // 10**9 == first["time"]
    execs = {e["Actor"]["Attributes"]["execID"] for e in found if e["Action"].startswith("exec_")}
    assert len(execs) == 2
    assert [event["timeNano"] for event in found] == sorted(event["timeNano"] for event in found)


def test_volumes_are_mounted_and_go_with_their_container(either: Engine) -> None:
    either.docker("volume", "create", "evvol")
    with events(either) as found:
        either.docker("run", "--name", "ev1", "-v", "evvol:/v:ro", "-v", "/anon", "busybox", "true")
        either.docker("rm", "-v", "ev1")
        either.docker("volume", "rm", "evvol")
    told = [line for line in lines(found, "volume") if line != "volume create driver=local"]
    assert sorted(told[:2]) == [
        "volume mount destination=/anon driver=local propagation= read/write=true",
        "volume mount destination=/v driver=local propagation= read/write=false",
    ]
    assert told[2:] == ["volume unmount driver=local"] * 2 + ["volume destroy driver=local"] * 2
    actions = [event["Action"] for event in found]
    assert actions.index("mount") < actions.index("start") < actions.index("die") < actions.index("unmount")
    assert {event["Actor"]["ID"] for event in found if event["Action"] == "mount"} >= {"evvol"}


def test_a_start_that_fails_has_no_end(either: Engine) -> None:
    with events(either) as found:
        either.docker("run", "--name", "ev1", "busybox", "nosuchprogram", check=False)
        either.docker("rm", "ev1")
    assert [event["Action"] for event in found if event["Type"] == "container"] == ["create", "attach", "destroy"]


def test_a_kill_and_what_is_copied_committed_and_exported(either: Engine, tmp_path: Path) -> None:
    either.docker("run", "-d", "--name", "ev1", "busybox", "sleep", "60")
    with events(either) as found:
        either.docker("cp", "ev1:/etc/passwd", "-")
        either.docker("cp", "-", "ev1:/tmp", stdin=support.context_tar({"x": "y"}))
        either.docker("export", "-o", str(tmp_path / "exported"), "ev1")
        either.docker("commit", "-m", "words", "ev1", "evimage:1")
        either.docker("kill", "ev1")
    either.docker("rmi", "evimage:1")
    common = "image=busybox name=ev1"
    told = [re.sub(" imageID=[^ ]*", "", line) for line in lines(found, "container")]
    assert told == [
        f"container archive-path {common}",
        f"container extract-to-dir {common}",
        f"container export {common}",
        f"container pause {common}",
        "container commit comment=words image=busybox imageRef=evimage:1 name=ev1",
        f"container unpause {common}",
        f"container kill {common} signal=9",
        f"container die exitCode=137 {common}",
    ]
    assert lines(found, "image") == ["image tag name=evimage:1"]


def test_images_and_networks(either: Engine, tmp_path: Path) -> None:
    with events(either) as found:
        either.docker("tag", "busybox", "evimage:2")
        either.docker("save", "-o", str(tmp_path / "saved"), "evimage:2")
        either.docker("rmi", "evimage:2")
        either.docker("import", "-", "evimage:3", stdin=support.context_tar({"x": "y"}))
        either.docker("rmi", "evimage:3")
        either.docker("network", "create", "evnet")
        either.docker("network", "rm", "evnet")
        either.docker("container", "prune", "-f", "--filter", "label=nosuch")
        either.docker("volume", "prune", "-f", "--filter", "label=nosuch")
        either.docker("image", "prune", "-f", "--filter", "label=nosuch")
    told = [(event["Type"], event["Action"]) for event in found]
    assert told == [
        *(("image", action) for action in ("tag", "save", "untag", "tag", "import", "untag", "delete")),
        ("network", "create"),
        ("network", "destroy"),
        *((kind, "prune") for kind in ("container", "volume", "image")),
    ]
    assert all(event["Actor"]["Attributes"]["name"] for event in found if event["Action"] != "prune")
    pruned = [event for event in found if event["Action"] == "prune"]
    assert all(event["Actor"]["Attributes"] == {"reclaimed": "0"} and "id" not in event for event in pruned)


WHOLE = "create|start|exec_create: true |exec_start: true |exec_die|kill|die|destroy"


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"container": ["evf1"]}, WHOLE),
        ({"container": ["evf"]}, WHOLE),
        ({"container": ["other"]}, ""),
        ({"container": ["evf1"], "event": ["start", "die"]}, "start|die"),
        ({"container": ["evf1"], "network": ["bridge"]}, ""),
        ({"network": ["bridge"]}, "connect|disconnect"),
        ({"image": ["busybox"]}, WHOLE),
        ({"event": ["exec_create"]}, "exec_create: true "),
        ({"event": ["exec_create: true "]}, "exec_create: true "),
        ({"event": ["exec"]}, ""),
        ({"type": ["network"]}, "connect|disconnect"),
        ({"type": ["network", "image"]}, "connect|disconnect|tag|untag"),
        ({"type": ["nosuch"]}, ""),
        ({"label": ["q"]}, WHOLE),
        ({"label": ["q=1", "name=evf1"]}, WHOLE),
        ({"label": ["q=2"]}, ""),
        ({"scope": ["swarm"]}, ""),
        ({"scope": ["local"], "event": ["start"]}, "start"),
        ({"daemon": ["nosuch"]}, ""),
        ({"volume": ["nosuch"]}, ""),
        ({"plugin": ["nosuch"]}, ""),
    ],
)
def test_filters(told: tuple[Engine, float, float], filters: dict[str, list[str]], expected: str) -> None:
    engine, since, until = told
    query = urlencode({"since": since, "until": until, "filters": json.dumps(filters)})
    text = engine.request("GET", f"/events?{query}")[1]
    found = [text] if isinstance(text, dict) else [json.loads(line) for line in text.splitlines()]
    assert "|".join(event["Action"] for event in found) == expected


@pytest.fixture(scope="module")
def told(_either: Engine) -> tuple[Engine, float, float]:
    """Between two times a container lived and an image was tagged."""
    time.sleep(0.01)
    since = time.time()
    _either.docker("run", "-d", "--label", "q=1", "--name", "evf1", "busybox", "sleep", "60")
    _either.docker("exec", "evf1", "true")
    _either.docker("rm", "-f", "evf1")
    _either.docker("tag", "busybox", "evtag:1")
    _either.docker("rmi", "evtag:1")
    return _either, since, time.time()


def test_the_cli_follows_and_ends_at_until(either: Engine) -> None:
    since = time.time()
    command = ["docker", "-H", either.address, "events", "--since", f"{since:.3f}", "--until", f"{since + 1.5:.3f}"]
    command += ["--filter", "event=start", "--format", "{{.Actor.Attributes.name}}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        either.docker("run", "--name", "evc", "busybox", "true")
        output, _ = following.communicate(timeout=30)
    assert output == "evc\n" and following.returncode == 0


@pytest.mark.parametrize("query", ["since=nonsense", "until=nonsense", "filters=nonsense"])
def test_what_cannot_be_read_is_refused(either: Engine, query: str) -> None:
    assert either.request("GET", f"/events?{query}")[0] in (400, 500)  # dockerd 20.10 says 500


def test_clients_that_detach(either: Engine) -> None:
    run(either, "leave", ["cat"], Tty=True, OpenStdin=True)
    since = time.time()
    with hijacked(either, "/containers/leave/attach", stream="1", stdin="1", stdout="1") as sock:
        sock.sendall(b"\x10\x11")
        read_to_end(sock)
    made = either.request(
        "POST", "/containers/leave/exec", {"Cmd": ["cat"], "Tty": True, "AttachStdin": True, "AttachStdout": True}
    )[1]["Id"]
    with hijacked(either, f"/exec/{made}/start", {"Tty": True}) as sock:
        sock.sendall(b"\x10\x11")
        read_to_end(sock)
    # dockerd 20.10 tells the first alone; the Engine API names both.
    told = ("attach", "detach", "exec_detach") if isinstance(either, Hooper) else ("attach", "detach")

    def happened() -> list[str]:
        return [event["Action"] for event in recorded(either, since) if event["Action"] in told]

    support.until(lambda: len(happened()) == len(told), what="the events of two clients that detach")
    assert happened() == [*told]
