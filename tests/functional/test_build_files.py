"""The files of builds, with real worker processes: contexts as they come in, what is kept, downloads, repositories."""

from __future__ import annotations

import http.server
import io
import os
import shutil
import socket
import stat
import subprocess
import tarfile
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import msgspec
import pytest

from hooper.api import context_sync
from hooper.api.build_graph import Copy, CopySource, GitSource, HttpSource, LocalSource, Scratch
from hooper.api.build_session import BuildSession
from hooper.api.context_sync import Entry, frame
from hooper.api.errors import Conflict, DataLoss, HooperError, InvalidArgument, NotFound, Unavailable
from hooper.api.patterns import Patterns
from hooper.api.storage import Mount
from hooper.engine.build_contexts import Contexts, context_limit
from hooper.engine.build_sources import Tree, select
from hooper.testing.workers import ForkWorkers

pytestmark = [pytest.mark.root, pytest.mark.anyio]

NODE = LocalSource()


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def contexts(tmp_path):
    return Contexts(ForkWorkers(), tmp_path / "builds")


def leftovers(contexts):
    """What is there that belongs to no key."""
    root = contexts._directory
    return sorted(path.name for path in root.glob("*/.*")) + sorted(path.name for path in root.glob(".*"))


# --- archives -----------------------------------------------------------------------------------------


def member(name, content=b"", **more):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in more.items():
        setattr(info, key, value)
    return info, io.BytesIO(content)


def tar(*members, mode="w"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, content if info.isreg() else None)
    return buffer.getvalue()


@contextmanager
def written(tmp_path, data):
    path = tmp_path / "archive.tar"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
async def test_an_archive_is_received_and_known(contexts, tmp_path, mode):
    data = tar(
        member("d", type=tarfile.DIRTYPE, mode=0o750), member("d/x", b"one", mode=0o4711, uid=77),
        member("d/l", type=tarfile.SYMTYPE, linkname="x"), member("d/h", type=tarfile.LNKTYPE, linkname="d/x"),
        member("gone", b"first"), member("gone", b"second"), mode=mode,
    )  # fmt: skip
    with written(tmp_path, data) as fd:
        async with contexts.of_archive(fd) as context:
            assert (context.files, context.size) == (4, 3 + 3 + 6)
            entries = await context.tree.entries()
            assert [(entry.path, entry.kind, entry.size, entry.link) for entry in entries] == [
                ("d", "directory", 0, ""), ("d/h", "file", 3, ""), ("d/l", "symlink", 0, "x"), ("d/x", "file", 3, ""),
                ("gone", "file", 6, ""),
            ]  # fmt: skip
            # What was hashed on the way is what reading again finds.
            assert entries == await contexts.files.list(context.directory, ("",))
            made = (context.directory / "d/x").stat()
            assert (made.st_uid, stat.S_IMODE(made.st_mode), made.st_nlink) == (0, 0o4711, 2)


async def test_a_small_archive_that_comes_again_is_not_unpacked_again(contexts, tmp_path):
    inodes = []
    for _ in range(2):
        with written(tmp_path, tar(member("a", b"1"), member("b"))) as fd:
            async with contexts.of_archive(fd) as context:
                context.tree.ignore(["b"], ".dockerignore")
                assert os.listdir(await context.tree.place()) == ["a"]
                inodes.append((context.directory / "a").stat().st_ino)
    assert inodes[0] == inodes[1]


async def test_a_large_archive_goes_with_its_build(contexts, tmp_path):
    with written(tmp_path, tar(*(member(f"f{number}", bytes(1 << 20)) for number in range(12)))) as fd:
        async with contexts.of_archive(fd) as context:
            assert context.size == 12 << 20
            assert await context.tree.entries() == await contexts.files.list(context.directory, ("",))
    assert leftovers(contexts) == []


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (tar(member("a", b"x" * 5000))[:3000], "ends"),
        (b"no archive at all" * 100, "archive is damaged"),
        (tar(member("../x", b"1")), "leads out of the archive"),
        (tar(member("d/../../x", b"1")), "leads out of the archive"),
        (tar(member("a", b"1"), member("a/b", b"2")), "a"),
        (tar(member("h", type=tarfile.LNKTYPE, linkname="/etc/passwd")), "h"),
        (tar(member("a", b"1" * 10000), mode="w:gz")[:-20], "gzip stream is damaged"),
    ],
)
async def test_an_archive_that_lies(contexts, tmp_path, data, told):
    with written(tmp_path, data) as fd, pytest.raises(HooperError, match=told):
        async with contexts.of_archive(fd):
            raise AssertionError
    assert leftovers(contexts) == []
    assert not (tmp_path / "x").exists()


