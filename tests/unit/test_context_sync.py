"""A client's directory on its way to the daemon: what is listed, what is compared, what is refused."""

from __future__ import annotations

import io
import os
import socket
import stat
import threading

import pytest

from hooper.api import context_sync as sync
from hooper.api.context_sync import Entry
from hooper.api.errors import DataLoss, HooperError, InvalidArgument, Unsupported
from hooper.api.patterns import Patterns
from hooper.content.context_store import compare

FILE, DIRECTORY, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777


@pytest.fixture
def directory(tmp_path):
    root = tmp_path / "context"
    for name in ("a", "d/x", "d/e/y", "logs/today.log", "logs/keep/me", "z"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "link").symlink_to("d/x")
    os.link(root / "a", root / "d/same")
    os.mkfifo(root / "fifo")
    return root


def paths(directory, *rules, always=()):
    return [entry.path.decode() for entry in sync.list_directory(str(directory), Patterns(rules), always)]


# --- listings -----------------------------------------------------------------------------------------


def test_a_listing_has_everything_with_parents_first(directory):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "socket"))
    listener.close()
    found = list(sync.list_directory(str(directory), Patterns(())))
    assert [entry.path.decode() for entry in found] == [
        "a", "d", "d/e", "d/e/y", "d/same", "d/x", "fifo", "link", "logs", "logs/keep", "logs/keep/me",
        "logs/today.log", "z",
    ]  # fmt: skip
    sync.check_listing(found)
    by_name = {entry.path: entry for entry in found}
    assert (by_name[b"link"].link, by_name[b"d/same"].link, by_name[b"a"].link) == (b"d/x", b"a", b"")
    assert by_name[b"d/x"].size == 3
    assert by_name[b"d/x"].mtime == (directory / "d/x").stat().st_mtime_ns


@pytest.mark.parametrize(
    ("rules", "always", "left"),
    [
        (["logs"], [], "a d d/e d/e/y d/same d/x fifo link z"),
        (["*", "!d/e"], [], "d d/e d/e/y"),
        (["*", "!logs/keep/me"], [], "logs logs/keep logs/keep/me"),
        (["*"], ["a", "d/x"], "a d d/x"),
        (["**/*.log", "d", "f*"], [], "a link logs logs/keep logs/keep/me z"),
        (["*"], [], ""),
        (["*", "!nothing"], ["missing"], ""),
    ],
)
def test_ignored_files_are_not_listed(directory, rules, always, left):
    assert paths(directory, *rules, always=always) == left.split()


def test_names_that_are_not_text(tmp_path):
    with open(os.fsencode(tmp_path) + b"/\xff\xfe", "wb"):
        pass
    assert [entry.path for entry in sync.list_directory(str(tmp_path), Patterns(["nothing"]))] == [b"\xff\xfe"]


@pytest.mark.parametrize(
    "entries",
    [
        [("../x", FILE, "")],
        [("/x", FILE, "")],
        [("d", DIRECTORY, ""), ("d/../../x", FILE, "")],
        [("a/b", FILE, "")],
        [("a", FILE, ""), ("a/b", FILE, "")],
        [("l", LINK, "/etc"), ("l/passwd", FILE, "")],
        [("a", FILE, ""), ("a", FILE, "")],
        [("", FILE, "")],
        [(".", DIRECTORY, "")],
        [("a\0b", FILE, "")],
        [("s", stat.S_IFSOCK, "")],
        [("h", FILE, "nowhere")],
        [("l", LINK, "x"), ("h", FILE, "l")],
        [("d/", DIRECTORY, "")],
    ],
)
def test_a_listing_that_no_directory_has(entries):
    listed = [Entry(path.encode(), mode, 0, 0, 0, link.encode()) for path, mode, link in entries]
    with pytest.raises(DataLoss, match="the build context has the entry"):
        sync.check_listing(listed)


# --- comparing ----------------------------------------------------------------------------------------


def tree(**changes):
    """A small listing; a change is the fields of an entry, or None for one that is gone."""
    base = {
        "a": Entry(b"a", FILE, 1, 10, 10), "d": Entry(b"d", DIRECTORY, 0, 20, 20),
        "d/b": Entry(b"d/b", FILE, 2, 30, 30),
        "d/h": Entry(b"d/h", FILE, 1, 10, 10, b"a"), "l": Entry(b"l", LINK, 0, 40, 40, b"a"),
    }  # fmt: skip
    for name, change in changes.items():
        path = name.replace("_", "/")
        if change is None:
            del base[path]
        else:
            base[path] = Entry(path.encode(), *change)
    return list(base.values())


@pytest.mark.parametrize(
    ("changes", "gone", "wanted", "others"),
    [
        ({}, "", "", ""),
        ({"a": (FILE, 1, 11, 11)}, "a d/h", "a", "d/h"),
        ({"a": (FILE, 1, 10, 99)}, "a d/h", "a", "d/h"),
        ({"a": (FILE | 0o111, 1, 10, 10)}, "a d/h", "a", "d/h"),
        ({"d_b": None}, "d/b", "", ""),
        ({"d": None, "d_b": None, "d_h": None}, "d", "", ""),
        ({"d": (DIRECTORY, 0, 21, 99)}, "", "", "d"),
        ({"d": (DIRECTORY, 0, 20, 99)}, "", "", ""),
        ({"l": (LINK, 0, 40, 40, b"d")}, "", "", "l"),
        ({"l": (FILE, 5, 40, 40)}, "l", "l", ""),
        ({"new": (FILE, 5, 40, 40)}, "", "new", ""),
        ({"d_h": (FILE, 1, 10, 10)}, "d/h", "d/h", ""),
        ({"d": (FILE, 1, 1, 1), "d_b": None, "d_h": None}, "d", "d", ""),
    ],
)
def test_only_what_differs_is_asked_for(changes, gone, wanted, others):
    known = {entry.path: entry for entry in tree()}
    listed = tree(**changes)
    plan = compare(known, listed)
    assert [path.decode() for path in plan.gone] == gone.split()
    assert [listed[index].path.decode() for index in plan.wanted] == wanted.split()
    assert [listed[index].path.decode() for index in plan.others] == others.split()


