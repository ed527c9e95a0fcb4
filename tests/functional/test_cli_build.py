"""`hooper build` and `hooper builder` with a real daemon, as people use them."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_support import Terminal

from support import Engine, Hooper, docker_registry

pytestmark = pytest.mark.root


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    directory.mkdir()
    return directory


@pytest.fixture(autouse=True)
def _tidy(request: pytest.FixtureRequest) -> Iterator[None]:
    """Images without a name go after each test."""
    daemon = request.getfixturevalue("clean") if "clean" in request.fixturenames else None
    yield
    if daemon:
        daemon.hooper("image", "prune", "-f")


def write(directory: Path, dockerfile: str, **files: str) -> str:
    (directory / "Dockerfile").write_text(dockerfile)
    for name, content in files.items():
        path = directory / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return str(directory)


def built(clean: Hooper, *words: str) -> str:
    """The id of what `hooper build -q` makes."""
    return clean.hooper("build", "-q", *words).stdout.strip()


def shown(clean: Hooper, image: str, *command: str) -> str:
    return clean.hooper("run", "--rm", image, *command).stdout


def test_progress_as_lines(clean: Hooper, context: Path) -> None:
    place = write(context, "FROM busybox AS base\nRUN echo seen; echo late >&2\nENV A=1\nCOPY f /f\n", f="1")
    done = clean.hooper("build", "-t", "lines:1", "--no-cache", place)
    assert done.stdout == ""
    for line in (
        r"#\d+ transferring context: .* in 2 files", r"#\d+ \[base 1/3\] FROM busybox.*",
        r"#\d+ \[base 2/3\] RUN echo seen; echo late >&2", r"#\d+ \d+\.\d{3} seen", r"#\d+ \d+\.\d{3} late",
        r"#\d+ \[base 3/3\] COPY f /f", r"#\d+ DONE \d+\.\ds", r"#\d+ writing image sha256:[0-9a-f]{64}",
        r"#\d+ naming to (docker.io/library/)?lines:1",
    ):  # fmt: skip
        assert re.search(f"^{line}$", done.stderr, re.MULTILINE), (line, done.stderr)
    again = clean.hooper("build", "-t", "lines:1", place).stderr
    assert len(re.findall(r"^#\d+ CACHED$", again, re.MULTILINE)) >= 2 and not re.search(
        r"^#\d+ \d\S+ seen$", again, re.MULTILINE
    )
    clean.hooper("rmi", "lines:1")


def test_an_unchanged_context_is_not_sent_again(clean: Hooper, context: Path) -> None:
    place = write(context, "FROM busybox\nCOPY . /x\n", a=os.urandom(50_000).hex(), ignored="no")
    (context / ".dockerignore").write_text("ignored\nDockerfile\n")
    sent = r"transferring context: (\S+) sent"
    first = re.search(sent, clean.hooper("build", place).stderr)
    again = re.search(sent, clean.hooper("build", place).stderr)
    assert first and again and first[1].endswith("kB") and again[1] == "0B"
    assert shown(clean, built(clean, place), "ls", "-A", "/x") == ".dockerignore\na\n"
    (context / "a").write_text("other")
    assert shown(clean, built(clean, place), "cat", "/x/a") == "other"


def test_a_dockerfile_from_elsewhere(clean: Hooper, context: Path, tmp_path: Path) -> None:
    place = write(context, "FROM nosuch\n", a="a", b="b")
    (context / ".dockerignore").write_text("a\n")
    recipe = "FROM busybox\nCOPY . /x\n"
    (tmp_path / "Other").write_text(recipe)
    assert shown(clean, built(clean, "-f", str(tmp_path / "Other"), place), "ls", "/x") == "Dockerfile\nb\n"
    (tmp_path / "Other.dockerignore").write_text("b\n")
    assert shown(clean, built(clean, "-f", str(tmp_path / "Other"), place), "ls", "/x") == "Dockerfile\na\n"
    image = clean.hooper("build", "-q", "-f", "-", place, stdin=recipe).stdout.strip()
    assert shown(clean, image, "ls", "/x") == "Dockerfile\nb\n"
    (context / "In").write_text(recipe)
    (context / "In.dockerignore").write_text("*\n!a\n")
    assert shown(clean, built(clean, "-f", str(context / "In"), place), "ls", "-A", "/x") == "a\n"


def test_stdin(clean: Hooper) -> None:
    image = clean.hooper("build", "-q", "-", stdin="FROM busybox\nRUN echo 1 >/one\n").stdout.strip()
    assert shown(clean, image, "cat", "/one") == "1\n"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in (("D", b"FROM busybox\nCOPY f /f\n"), ("f", b"content")):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    command = [sys.executable, "-m", "hooper", "-H", clean.address, "build", "-q", "-f", "D", "-"]
    done = subprocess.run(command, input=buffer.getvalue(), capture_output=True, check=True, timeout=60)
    assert shown(clean, done.stdout.decode().strip(), "cat", "/f") == "content"


def test_named_contexts(clean: Hooper, context: Path, tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "logo").write_text("logo")
    place = write(context, "FROM base\nCOPY --from=assets logo /logo\n")
    words = ("--build-context", f"assets={tmp_path}/assets", "--build-context", "base=docker-image://busybox")
    assert shown(clean, built(clean, *words, place), "cat", "/logo") == "logo"
    (tmp_path / "assets" / "logo").write_text("new")
    assert shown(clean, built(clean, *words, place), "cat", "/logo") == "new"


def test_secrets(clean: Hooper, context: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cr3t")
    place = write(
        context,
        "FROM busybox\nRUN --mount=type=secret,id=token --mount=type=secret,id=KEY,env=K "
        "echo $(wc -c </run/secrets/token) ${#K} >/size\n",
    )
    words = ("build", "--no-cache", "--secret", f"id=token,src={tmp_path}/token", "--secret", "id=KEY")
    done = clean.hooper(*words, "-t", "secret:1", place, env={**os.environ, "KEY": "k3y"})
    assert shown(clean, "secret:1", "cat", "/size") == "6 3\n"
    assert shown(clean, "secret:1", "sh", "-c", "ls /run/secrets 2>/dev/null; true") == ""
    told = done.stderr + json.dumps(clean.request("GET", "/images/secret:1/history")[1])
    assert "s3cr3t" not in told and "k3y" not in told
    missing = write(context, "FROM busybox\nRUN --mount=type=secret,id=token,required=true true\n")
    done = clean.hooper("build", missing, check=False)
    assert done.returncode == 1 and "token" in done.stderr and "--secret id=token" in done.stderr
    clean.hooper("rmi", "secret:1")


@pytest.mark.skipif(not shutil.which("ssh-agent"), reason="there is no OpenSSH here")
def test_ssh_keys(clean: Hooper, context: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "mine", "-f", key], check=True, timeout=30)
    place = write(context, "FROM busybox\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK && echo $SSH_AUTH_SOCK >/where\n")
    image = built(clean, "--ssh", f"default={key}", place)
    assert shown(clean, image, "cat", "/where").startswith("/run/buildkit/ssh_agent")
    missing = write(context, "FROM busybox\nRUN --mount=type=ssh,required=true true\n")
    done = clean.hooper("build", missing, check=False)
    assert done.returncode == 1 and "--ssh default" in done.stderr


def test_outputs(clean: Hooper, context: Path, tmp_path: Path) -> None:
    place = write(context, "FROM scratch\nCOPY f /d/f\nCOPY t /\n", f="content", t__g="")
    (context / "t" / "l").symlink_to("/d/f")
    out = tmp_path / "out"
    clean.hooper("build", "-o", str(out), place)
    assert (out / "d" / "f").read_text() == "content" and os.readlink(out / "l") == "/d/f"
    command = [sys.executable, "-m", "hooper", "-H", clean.address, "build", "-o", "-", place]
    archive = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as found:
        assert {name.strip("./") for name in found.getnames()} - {""} == {"d", "d/f", "g", "l"}
    for kind in ("oci", "docker"):
        path = tmp_path / f"{kind}.tar"
        clean.hooper("build", "-o", f"type={kind},dest={path}", "-t", "exported:1", place)
        assert clean.hooper("images", "-q", "exported").stdout == ""
        assert "Loaded image" in clean.hooper("load", "-i", str(path)).stdout
        clean.hooper("rmi", "exported:1")
    facts = tmp_path / "facts"
    words = ("--load", "-o", str(out), "--metadata-file", str(facts), "--iidfile", str(tmp_path / "iid"))
    clean.hooper("build", *words, "-t", "kept:1", place)
    identifier = clean.hooper("images", "-q", "--no-trunc", "kept").stdout.strip()
    assert (tmp_path / "iid").read_text() == identifier
    assert json.loads(facts.read_text())["containerimage.config.digest"] == identifier
    clean.hooper("rmi", "kept:1")


def test_a_push(clean: Hooper, context: Path, tmp_path: Path) -> None:
    place = write(context, "FROM busybox\nRUN echo pushed >/f\n")
    with docker_registry(tmp_path) as registry:
        name = f"{registry}/pushed:1"
        done = clean.hooper("build", "--push", "-t", name, place)
        assert f"[internal] push {name.removesuffix(':1')}" in done.stderr
        clean.hooper("rmi", name)
        clean.hooper("pull", "-q", name)
    assert shown(clean, name, "cat", "/f") == "pushed\n"
    clean.hooper("rmi", name)


def test_a_cache_in_a_directory(clean: Hooper, context: Path, tmp_path: Path) -> None:
    place = write(context, "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid >/id\n")
    cache = tmp_path / "cache"
    first = shown(clean, built(clean, "--cache-to", f"type=local,dest={cache},mode=max", place), "cat", "/id")
    clean.hooper("builder", "prune", "-af")
    from_cache = shown(clean, built(clean, "--cache-from", f"type=local,src={cache}", place), "cat", "/id")
    assert from_cache == first
    clean.hooper("builder", "prune", "-af")
    assert built(clean, "--cache-from", f"type=local,src={tmp_path}/nosuch", place)


def test_checks(clean: Hooper, context: Path) -> None:
    done = clean.hooper("build", "--check", write(context, "FROM busybox AS Base\nRUN exit 9\n"), check=False)
    assert done.returncode == 1
    head, rule, *_ = (line for line in done.stdout.splitlines() if line)
    assert head == "Check complete, 1 warning has been found!"
    assert rule.startswith("WARNING: StageNameCasing - https://docs.docker.com/")
    assert "\nDockerfile:1\n" in done.stdout and "| >>> FROM busybox AS Base" in done.stdout
    done = clean.hooper("build", "--check", write(context, "FROM busybox AS base\nRUN exit 9\n"))
    assert done.stdout == "Check complete, no warnings found.\n"


def test_warnings_come_at_the_end(clean: Hooper, context: Path) -> None:
    done = clean.hooper("build", write(context, "FROM busybox AS Base\n"))
    assert done.stderr.rstrip().splitlines()[-1].startswith(" - StageNameCasing: ")


FAILING = "FROM busybox\nWORKDIR /here\nRUN echo kept >f\nRUN echo last words; cat nosuch; exit 42\n"


@pytest.fixture
def images(clean: Hooper) -> Iterator[None]:
    """No image is left that was not there."""
    before = clean.hooper("images", "-aq").stdout
    yield
    assert clean.hooper("images", "-aq").stdout == before


@pytest.mark.usefixtures("images")
def test_a_step_that_fails(clean: Hooper, context: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    done = clean.hooper("build", "--trace", str(trace), write(context, FAILING), check=False)
    assert done.returncode == 42
    assert "\nlast words\n" in done.stderr and done.stderr.count("Dockerfile:4") == 1, done.stderr
    found = json.loads(trace.read_text())["traceEvents"]
    slices = {one["name"]: one for one in found if one["ph"] == "X"}
    assert slices["[3/4] RUN echo kept >f"]["cat"] in ("step", "cached")
    failed = next(one for name, one in slices.items() if name.startswith("[4/4] RUN echo last words"))
    assert failed["cat"] == "failed" and failed["args"]["exit_code"] == 42 and "load build context" in slices


@pytest.mark.usefixtures("images")
def test_the_state_before_a_failed_step(clean: Hooper, context: Path) -> None:
    place = write(context, FAILING)
    done = clean.hooper("build", "--debug", place, check=False)
    assert done.returncode == 42 and "run this command in a terminal" in done.stderr
    command = [sys.executable, "-m", "hooper", "-H", clean.address, "build", "--debug", place]
    terminal = Terminal(command, {**os.environ, "NO_COLOR": "1"})
    try:
        terminal.expect(b"To run the step's command again")
        terminal.expect_raw()
        terminal.type(b"pwd; cat f; echo in-$((40 + 2))\r")
        terminal.expect(b"in-42")
        assert "/here" in terminal.text and "kept" in terminal.text
        terminal.type(b"exit 7\r")
    except BaseException:
        terminal.kill()
        raise
    assert terminal.wait() == 42


def test_progress_on_a_terminal(clean: Hooper, context: Path) -> None:
    place = write(context, "FROM busybox\nRUN echo shown while it runs; sleep 1\nRUN true\n")
    command = [sys.executable, "-m", "hooper", "-H", clean.address, "build", "--no-cache", place]
    terminal = Terminal(command, {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8"}, columns=60)
    terminal.expect(b"shown while it runs\x1b")
    assert terminal.wait() == 0
    assert "✔ [3/3] RUN true" in terminal.text and "3/3 steps" in terminal.text
    assert all(len(line) < 60 for line in terminal.text.replace("\r", "\n").splitlines())


def test_usage_of_the_cache(clean: Hooper, context: Path) -> None:
    clean.hooper("builder", "prune", "-af")
    clean.hooper("rmi", built(clean, write(context, "FROM busybox\nRUN head -c 100000 /dev/urandom >/f\n")))
    table = clean.hooper("builder", "du").stdout.splitlines()
    assert table[0].split() == ["ID", "RECLAIMABLE", "SIZE", "LAST", "ACCESSED"]
    assert any(line.startswith("Total:") for line in table)
    details = clean.hooper("buildx", "du", "--verbose").stdout
    assert re.search(r"^Description: +.*RUN head -c 100000", details, re.MULTILINE)
    rows = [json.loads(line) for line in clean.hooper("builder", "du", "--format", "json").stdout.splitlines()]
    step = next(row for row in rows if "RUN head" in row["Description"])
    assert step["Size"].startswith("10") and step["Size"].endswith("kB") and step["Type"] == "regular"
    assert (
        clean.hooper("builder", "du", "--filter", f"id={step['ID']}", "--format", "{{.ID}}").stdout == f"{step['ID']}\n"
    )
    assert clean.hooper("builder", "du", "--filter", "until=1h", "--format", "{{.ID}}").stdout == ""
    asked = clean.hooper("builder", "prune", "-a", check=False, stdin="n\n")
    assert "Are you sure" in asked.stdout and clean.hooper("builder", "du", "--format", "{{.ID}}").stdout
    told = clean.hooper("builder", "prune", "-af", "--verbose").stdout
    assert "RUN head" in told and re.search(r"^Total reclaimed space: 1\d\d", told, re.MULTILINE)
    assert clean.hooper("builder", "du", "--filter", f"id={step['ID']}", "--format", "{{.ID}}").stdout == ""


@pytest.mark.dockerd
def test_a_real_dockerd(peer: Engine, context: Path, tmp_path: Path) -> None:
    """The classic way, and one clear error for what it cannot do."""
    place = write(context, "FROM busybox\nCOPY . /x\n", a="a", ignored="b")
    (context / ".dockerignore").write_text("ignored\n")
    iid = tmp_path / "iid"
    (tmp_path / "Other").write_text("FROM busybox\nCOPY . /x\nCMD ls -A /x\n")
    done = peer.hooper("build", "--iidfile", str(iid), "-f", str(tmp_path / "Other"), place)
    assert "Successfully built" in done.stdout
    assert peer.hooper("run", "--rm", iid.read_text()).stdout.split() == [".dockerignore", "Dockerfile", "a"]
    done = peer.hooper("build", "--secret", f"id=a,src={iid}", "-o", str(tmp_path / "o"), place, check=False)
    assert done.returncode == 1 and "cannot build with --output or --push, --secret" in done.stderr