async def test_hostile_names_stay_in_the_context(contexts, tmp_path):
    data = tar(
        member("/abs", b"1"),
        member("etc", type=tarfile.DIRTYPE),
        member("link", type=tarfile.SYMTYPE, linkname="/etc"),
        member("link/made", b"2"),
        member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    )  # fmt: skip
    with written(tmp_path, data) as fd:
        async with contexts.of_archive(fd) as context:
            assert [entry.path for entry in await context.tree.entries()] == ["abs", "etc", "etc/made", "link", "null"]
    assert not Path("/etc/made").exists()


async def test_an_archive_that_is_too_large(tmp_path):
    contexts = Contexts(ForkWorkers(), tmp_path / "builds", limit=context_limit("100kB"))
    bomb = tar(member("zeros", bytes(5 << 20)), mode="w:gz")
    many = tar(*(member(f"f{number}") for number in range(300)))
    for data in (bomb, many):
        with (
            written(tmp_path, data) as fd,
            pytest.raises(InvalidArgument, match="the build context is too large: it has more than"),
        ):
            async with contexts.of_archive(fd):
                raise AssertionError
    assert leftovers(contexts) == []
    with pytest.raises(InvalidArgument, match=r"builder.context_limit"):
        context_limit("much")


async def test_ignored_files_cannot_be_seen_by_mounts(contexts, tmp_path):
    with written(tmp_path, tar(member("a"), member("b.log"), member("d/c.log"), member("d/e"))) as fd:
        async with contexts.of_archive(fd) as context:
            changed = (context.directory / "d").stat().st_mtime_ns
            context.tree.ignore(["**/*.log"], ".dockerignore")
            place = await context.tree.place()
            assert sorted(str(path.relative_to(place)) for path in place.rglob("*")) == ["a", "d", "d/e"]
            assert (place / "d").stat().st_mtime_ns == changed


# --- sessions -----------------------------------------------------------------------------------------


class Client(BuildSession):
    """A client with one directory."""

    def __init__(self, directory, *rules, **more):
        self.directory, self.rules, self.more = directory, rules, more
        self.sent = []

    async def open(self, kind, name, parameters=None):
        assert kind == "context"
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._serve, args=(theirs, name), daemon=True).start()
        ours.setblocking(False)
        return ours

    def _serve(self, sock, name):
        with sock:
            try:
                self.sent.append(context_sync.serve(sock, self.directory, Patterns(self.rules), name=name, **self.more))
            except context_sync.Interrupted:
                self.sent.append(None)


class Liar(Client):
    """Sends what the test wants."""

    def __init__(self, *frames):
        super().__init__("", *frames)

    def _serve(self, sock, name):
        with sock:
            sock.sendall(b"".join(self.rules))
            sock.shutdown(socket.SHUT_WR)
            try:
                while sock.recv(1 << 16):
                    pass
            except ConnectionResetError:
                return  # the daemon wants no more of this


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "source"
    for name in ("a", "d/x", "d/e/y", "z.log", "tool"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "tool").chmod(0o755)
    (root / "link").symlink_to("d/x")
    os.link(root / "a", root / "d/same")
    settle(root)
    return str(root)


def settle(root):
    """What was changed a moment ago is sent once more, since it may change without a trace."""
    time.sleep(2.5 * context_sync.RACY / 1e9)


def content(place):
    """Every file of a directory with what a build may see of it."""
    found = {}
    for path in sorted(place.rglob("*")):
        status = path.lstat()
        data = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        # The time of a link is set as well, but that of a link to it changes nothing.
        found[str(path.relative_to(place))] = data, status.st_mode, status.st_mtime_ns, status.st_nlink
    return found


async def received(contexts, client, name=""):
    async with contexts.of_session(client, name) as context:
        assert await context.tree.entries() == await contexts.files.list(context.directory, ("",))
        return context, content(context.directory)


