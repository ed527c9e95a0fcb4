"""`hooper build` against a daemon that this test plays, which asks for streams as the protocol has it."""

from __future__ import annotations

import io
import json
import os
import queue
import re
import socket
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from hooper.api import build_events as events
from hooper.api import context_sync as sync
from hooper.api.errors import NotFound
from hooper.cli.main import run

UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


class Build:
    """One POST /build, as the script of a test has it."""

    def __init__(self, daemon: Daemon, connection: socket.socket, query: dict[str, list[str]], body: bytes) -> None:
        self._daemon, self._connection = daemon, connection
        self.query = {key: values[0] for key, values in query.items()}
        self.tags = query.get("t", [])
        self.own = json.loads(self.query.get("hooper", "{}"))
        self.body = body

    def open(self, kind: str, name: str) -> socket.socket:
        return self._daemon.ask(self.query["session"], kind, name)

    def read(self, kind: str, name: str) -> bytes:
        with self.open(kind, name) as stream, stream.makefile("rb") as file:
            return file.read()

    def send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        self._connection.sendall(b"%x\r\n%b\r\n" % (len(data), data))

    def tell(self, *happened: events.BuildEvent) -> None:
        for event in happened:
            self.send({"hooper": msgspec.to_builtins(event)})

    def fail(self, message: str, code: int = 1) -> None:
        self.send({"errorDetail": {"code": code, "message": message}, "error": message})


