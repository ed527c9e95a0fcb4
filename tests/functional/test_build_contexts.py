"""Contexts of builds that come by a client's session: what is sent, and what is kept for the next build."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import threading
import time
from pathlib import Path

import msgspec
import pytest
from build_files_support import content, leftovers

from hooper.api import context_sync
from hooper.api.build_session import BuildSession
from hooper.api.context_sync import Entry, frame
from hooper.api.errors import Conflict, DataLoss, HooperError, InvalidArgument, NotFound, Unavailable
from hooper.api.patterns import Patterns
from hooper.engine.build_contexts import Contexts
from hooper.testing.workers import ForkWorkers

pytestmark = [pytest.mark.root, pytest.mark.anyio]


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