async def test_an_unchanged_context_is_not_sent_twice(contexts, source):
    client = Client(source)
    first, there = await received(contexts, client)
    assert there == content(Path(source))
    assert (first.files, first.size, first.sent) == (7, 19, 18)
    second, again = await received(contexts, client)
    assert (second.sent, again) == (0, there)
    assert [sent.files for sent in client.sent] == [5, 0]


async def test_only_changes_are_sent(contexts, source):
    client, root = Client(source), Path(source)
    await received(contexts, client)
    changes = [
        (lambda: (root / "d/x").write_text("changed"), 7),
        ((root / "a").unlink, 1),  # d/same is a file of its own now
        (lambda: (root / "z.log").rename(root / "d/e/moved"), 5),
        (lambda: (root / "tool").chmod(0o700), 4),
        (lambda: shutil.rmtree(root / "d/e"), 0),
        (lambda: ((root / "link").unlink(), (root / "link").mkdir(), (root / "link/in").write_text("in")), 2),
        (lambda: (shutil.rmtree(root / "link"), (root / "link").write_text("file")), 4),
        (lambda: os.utime(root / "d", (5, 5)), 0),
        (lambda: (root / "d/link").symlink_to("elsewhere"), 0),
        (lambda: os.mkfifo(root / "fifo"), 0),
    ]
    for change, sent in changes:
        change()
        settle(root)
        context, there = await received(contexts, client)
        assert (context.sent, there) == (sent, content(root))


async def test_a_change_that_keeps_size_and_time_is_noticed(contexts, source):
    client, path = Client(source), Path(source, "d/x")
    before = path.stat()
    await received(contexts, client)
    path.write_text("D/X")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    _, there = await received(contexts, client)
    assert there["d/x"][0] == b"D/X"


async def test_a_file_that_changes_just_after_it_was_sent_is_noticed(contexts, source):
    client, path = Client(source), Path(source, "fresh")
    path.write_text("1")
    await received(contexts, client)
    path.write_text("2")
    _, there = await received(contexts, client)
    assert there["fresh"][0] == b"2"


async def test_what_is_ignored_comes_back_for_the_next_build(contexts, source):
    client = Client(source, "d/e", always=["z.log"])
    for _ in range(2):
        async with contexts.of_session(client, "") as context:
            context.tree.ignore(["*.log", "d"], ".dockerignore")
            place = await context.tree.place()
            assert sorted(os.listdir(place)) == ["a", "link", "tool"]
    assert [sent.files for sent in client.sent] == [4, 0]


async def test_a_daemon_that_dies_while_files_are_set_aside(contexts, source):
    client = Client(source)
    manager = contexts.of_session(client, "")
    context = await manager.__aenter__()
    context.tree.ignore(["d"], ".dockerignore")
    place = await context.tree.place()
    assert not (place / "d").exists()
    another = Contexts(ForkWorkers(), contexts._directory)
    _, there = await received(another, client)
    assert there == content(Path(source))


@pytest.mark.parametrize("damage", ["journal", "record", "cut", "boot"])
async def test_what_nobody_knows_is_not_served(contexts, source, damage):
    client = Client(source)
    await received(contexts, client)
    (key,) = (contexts._directory / "contexts").iterdir()
    if damage == "journal":
        (key / "tree/d/x").write_text("half-wr")
        (key / "journal").write_bytes(msgspec.msgpack.encode([b"d/x"]))
    elif damage == "record":
        (key / "tree/d/x").write_text("unknown")
        (key / "record").unlink()
    elif damage == "cut":
        (key / "record").write_bytes((key / "record").read_bytes()[:-5])
        (key / "tree/more").write_text("unknown")
    else:
        record = msgspec.msgpack.decode((key / "record").read_bytes())
        (key / "tree/d/x").write_text("d/X")
        (key / "record").write_bytes(msgspec.msgpack.encode(["another boot", *record[1:]]))
    context, there = await received(Contexts(ForkWorkers(), contexts._directory), client)
    assert there == content(Path(source))
    assert context.sent == {"journal": 3, "boot": 3}.get(damage, 18)
    assert (await received(contexts, client))[0].sent == 0


