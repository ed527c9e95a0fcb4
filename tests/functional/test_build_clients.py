"""Builds by Docker's own clients: what they send, what they make of the answer, and what happens when they go."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import docker
import docker.errors
import pytest

import support
from conftest import import_busybox
from support import Engine

pytestmark = pytest.mark.root
SHORT = "[0-9a-f]{12}"


@pytest.fixture
def unique() -> str:
    """A name of the test's own: what earlier builds have left does not matter to it."""
    return f"t{uuid4().hex[:10]}"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    return directory


def recipe(context: Path, *lines: str) -> Path:
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    return context


def posted(engine: Engine, query: str, files: dict[str, str | bytes]) -> tuple[int, list[dict[str, Any]]]:
    """The messages of a POST /build."""
    body = support.context_tar(files)
    status, answer = engine.request("POST", f"/build?{query}", body, {"Content-Type": "application/x-tar"})
    if isinstance(answer, dict):
        return status, [answer]
    return status, [json.loads(line) for line in answer.splitlines() if line.strip()]


def text(messages: list[dict[str, Any]]) -> str:
    return "".join(message.get("stream", "") for message in messages)


@contextmanager
def docker_py(engine: Engine) -> Iterator[docker.DockerClient]:
    with closing(docker.DockerClient(base_url=engine.address, timeout=60)) as client:
        yield client


# --- the docker command line --------------------------------------------------------------------------


def test_the_cli_shows_a_build_as_it_is_used_to(either: Engine, context: Path, unique: str) -> None:
    recipe(context, "FROM busybox AS first", f"RUN echo {unique}", "FROM busybox", "ARG USED",
           "RUN echo $USED; printf x", "COPY --from=first /etc /copied", 'CMD ["true"]')  # fmt: skip
    arguments = ("build", "-t", unique, "--build-arg", f"USED={unique}", "--build-arg", "LOST=1", str(context))
    shown = either.docker(*arguments).stdout
    steps = re.findall(r"^Step (\d+)/7 : (\w+)", shown, re.MULTILINE)
    assert steps == [
        ("1", "FROM"), ("2", "RUN"), ("3", "FROM"), ("4", "ARG"), ("5", "RUN"), ("6", "COPY"), ("7", "CMD"),
    ]  # fmt: skip
    assert re.search(
        rf"^Step 2/7 : RUN echo {unique}\n ---> Running in {SHORT}\n{unique}\n"
        rf"Removing intermediate container {SHORT}\n ---> {SHORT}\nStep 3/7",
        shown, re.MULTILINE,
    )  # fmt: skip
    assert "[Warning] One or more build-args [LOST] were not consumed" in shown
    assert re.search(rf"Successfully built {SHORT}\nSuccessfully tagged {unique}:latest\n$", shown)
    again = either.docker(*arguments).stdout
    assert again.count(" ---> Using cache") == 5 and "Running in" not in again
    assert re.findall("built .*", again) == re.findall("built .*", shown)
    assert "Using cache" not in either.docker(*arguments[:1], "--no-cache", *arguments[1:]).stdout


def test_a_quiet_build_prints_the_id(either: Engine, context: Path, unique: str) -> None:
    recipe(context, "FROM busybox", f"RUN echo {unique}")
    found = either.docker("build", "-q", "-t", unique, str(context)).stdout
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", found)
    assert either.docker("inspect", "-f", "{{.Id}}", unique).stdout == found
    recipe(context, "FROM busybox", f"RUN echo shown-{unique}; exit 3")
    failed = either.docker("build", "-q", str(context), check=False)
    assert failed.returncode == 3
    assert f"shown-{unique}\n" in failed.stderr and "returned a non-zero code: 3" in failed.stderr


def test_a_failing_step_gives_its_code(either: Engine, context: Path, unique: str) -> None:
    recipe(context, "FROM busybox", f"RUN echo {unique}; exit 5", "RUN echo never")
    failed = either.docker("build", str(context), check=False)
    assert failed.returncode == 5 and f"\n{unique}\n" in failed.stdout and "Step 3" not in failed.stdout
    message = f"The command '/bin/sh -c echo {unique}; exit 5' returned a non-zero code: 5"
    assert message in failed.stderr
    messages = posted(either, "", {"Dockerfile": (context / "Dockerfile").read_bytes()})[1]
    assert messages[-1] == {"errorDetail": {"code": 5, "message": message}, "error": message}


