"""Repositories of git, for ADD and as contexts."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import threading
import time
from contextlib import asynccontextmanager

import anyio
import pytest
from build_files_support import content, leftovers, served

from hooper.api.build_graph import GitSource
from hooper.api.errors import InvalidArgument, NotFound, Unavailable

pytestmark = [pytest.mark.root, pytest.mark.anyio]


@pytest.fixture
def server():
    with served() as made:
        yield made


GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@b", "GIT_AUTHOR_DATE": "1000000000 +0000", "GIT_COMMITTER_DATE": "1000000000 +0000",
}  # fmt: skip


def git(directory, *words):
    command = ["git", "-c", "protocol.file.allow=always", *words]
    done = subprocess.run(command, cwd=directory, env={**os.environ, **GIT}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Repositories:
    """Two repositories, one a submodule of the other, that `git daemon` serves on loopback."""

    def __init__(self, root):
        self.root = root
        self.inner, self.outer = root / "inner", root / "outer"
        for place in (self.inner, self.outer):
            place.mkdir(parents=True)
            git(place, "init", "-q", "-b", "main")
        self.commit(self.inner, {"in.txt": "inner"})
        self.port = _free_port()
        self.url = f"git://127.0.0.1:{self.port}"
        self.commit(self.outer, {"Dockerfile": "FROM scratch", "sub/f": "1", "run.sh": "#!/bin/sh"})
        (self.outer / "link").symlink_to("sub/f")
        (self.outer / "away").symlink_to("/etc")
        self.first = self.commit(self.outer, {})
        git(self.outer, "tag", "-a", "v1", "-m", "v1")
        git(self.outer, "branch", "feature/main")
        git(self.outer, "update-ref", "refs/pull/7/head", self.first)
        (self.outer / ".gitmodules").write_text(f'[submodule "mod"]\n\tpath = mod\n\turl = {self.url}/inner\n')
        inside = git(self.inner, "rev-parse", "HEAD")
        git(self.outer, "update-index", "--add", "--cacheinfo", f"160000,{inside},mod")
        self.second = self.commit(self.outer, {"sub/f": "2"})
        command = ["git", "daemon", "--reuseaddr", "--export-all", f"--base-path={root}", "--listen=127.0.0.1"]
        self.process = subprocess.Popen(
            [*command, f"--port={self.port}", str(root)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        _until_open(self.port)

    def commit(self, place, files):
        for name, text in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text)
        git(place, "add", "-A", *([] if not (place / ".gitmodules").exists() else ["--", *files, ".gitmodules"]))
        git(place, "commit", "-q", "--allow-empty", "-m", "change")
        return git(place, "rev-parse", "HEAD")

    def close(self):
        os.killpg(self.process.pid, 15)
        self.process.wait()


def _free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _until_open(port):
    for _ in range(200):
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("git daemon does not answer")


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    made = Repositories(tmp_path_factory.mktemp("git"))
    yield made
    made.close()


class SmartServer:
    """The same over HTTP, for those who know the password."""

    def __init__(self, root):
        self.seen = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.seen.append(self.headers.get("Authorization"))
                if server.seen[-1] != "Basic dXNlcjpzZWNyZXQ=":
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="x"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                path, _, query = self.path.partition("?")
                environment = {
                    **os.environ, "GIT_PROJECT_ROOT": str(root), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
                    "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_ADDR": "127.0.0.1",
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                }  # fmt: skip
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                done = subprocess.run(
                    ["git", "http-backend"], env=environment, input=body, capture_output=True, check=False
                )
                head, _, content = done.stdout.partition(b"\r\n\r\n")
                fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
                self.send_response(int(fields.pop("Status", "200").split()[0]))
                for name, value in fields.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET

            def log_message(self, *words):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.host = f"127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()


async def test_a_repository_over_http_with_a_password(contexts, repositories):
    server = SmartServer(repositories.root)
    try:
        source = GitSource(remote=f"http://user:secret@{server.host}/outer/.git", submodules=False, keep_git_dir=True)
        async with contexts.of_repository(source) as tree:
            place = await tree.place()
            assert (place / "sub/f").read_text() == "2"
            assert "secret" not in tree.shown
            assert "secret" not in (place / ".git/config").read_text()
        with pytest.raises(Unavailable) as raised:
            async with contexts.of_repository(GitSource(remote=f"http://user:wrong@{server.host}/outer/.git")):
                raise AssertionError
        assert "wrong" not in str(raised.value)
    finally:
        server.close()
    (step,) = await contexts.kept[2].kept()
    assert "secret" not in step.description


@asynccontextmanager
async def checked_out(contexts, repositories, **more):
    source = GitSource(remote=f"{repositories.url}/outer", **more)
    async with contexts.of_repository(source) as tree:
        place = await tree.place()
        assert await tree.entries() == await contexts.files.list(place, ("",))
        yield place


@pytest.mark.parametrize(
    ("ref", "text"),
    [
        ("", "2"), ("main", "2"), ("refs/heads/main", "2"), ("v1", "1"), ("feature/main", "1"),
        ("refs/pull/7/head", "1"), ("FIRST", "1"), ("SHORT", "1"), ("SECOND", "2"),
    ],
)  # fmt: skip
async def test_references_of_a_repository(contexts, repositories, ref, text):
    commits = {"FIRST": repositories.first, "SHORT": repositories.first[:8], "SECOND": repositories.second}
    async with checked_out(contexts, repositories, ref=commits.get(ref, ref)) as place:
        assert (place / "sub/f").read_text() == text
        names = sorted(os.listdir(place))
        more = [".gitmodules", "mod"] if text == "2" else []
        assert names == sorted([*more, "Dockerfile", "away", "link", "run.sh", "sub"])
        assert {path.lstat().st_mtime for path in place.rglob("*")} == {1000000000}
        if text == "2":
            assert os.listdir(place / "mod") == ["in.txt"]
    assert leftovers(contexts) == []


async def test_what_is_wanted_of_a_repository(contexts, repositories):
    async with checked_out(contexts, repositories, subdirectory="sub") as place:
        assert os.listdir(place) == ["f"]
    async with checked_out(contexts, repositories, submodules=False) as place:
        assert os.listdir(place / "mod") == []
    async with checked_out(contexts, repositories, ref="v1", keep_git_dir=True) as place:
        assert git(place, "rev-parse", "HEAD") == repositories.first
        assert git(place, "status", "--porcelain") == ""
        assert not list((place / ".git").glob("hooks/*"))
    async with checked_out(contexts, repositories, ref="v1", checksum=repositories.first[:10]):
        pass


async def test_a_commit_is_fetched_once(contexts, repositories, monkeypatch):
    async with checked_out(contexts, repositories, ref="main") as place:
        marked = place.parent / "work"
        assert not marked.exists()
        inode = (place / "sub/f").stat().st_ino
    async with checked_out(contexts, repositories, ref=repositories.second) as place:
        assert (place / "sub/f").stat().st_ino == inode
    (step,) = await contexts.kept[2].kept()
    assert (step.type, repositories.second[:12] in step.description) == ("source.git.checkout", True)


@pytest.mark.parametrize(
    ("more", "kind", "told"),
    [
        ({"ref": "no-such"}, NotFound, "it has no no-such"),
        ({"ref": "0123456"}, NotFound, "Needed a single revision"),
        ({"ref": "main", "checksum": "0123456"}, InvalidArgument, "expected checksum to match 0123456, got"),
        ({"subdirectory": "nothing"}, InvalidArgument, "it is no directory there"),
        ({"subdirectory": "away"}, InvalidArgument, "it is no directory there"),
        ({"subdirectory": ".git"}, InvalidArgument, "it is no directory there"),
        ({"ref": "--upload-pack=touch /tmp/x"}, InvalidArgument, "invalid git reference"),
        ({"ref": "0" * 40}, (NotFound, Unavailable), "cannot fetch git://"),
    ],
)
async def test_repositories_that_cannot_be_used(contexts, repositories, more, kind, told):
    with pytest.raises(kind, match=told):
        async with checked_out(contexts, repositories, **more):
            raise AssertionError
    assert leftovers(contexts) == []


@pytest.mark.parametrize(
    "remote", ["file:///etc", "/etc", "ext::sh -c true", "--upload-pack=x", "https", "-oProxyCommand=x@host:y"]
)
async def test_only_transports_over_a_network(contexts, remote):
    with pytest.raises(InvalidArgument, match="its transport is not allowed"):
        async with contexts.of_repository(GitSource(remote=remote)):
            raise AssertionError


async def test_the_hosts_git_configuration_takes_no_part(contexts, repositories, tmp_path, monkeypatch):
    (tmp_path / ".gitconfig").write_text(f'[core]\n\thooksPath = {tmp_path}\n[url "file:///"]\n\tinsteadOf = git://\n')
    hook = tmp_path / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    async with checked_out(contexts, repositories):
        pass
    assert not (tmp_path / "ran").exists()


async def test_a_repository_as_a_context(contexts, repositories):
    url = f"{repositories.url}/outer#v1"
    for _ in range(2):
        async with contexts.of_url(url) as context:
            assert context.files == 5
            context.tree.ignore(["sub"], ".dockerignore")
            assert "sub" not in os.listdir(await context.tree.place())
    async with contexts.of_url(url) as one, contexts.of_url(url) as two:
        assert one.directory != two.directory
        assert content(one.directory) == content(two.directory)


async def test_a_server_that_is_no_repository(contexts, server):
    with pytest.raises((Unavailable, NotFound)) as raised:
        async with contexts.of_repository(GitSource(remote=f"{server.url.replace('//', '//u:secret@')}/x.git")):
            raise AssertionError
    assert "secret" not in str(raised.value)
    with anyio.fail_after(20):
        assert server.seen