# --- frames -------------------------------------------------------------------------------------------


def test_frames_go_through():
    stream = io.BytesIO(sync.frame(b"W", [1, 2]) + sync.frame(b"N"))
    letter, body = sync.read_frame(stream.read)
    assert (letter, sync.decode(body, list[int])) == (b"W", [1, 2])
    assert sync.read_frame(stream.read)[0] == b"N"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", sync.Interrupted),
        (b"W\0\0", sync.Interrupted),
        (sync.frame(b"W", [1])[:-1], sync.Interrupted),
        (b"W\xff\xff\xff\xff", DataLoss),
    ],
)
def test_frames_that_are_none(data, kind):
    with pytest.raises(kind, match="cannot receive the build context"):
        sync.read_frame(io.BytesIO(data).read)


def test_what_is_not_due_or_not_understood():
    with pytest.raises(DataLoss, match="is damaged"):
        sync.decode(b"\xc1", list[int])
    with pytest.raises(DataLoss, match="is due"):
        sync.expect(b"N", b"W", b"")
    with pytest.raises(InvalidArgument, match="cannot read x: no right"):
        sync.expect(b"N", b"F", sync.frame(b"F", ("cannot read x", "no right", ""))[5:])
    with pytest.raises(Unsupported, match="version 99"):
        sync.hello(sync.frame(b"H", (99, "", ""))[5:])


# --- the client's end ---------------------------------------------------------------------------------


class Daemon:
    """The other end of `serve`, as the test wants it to behave."""

    def __init__(self, directory, *rules, **more):
        self.ours, theirs = socket.socketpair()
        self.stream = sync.opened(self.ours)
        self.outcome = []

        def work():
            with theirs:
                try:
                    self.outcome.append(sync.serve(theirs, str(directory), Patterns(rules), **more))
                except HooperError as error:
                    self.outcome.append(error)

        self.thread = threading.Thread(target=work)
        self.thread.start()

    def listing(self):
        letter, body = sync.read_frame(self.stream.read)
        assert letter == b"H"
        self.identity, self.name = sync.hello(body)
        found = []
        while True:
            letter, body = sync.read_frame(self.stream.read)
            if letter == b"N":
                return found
            sync.expect(b"E", letter, body)
            found += sync.decode(body, list[Entry])

    def want(self, *indices):
        self.stream.write(sync.frame(b"W", list(indices)) + sync.frame(b"N"))
        self.stream.flush()

    def take(self):
        letter, body = sync.read_frame(self.stream.read)
        sync.expect(b"D", letter, body)
        head = sync.decode(body, tuple[int, int, int, int, int])
        return head[0], self.stream.read(head[2])

    def end(self):
        self.stream.close()
        self.ours.close()
        self.thread.join(10)
        return self.outcome[0]


def test_only_the_wanted_files_are_sent(directory):
    daemon = Daemon(directory, "logs", name="base")
    listed = daemon.listing()
    index = next(number for number, entry in enumerate(listed) if entry.path == b"d/x")
    daemon.want(index)
    assert daemon.take() == (index, b"d/x")
    assert sync.read_frame(daemon.stream.read)[0] == b"Z"
    assert daemon.end() == sync.Sent(1, 3)
    assert daemon.name == "base"
    assert daemon.identity == sync.identity(f"{directory}/d/..")
    assert daemon.identity != sync.identity(f"{directory}/d")


def test_extra_files_hide_those_of_the_directory(directory):
    daemon = Daemon(directory, "*", extra={"a": b"instead", "recipe": b"FROM x"})
    listed = daemon.listing()
    assert [(entry.path, entry.size) for entry in listed] == [(b"a", 7), (b"recipe", 6)]
    daemon.want(0, 1)
    assert [daemon.take() for _ in range(2)] == [(0, b"instead"), (1, b"FROM x")]
    daemon.end()
    same, other = (Daemon(directory, "*", extra={"a": content}) for content in (b"instead", b"changed"))
    assert same.listing() == [listed[0]]
    assert other.listing() != [listed[0]]
    for each in (same, other):
        each.end()


def test_a_file_that_is_gone_meanwhile_is_told(directory):
    daemon = Daemon(directory)
    listed = daemon.listing()
    index = next(number for number, entry in enumerate(listed) if entry.path == b"z")
    (directory / "z").unlink()
    daemon.want(index)
    with pytest.raises(InvalidArgument, match="cannot read z of the build context"):
        daemon.take()
    assert daemon.end() == sync.Sent(0, 0)


def test_a_file_that_is_another_kind_meanwhile_is_told(directory):
    daemon = Daemon(directory)
    listed = daemon.listing()
    index = next(number for number, entry in enumerate(listed) if entry.path == b"z")
    (directory / "z").unlink()
    os.mkfifo(directory / "z")
    daemon.want(index)
    with pytest.raises(InvalidArgument, match="z changed while the build context was sent"):
        daemon.take()
    daemon.end()


def test_a_daemon_that_goes_away(directory):
    daemon = Daemon(directory)
    daemon.listing()
    assert isinstance(daemon.end(), sync.Interrupted)


def test_a_directory_that_is_not_there_is_told(tmp_path):
    daemon = Daemon(tmp_path / "nothing")
    with pytest.raises(InvalidArgument, match="cannot read the directory of the build context"):
        daemon.listing()
    daemon.end()
