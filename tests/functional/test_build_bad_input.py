"""Builds that somebody feeds with what is wrong on purpose: one clear, short error, soon, and nothing is left."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sqlite3
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from test_build_mistakes import nothing_is_left

import support
from support import Hooper, context_tar

pytestmark = pytest.mark.root

SECRET = "hunter2-" + "0123456789abcdef" * 2
MOST = 3000
"""Characters of an error: a person reads it."""


def refused(done: subprocess.CompletedProcess[str], code: int, *texts: str) -> None:
    message = done.stderr.rpartition("\nhooper: ")[2].rpartition("environment-variable.\n")[2]
    assert done.returncode == code, done.stderr[-MOST:]
    assert "Traceback" not in done.stderr and len(message) < MOST, message[:MOST]
    for text in texts:
        assert text in message, message


@pytest.mark.parametrize(
    ("command", "code"), [('["nothing-of-the-kind"]', 1), ('["/etc/passwd"]', 1), ("sh -c 'kill -9 $$'; exit $?", 137)]
)
def test_a_command_that_cannot_run(clean: Hooper, tmp_path: Path, command: str, code: int) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM busybox\nRUN {command}\n")
    for client in (clean.docker, clean.hooper):
        done = client("build", str(tmp_path), check=False)
        assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    assert nothing_is_left(clean)


def test_the_last_words_of_a_long_output(clean: Hooper, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN seq 200000; echo last words >&2; exit 3\n")
    for client in (clean.docker, clean.hooper):
        done = client("build", "-q", str(tmp_path), check=False)
        assert done.returncode == 3 and "last words" in done.stderr
    done = clean.hooper("build", str(tmp_path), check=False)
    assert "last words" in done.stderr[-2000:]


# --- what is too much ---

LONG = 10 << 20
Parts = Sequence[str | tuple[str, int]]
"""A Dockerfile; (text, n) is that text n times, written out by the test alone."""
ENDLESS: dict[str, tuple[Parts, int | None, str]] = {
    "an unknown word": (["FROM busybox\n", ("X", LONG), "\n"], 1, "Dockerfile:2: "),
    "a flag": (["FROM busybox\nCOPY --", ("x", LONG), " a /a\n"], 1, "Dockerfile:2: "),
    "a name of a file": (["FROM busybox\nCOPY ", ("x", LONG), " /a\n"], 1, "Dockerfile:2: "),
    "a command": (["FROM busybox\nRUN true ", ("x", LONG), "\n"], 1, "Dockerfile:2: "),
    "an image": (["FROM ", ("x", LONG), "\n"], 1, "Dockerfile:1: "),
    "a substitution in one another": (
        ["FROM busybox\nENV A=", ("${A:-", 50_000), ("}", 50_000), "\n"], 1, "Dockerfile:2: ",
    ),
    "a JSON array in one another": (["FROM busybox\nRUN ", ("[", 500_000), "\n"], None, ""),
    "ONBUILD of ONBUILD": (["FROM busybox\n", ("ONBUILD ", 100_000), "RUN true\n"], 1, "Dockerfile:2: "),
    "a comment": (["#", ("x", LONG), "\nFROM busybox\n"], 1, "Dockerfile:1: "),
    "lines that go on": (["FROM busybox\nENV A=1", (" \\\n  B=2", 100_000), "\n"], None, ""),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDLESS)
def test_what_has_no_end(clean: Hooper, case: str) -> None:
    parts, code, place = ENDLESS[case]
    dockerfile = "".join(part if isinstance(part, str) else part[0] * part[1] for part in parts)
    status, said = clean.request("POST", "/build?rm=1", context_tar({"Dockerfile": dockerfile}))
    lines = said if isinstance(said, str) else json.dumps(said)
    failed = status != 200 or "errorDetail" in lines
    if code is not None:
        assert failed == bool(code), lines[-MOST:]
    if failed:
        error = said["message"] if status != 200 else json.loads(lines.strip().splitlines()[-1])["error"]
        assert place in error and len(error) < MOST and "Error: " not in error, error[:MOST]
    assert nothing_is_left(clean)


def test_many_stages_and_deep_directories(clean: Hooper, tmp_path: Path) -> None:
    lines = ["FROM busybox AS s0"] + [f"FROM s{n} AS s{n + 1}" for n in range(3000)] + ["RUN true", ""]
    status, said = clean.request("POST", "/build", context_tar({"Dockerfile": "\n".join(lines)}))
    assert status == 200 and "Successfully built" in str(said)
    deep = "/".join(["d" * 40] * 90)
    status, said = clean.request(
        "POST", "/build", context_tar({"Dockerfile": "FROM busybox\nCOPY . /c\n", f"{deep}/f": ""})
    )
    assert status == 200 and "Successfully built" in str(said), said


# --- archives that lie ---


def entry(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", size: int = 0, data: bytes = b"") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size or len(data)
    padding = -len(data) % 512
    return info.tobuf(tarfile.PAX_FORMAT) + data + bytes(padding)


DOCKERFILE = entry("Dockerfile", data=b"FROM busybox\nCOPY . /all\n")
FILE = entry("a", data=b"x")
END = bytes(1024)
LIES = {
    "a name that leads out": DOCKERFILE + entry("../../escaped", data=b"x") + END,
    "a file through a link": DOCKERFILE + entry("l", tarfile.SYMTYPE, link="/") + entry("l/escaped", data=b"x") + END,
    "a link to a file outside": DOCKERFILE + entry("h", tarfile.LNKTYPE, link="../../../etc/passwd") + END,
    "a link to nothing": DOCKERFILE + entry("h", tarfile.LNKTYPE, link="nothing") + END,
    "more bytes than there are": DOCKERFILE + entry("big", size=1 << 40, data=b"x" * 512),
    "a size below nothing": DOCKERFILE + FILE[:124] + b"-0000000001\0" + FILE[136:] + END,
    "a wrong checksum": DOCKERFILE + FILE.replace(b"ustar", b"ustbr", 1) + END,
    "noise": DOCKERFILE + os.urandom(2048),
    "not gzip": b"\x1f\x8b\x08" + os.urandom(200),
    "not zstd": b"\x28\xb5\x2f\xfd" + os.urandom(200),
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_an_archive_that_lies(clean: Hooper, lie: str) -> None:
    outside = [clean.data_root.parent, clean.data_root, clean.data_root / "builds", Path("/")]
    before = os.listdir(clean.data_root.parent)
    status, said = clean.request("POST", "/build", LIES[lie])
    text = said if isinstance(said, str) else json.dumps(said)
    if "Successfully built" in text:
        # What was named stays within the context, and a link is copied as a link.
        assert lie in ("a file through a link", "a name that leads out"), text
    else:
        assert status in (400, 404, 500) and len(text) < MOST and "Error: " not in text, text[:MOST]
    assert not any((place / "escaped").exists() for place in outside)
    assert os.listdir(clean.data_root.parent) == before
    assert nothing_is_left(clean)


def test_a_bomb_stops_at_the_limit(short_tmp: Path) -> None:
    """A context that unpacks to more than the daemon takes."""
    import gzip

    body = io.BytesIO()
    with gzip.GzipFile(fileobj=body, mode="wb", compresslevel=1) as file:
        file.write(DOCKERFILE + entry("zeros", size=1 << 26) + bytes(1 << 26) + END)
    with support.hooper(short_tmp / "bomb", '[builder]\ncontext_limit = "10MB"\n') as daemon:
        status, said = daemon.request("POST", "/build", body.getvalue())
        assert status == 400 and "too large" in said["message"], said
        assert nothing_is_left(daemon)


# --- downloads ---


@contextlib.contextmanager
def server(content: bytes) -> Iterator[str]:
    """An HTTP server that has the one file."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        http.server_close()