def test_flags_reach_the_build(either: Engine, context: Path, unique: str, tmp_path: Path) -> None:
    (context / "sub").mkdir()
    (context / "sub" / "other").write_text(
        f"FROM busybox AS wanted\nRUN (echo {unique}; cat /etc/hosts; ulimit -n; "
        "ls -d /sys/class/net/eth0 || echo no net) >/seen\nFROM wanted\nRUN false\n"
    )
    identity = tmp_path / "id"
    either.docker(
        "build", "-f", str(context / "sub" / "other"), "--target", "wanted", "--label", "a=b",
        "--add-host", "db:10.9.8.7",
        "--ulimit", "nofile=77:88", "--network", "none", "--memory", "64m", "--shm-size", "8m", "--force-rm",
        "--iidfile", str(identity), "-t", f"{unique}:one", "-t", f"{unique}:two", str(context),
    )  # fmt: skip
    # In a file: of the output of a short command dockerd may lose the end.
    shown = either.docker("run", "--rm", f"{unique}:one", "cat", "/seen").stdout
    assert re.search(r"10\.9\.8\.7\s+db\n", shown) and "\n77\n" in shown and "no net" in shown
    assert identity.read_text().startswith("sha256:")
    for tag in ("one", "two"):
        found = either.docker("inspect", "-f", "{{.Id}} {{.Config.Labels.a}}", f"{unique}:{tag}").stdout
        assert found.split() == [identity.read_text(), "b"]


def test_archives_and_recipes_come_by_stdin(either: Engine, unique: str) -> None:
    import bz2
    import gzip
    import lzma

    plain = support.context_tar({"Dockerfile": f"FROM busybox\nCOPY a /{unique}\n", "a": "content"})
    kinds = {"tar": plain, "gzip": gzip.compress(plain), "bzip2": bz2.compress(plain), "xz": lzma.compress(plain)}
    for kind, archive in kinds.items():
        status, text_ = either.request(
            "POST", f"/build?t={unique}:{kind}", archive, {"Content-Type": "application/x-tar"}
        )
        assert status == 200 and f"tagged {unique}:{kind}" in text_, kind
    shown = either.docker("build", "-t", f"{unique}:piped", "-", stdin=f"FROM busybox\nENV A={unique}\n").stdout
    assert f"Successfully tagged {unique}:piped" in shown
    assert either.docker("run", "--rm", f"{unique}:xz", "cat", f"/{unique}").stdout == "content"


def test_a_recipe_comes_by_stdin_beside_its_context(either: Engine, context: Path, unique: str) -> None:
    """The client adds it to the archive, whose end it then leaves out."""
    (context / "a").write_text("content")
    words = ("build", "-t", unique, "-f", "-", str(context))
    assert f"Successfully tagged {unique}" in either.docker(*words, stdin=f"FROM busybox\nCOPY a /{unique}\n").stdout
    assert either.docker("run", "--rm", unique, "cat", f"/{unique}").stdout == "content"


# --- the API ------------------------------------------------------------------------------------------


def test_the_ids_of_a_build_are_where_clients_look(either: Engine, unique: str) -> None:
    status, messages = posted(either, f"t={unique}&rm=1", {"Dockerfile": f"FROM busybox\nENV A={unique}\n"})
    assert status == 200
    ids = [message["aux"]["ID"] for message in messages if "aux" in message]
    assert ids[-1] == either.request("GET", f"/images/{unique}/json")[1]["Id"]
    assert f"Successfully built {ids[-1][7:19]}\n" in text(messages)


@pytest.mark.parametrize(
    "query", ["buildargs=[", "labels=[]", "cachefrom={}", "ulimits={}", "isolation=hyperv", "outputs={}", "version=3"]
)
def test_bad_parameters_are_refused(either: Engine, query: str) -> None:
    status, messages = posted(either, quote(query, safe="="), {"Dockerfile": "FROM scratch\nENV A=b\n"})
    # dockerd 20.10 calls some of them an error of its own.
    assert status in (400, 500) and messages[0]["message"] and "Step 1" not in text(messages)
    status, messages = posted(either, "t=UPPER", {"Dockerfile": "FROM scratch\nENV A=b\n"})
    assert (status in (400, 500) and "UPPER" in messages[0]["message"]) or "reference" in messages[0]["message"]


def test_a_mistake_in_the_recipe_is_no_stream(either: Engine) -> None:
    for content in ("FORM busybox\n", "RUN true\n", ""):
        status, messages = posted(either, "", {"Dockerfile": content})
        assert status in (400, 500) and messages[0]["message"]
    status, messages = posted(either, "dockerfile=none", {"Dockerfile": "FROM busybox\n"})
    assert status in (400, 404, 500) and "none" in messages[0]["message"]


# --- docker-py ----------------------------------------------------------------------------------------


