"""The command line as a whole, against an engine that is played by this test."""

from __future__ import annotations

import base64
import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from hooper.cli import table
from hooper.cli.main import run

Handler = Callable[[str, str, bytes], tuple[int, Any]]


class FakeEngine:
    """Answers every request with what `answers` has for "METHOD /path", and notes what was asked."""

    def __init__(self, path: Path) -> None:
        self.address = f"unix://{path}"
        self.answers: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        self.asked: list[tuple[str, str, bytes]] = []
        self.streams: dict[str, bytes] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def answer(self, request: str, body: Any = None, status: int = 200, **headers: str) -> None:
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.answers[request] = (status, content, headers)

    def body_of(self, request: str) -> Any:
        return next(
            json.loads(body) for method, path, body in self.asked if f"{method} {path.split('?')[0]}" == request
        )

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        try:
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
        except OSError:
            return

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file:
            while line := file.readline():
                method, target, _ = line.decode().split(" ")
                headers = {}
                while (field := file.readline().strip()) and b":" in field:
                    key, _, value = field.decode().partition(":")
                    headers[key.lower()] = value.strip()
                body = file.read(int(headers.get("content-length", 0)))
                if headers.get("transfer-encoding") == "chunked":
                    while size := int(file.readline(), 16):
                        body += file.read(size)
                        file.readline()
                    file.readline()
                target = target.removeprefix("/v1.50")
                path = target.split("?")[0]
                self.asked.append((method, target, body))
                if path in self.streams:
                    connection.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
                    connection.sendall(self.streams[path])
                    return
                connection.sendall(self._response(method, path))

    def _response(self, method: str, path: str) -> bytes:
        missing: tuple[int, bytes, dict[str, str]] = (404, json.dumps({"message": f"nothing at {path}"}).encode(), {})
        status, body, extra = self.answers.get(f"{method} {path}", missing)
        head = {"Content-Length": str(len(body)), **{key.replace("_", "-"): value for key, value in extra.items()}}
        lines = [f"HTTP/1.1 {status} X", *(f"{key}: {value}" for key, value in head.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + (b"" if method == "HEAD" else body)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    fake = FakeEngine(tmp_path / "engine.sock")
    fake.answer("HEAD /_ping", Api_Version="1.99")
    monkeypatch.setenv("HOOPER_HOST", fake.address)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    yield fake
    fake.close()


def frame(stream: int, text: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(text)) + text


def test_every_entry_of_the_table_names_a_command() -> None:
    entries = [entry for section in table.SECTIONS.values() for entry in section.items()]
    entries += [entry for group in table.GROUPS.values() for entry in group.items()]
    for name, (target, summary) in entries:
        module, _, attribute = target.partition(":")
        if module == "group":
            assert attribute in table.GROUPS
        elif module not in ("hooper.daemon.main", "hooper.cli.demo"):
            assert isinstance(getattr(import_module(module), attribute), click.Command), name
        assert summary


def test_version_and_help_import_little() -> None:
    script = "import sys; from hooper.cli.main import run; run(['--version']); print('click' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "False"
    script = "import sys; from hooper.cli.main import run; run(['--help']); print('hooper.cli.run' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "Create and run a new container" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["rnu"], 1, 'Did you mean "run"'),
        (["container", "strat"], 1, '"start"'),
        (["ps", "--nosuch"], 125, "unknown flag: --nosuch"),
        (["ps", "-f"], 125, "flag needs an argument: -f"),
        (["ps", "extra"], 1, "extra"),
        (["rm"], 1, "requires at least 1 argument"),
        (["run"], 1, "requires at least 1 argument"),
        (["run", "--rm=perhaps", "x"], 125, "neither true nor false"),
        (["run", "--memory", "4q", "x"], 125, 'invalid argument "4q" for --memory'),
        (["run", "--gpus", "all", "x"], 125, "--gpus"),
        (["run", "--restart", "always", "--rm", "x"], 125, "--restart"),
        (["ps", "--filter", "x"], 125, "For example: --filter name=web"),
        (["-H", "nonsense", "ps"], 1, "neither unix:///PATH nor tcp://"),
        (["-H", "unix:///nosuch.sock", "ps"], 1, "Cannot connect to the hooper daemon at unix:///nosuch.sock"),
        (["-H", "unix:///nosuch.sock", "run", "x"], 125, "Is the daemon running?"),
    ],
)
def test_errors_and_their_codes(words: list[str], code: int, says: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(words) == code
    assert says in capfd.readouterr().err


def test_run_sends_what_the_flags_say(engine: FakeEngine, capfd: pytest.CaptureFixture[str]) -> None:
    engine.answer("POST /containers/create", {"Id": "c1", "Warnings": ["mind"]}, 201)
    engine.answer("POST /containers/c1/start", status=204)
    words = "run -dit -e=A=1 -p 80:80 --name web -m 64m --cpus 1.5 --init --rm=false --network n1 --network-alias w"
    assert run([*words.split(), "--health-cmd", "true", "--entrypoint", "", "image", "sh", "-c", "x"]) == 0
    body = engine.body_of("POST /containers/create")
    host = body["HostConfig"]
    assert (body["Image"], body["Cmd"], body["Env"], body["Entrypoint"]) == ("image", ["sh", "-c", "x"], ["A=1"], [""])
    assert body["Tty"] and body["OpenStdin"] and "AttachStdout" in body and not body["AttachStdout"]
    assert (host["Memory"], host["NanoCpus"], host["Init"], host["NetworkMode"]) == (
        64 << 20,
        1_500_000_000,
        True,
        "n1",
    )
    assert "AutoRemove" not in host
    assert body["NetworkingConfig"] == {"EndpointsConfig": {"n1": {"Aliases": ["w"]}}}
    assert body["Healthcheck"] == {"Test": ["CMD-SHELL", "true"]}
    assert ("POST", "/containers/create?name=web", json.dumps(body).encode()) in engine.asked
    out = capfd.readouterr()
    assert out.out == "c1\n"
    assert "WARNING: mind" in out.err


def test_run_attached_waits_before_it_starts(engine: FakeEngine, capfd: pytest.CaptureFixture[str]) -> None:
    engine.answer("POST /containers/create", {"Id": "c1"}, 201)
    engine.answer("POST /containers/c1/start", status=204)
    engine.answer("POST /containers/c1/wait", {"StatusCode": 7})
    engine.streams["/containers/c1/attach"] = frame(1, b"out") + frame(2, b"err") + frame(1, b"more\n")
    assert run(["run", "--rm", "image"]) == 7
    out = capfd.readouterr()
    assert (out.out, out.err) == ("outmore\n", "err")
    order = [path.split("?")[0].rsplit("/", 1)[1] for _, path, _ in engine.asked]
    assert order == ["_ping", "create", "attach", "wait", "start"]
    assert any(path == "/containers/c1/wait?condition=removed" for _, path, _ in engine.asked)


def test_run_pulls_a_missing_image_once(engine: FakeEngine, capfd: pytest.CaptureFixture[str]) -> None:
    engine.answer("POST /containers/create", {"message": "No such image: x:latest"}, 404)
    engine.answer("POST /images/create", b'{"status":"Pulling","id":"a"}\n{"status":"Done"}\n')
    assert run(["run", "-d", "x"]) == 125
    assert any(path == "/images/create?fromImage=x&tag=latest" for _, path, _ in engine.asked)
    assert capfd.readouterr().err.startswith(
        "Unable to find image 'x:latest' locally\na: Pulling\nDone\nhooper: No such"
    )


def test_an_error_in_the_progress_fails_the_pull(engine: FakeEngine, capfd: pytest.CaptureFixture[str]) -> None:
    engine.answer("POST /images/create", b'{"status":"x"}\n{"errorDetail":{"message":"denied"},"error":"denied"}\n')
    assert run(["pull", "x"]) == 1
    assert "hooper: denied" in capfd.readouterr().err


def test_the_credentials_of_the_registry_alone_are_sent(engine: FakeEngine, tmp_path: Path) -> None:
    auth = base64.b64encode(b"me:secret").decode()
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": {"r.example": {"auth": auth}}}))
    from hooper.cli.credentials import load, registry_auth

    assert load("r.example") == {"serveraddress": "r.example", "username": "me", "password": "secret"}
    assert registry_auth("other.example") == {}


def test_login_and_logout_keep_and_forget(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    engine.answer("POST /auth", {"Status": "Login Succeeded"})
    assert run(["login", "-u", "me", "-p", "secret", "r.example"]) == 0
    file = tmp_path / "docker" / "config.json"
    assert json.loads(file.read_text())["auths"]["r.example"]["auth"] == base64.b64encode(b"me:secret").decode()
    assert file.stat().st_mode & 0o777 == 0o600
    assert run(["logout", "r.example"]) == 0
    assert json.loads(file.read_text())["auths"] == {}


def test_credentials_come_from_a_helper(engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text('#!/bin/sh\nread key\nprintf \'{"Username":"u","Secret":"s-%s"}\' "$key"\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text('{"credHelpers": {"r.example": "test"}}')
    from hooper.cli.credentials import load

    assert load("r.example") == {"serveraddress": "r.example", "username": "u", "password": "s-r.example"}


def test_several_things_go_on_after_a_failure(engine: FakeEngine, capfd: pytest.CaptureFixture[str]) -> None:
    engine.answer("POST /containers/b/stop", status=304)
    assert run(["stop", "-t", "3", "a", "b"]) == 1
    out = capfd.readouterr()
    assert (out.out, out.err) == ("b\n", "hooper: nothing at /containers/a/stop\n")
    assert any(path == "/containers/b/stop?t=3" for _, path, _ in engine.asked)


def test_inspect_finds_any_kind_of_thing(engine: FakeEngine, capfd: pytest.CaptureFixture[str]) -> None:
    engine.answer("GET /volumes/v", {"Name": "v", "Options": {"a": 1}})
    assert run(["inspect", "-f", "{{.Name}} {{index .Options `a`}}", "v"]) == 0
    assert capfd.readouterr().out == "v 1\n"
    assert run(["inspect", "nosuch"]) == 1
    assert capfd.readouterr().out == "[]\n"


def test_doctor_fails_on_a_broken_plugin(engine: FakeEngine, capfd: pytest.CaptureFixture[str]) -> None:
    good = {"kind": "storage", "name": "vfs", "status": "active"}
    engine.answer("GET /hooper/plugins", [good])
    assert run(["plugin", "doctor"]) == 0
    engine.answer("GET /hooper/plugins", [good, {"kind": "log", "name": "l", "status": "error", "reason": "boom"}])
    assert run(["plugin", "doctor"]) == 1
    assert "error: log l: boom" in capfd.readouterr().out


def test_build_sends_the_context(engine: FakeEngine, tmp_path: Path) -> None:
    import io
    import tarfile

    engine.answer("POST /build", b'{"aux":{"ID":"sha256:1"}}\n{"stream":"ok\\n"}\n')
    context = tmp_path / "context"
    (context / "deep" / "er").mkdir(parents=True)
    (context / "Dockerfile").write_text("FROM x")
    (context / ".dockerignore").write_text("*\n!deep/er/keep\n")
    (context / "deep" / "er" / "keep").write_text("kept")
    (context / "deep" / "lost").write_text("lost")
    iid = tmp_path / "iid"
    assert run(["build", "-t", "a:1", "--build-arg", "K=v", "--iidfile", str(iid), str(context)]) == 0
    target, body = next((path, body) for _, path, body in engine.asked if path.startswith("/build"))
    assert "t=a%3A1" in target and "buildargs=%7B%22K%22%3A%20%22v%22%7D" in target
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert set(archive.getnames()) == {".dockerignore", "Dockerfile", "deep/er/keep"}
        member = archive.extractfile("deep/er/keep")
        assert member and member.read() == b"kept"
    assert iid.read_text() == "sha256:1"


def test_a_step_that_fails_passes_its_code_on(engine: FakeEngine, tmp_path: Path) -> None:
    engine.answer("POST /build", b'{"errorDetail":{"code":3,"message":"returned 3"},"error":"returned 3"}\n')
    (tmp_path / "Dockerfile").write_text("FROM x")
    assert run(["build", str(tmp_path)]) == 3