def test_a_checksum_that_does_not_match(clean: Hooper, tmp_path: Path) -> None:
    with server(b"content") as address:
        wrong = "sha256:" + "0" * 64
        (tmp_path / "Dockerfile").write_text(f"FROM busybox\nADD --checksum={wrong} http://{address}/f /f\n")
        for client in (clean.docker, clean.hooper):
            refused(client("build", str(tmp_path), check=False), 1, "Dockerfile:2: ", wrong[:30])
        (tmp_path / "Dockerfile").write_text(f"FROM busybox\nADD --checksum=sha256:12 http://{address}/f /f\n")
        for client in (clean.docker, clean.hooper):
            refused(client("build", str(tmp_path), check=False), 1, "Dockerfile:2: ", "sha256:12")
    assert nothing_is_left(clean)


# --- secrets ---


@pytest.fixture
def own(short_tmp: Path) -> Iterator[Hooper]:
    """A daemon whose every file is looked through afterwards."""
    from conftest import import_busybox

    with support.hooper(short_tmp / "secrets", arguments=["--log-level", "debug"]) as daemon:
        import_busybox(daemon)
        yield daemon


def test_a_secret_is_nowhere_afterwards(own: Hooper, tmp_path: Path) -> None:
    """Used as a file and as a variable, by steps that succeed and one that fails."""
    (tmp_path / "token").write_text(SECRET)
    (tmp_path / ".dockerignore").write_text("token\n")
    use = "RUN --mount=type=secret,id=t --mount=type=secret,id=t,target=/s/t --mount=type=secret,id=t,env=TOKEN"
    recipe = (
        f"FROM busybox\n{use} test $(cat /run/secrets/t) = $TOKEN && test $(cat /s/t) = $TOKEN\nCOPY Dockerfile /d\n"
    )
    said = ""
    with server(b"content") as address:
        for last, code in (("RUN true", 0), (f"{use} sh -c 'exit 9'", 9), ("COPY missing /x", 1)):
            (tmp_path / "Dockerfile").write_text(f"{recipe}ADD http://{address}/f /f\n{last}\n")
            done = own.hooper(
                "build", "-t", "s", "--secret", f"id=t,src={tmp_path}/token", "--progress", "rawjson", str(tmp_path),
                check=False,
            )  # fmt: skip
            assert done.returncode == code, done.stderr
            said += done.stdout + done.stderr
    said += own.docker("history", "--no-trunc", "s").stdout + own.docker("image", "inspect", "s").stdout
    said += own.hooper("builder", "du", "--verbose", check=False).stdout
    status, events = own.request("GET", f"/events?since=1&until={int(time.time()) + 1}")
    assert status == 200
    assert SECRET not in said + str(events) and SECRET not in own.log_tail()
    assert places_of(own, SECRET.encode()) == []


