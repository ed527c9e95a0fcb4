"""A build that ends before its time: its client goes away, or the daemon is killed, in the middle of each thing that a
build does. What is finished stays and is found by the next build; of the rest nothing is left.
"""

from __future__ import annotations

import socket
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from interruption_support import MARK, client, descriptors, footprint, no_cgroup_of, running, settled
from stalling_registry import stalling_registry

import support
from conftest import import_busybox
from support import Hooper, context_tar

pytestmark = pytest.mark.root

LARGE = 64 << 20
GO = "--mount=type=cache,id=go,target=/go"
WAITS = f"RUN {GO} touch /go/begun; while [ ! -e /go/on ]; do sleep 0.05; done; echo went on | tee /two"
"""A command that ends when the test says so: the same in every build."""
FIRST = "FROM busybox\nRUN echo one > /one\n"


@pytest.fixture(scope="module")
def shared(short_tmp: Path) -> Iterator[Hooper]:
    with pytest.MonkeyPatch.context() as patch:
        home = short_tmp / "interrupted"
        (home / "tmp").mkdir(parents=True)
        patch.setenv(MARK, str(home / "data"))
        patch.setenv("TMPDIR", str(home / "tmp"))
        with support.hooper(home) as daemon:
            import_busybox(daemon)
            warm_up(daemon)
            yield daemon


def warm_up(daemon: Hooper) -> None:
    """What is made once, by the first build, and stays."""
    status, said = daemon.request("POST", "/build?t=warm", context_tar({"Dockerfile": f"{FIRST}RUN {GO} rm -f /go/on"}))
    assert status == 200 and "errorDetail" not in str(said), said
    daemon.docker("rmi", "warm")


@pytest.fixture
def own(shared: Hooper) -> Iterator[Hooper]:
    """A daemon that the test may kill; what it makes on this host has to be gone in the end."""
    before = emptied(shared)
    yield shared
    settled(shared, before)
    # Nor is there a file open of what is gone, or a task that waits for ever.
    assert shared.request("GET", "/_ping")[0] == 200
    assert "Traceback" not in shared.log_tail() and "never retrieved" not in shared.log_tail(), shared.log_tail()


def emptied(engine: Hooper) -> dict[str, Any]:
    """Without any finished step, and the footprint of that."""
    assert engine.request("POST", "/build/prune?all=1")[0] == 200
    found = footprint(engine)

    def still() -> bool:
        """The worker that empties the trash ends a moment after that."""
        nonlocal found
        found = footprint(engine)
        return not found["trash"] and "hooper-worker" not in found["processes"]

    support.until(still, what="an empty trash and no worker")
    return found


# --- who goes away, and how ---


@dataclass
class Going:
    """A build under way by some client, and the way in which it is broken off."""

    engine: Hooper
    process: subprocess.Popen[str] | None = None
    connection: socket.socket | None = None
    killed: bool = False

    def end(self) -> str:
        """Breaks it off; what the client said."""
        if self.killed:
            self.engine.kill()
        elif self.process:
            self.process.kill()
        if self.connection:
            self.connection.close()
            return ""
        assert self.process
        said, _ = self.process.communicate(timeout=20)
        if self.killed:
            assert self.process.returncode == 1, said
        return said


WAYS = {
    "docker": ("docker", False),
    "hooper": ("hooper", False),
    "api": ("api", False),
    "daemon of docker": ("docker", True),
    "daemon of hooper": ("hooper", True),
}


def begin(engine: Hooper, way: str, context: Path, *words: str) -> Going:
    program, killed = WAYS[way]
    if program == "api":
        files: dict[str, str | bytes] = {path.name: path.read_bytes() for path in context.iterdir()}
        return Going(engine, connection=post(engine, context_tar(files)))
    return Going(engine, client(engine, program, "build", *words, str(context)), killed=killed)


