"""Daemons by name and by other ways than a socket: contexts, ssh, TLS, and which of all that wins."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import support

pytestmark = pytest.mark.root
NOWHERE = "tcp://127.0.0.1:1"


class Shell:
    """Runs `hooper` and `docker` with a configuration of their own, and with no daemon given."""

    def __init__(self, home: Path) -> None:
        self.home = home
        keep = {key: value for key, value in os.environ.items() if not key.startswith(("HOOPER_", "DOCKER_"))}
        self.environment = {**keep, "HOME": str(home), "DOCKER_CONFIG": str(home / "docker")}
        self.path = home / "bin"
        self.path.mkdir()
        self.environment["PATH"] = f"{self.path}:{self.environment['PATH']}"
        self.script("hooper", f'exec {sys.executable} -m hooper "$@"')

    def script(self, name: str, text: str) -> None:
        file = self.path / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)

    def __call__(
        self, *words: str, check: bool = True, stdin: str | None = None, program: str = "hooper", **more: str
    ) -> subprocess.CompletedProcess[str]:
        return support.run(program, *words, check=check, stdin=stdin, env={**self.environment, **more})


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_a_context_is_made_used_changed_and_removed(shell: Shell, clean: support.Hooper) -> None:
    shell("context", "create", "here", "--description", "this one", "--docker", f"host={clean.address}")
    shell("context", "create", "there", "--docker", f"host={NOWHERE}")
    assert shell("context", "ls", "-q").stdout.split() == ["default", "*", "here", "there"]
    rows = [json.loads(line) for line in shell("context", "ls", "--format", "json").stdout.splitlines()]
    assert [(row["Name"], row["Current"]) for row in rows] == [("default", True), ("here", False), ("there", False)]
    assert shell("-c", "here", "ps", "-q").stdout == ""
    assert shell("context", "use", "here").stdout == "here\n"
    assert shell("context", "show").stdout == "here\n"
    assert shell("images", "-q").stdout
    assert shell("context", "rm", "here", check=False).returncode == 1
    shell("context", "update", "there", "--docker", f"host={clean.address}")
    assert shell("--context", "there", "images", "-q").stdout
    shell("context", "rm", "-f", "here")
    assert shell("context", "show").stdout == "default\n"
    inspected = json.loads(shell("context", "inspect", "there").stdout)
    assert inspected[0]["Endpoints"]["docker"]["Host"] == clean.address


def test_the_store_is_dockers(shell: Shell, clean: support.Hooper) -> None:
    shell("context", "create", "mine", "--docker", f"host={clean.address}")
    assert shell("--context", "mine", "images", "-q", program="docker").stdout
    shell("context", "create", "theirs", "--docker", f"host={clean.address}", program="docker")
    assert shell("-c", "theirs", "images", "-q").stdout
    expected, found = (
        json.loads(shell("context", "inspect", "theirs", program=one).stdout) for one in ("docker", "hooper")
    )
    assert found == expected
    shell("context", "use", "theirs", program="docker")
    assert shell("context", "show").stdout == "default\n", "what docker uses is docker's affair"


def test_contexts_go_through_a_file(shell: Shell, clean: support.Hooper) -> None:
    (shell.home / "ca").write_text("a certificate")
    shell("context", "create", "one", "--docker", f"host=tcp://127.0.0.1:2376,ca={shell.home}/ca")
    for exporter in ("docker", "hooper"):
        file = str(shell.home / f"by-{exporter}")
        shell("context", "export", "one", file, program=exporter)
        for importer in ("docker", "hooper"):
            shell("context", "import", f"{exporter}-{importer}", file, program=importer)
            found = json.loads(shell("context", "inspect", f"{exporter}-{importer}").stdout)[0]
            assert found["Endpoints"]["docker"]["Host"] == "tcp://127.0.0.1:2376"
            assert (Path(found["Storage"]["TLSPath"]) / "docker" / "ca.pem").read_text() == "a certificate"
    with zipfile.ZipFile(shell.home / "zipped", "w") as archive:
        archive.writestr("meta.json", '{"Name": "x", "Endpoints": {"docker": {"Host": "ssh://far"}}}')
    shell("context", "import", "by-zip", str(shell.home / "zipped"))
    assert json.loads(shell("context", "inspect", "by-zip").stdout)[0]["Endpoints"]["docker"]["Host"] == "ssh://far"
    (shell.home / "junk").write_text("nothing of the kind")
    assert "not an exported context" in shell("context", "import", "junk", str(shell.home / "junk"), check=False).stderr


def test_what_wins(shell: Shell, clean: support.Hooper) -> None:
    here = clean.address
    shell("context", "create", "here", "--docker", f"host={here}")
    shell("context", "create", "there", "--docker", f"host={NOWHERE}")
    shell("context", "use", "there")
    cases: list[tuple[list[str], dict[str, str]]] = [
        (["-H", here], {"HOOPER_HOST": NOWHERE, "DOCKER_CONTEXT": "there"}),
        (["-c", "here"], {"HOOPER_HOST": NOWHERE, "DOCKER_HOST": NOWHERE}),
        ([], {"HOOPER_HOST": here, "DOCKER_HOST": NOWHERE}),
        ([], {"DOCKER_HOST": here, "DOCKER_CONTEXT": "there"}),
        ([], {"HOOPER_CONTEXT": "here", "DOCKER_CONTEXT": "there"}),
        ([], {"DOCKER_CONTEXT": "here"}),
    ]
    for words, variables in cases:
        assert shell(*words, "images", "-q", **variables).stdout
    assert NOWHERE in shell("images", "-q", check=False).stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-c", "nosuch", "ps"], 'context "nosuch" not found'),
        (["context", "use", "nosuch"], "There are: default"),
        (["context", "create", "default"], "cannot be the name"),
        (["context", "create", "ok", "--docker", "host=gopher://x"], "invalid address"),
        (["context", "create", "ok", "--docker", "hots=x"], '"hots" is none of'),
        (["context", "rm", "default"], "cannot be removed"),
        (["-c", "x", "-H", "unix:///x", "ps"], "conflicting options"),
        (["-H", "unix:///x", "-H", "unix:///y", "ps"], "one address"),
    ],
)
def test_mistakes(shell: Shell, words: list[str], says: str) -> None:
    done = shell(*words, check=False)
    assert done.returncode in (1, 125)
    assert says in done.stderr


def test_a_damaged_context_says_which_file(shell: Shell) -> None:
    place = shell.home / "docker" / "contexts" / "meta" / "x"
    place.mkdir(parents=True)
    (place / "meta.json").write_text("{")
    done = shell("context", "ls", check=False)
    assert done.returncode == 1
    assert str(place) in done.stderr


def test_by_ssh(shell: Shell, clean: support.Hooper) -> None:
    """A stand-in for ssh that notes how it was called, and runs the command on this host."""
    calls = shell.home / "calls"
    shell.script(
        "ssh",
        f'echo "$@" >>{calls}; while [ "$1" != -- ]; do shift; done; shift 2; HOOPER_HOST={clean.address} exec "$@"',
    )
    assert shell("-H", "ssh://me@far.example:2222", "images", "-q").stdout
    assert "-l me -p 2222 -- far.example hooper system dial-stdio" in calls.read_text()
    address = f"ssh://far.example{clean.socket_path}"
    shell("context", "create", "far", "--docker", f"host={address}")
    text = "line\n" * 50_000
    done = shell("-c", "far", "run", "--rm", "-i", "busybox", "sh", "-c", "cat; exit 5", check=False, stdin=text)
    assert (done.returncode, done.stdout) == (5, text)
    assert f"hooper -H unix://{clean.socket_path} system dial-stdio" in calls.read_text()


def test_ssh_that_fails_is_told(shell: Shell) -> None:
    shell.script("ssh", "echo no route to host >&2; exit 255")
    done = shell("-H", "ssh://me@far.example", "ps", check=False)
    assert done.returncode == 1
    assert "no route to host" in done.stderr and "try `ssh me@far.example hooper version`" in done.stderr


def test_docker_comes_in_by_dial_stdio(shell: Shell, clean: support.Hooper) -> None:
    """Docker's own way over ssh, with hooper on the other side of it."""
    run = f'while [ "$1" != -- ]; do shift; done; HOOPER_HOST={clean.address} exec hooper system dial-stdio'
    shell.script("ssh", run)
    done = shell("-H", "ssh://me@far.example", "run", "--rm", "busybox", "echo", "hello", program="docker")
    assert done.stdout == "hello\n"


