"""GET, HEAD and PUT of /containers/{id}/archive, and export: headers, rules, owners, hostile paths."""

from __future__ import annotations

import base64
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from lookin_support import run

import support
from support import Engine, UnixHttp

pytestmark = pytest.mark.root

SETUP = """
mkdir -p /d/sub && echo content >/d/file && chmod 640 /d/file
ln -s file /d/rel && ln -s /d/sub /d/abs && ln -s /nosuch /d/dead
ln -s ../../../../etc/passwd /d/out && chown 1000:2000 /d/file && chmod 4755 /d/sub && mkfifo /d/pipe && touch /ready
sleep 600
"""
REFUSED = (400, 500)
"""The second is what dockerd 20.10 says."""
GO_DIR, GO_LINK, GO_SETUID = 1 << 31, 1 << 27, 1 << 23


@pytest.fixture(scope="module")
def box(_either: Engine) -> Iterator[Engine]:
    """With a container "box" that runs and has files; no test takes away what others look at."""
    run(_either, "box", ["sh", "-c", SETUP], User="0")
    support.until(lambda: not _either.docker("exec", "box", "test", "-e", "/ready", check=False).returncode)
    yield _either
    _either.clear()


def call(engine: Engine, method: str, query: dict[str, Any], body: bytes | None = None) -> tuple[HTTPResponse, bytes]:
    connection = UnixHttp(engine.socket_path)
    try:
        headers = {"Content-Type": "application/x-tar"}
        connection.request(method, f"/containers/box/archive?{urlencode(query)}", body, headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def stat_of(engine: Engine, path: str, method: str = "HEAD") -> dict[str, Any]:
    answer, data = call(engine, method, {"path": path})
    assert answer.status == 200, data
    found = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
    assert set(found) == {"name", "size", "mode", "mtime", "linkTarget"}
    return dict(found)


def archive(*entries: tuple[str, bytes | None], **owner: int) -> bytes:
    """Files by name and content; None is a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.uid, entry.gid, entry.mode = owner.get("uid", 0), owner.get("gid", 0), 0o644
            if content is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            else:
                entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content or b""))
    return buffer.getvalue()


def put(engine: Engine, path: str, data: bytes, **query: Any) -> int:
    return call(engine, "PUT", {"path": path, **query}, data)[0].status


def inside(engine: Engine, script: str) -> str:
    return engine.docker("exec", "box", "sh", "-c", script).stdout


def test_the_header_tells_what_a_path_is(box: Engine) -> None:
    file = stat_of(box, "/d/file")
    assert (file["name"], file["size"], file["mode"], file["linkTarget"]) == ("file", 8, 0o640, "")
    assert file["mtime"].startswith("20")
    folder = stat_of(box, "/d/sub/")
    assert folder["name"] == "sub" and folder["mode"] == GO_DIR | GO_SETUID | 0o755
    assert stat_of(box, "/")["name"] == "/" and stat_of(box, "d/file")["name"] == "file"


@pytest.mark.parametrize(
    ("link", "target"), [("rel", "/d/file"), ("abs", "/d/sub"), ("dead", "/nosuch"), ("out", "/etc/passwd")]
)
def test_a_link_is_shown_with_where_it_leads_in_the_container(box: Engine, link: str, target: str) -> None:
    found = stat_of(box, f"/d/{link}")
    assert found["mode"] & GO_LINK and found["name"] == link and found["linkTarget"] == target


def test_get_has_the_header_and_a_tar_under_the_base_name(box: Engine) -> None:
    assert stat_of(box, "/d", "GET")["name"] == "d"
    answer, data = call(box, "GET", {"path": "/d"})
    assert answer.headers["Content-Type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {entry.name.rstrip("/"): entry for entry in tar}
    assert set(found) == {"d", "d/file", "d/sub", "d/rel", "d/abs", "d/dead", "d/out", "d/pipe"}
    assert (found["d/file"].uid, found["d/file"].gid, found["d/file"].mode & 0o7777) == (1000, 2000, 0o640)
    assert found["d/rel"].linkname == "file" and found["d/sub"].mode & stat.S_ISUID
    assert found["d/pipe"].isfifo()


@pytest.mark.parametrize(
    ("path", "names"),
    [("/d/sub/.", {"."}), ("/d/file", {"file"}), ("/d/rel", {"rel"}), ("/d/abs/", {"abs"}), ("/d/abs", {"abs"})],
)
def test_the_names_in_a_tar(box: Engine, path: str, names: set[str]) -> None:
    with tarfile.open(fileobj=io.BytesIO(call(box, "GET", {"path": path})[1])) as tar:
        assert {entry.name.rstrip("/").removeprefix("./") or "." for entry in tar} == names


@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT"])
def test_what_is_not_there_is_404_and_no_path_is_400(box: Engine, method: str) -> None:
    body = archive(("x", b"x")) if method == "PUT" else None
    assert call(box, method, {"path": "/nosuch/dir"}, body)[0].status == 404
    assert call(box, method, {}, body)[0].status == 400
    assert call(box, method, {"path": ""}, body)[0].status == 400


def test_put_keeps_owners_and_needs_a_directory(box: Engine) -> None:
    assert put(box, "/tmp", archive(("new", b"data"), uid=1000, gid=2000)) == 200
    assert inside(box, "stat -c %u:%g:%a /tmp/new; cat /tmp/new") == "1000:2000:644\ndata"
    assert put(box, "/d/file", archive(("x", b""))) in REFUSED
    assert put(box, "/d/abs", archive(("through", b"link"))) == 200
    assert inside(box, "cat /d/sub/through; rm /d/sub/through") == "link"


def test_a_file_and_a_directory_replace_each_other_unless_forbidden(box: Engine) -> None:
    inside(box, "cp -a /d /e")
    folder, file = archive(("file", None)), archive(("sub", b"now a file"))
    assert put(box, "/e", folder, noOverwriteDirNonDir=1) in REFUSED
    assert put(box, "/e", file, noOverwriteDirNonDir="true") in REFUSED
    assert inside(box, "cat /e/file; test -d /e/sub && echo dir") == "content\ndir\n"
    assert put(box, "/e", folder) == 200 and put(box, "/e", file) == 200
    assert inside(box, "test -d /e/file && cat /e/sub") == "now a file"


def test_a_compressed_archive_is_taken_too(box: Engine) -> None:
    import gzip

    assert put(box, "/tmp", gzip.compress(archive(("zipped", b"z")))) == 200
    assert inside(box, "cat /tmp/zipped") == "z"


def test_names_that_lead_out_stay_in(box: Engine) -> None:
    assert put(box, "/tmp", archive(("../../escaped", b"x"))) in (200, 400, 500)
    assert put(box, "/d/out", archive(("x", b"x"))) in REFUSED
    assert not os.path.lexists("/escaped") and not os.path.lexists("/etc/passwd/x")


def test_what_is_no_tar_is_refused(box: Engine) -> None:
    assert put(box, "/tmp", b"nonsense" * 200) in (400, 500)


def test_export_is_the_whole_tree(box: Engine) -> None:
    connection = UnixHttp(box.socket_path)
    connection.request("GET", "/containers/box/export")
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    assert answer.headers["Content-Type"] == "application/octet-stream"
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = {name.removeprefix("./").rstrip("/") for name in tar.getnames()}
    assert {"d/file", "d/sub", "bin/busybox", "etc/passwd", "tmp", "proc", "dev", "sys"} <= names
    assert not any(name.startswith("proc/") for name in names)
    assert box.request("GET", "/containers/nosuch/export")[0] == 404


def test_owners_can_become_the_containers_user(clean: Engine) -> None:
    """Of hooper alone: dockerd looks for the user on the host."""
    clean.clear()
    run(clean, "box", ["sleep", "600"], User="user")
    assert put(clean, "/tmp", archive(("mine", b""), uid=5, gid=6), copyUIDGID=1) == 200
    assert put(clean, "/tmp", archive(("theirs", b""), uid=5, gid=6)) == 200
    assert inside(clean, "stat -c %u:%g /tmp/mine /tmp/theirs") == "1000:1000\n5:6\n"


def test_files_of_one_that_does_not_run(either: Engine, tmp_path: Path) -> None:
    """Also in its volumes, and of the host what is bound."""
    either.clear()
    (tmp_path / "host").write_text("bound")
    mounts = ("-v", "/vol", "-v", f"{tmp_path}:/bound", "-v", f"{tmp_path}/host:/one/file", "--tmpfs", "/run")
    either.docker("create", "--name", "box", *mounts, "busybox", "cat", "/vol/kept", "/tmp/x")
    assert put(either, "/tmp", archive(("x", b"kept"))) == 200
    assert stat_of(either, "/tmp/x")["size"] == 4
    assert stat_of(either, "/vol")["mode"] & GO_DIR and stat_of(either, "/bound/host")["size"] == 5
    assert stat_of(either, "/one/file")["size"] == 5
    assert put(either, "/vol", archive(("kept", b"volume"))) == 200
    assert put(either, "/bound", archive(("new", b"new"))) == 200
    assert (tmp_path / "new").read_text() == "new"
    assert either.docker("start", "-a", "box").stdout == "volumekept"
    assert stat_of(either, "/vol/kept")["size"] == 6