def post(engine: Hooper, body: bytes, length: int = 0) -> socket.socket:
    """Begins a POST /build by hand; the body may be shorter than it says."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(engine.socket_path)
    head = (
        f"POST /build HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\nContent-Length: {length or len(body)}"
    )
    connection.sendall(head.encode() + b"\r\n\r\n" + body)
    return connection


@dataclass
class Context:
    place: Path
    recipe: str
    files: dict[str, int] = field(default_factory=dict)
    """Names, and how large they are."""

    def write(self) -> Path:
        self.place.mkdir()
        (self.place / "Dockerfile").write_text(self.recipe)
        for name, size in self.files.items():
            with (self.place / name).open("wb") as file:
                # No two blocks are the same, and none is a hole.
                for block in range(0, size, 1 << 20):
                    file.write(block.to_bytes(8, "big") * (1 << 17))
        return self.place


def until_middle(going: Going, condition: Callable[[], object]) -> None:
    """Waits for the middle, as long as the client is there."""

    def reached() -> bool:
        ended = going.process is not None and going.process.poll() is not None
        assert not ended, going.process and going.process.communicate()
        return bool(condition())

    support.until(reached, what="the middle of a build")


def back(going: Going) -> None:
    """A daemon is there again."""
    if going.killed:
        going.engine.start()


def one_error(said: str, way: str) -> None:
    """What the client tells of a daemon that is gone."""
    assert "Traceback" not in said
    if way == "daemon of hooper":
        assert said.count("hooper: ") == 1, said


def allow(engine: Hooper) -> None:
    """Lets commands that wait go on."""
    for place in (engine.data_root / "builds" / "caches").glob("*/data"):
        (place / "on").touch()


def forbid(engine: Hooper) -> None:
    for path in (engine.data_root / "builds" / "caches").glob("*/data/*"):
        path.unlink()


def waiting(engine: Hooper) -> list[Path]:
    """The command that waits has begun."""
    return list((engine.data_root / "builds" / "caches").glob("*/data/begun"))


def resumes(engine: Hooper, context: Path, cached: int) -> str:
    """Builds to the end; at least so many steps are there already."""
    allow(engine)
    said = engine.docker("build", "-t", "resumed", str(context)).stdout
    forbid(engine)
    assert said.count(" ---> Using cache") >= cached, said
    engine.docker("rmi", "resumed")
    return said


# --- in the middle of what ---


@pytest.mark.parametrize("way", WAYS)
def test_in_a_command(own: Hooper, tmp_path: Path, way: str) -> None:
    context = Context(tmp_path / "c", f"{FIRST}{WAITS}\nRUN cat /two\n").write()
    going = begin(own, way, context)
    until_middle(going, lambda: waiting(own))
    ids = running(own)
    one_error(going.end(), way)
    back(going)
    support.until(lambda: not running(own) and no_cgroup_of(ids), what="the end of the command")
    assert "went on" in resumes(own, context, 1)


@pytest.mark.parametrize("way", ["hooper", "daemon of docker"])
def test_in_a_copy(own: Hooper, tmp_path: Path, way: str) -> None:
    context = Context(tmp_path / "c", f"{FIRST}COPY large /large\n", {"large": LARGE}).write()
    (context / ".dockerignore").write_text("Dockerfile\n")
    going = begin(own, way, context)
    until_middle(going, lambda: list(own.data_root.glob("drivers/storage-*/s/*/d/large")))
    one_error(going.end(), way)
    back(going)
    said = resumes(own, context, 1)
    assert "Successfully built" in said


@pytest.mark.parametrize("way", ["docker", "api", "daemon of hooper"])
def test_in_a_pull(own: Hooper, tmp_path: Path, way: str) -> None:
    with stalling_registry() as registry:
        context = Context(tmp_path / "c", f"FROM {registry.image}\nRUN echo pulled\n").write()
        going = begin(own, way, context)
        until_middle(going, registry.stalled.is_set)
        one_error(going.end(), way)
        back(going)
        registry.go.set()
        assert "pulled" in resumes(own, context, 0)
        own.docker("rmi", registry.image)


@pytest.mark.parametrize("way", ["docker", "hooper", "daemon of docker", "daemon of hooper"])
def test_in_the_upload(own: Hooper, tmp_path: Path, way: str) -> None:
    context = Context(tmp_path / "c", f"{FIRST}COPY large /large\n", {"large": LARGE}).write()
    going = begin(own, way, context)
    until_middle(going, lambda: list(own.data_root.glob("builds/**/tree/large")))
    one_error(going.end(), way)
    back(going)
    assert "Successfully built" in resumes(own, context, 0)
    # What the client has may be taken for what is there.
    assert own.hooper("build", "-t", "up", str(context)).returncode == 0
    assert own.docker("run", "--rm", "up", "stat", "-c", "%s", "/large").stdout == f"{LARGE}\n"
    own.docker("rmi", "up")


def test_an_upload_that_is_cut_short(own: Hooper) -> None:
    whole = context_tar({"Dockerfile": FIRST, "a": "a" * 3000})
    before = own.request("GET", "/images/json?all=1")[1]
    for cut in (0, 1, 700, 2000):
        post(own, whole[:cut], len(whole)).close()
        half = post(own, whole[:cut], len(whole))
        half.shutdown(socket.SHUT_WR)
        assert b"Successfully" not in half.recv(1 << 16)
        half.close()
    assert own.request("GET", "/images/json?all=1")[1] == before


@pytest.mark.parametrize(
    ("way", "kind"),
    [("hooper", "local"), ("hooper", "oci"), ("daemon of hooper", "tar"), ("daemon of hooper", "local")],
)
def test_in_an_export(own: Hooper, tmp_path: Path, way: str, kind: str) -> None:
    context = Context(tmp_path / "c", f"{FIRST}COPY large /large\n", {"large": LARGE}).write()
    resumes(own, context, 0)
    target = tmp_path / "out" if kind == "local" else tmp_path / "out.tar"
    going = begin(own, way, context, "-o", f"type={kind},dest={target}")
    until_middle(going, lambda: any(path.stat().st_size > 1 << 20 for path in tmp_path.rglob("*") if is_output(path)))
    one_error(going.end(), way)
    back(going)
    if (tmp_path / "out.tar").exists():
        # It was whole when the daemon died.
        with tarfile.open(tmp_path / "out.tar") as archive:
            assert archive.getnames()
    assert resumes(own, context, 2)


def is_output(path: Path) -> bool:
    return path.is_file() and "c" not in path.parts[-2:-1]


# --- side by side ---


def test_one_of_two_same_builds_is_cancelled(own: Hooper, tmp_path: Path) -> None:
    """Whichever has begun the step: the other gets it done."""
    for first_goes in (True, False):
        own.request("POST", "/build/prune?all=1")
        context = Context(tmp_path / str(first_goes), f"{FIRST}{WAITS}\nRUN cat /two\n").write()
        one = begin(own, "docker", context)
        until_middle(one, lambda: waiting(own))
        other = begin(own, "hooper", context)
        until_middle(other, lambda: True)
        waits_for_it(own)
        gone, left = (one, other) if first_goes else (other, one)
        gone.end()
        allow(own)
        assert left.process
        said, _ = left.process.communicate(timeout=30)
        forbid(own)
        assert left.process.returncode == 0 and "went on" in said, said


def waits_for_it(engine: Hooper) -> None:
    """A second build, sent now, has come so far as to wait for the step of another: there is no sign of it outside."""
    context = context_tar({"Dockerfile": FIRST})
    assert engine.request("POST", "/build", context)[0] == 200
    for _ in range(3):
        threading.Event().wait(0.3)
    assert len(running(engine)) == 1


def test_the_daemon_dies_under_two_builds(own: Hooper, tmp_path: Path) -> None:
    context = Context(tmp_path / "c", f"{FIRST}{WAITS}\nRUN cat /two\n").write()
    both = [begin(own, way, context) for way in ("daemon of docker", "hooper")]
    until_middle(both[0], lambda: waiting(own))
    waits_for_it(own)
    own.kill()
    for going in both:
        assert going.process
        said, _ = going.process.communicate(timeout=20)
        assert going.process.returncode == 1 and "Traceback" not in said
    own.start()
    assert "went on" in resumes(own, context, 1)


def test_many_that_are_cancelled_leave_the_daemon_as_it_was(own: Hooper) -> None:
    body = context_tar({"Dockerfile": f"{FIRST}{WAITS}\n"})
    connections = [post(own, body) for _ in range(2)]
    support.until(lambda: running(own), what="a command")
    for connection in connections:
        connection.close()
    support.until(lambda: not running(own), what="its end")
    before = descriptors(own)
    for _ in range(5):
        connections = [post(own, body) for _ in range(3)]
        support.until(lambda: running(own), what="a command")
        for connection in connections:
            connection.close()
        support.until(lambda: not running(own), what="its end")
    support.until(lambda: descriptors(own) <= before, what=f"{descriptors(own)} descriptors like {before}")
    assert descriptors(own) <= before


# --- no space ---

SPACE = 48 << 20
FULL = {
    "command": ("RUN dd if=/dev/zero of=/fill bs=1M count=100\n", {}),
    "copy": ("COPY large /a\nCOPY large /b\nCOPY large /c\n", {"large": 16 << 20}),
    "linked copy": ("COPY --link large /a\nCOPY --link large /b\nCOPY --link large /c\n", {"large": 16 << 20}),
    "end": ("RUN dd if=/dev/zero of=/fill bs=1M count=100; true\n", {}),
    "context": ("COPY large /a\n", {"large": 64 << 20}),
}


@pytest.fixture(scope="module")
def small(short_tmp: Path) -> Iterator[Hooper]:
    """A daemon with little space."""
    home = short_tmp / "small"
    (home / "data").mkdir(parents=True)
    (home / "tmp").mkdir()
    support.run("mount", "-t", "tmpfs", "-o", f"size={SPACE}", "tmpfs", str(home / "data"))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(MARK, str(home / "data"))
            patch.setenv("TMPDIR", str(home / "tmp"))
            with support.hooper(home) as daemon:
                import_busybox(daemon)
                warm_up(daemon)
                yield daemon
    finally:
        support.run("umount", str(home / "data"), check=False)


@pytest.mark.parametrize(
    ("place", "program"),
    [
        ("command", "docker"), ("command", "hooper"), ("context", "docker"), ("context", "hooper"),
        ("copy", "hooper"), ("linked copy", "docker"), ("end", "hooper"),
    ],
)  # fmt: skip
def test_the_disk_is_full(small: Hooper, tmp_path: Path, place: str, program: str) -> None:
    recipe, files = FULL[place]
    before = emptied(small)
    context = Context(tmp_path / "c", f"{FIRST}{recipe}", files).write()
    going = client(small, program, "build", "-t", "full", str(context))
    said, _ = going.communicate(timeout=60)
    if place == "end":
        # What has to be written down then has space of its own.
        assert going.returncode == 0, said
        small.docker("rmi", "full")
        settled(small, before)
        return
    assert going.returncode == 1, said
    assert "Traceback" not in said and "Traceback" not in small.log_tail()
    assert "no space left" in said.lower() or "disk is full" in said.lower(), said
    settled(small, before)
    # And with room again, it goes on from what was done.
    with room(small):
        again = small.docker("build", "-t", "room", str(context)).stdout
        assert again.count(" ---> Using cache") >= (place != "context"), again


@contextmanager
def room(engine: Hooper) -> Iterator[None]:
    """The disk is larger for a while."""
    support.run("mount", "-o", f"remount,size={SPACE * 6}", str(engine.data_root))
    try:
        yield
    finally:
        engine.docker("rmi", "room", check=False)
        emptied(engine)
        support.run("mount", "-o", f"remount,size={SPACE}", str(engine.data_root))