def places_of(engine: Hooper, text: bytes) -> list[str]:
    """Files of the daemon's that have the text in them, also in its database."""
    found = []
    for root in (engine.data_root, engine.exec_root, engine.data_root.parent):
        for place, _, names in os.walk(root):
            for name in names:
                path = os.path.join(place, name)
                if os.path.isfile(path) and not os.path.islink(path) and text in Path(path).read_bytes():
                    found.append(path)
    with sqlite3.connect(f"file:{engine.data_root}/hooper.db?mode=ro", uri=True) as database:
        found += [line for line in database.iterdump() if text.decode() in line]
    database.close()
    return found


def test_the_password_of_a_url_is_told_to_nobody(own: Hooper, tmp_path: Path) -> None:
    for line in (f"ADD http://user:{SECRET}@127.0.0.1:1/f /f", f"ADD https://user:{SECRET}@127.0.0.1:1/r.git /r"):
        (tmp_path / "Dockerfile").write_text(f"FROM busybox\n{line}\n")
        for client in (own.docker, own.hooper):
            done = client("build", str(tmp_path), check=False)
            assert done.returncode == 1 and "Dockerfile:2: " in done.stderr
            error = done.stderr.rpartition("Dockerfile:2: ")[2]
            assert SECRET not in error, error
    assert SECRET not in own.log_tail()