async def test_two_builds_of_one_context_at_the_same_time(contexts, source):
    client = Client(source)
    async with contexts.of_session(client, "") as one, contexts.of_session(client, "") as two:
        assert one.directory != two.directory
        assert content(one.directory) == content(two.directory) == content(Path(source))
    assert leftovers(contexts) == []
    assert (await received(contexts, client))[0].sent == 0


async def test_contexts_of_one_client_are_kept_apart_by_name(contexts, source):
    await received(contexts, Client(source))
    assert (await received(contexts, Client(source), "other"))[0].sent == 18


def listing(*entries):
    return (
        frame(b"H", (context_sync.VERSION, "someone", "")),
        frame(b"E", [Entry(path, mode, size, 1, 1, link) for path, mode, size, link in entries]),
        frame(b"N", 1),
    )


FILE, LINK = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777


@pytest.mark.parametrize(
    ("frames", "told"),
    [
        ((), "closed the stream"),
        ((b"X\0\0\0\1\xc0",), "is due"),
        ((frame(b"H", (7, "x", "")),), "version 7"),
        ((frame(b"H", (1, "x", "")), frame(b"F", ("cannot read it", "no right", ""))), "cannot read it: no right"),
        (listing((b"../x", FILE, 1, b"")), "the build context has the entry"),
        (listing((b"l", LINK, 0, b"/etc"), (b"l/x", FILE, 1, b"")), "it is in no directory"),
        (listing((b"a", FILE, 100, b"")), "closed the stream"),
        ((*listing((b"a", FILE, 100, b"")), frame(b"D", (0, FILE, 100, 1, 1)), b"short"), "closed the stream"),
        ((*listing((b"a", FILE, 1, b"")), frame(b"D", (5, FILE, 1, 1, 1)), b"x"), "comes where 0 is due"),
        ((*listing((b"a", FILE, 1, b"")), frame(b"D", (0, LINK, 1, 1, 1)), b"x"), "comes where 0 is due"),
        ((*listing(), b"Z\xff\xff\xff\xff"), "too long"),
        ((*listing((b"a", FILE, 1, b"")), frame(b"D", "no")), "is damaged"),
    ],
)
async def test_a_client_that_lies(contexts, frames, told):
    with pytest.raises((DataLoss, InvalidArgument, Unavailable, HooperError), match=told):
        async with contexts.of_session(Liar(*frames), ""):
            raise AssertionError
    assert leftovers(contexts) == []
    assert not Path("/etc/x").exists()


async def test_a_session_context_that_is_too_large(tmp_path, source):
    contexts = Contexts(ForkWorkers(), tmp_path / "builds", limit=3000)
    client = Client(source)
    with pytest.raises(InvalidArgument, match="the build context is too large"):
        async with contexts.of_session(client, ""):
            raise AssertionError


async def test_what_the_client_cannot_read_is_the_builds_error(contexts, tmp_path):
    with pytest.raises(InvalidArgument, match="cannot read the directory of the build context"):
        async with contexts.of_session(Client(str(tmp_path / "nothing")), ""):
            raise AssertionError


async def test_kept_contexts_are_listed_and_removed(contexts, source):
    (kept, *_) = contexts.kept
    async with contexts.of_session(Client(source), ""):
        (step,) = await kept.kept()
        assert (step.type, step.in_use, step.description) == ("source.local", True, "build context")
        assert step.size > 0
        with pytest.raises(Conflict, match="a build uses it"):
            await kept.remove(step.key)
    (step,) = await kept.kept()
    assert not step.in_use
    await kept.remove(step.key)
    with pytest.raises(NotFound):
        await kept.remove(step.key)
    assert list(await kept.kept()) == []


# --- copies -------------------------------------------------------------------------------------------