def test_docker_py_builds(either: Engine, context: Path, unique: str) -> None:
    import io

    recipe(context, "FROM busybox", "ARG A", f"RUN echo $A {unique}")
    with docker_py(either) as client:
        image, log = client.images.build(
            path=str(context), tag=unique, buildargs={"A": "given"}, labels={"l": "v"}, rm=True, forcerm=True,
            nocache=True, container_limits={"memory": 64 << 20}, network_mode="none", extra_hosts={"db": "10.9.8.7"},
            shmsize=8 << 20, cache_from=["busybox"], target="",
        )  # fmt: skip
        assert image.tags == [f"{unique}:latest"] and image.labels == {"l": "v"}
        assert {"stream": f"given {unique}\n"} in list(log)
        image, _ = client.images.build(fileobj=io.BytesIO(f"FROM busybox\nENV A={unique}".encode()), gzip=True)
        assert f"A={unique}" in image.attrs["Config"]["Env"]
        recipe(context, "FROM busybox", f"RUN echo {unique}; false")
        with pytest.raises(docker.errors.BuildError, match="non-zero code: 1") as raised:
            client.images.build(path=str(context))
        assert {"stream": f"{unique}\n"} in list(raised.value.build_log)
        # A recipe outside of the context.
        outside = context.parent / "outside"
        outside.write_text(f"FROM busybox\nENV B={unique}\n")
        image, _ = client.images.build(path=str(context), dockerfile=str(outside))
        assert f"B={unique}" in image.attrs["Config"]["Env"]


def test_docker_py_prunes(clean: Engine, context: Path, unique: str) -> None:
    recipe(context, "FROM busybox", f"RUN echo {unique} >/a", f"RUN echo {unique} >/b")
    with docker_py(clean) as client:
        client.images.build(path=str(context), tag=unique)
        client.images.remove(unique)
        kept = [step for step in client.df()["BuildCache"] if unique in step["Description"]]
        assert len(kept) == 2 and {step["Type"] for step in kept} == {"regular"}
        assert kept[0]["ID"] in kept[1].get("Parents", []) or kept[1]["ID"] in kept[0].get("Parents", [])
        assert client.api.prune_builds(filters={"until": "24h"})["CachesDeleted"] == []
        pruned = client.api.prune_builds(filters={"description": unique}, all=True)
        assert {step["ID"] for step in kept} <= set(pruned["CachesDeleted"]) and pruned["SpaceReclaimed"] > 0
        assert not [step for step in client.df()["BuildCache"] if unique in step["Description"]]