@pytest.fixture
def tls(clean: support.Hooper, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The engine behind TLS, for clients with a certificate: (port, directory of ca.pem, cert.pem, key.pem)."""
    files = tmp_path / "certificates"
    files.mkdir()
    support.run(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(files / "key.pem"),
        "-out", str(files / "cert.pem"),
    )  # fmt: skip
    (files / "ca.pem").write_text((files / "cert.pem").read_text())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "cert.pem", files / "key.pem")
    context.load_verify_locations(files / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_serve, args=(listener, context, clean.socket_path), daemon=True).start()
    yield listener.getsockname()[1], files
    listener.close()


def _serve(listener: socket.socket, context: ssl.SSLContext, path: str) -> None:
    while True:
        try:
            raw, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_relay, args=(raw, context, path), daemon=True).start()


def _relay(raw: socket.socket, context: ssl.SSLContext, path: str) -> None:
    """One connection, both ways; the end of one way is passed on alone."""
    try:
        client = context.wrap_socket(raw, server_side=True)
    except (ssl.SSLError, OSError):
        raw.close()
        return
    daemon = socket.socket(socket.AF_UNIX)
    daemon.connect(path)

    def forth() -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                daemon.sendall(data)
            daemon.shutdown(socket.SHUT_WR)

    threading.Thread(target=forth, daemon=True).start()
    with contextlib.suppress(OSError):
        while data := daemon.recv(65536):
            client.sendall(data)
    client.close()


def test_inside_tls(shell: Shell, tls: tuple[int, Path]) -> None:
    port, files = tls
    address = f"tcp://localhost:{port}"
    named = ["--tlsverify", "--tlscacert", str(files / "ca.pem"), "--tlscert", str(files / "cert.pem")]
    named += ["--tlskey", str(files / "key.pem")]
    assert shell("-H", address, *named, "images", "-q").stdout
    variables = {"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(files), "DOCKER_HOST": address}
    assert shell("images", "-q", **variables).stdout
    pem = ",".join(f"{name}={files}/{name}.pem" for name in ("ca", "cert", "key"))
    shell("context", "create", "safe", "--docker", f"host={address},{pem}")
    text = "line\n" * 20_000
    done = shell("-c", "safe", "run", "--rm", "-i", "busybox", "sh", "-c", "cat; exit 4", check=False, stdin=text)
    assert (done.returncode, done.stdout) == (4, text)
    assert shell("--context", "safe", "images", "-q", program="docker").stdout


def test_tls_that_cannot_be_trusted(shell: Shell, tls: tuple[int, Path]) -> None:
    port, files = tls
    cert = ["--tlscert", str(files / "cert.pem"), "--tlskey", str(files / "key.pem")]
    done = shell("-H", f"tcp://localhost:{port}", "--tlsverify", *cert, "ps", check=False)
    assert done.returncode == 1
    assert "certificate verify failed" in done.stderr
    assert shell("-H", f"tcp://localhost:{port}", "--tls", *cert, "ps", check=False).returncode == 0
    done = shell("-H", f"tcp://localhost:{port}", "--tls", "--tlscert", "/nosuch", "ps", check=False)
    assert "/nosuch" in done.stderr


def test_what_a_user_set_for_docker_holds(shell: Shell, clean: support.Hooper) -> None:
    config = {
        "psFormat": "{{.Names}} is {{.State}}",
        "detachKeys": "ctrl-x",
        "proxies": {"default": {"httpProxy": "http://proxy:3128", "noProxy": "localhost"}},
        "auths": {"r.example": {"auth": "bWU6c2VjcmV0"}},
    }
    (shell.home / "docker").mkdir()
    (shell.home / "docker" / "config.json").write_text(json.dumps(config))
    here = ("-H", clean.address)
    found = []
    for program in ("docker", "hooper"):
        created = shell(*here, "create", "-e", "http_proxy=own", "busybox", program=program).stdout.strip()
        found.append(sorted(clean.inspect(created)["Config"]["Env"]))
    assert found[1] == found[0]
    assert {"HTTP_PROXY=http://proxy:3128", "http_proxy=own", "no_proxy=localhost"} <= set(found[1])
    flags = ("run", "-d", "--name", "inner", "--use-api-socket", "busybox", "sleep", "100")
    shell(*here, *flags)
    assert shell(*here, "ps").stdout == "inner is running\n"
    assert shell(*here, "exec", "inner", "sh", "-c", "test -S /var/run/docker.sock && echo $DOCKER_CONFIG").stdout
    inside = json.loads(shell(*here, "exec", "inner", "cat", "/run/secrets/docker/config.json").stdout)
    assert inside["auths"] == {"r.example": {"auth": "bWU6c2VjcmV0"}}