async def test_a_copy_takes_what_was_selected(contexts, tmp_path):
    source, target = tmp_path / "from", tmp_path / "to"
    for name in ("d/x", "d/e/y.md", "d/e/z"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    target.mkdir()
    mounts = [Mount("bind", str(target), ("rbind",))]
    tree = Tree.of_directory(source, contexts.files)
    for destination, exclude, parents, made in [
        ("/all", (), False, ["e/y.md", "e/z", "x"]),
        ("/some", ("**/*.md",), False, ["e/z", "x"]),
        ("/with", ("**/*.md",), True, ["d/e/z", "d/x"]),
    ]:
        origin = CopySource(node=NODE, paths=("d",))
        step = Copy(base=Scratch(), sources=(origin,), destination=destination, exclude=exclude, parents=parents)
        selection = await select(tree, origin, parents=parents, exclude=exclude)
        await contexts.files.copy(mounts, [(await tree.place(), selection)], step)
        found = [path for path in (target / destination[1:]).rglob("*") if path.is_file()]
        assert sorted(str(path.relative_to(target / destination[1:])) for path in found) == made


async def test_a_layer_tells_the_same_digest_as_a_context(contexts, tmp_path):
    """Of files that belong to root: those of a layer may be copied with their owners."""
    (tmp_path / "from/d").mkdir(parents=True)
    (tmp_path / "from/d/x").write_text("x")
    (tmp_path / "from/d/l").symlink_to("x")
    mounts = [Mount("bind", str(tmp_path / "from"), ("rbind", "ro"))]

    async def view(chain):
        return mounts

    directory, chain = (
        Tree.of_directory(tmp_path / "from", contexts.files), Tree.of_chain("chain", view, contexts.files)
    )  # fmt: skip
    origin = CopySource(node=NODE, paths=("d/*",))
    digests = [(await select(tree, origin)).digest for tree in (directory, chain)]
    assert digests[0] == digests[1]
    os.chown(tmp_path / "from/d/x", 5, 5)
    assert (await select(Tree.of_chain("chain", view, contexts.files), origin)).digest != digests[0]
    assert (await select(Tree.of_directory(tmp_path / "from", contexts.files), origin)).digest == digests[0]
    with pytest.raises(InvalidArgument, match=r"stat nothing: file does not exist in stage one"):
        await select(chain, CopySource(node=NODE, paths=("nothing",), shown="stage one"))
    assert [entry.path for entry in await chain.entries("d")] == ["d", "d/l", "d/x"]


# --- downloads ----------------------------------------------------------------------------------------


class Server:
    """A web server whose files the test decides on."""

    def __init__(self):
        self.files, self.seen, self.headers = {}, [], {}
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.seen.append((self.path, dict(self.headers)))
                status, headers, body = server.answer(self.path, self.headers)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *words):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, path, headers):
        if path not in self.files:
            return 404, {}, b""
        given, body = self.files[path]
        if isinstance(given, int):
            return given, body, b""
        if "ETag" in given and headers.get("If-None-Match") == given["ETag"]:
            return 304, given, b""
        if "Last-Modified" in given and headers.get("If-Modified-Since") == given["Last-Modified"]:
            return 304, given, b""
        return 200, given, body

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


async def downloaded(contexts, url, **more):
    async with contexts.of_download(HttpSource(url=url, **more)) as tree:
        entries = await tree.entries()
        place = await tree.place()
        assert entries == await contexts.files.list(place, ("",))
        (entry,) = entries
        status = (place / entry.path).stat()
        return entry.path, (place / entry.path).read_bytes(), stat.S_IMODE(status.st_mode), status.st_mtime


SHA = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"


async def test_a_download(contexts, server):
    server.files["/d/a%20b?x=1"] = {"Last-Modified": "Thu, 01 Jan 1970 00:01:40 GMT"}, b"x"
    assert await downloaded(contexts, f"{server.url}/d/a%20b?x=1") == ("a b", b"x", 0o600, 100)
    server.files["/"] = {}, b"x"
    assert (await downloaded(contexts, f"{server.url}/"))[0] == "download"
    assert (await downloaded(contexts, f"{server.url}/", filename="name"))[0] == "name"


@pytest.mark.parametrize("header", [{"ETag": '"1"'}, {"Last-Modified": "Thu, 01 Jan 1970 00:01:40 GMT"}])
async def test_what_has_not_changed_is_not_fetched_again(contexts, server, header):
    server.files["/f"] = header, b"one"
    await downloaded(contexts, f"{server.url}/f")
    server.files["/f"] = header, b"never seen"
    assert (await downloaded(contexts, f"{server.url}/f"))[1] == b"one"
    server.files["/f"] = {"ETag": '"2"', "Last-Modified": "Fri, 02 Jan 1970 00:00:00 GMT"}, b"two"
    assert (await downloaded(contexts, f"{server.url}/f"))[1] == b"two"