class Daemon:
    """Speaks as much of the Engine API as `hooper build` needs. `script` is what a build does."""

    def __init__(self, path: Path, server: str = "hooper/1 (linux)") -> None:
        self.address, self.server = f"unix://{path}", server
        self.script: Callable[[Build], None] = lambda _: None
        self.deleted: list[str] = []
        self.errors: list[BaseException] = []
        self._controls: dict[str, socket.socket] = {}
        self._answers: dict[int, queue.Queue[socket.socket | str]] = {}
        self._numbers = iter(range(1, 1000))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def ask(self, session: str, kind: str, name: str) -> socket.socket:
        number = next(self._numbers)
        self._answers[number] = queue.Queue()
        line = {"stream": number, "kind": kind, "name": name, "parameters": {}, "newer": 1}
        self._controls[session].sendall(json.dumps(line).encode() + b"\n")
        answer = self._answers[number].get(timeout=20)
        if isinstance(answer, str):
            raise NotFound(answer)
        return answer

    def _accept(self) -> None:
        try:
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._handle, args=(connection,), daemon=True).start()
        except OSError:
            return

    def _handle(self, connection: socket.socket) -> None:
        try:
            self._serve(connection)
        except OSError:
            return  # the client is gone

    def _serve(self, connection: socket.socket) -> None:
        # Unbuffered: behind the head of a stream come bytes of others.
        file = connection.makefile("rb", buffering=0)
        while line := file.readline():
            method, target, _ = line.decode().split(" ")
            headers = {}
            while (field := file.readline().strip()) and b":" in field:
                key, _, value = field.decode().partition(":")
                headers[key.lower()] = value.strip()
            body = self._body(file, headers)
            url = urlsplit(re.sub(r"^/v1\.\d+", "", target))
            if stream := re.fullmatch(r"/hooper/builds/sessions/([0-9a-f]{32})(?:/streams/(\d+))?", url.path):
                if not stream[2]:
                    # Before the client hears that it may build.
                    self._controls[stream[1]] = connection
                connection.sendall(UPGRADED)
                if stream[2]:
                    self._answers[int(stream[2])].put(connection)
                return
            if refusal := re.fullmatch(r"/hooper/builds/sessions/[0-9a-f]{32}/streams/(\d+)/refuse", url.path):
                self._answers[int(refusal[1])].put(json.loads(body)["message"])
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
            elif method == "DELETE":
                self.deleted.append(target)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
            elif url.path == "/build":
                self._build(Build(self, connection, parse_qs(url.query), body), connection)
            else:
                head = f"HTTP/1.1 200 OK\r\nApi-Version: 1.50\r\nServer: {self.server}\r\nContent-Length: 0\r\n\r\n"
                connection.sendall(head.encode())

    @staticmethod
    def _body(file: Any, headers: dict[str, str]) -> bytes:
        def exactly(size: int) -> bytes:
            data = b""
            while len(data) < size:
                data += file.read(size - len(data))
            return data

        body = exactly(int(headers.get("content-length", 0)))
        if headers.get("transfer-encoding") == "chunked":
            while size := int(file.readline(), 16):
                body += exactly(size)
                file.readline()
            file.readline()
        return body

    def _build(self, build: Build, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            self.script(build)
        except BaseException as error:
            self.errors.append(error)
            build.fail(f"the script failed: {error!r}")
        connection.sendall(b"0\r\n\r\n")


@pytest.fixture
def daemon(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path_factory.mktemp("d") / "s")
    monkeypatch.setenv("HOOPER_HOST", daemon.address)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Dockerfile").write_text("FROM x\n")
    yield daemon
    daemon.close()
    assert daemon.errors == []


def tar_of(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def give(build: Build, number: int, data: bytes) -> str:
    """Sends an output; what the client has against it."""
    with build.open("output", str(number)) as stream:
        try:
            stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the client says why
        with stream.makefile("rb") as file:
            return file.read().decode()


def test_all_parameters(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkdir("cache")
    seen: list[Build] = []
    daemon.script = seen.append
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert run(
        "build -t a:1 -t b --build-arg A=1 --label l=m --annotation n=o --no-cache-filter s,t --add-host h:1.2.3.4 "
        "--network none --allow network.host --cache-from r.example/c --cache-from type=local,src=cache "
        "--cache-to type=inline --build-context base=docker-image://debian:12 --target t --platform linux/amd64 "
        "--squash --pull --no-cache --debug -o out -o type=image,push=true --shm-size 1m --builder toml .".split()
    ) == 0  # fmt: skip
    build = seen[0]
    assert build.tags == ["a:1", "b"]
    assert {key: build.query[key] for key in build.query if key not in ("t", "session", "hooper", "outputs")} == {
        "buildargs": '{"A": "1"}', "labels": '{"l": "m"}', "extrahosts": "h:1.2.3.4", "nocache": "1", "pull": "1",
        "rm": "1", "squash": "1", "target": "t", "platform": "linux/amd64", "networkmode": "none", "shmsize": "1048576",
        "progress": "events", "dockerfile": "Dockerfile", "remote": "hooper-session",
    }  # fmt: skip
    assert json.loads(build.query["outputs"]) == [
        {"Type": "local", "Attrs": {}}, {"Type": "image", "Attrs": {"push": "true"}},
    ]  # fmt: skip
    assert build.own == {
        "no_cache_stages": ["s", "t"],
        "contexts": {"base": {"kind": "image", "value": "debian:12"}},
        "cache_from": [{"Type": "registry", "Attrs": {"ref": "r.example/c"}}, {"Type": "local", "Attrs": {}}],
        "cache_to": [{"Type": "inline", "Attrs": {}}],
        "allow": ["network.host"],
        "annotations": {"n": "o"},
        "debug": True,
        "source_date_epoch": 0,
        "builder": "toml",
    }
    assert re.fullmatch("[0-9a-f]{32}", build.query["session"])


def test_secrets(daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    Path("token").write_bytes(b"\0file\xff")
    Path("large").write_bytes(bytes(500 * 1024 + 1))
    monkeypatch.setenv("KEY", "variable")
    found: dict[str, bytes | str] = {}

    def script(build: Build) -> None:
        for name in ("a", "KEY", "large", "nosuch"):
            try:
                found[name] = build.read("secret", name)
            except NotFound as error:
                found[name] = error.what
        with pytest.raises(NotFound, match="no novelty"):
            build.open("novelty", "x")

    daemon.script = script
    assert (
        run(["build", "--secret", "id=a,src=token", "--secret", "id=KEY", "--secret", "id=large,src=large", "."]) == 0
    )
    assert found == {
        "a": b"\0file\xff", "KEY": b"variable", "nosuch": 'no secret "nosuch" was given to the build',
        "large": 'the secret "large" is too large: 512000 bytes are the most',
    }  # fmt: skip
    assert "variable" not in capfd.readouterr().err


def test_an_agent(daemon: Daemon) -> None:
    agent = socket.socket(socket.AF_UNIX)
    agent.bind("agent")
    agent.listen()

    def answer() -> None:
        connection, _ = agent.accept()
        with connection:
            assert connection.recv(100) == b"\0\0\0\1\x0b"
            connection.sendall(b"\0\0\0\5\x0c\0\0\0\0")

    threading.Thread(target=answer, daemon=True).start()
    found: list[bytes] = []

    def script(build: Build) -> None:
        with build.open("ssh", "default") as stream:
            stream.sendall(b"\0\0\0\1\x13")  # remove all keys: refused
            found.append(stream.recv(100))
            stream.sendall(b"\0\0\0\1\x0b")
            found.append(stream.recv(100))

    daemon.script = script
    assert run(["build", "--ssh", "default=agent", "."]) == 0
    assert found == [b"\0\0\0\1\5", b"\0\0\0\5\x0c\0\0\0\0"]
    agent.close()


def test_outputs(daemon: Daemon, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    tree, archive = tar_of(f=b"content"), tar_of(g=b"x" * 100_000)
    said: list[str] = []

    def script(build: Build) -> None:
        said.extend(give(build, number, data) for number, data in enumerate((tree, archive, tree)))
        with pytest.raises(NotFound):
            build.open("output", "3")

    daemon.script = script
    assert run(["build", "-o", "out", "-o", "type=oci,dest=app.tar", "-o", "-", "."]) == 0
    assert said == ["", "", ""]
    assert Path("out/f").read_bytes() == b"content" and Path("app.tar").read_bytes() == archive
    assert capfdbinary.readouterr().out == tree
    assert {path.name for path in Path(".").iterdir()} == {"Dockerfile", "out", "app.tar"}


@pytest.mark.parametrize(
    ("words", "data", "why"),
    [
        ("out", tar_of(**{"../evil": b"x"}), "leads out of the directory"),
        ("out", tar_of(f=b"x" * 5000)[:3000], "archive"),
        ("type=tar,dest=new.tar", tar_of(f=b"x")[:1024], "not complete"),
        ("type=tar,dest=no/such/new.tar", tar_of(f=b"x" * 1_000_000), "No such file"),
    ],
)
def test_an_output_that_cannot_be_kept(
    daemon: Daemon, words: str, data: bytes, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def script(build: Build) -> None:
        said.append(give(build, 0, data))
        build.fail(said[0])

    daemon.script = script
    assert run(["build", "-o", words, "."]) == 1
    assert why in said[0] and why in capfd.readouterr().err
    assert [path.name for path in Path(".").iterdir()] == ["Dockerfile"]
    assert not Path("../evil").exists()


def test_caches_in_directories(daemon: Daemon) -> None:
    os.makedirs("old/blobs/sha256")
    for name in ("index.json", "oci-layout", "blobs/sha256/1", "private"):
        Path("old", name).write_text(name)
    os.symlink("/etc/passwd", "old/blobs/link")
    os.makedirs("kept/blobs")
    Path("kept/index.json").write_text("before")
    Path("kept/blobs/other").write_text("other")
    written = tar_of(**{"blobs/sha256/2": b"2", "index.json": b"after"})
    seen: dict[str, Any] = {}

    def script(build: Build) -> None:
        with tarfile.open(fileobj=io.BytesIO(build.read("cache-in", "1"))) as archive:
            seen["sent"] = set(archive.getnames())
        for number in ("0", "2"):
            with pytest.raises(NotFound):
                build.open("cache-in", number)
        with build.open("cache-out", "0") as stream:
            stream.sendall(written)
            stream.shutdown(socket.SHUT_WR)
            seen["said"] = stream.recv(100)

    daemon.script = script
    words = ["--cache-from", "a", "--cache-from", "type=local,src=old", "--cache-from", "type=local,src=nosuch"]
    assert run(["build", *words, "--cache-to", "type=local,dest=kept,mode=max", "."]) == 0
    assert seen == {"sent": {"index.json", "oci-layout", "blobs", "blobs/sha256", "blobs/sha256/1"}, "said": b""}
    assert Path("kept/index.json").read_text() == "after" and Path("kept/blobs/other").read_text() == "other"
    assert Path("kept/blobs/sha256/2").read_text() == "2"
    assert {path.name for path in Path("kept").iterdir()} == {"index.json", "blobs"}


PLANNED = events.Planned(steps=(events.PlannedStep(shown="RUN x", stage="0"),))


def test_what_is_written_of_a_build(daemon: Daemon, capfd: pytest.CaptureFixture[str]) -> None:
    def script(build: Build) -> None:
        exported = events.Exported(type="image", image_id="sha256:1", names=("a:1", "b:1"), digest="sha256:2")
        build.tell(PLANNED, events.StepStarted(step=0, at=1), events.StepDone(step=0, at=2), exported)
        build.send({"hooper": {"type": "of a newer daemon"}})
        build.send({"aux": {"ID": "sha256:1"}})

    daemon.script = script
    words = ["--iidfile", "iid", "--metadata-file", "facts", "--trace", "trace", "."]
    assert run(["build", *words]) == 0
    assert Path("iid").read_text() == "sha256:1"
    assert json.loads(Path("facts").read_text()) == {
        "containerimage.config.digest": "sha256:1", "containerimage.digest": "sha256:2", "image.name": "a:1,b:1",
    }  # fmt: skip
    assert "RUN x" in Path("trace").read_text()
    output = capfd.readouterr()
    assert output.out == "" and "#1 [1/1] RUN x" in output.err
    assert run(["build", "-q", "."]) == 0
    assert capfd.readouterr() == ("sha256:1\n", "")
    assert run(["build", "--progress", "rawjson", "."]) == 0
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["type"] for line in lines] == ["planned", "started", "done", "exported"]


@pytest.mark.parametrize("quiet", [["--progress", "plain"], ["-q"]])
def test_a_step_that_fails(daemon: Daemon, capfd: pytest.CaptureFixture[str], quiet: list[str]) -> None:
    def script(build: Build) -> None:
        failed = events.StepFailed(step=0, at=2, error="it failed", exit_code=3, output="last words\n")
        build.tell(PLANNED, events.StepStarted(step=0, at=1), failed)
        build.fail("Dockerfile:1: it failed", 3)

    daemon.script = script
    assert run(["build", *quiet, "--trace", "trace", "."]) == 3
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err.endswith("------\n > [1/1] RUN x:\nlast words\n------\nhooper: Dockerfile:1: it failed\n")
    assert '"failed"' in Path("trace").read_text()


def test_a_state_to_debug_is_removed(daemon: Daemon, capfd: pytest.CaptureFixture[str]) -> None:
    def script(build: Build) -> None:
        failed = events.StepFailed(
            step=0, at=2, error="e", exit_code=3, debug_image="sha256:abc", debug_args=("/bin/sh", "-c", "make; exit 3")
        )
        build.tell(PLANNED, events.StepStarted(step=0, at=1), failed)
        build.fail("it failed", 3)

    daemon.script = script
    assert run(["build", "--debug", "."]) == 3
    err = capfd.readouterr().err
    assert "run this command in a terminal" in err and "/bin/sh -c 'make; exit 3'" in err
    assert daemon.deleted == ["/v1.50/images/sha256:abc?force=1"]


def test_a_check(daemon: Daemon, capfd: pytest.CaptureFixture[str]) -> None:
    warned = events.Warned(rule="R", message="doubtful")
    daemon.script = lambda build: build.tell(warned) if build.own == {"check": True} else build.fail(str(build.own))
    for words in (["--check"], ["--call=check"]):
        assert run(["build", *words, "."]) == 1
        output = capfd.readouterr()
        assert output.out == "Check complete, 1 warning has been found!\n\nWARNING: R\ndoubtful\n" and output.err == ""
    daemon.script = lambda _: None
    assert run(["build", "--check", "."]) == 0
    assert capfd.readouterr().out == "Check complete, no warnings found.\n"


def test_stdin(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Build] = []
    daemon.script = seen.append
    for data in (tar_of(Dockerfile=b"FROM y"), b"FROM y"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert run(["build", "-"]) == 0
        build = seen.pop()
        assert "session" not in build.query and "remote" not in build.query
        with tarfile.open(fileobj=io.BytesIO(build.body)) as archive:
            member = archive.extractfile("Dockerfile")
            assert member and member.read() == b"FROM y"


def test_a_url_is_the_daemons(daemon: Daemon) -> None:
    seen: list[Build] = []
    daemon.script = seen.append
    assert run(["build", "-f", "sub/D", "https://h.example/x.git#main"]) == 0
    assert seen[0].query["remote"] == "https://h.example/x.git#main" and seen[0].query["dockerfile"] == "sub/D"
    assert seen[0].body == b""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--secret", "id=a,src=Dockerfile", "."], "cannot build with --secret: the daemon is not hooper"),
        (["-o", "out", "--check", "."], "cannot build with --check, --output or --push"),
    ],
)
def test_a_daemon_that_is_not_hooper(
    daemon: Daemon, words: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    daemon.server = "Docker/28.0.0 (linux)"
    assert run(["build", *words]) == 1
    assert said in capfd.readouterr().err


def test_a_daemon_that_is_not_hooper_gets_a_tar(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    daemon.server = "Docker/28.0.0 (linux)"
    Path(".dockerignore").write_text("ignored\n")
    Path("ignored").touch()
    Path("kept").touch()
    seen: list[Build] = []

    def script(build: Build) -> None:
        seen.append(build)
        build.send({"stream": "Step 1/1 : FROM y\n"})
        build.send({"aux": {"ID": "sha256:1"}})

    daemon.script = script
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"FROM y")))
    assert run(["build", "-f", "-", "--load", "--cache-from", "a/b", "--iidfile", "../iid", "."]) == 0
    build = seen[0]
    with tarfile.open(fileobj=io.BytesIO(build.body)) as archive:
        name = build.query["dockerfile"]
        assert set(archive.getnames()) == {"Dockerfile", "kept", ".dockerignore", name}
        rules, recipe = archive.extractfile(".dockerignore"), archive.extractfile(name)
        assert rules and rules.read() == f"ignored\n\n{name}\n".encode()
        assert recipe and recipe.read() == b"FROM y"
    assert build.query["cachefrom"] == '["a/b"]' and "hooper" not in build.query and "progress" not in build.query
    assert capfd.readouterr().out == "Step 1/1 : FROM y\n"
    assert Path("../iid").read_text() == "sha256:1"


def test_what_is_broken_off_leaves_nothing(daemon: Daemon) -> None:
    """The build ends while the client still keeps its output."""
    streams: list[socket.socket] = []

    def script(build: Build) -> None:
        for number in range(2):
            streams.append(build.open("output", str(number)))
            streams[-1].sendall(tar_of(f=b"x" * 100_000)[:50_000])
        build.fail("broken off")

    daemon.script = script
    assert run(["build", "-o", "out", "-o", "type=tar,dest=out.tar", "."]) == 1
    assert [path.name for path in Path(".").iterdir()] == ["Dockerfile"]


def received(build: Build, name: str) -> dict[str, bytes | None]:
    """A context as the daemon gets it, by path; None for what is no file."""
    found: dict[str, bytes | None] = {}
    with build.open("context", name) as stream, stream.makefile("rwb") as file:
        assert sync.hello(sync.read_frame(file.read)[1])[1] == name
        entries: list[sync.Entry] = []
        while (frame := sync.read_frame(file.read))[0] == b"E":
            entries += sync.decode(frame[1], list[sync.Entry])
        sync.expect(b"N", *frame)
        wanted = [index for index, entry in enumerate(entries) if stat.S_ISREG(entry.mode)]
        file.write(sync.frame(b"W", wanted) + sync.frame(b"N"))
        file.flush()
        for index in wanted:
            letter, body = sync.read_frame(file.read)
            sync.expect(b"D", letter, body)
            got, _, size, *_ = sync.decode(body, tuple[int, int, int, int, int])
            assert got == index
            found[os.fsdecode(entries[index].path)] = file.read(size)
        sync.expect(b"Z", *sync.read_frame(file.read))
    return found | {os.fsdecode(entry.path): None for entry in entries if not stat.S_ISREG(entry.mode)}


def test_contexts(daemon: Daemon) -> None:
    for name in ("a", "b", "sub/c", "other/x", "other/ignored"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(name)
    Path(".dockerignore").write_text("*\n!sub\n!a\n")
    Path("other/.dockerignore").write_text("ignored\n")
    Path("layout").mkdir()
    Path("layout/index.json").write_text("{}")
    found: dict[str, dict[str, bytes | None]] = {}

    def script(build: Build) -> None:
        assert build.own["contexts"] == {
            "named": {"kind": "local", "value": ""}, "base": {"kind": "oci-layout", "value": "v1"},
        }  # fmt: skip
        found.update({name: received(build, name) for name in ("", "named", "base")})
        with pytest.raises(NotFound, match='no context "other"'):
            build.open("context", "other")

    daemon.script = script
    words = ["--build-context", "named=other", "--build-context", "base=oci-layout://layout:v1"]
    assert run(["build", *words, "."]) == 0
    assert found[""] == {
        "Dockerfile": b"FROM x\n", ".dockerignore": b"*\n!sub\n!a\n", "a": b"a", "sub": None, "sub/c": b"sub/c",
    }  # fmt: skip
    assert found["named"] == {".dockerignore": b"ignored\n", "x": b"other/x"}
    assert found["base"] == {"index.json": b"{}"}


def test_a_recipe_from_elsewhere_is_no_part_of_the_context(daemon: Daemon, tmp_path_factory: Any) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "Other").write_text("FROM y\n")
    (elsewhere / "Other.dockerignore").write_text("Dockerfile\n")
    found: list[tuple[str, dict[str, bytes | None]]] = []
    daemon.script = lambda build: found.append((build.query["dockerfile"], received(build, "")))
    assert run(["build", "-f", str(elsewhere / "Other"), "."]) == 0
    (name, files) = found[0]
    assert files == {name: b"FROM y\n", ".dockerignore": f"Dockerfile\n\n{name}\n".encode()}