# --- docker-compose -----------------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="docker-compose is not installed")
def test_compose_builds(either: Engine, context: Path, unique: str) -> None:
    recipe(context, "FROM busybox AS base", "ARG A", "RUN echo $A >/a && grep -w database /etc/hosts >/hosts",
           "FROM base", "RUN false")  # fmt: skip
    build = {
        "context": ".", "target": "base", "args": {"A": unique}, "labels": {"l": "v"}, "cache_from": ["busybox"],
        "extra_hosts": {"database": "10.9.8.7"}, "shm_size": "8m",
    }  # fmt: skip
    project = {"version": "2.4", "services": {"one": {"image": unique, "build": build}}}
    (context / "docker-compose.yml").write_text(json.dumps(project))
    environment = {**os.environ, "DOCKER_HOST": either.address, "DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"}
    done = subprocess.run(
        ["docker-compose", "build", "--no-cache"], cwd=context, env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and f"Successfully tagged {unique}:latest" in done.stdout, done.stdout + done.stderr
    found = either.docker("run", "--rm", unique, "cat", "/a", "/hosts").stdout
    assert found.split() == [unique, "10.9.8.7", "database"]


# --- going, and coming together -----------------------------------------------------------------------


def is_running(argument: str) -> bool:
    """Whether any process of the host has this as one of its arguments."""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if argument.encode() in process.read_bytes().split(b"\0")[1:2]:
                return True
        except OSError:
            continue
    return False


def started_build(engine: Engine, context: Path, *more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": "/nonexistent"}
    return subprocess.Popen(
        ["docker", "-H", engine.address, "build", *more, str(context)], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_a_client_that_goes_ends_its_build(either: Engine, context: Path, unique: str) -> None:
    seconds = str(10**6 + int(unique[1:6], 16))
    recipe(context, "FROM busybox", f"RUN echo {unique}", f"RUN sleep {seconds}")
    for sent in (signal.SIGINT, signal.SIGKILL):
        client = started_build(either, context)
        try:
            support.until(lambda: is_running(seconds), what="the command of the build")
            client.send_signal(sent)
            client.communicate(timeout=20)
        finally:
            client.kill()
        support.until(lambda: not is_running(seconds), what="the end of the command")
    # What was finished is there.
    recipe(context, "FROM busybox", f"RUN echo {unique}", "CMD true")
    assert "Using cache" in either.docker("build", str(context)).stdout


def test_a_build_is_cancelled_by_its_id(clean: Engine, context: Path, unique: str) -> None:
    import threading

    seconds = str(10**6 + int(unique[1:6], 16))
    answers: list[Any] = []
    files: dict[str, str | bytes] = {"Dockerfile": f"FROM busybox\nRUN sleep {seconds}\n"}
    thread = threading.Thread(target=lambda: answers.append(posted(clean, f"buildid={unique}", files)))
    thread.start()
    support.until(lambda: is_running(seconds), what="the command of the build")
    assert clean.request("POST", f"/build/cancel?id={unique}")[0] == 200
    thread.join(20)
    # In band, if anything was told before.
    last = answers[0][1][-1]
    assert "cancelled" in last.get("error", last.get("message"))
    support.until(lambda: not is_running(seconds), what="the end of the command")


def test_two_clients_build_at_once(either: Engine, context: Path, unique: str) -> None:
    recipe(context, "FROM busybox AS one", f"RUN sleep 1; echo first of {unique} >/one", "FROM busybox AS two",
           f"RUN sleep 1; echo second of {unique} >/two")  # fmt: skip
    clients = {
        target: started_build(either, context, "--target", target, "-t", f"{unique}:{target}")
        for target in ("one", "two")
    }
    for target, client in clients.items():
        shown = client.communicate(timeout=60)[0]
        assert client.returncode == 0 and f"Successfully tagged {unique}:{target}" in shown
    assert either.docker("run", "--rm", f"{unique}:one", "cat", "/one").stdout == f"first of {unique}\n"
    assert either.docker("run", "--rm", f"{unique}:two", "cat", "/two").stdout == f"second of {unique}\n"


def test_the_same_build_by_two_clients_is_one(clean: Engine, context: Path, unique: str) -> None:
    recipe(context, "FROM busybox", f"RUN echo {unique}; sleep 1; cat /proc/sys/kernel/random/uuid >/id")
    clients = [started_build(clean, context, "-t", f"{unique}:{number}") for number in range(2)]
    for client in clients:
        shown = client.communicate(timeout=60)[0]
        assert client.returncode == 0 and f"\n{unique}\n" in shown
    ids = [clean.docker("run", "--rm", f"{unique}:{number}", "cat", "/id").stdout for number in range(2)]
    assert ids[0] == ids[1] != ""


def test_stages_side_by_side_read_one_after_the_other(clean: Engine, context: Path, unique: str) -> None:
    recipe(context, "FROM busybox AS slow", f"RUN echo {unique}; sleep 1; echo slow >/slow", "FROM busybox AS quick",
           f"RUN echo {unique}; for i in 1 2 3; do echo quick $i; done; echo quick >/quick", "FROM busybox",
           "COPY --from=slow /slow /", "COPY --from=quick /quick /")  # fmt: skip
    shown = clean.docker("build", str(context)).stdout
    assert re.findall(r"^Step (\d)", shown, re.MULTILINE) == ["1", "2", "3", "4", "5", "6", "7"]
    first, second = shown.index("Step 2/7"), shown.index("Step 4/7")
    assert first < shown.index(f"\n{unique}\n") < second < shown.index("quick 1\nquick 2\nquick 3\n")


# --- hooper's own client ------------------------------------------------------------------------------


def test_hoopers_client_builds_by_a_session(clean: Engine, context: Path, unique: str) -> None:
    (context / "file").write_text(unique)
    recipe(context, "FROM busybox", "COPY file /file", "RUN --mount=type=secret,id=s cat /run/secrets/s >/length")
    secret = context.parent / "secret"
    secret.write_text(f"secret of {unique}")
    clean.hooper("build", "--secret", f"id=s,src={secret}", "-t", unique, str(context))
    assert clean.docker("run", "--rm", unique, "cat", "/file", "/length").stdout == f"{unique}secret of {unique}"


def test_the_cli_squashes_where_the_configuration_allows_it(short_tmp: Path, context: Path) -> None:
    with support.hooper(short_tmp / "experimental", config="[daemon]\nexperimental = true\n") as daemon:
        import_busybox(daemon)
        recipe(context, "FROM busybox", "RUN echo 1 > /one", "RUN rm /one; echo 2 > /two")
        assert daemon.docker("version", "-f", "{{.Server.Experimental}}").stdout == "true\n"
        daemon.docker("build", "-t", "squashed", "--squash", str(context))
        images = json.loads(daemon.docker("image", "inspect", "squashed", "busybox").stdout)
        assert [len(image["RootFS"]["Layers"]) for image in images] == [2, 1]
        listed = daemon.docker("run", "--rm", "squashed", "sh", "-c", "ls -d /[ot][nw][eo]")
        assert listed.stdout == "/two\n"