async def test_with_a_checksum_the_server_is_asked_once(contexts, server):
    server.files["/f"] = {}, b"x"
    for _ in range(2):
        assert (await downloaded(contexts, f"{server.url}/f", checksum=SHA))[1] == b"x"
    assert len(server.seen) == 1


async def test_a_file_that_is_used_does_not_change(contexts, server):
    server.files["/f"] = {}, b"one"
    async with contexts.of_download(HttpSource(url=f"{server.url}/f")) as tree:
        server.files["/f"] = {}, b"two"
        assert (await downloaded(contexts, f"{server.url}/f"))[1] == b"two"
        assert ((await tree.place()) / "f").read_bytes() == b"one"
    assert leftovers(contexts) == []


@pytest.mark.parametrize(
    ("path", "more", "kind", "told"),
    [
        ("/none", {}, NotFound, "the server answered 404"),
        ("/403", {}, InvalidArgument, "the server answered 403"),
        ("/500", {}, Unavailable, "the server answered 500"),
        (
            "/f",
            {"checksum": "sha256:" + "0" * 64},
            InvalidArgument,
            f"digest mismatch: .* has {SHA}, expected sha256:00",
        ),
        ("/f", {"checksum": "md5:abc"}, InvalidArgument, "unsupported checksum"),
        ("/loop", {}, (Unavailable, InvalidArgument), "ADD failed: GET"),
        ("/file", {}, (Unavailable, InvalidArgument), "ADD failed: GET"),
        ("/short", {}, Unavailable, "ADD failed: GET"),
    ],
)
async def test_downloads_that_fail(contexts, server, path, more, kind, told):
    server.files |= {
        "/f": ({}, b"x"), "/403": (403, {}), "/500": (500, {}), "/loop": (302, {"Location": "/loop"}),
        "/file": (302, {"Location": "file:///etc/passwd"}), "/short": ({"Content-Length": "50"}, b"x"),
    }  # fmt: skip
    with pytest.raises(kind, match=told):
        await downloaded(contexts, f"{server.url}{path}", **more)
    (key,) = (contexts._directory / "downloads").iterdir()
    assert list((key / "tree").iterdir()) == []


async def test_a_server_that_is_not_there(contexts):
    with pytest.raises(Unavailable, match=r"ADD failed: GET http://127\.0\.0\.1:1/x: .*refused"):
        await downloaded(contexts, "http://127.0.0.1:1/x")


async def test_credentials_go_to_their_own_server_alone(contexts, server):
    server.files |= {"/f": (302, {"Location": f"{server.url.replace('127.0.0.1', 'localhost')}/g"}), "/g": ({}, b"x")}
    with_password = server.url.replace("//", "//user:secret@")
    assert (await downloaded(contexts, f"{with_password}/f"))[1] == b"x"
    assert [headers.get("Authorization") for _, headers in server.seen] == ["Basic dXNlcjpzZWNyZXQ=", None]
    with pytest.raises(NotFound) as raised:
        await downloaded(contexts, f"{with_password}/none")
    assert "secret" not in str(raised.value)
    steps = await contexts.kept[1].kept()
    assert not any("secret" in step.description for step in steps)


async def test_a_download_that_is_too_large(tmp_path, server):
    server.files["/f"] = {}, bytes(2000)
    contexts = Contexts(ForkWorkers(), tmp_path / "builds", limit=1000)
    with pytest.raises(InvalidArgument, match="more than 1000 bytes"):
        await downloaded(contexts, f"{server.url}/f")


async def test_an_url_is_a_recipe_or_an_archive(contexts, server):
    server.files |= {"/Recipe.txt": ({}, b"FROM scratch"), "/c.tgz": ({}, tar(member("d/f", b"1"), mode="w:gz"))}
    async with contexts.of_url(f"{server.url}/Recipe.txt") as context:
        assert context.recipe_default == "Dockerfile"
        assert (context.directory / "Dockerfile").read_text() == "FROM scratch"
    async with contexts.of_url(f"{server.url}/c.tgz") as context:
        assert context.recipe_default == ""
        assert [entry.path for entry in await context.tree.entries()] == ["d", "d/f"]
    with pytest.raises(InvalidArgument, match="it is no URL"):
        async with contexts.of_url("file:///etc/passwd"):
            raise AssertionError


# --- repositories -------------------------------------------------------------------------------------

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
