"""Scripts: what a process does that shares this one's memory and has no interpreter."""

from __future__ import annotations

import errno
import os
import platform
import signal
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hooper.linux import script_run
from hooper.linux.script import ANY, NEVER, Pointer, Slot, Writer
from hooper.linux.script_run import Script

MACHINE = platform.machine()
AT_FDCWD = -100

pytestmark = pytest.mark.skipif(not script_run.available(), reason="no scripts run on this host")


@contextmanager
def begun(writer: Writer, **slots: int) -> Iterator[Script]:
    script = Script(writer.program(), slots)
    try:
        script.begin(0)
        yield script
    finally:
        script.close()


def ended(script: Script) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(script.pid, 0)[1])


def execute(writer: Writer, *args: str, env: tuple[str, ...] = ()) -> None:
    texts = [writer.vector([writer.text(each) for each in several]) for several in (args, env)]
    writer.call("execve", args[0], *texts, accept=NEVER)


def test_it_ends_with_a_program(tmp_path: Path) -> None:
    writer = Writer(MACHINE)
    writer.call("close_range", 3, 0x7FFFFFFF, 0)
    fd = writer.open("openat", AT_FDCWD, str(tmp_path / "out"), os.O_WRONLY | os.O_CREAT, 0o600)
    assert fd == 3
    writer.call("dup3", fd, 1, 0, accept=(1, 1))
    execute(writer, "/bin/sh", "-c", 'echo "$A $B"', env=("A=one", "B=two"))
    with begun(writer) as script:
        assert ended(script) == 0
        assert script.failure() is None
    assert (tmp_path / "out").read_text() == "one two\n"


def test_a_result_that_is_not_accepted_ends_it() -> None:
    writer = Writer(MACHINE)
    writer.call("openat", AT_FDCWD, "/nowhere", os.O_RDONLY, 0, accept=ANY)
    execute(writer, "/bin/true")
    with begun(writer) as script:
        assert ended(script) == 1
        assert script.failure() == (257, -errno.ENOENT)


def test_a_result_may_be_another_one(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    writer = Writer(MACHINE)
    writer.call("mkdirat", AT_FDCWD, str(tmp_path / "there"), 0o700, other=-errno.EEXIST)
    writer.call("mkdirat", AT_FDCWD, str(tmp_path / "new"), 0o700, other=-errno.EEXIST)
    execute(writer, "/bin/true")
    with begun(writer) as script:
        assert ended(script) == 0
    assert (tmp_path / "new").is_dir()


@pytest.mark.parametrize("there", [True, False])
def test_what_follows_may_depend_on_a_result(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "asked").touch()
    writer = Writer(MACHINE)
    asked = writer.call("faccessat", AT_FDCWD, str(tmp_path / "asked"), os.F_OK, other=-errno.ENOENT)
    with writer.unless_other(asked):
        writer.call("mkdirat", AT_FDCWD, str(tmp_path / "yes"), 0o700)
    asked = writer.call("faccessat", AT_FDCWD, str(tmp_path / "asked"), os.F_OK, other=-errno.ENOENT)
    with writer.if_other(asked):
        writer.call("mkdirat", AT_FDCWD, str(tmp_path / "no"), 0o700)
    execute(writer, "/bin/true")
    with begun(writer) as script:
        assert ended(script) == 0
    assert {path.name for path in tmp_path.iterdir()} == ({"asked", "yes"} if there else {"no"})


def test_it_reads_into_its_room_and_waits_for_what_is_filled_in() -> None:
    gate, theirs = os.pipe()
    writer = Writer(MACHINE)
    writer.call("read", Slot("gate"), writer.room(16, "word"), 16, accept=(1, 16), mark="read")
    writer.call("read", Slot("gate"), writer.room(16, "second word"), 16, accept=(1, 16))
    writer.call("umask", Slot("mask"), accept=ANY)
    execute(writer, "/bin/sh", "-c", 'test "$(umask)" = 0027')
    with begun(writer, gate=gate) as script:
        assert script.result("read") is None
        os.write(theirs, b"hello")
        while script.result("read") is None:
            pass
        assert script.read("word", script.result("read") or 0) == b"hello"
        script.fill("mask", 0o027)
        os.write(theirs, b"go")
        assert ended(script) == 0
        assert script.read("second word", 2) == b"go"
    os.close(gate)
    os.close(theirs)


def test_structures_and_what_is_put_in_places(tmp_path: Path) -> None:
    writer = Writer(MACHINE)
    place = writer.block(bytes(4096), "name")
    writer.call("mkdirat", AT_FDCWD, place, 0o700)
    # An iovec-like structure, whose first word is a pointer.
    holder = writer.block(array("q", [writer.text("A=held"), 0]).tobytes())
    writer.points(holder)
    args = writer.vector([writer.text("/bin/sh"), writer.text("-c"), writer.text('test "$A" = held')])
    writer.call("execve", "/bin/sh", args, Pointer(holder), accept=NEVER)
    script = Script(writer.program(), {})
    script.put("name", os.fsencode(tmp_path / "made") + b"\0")
    assert script.has("name") and not script.has("other")
    script.begin(0)
    assert ended(script) == 0
    script.close()
    script.close()
    assert (tmp_path / "made").is_dir()


def test_the_same_text_is_there_once() -> None:
    writer = Writer(MACHINE)
    assert writer.text("text") == writer.text(b"text") != writer.text("another")


def test_descriptors_get_the_lowest_free_numbers() -> None:
    writer = Writer(MACHINE)
    assert [writer.opened() for _ in range(3)] == [3, 4, 5]
    writer.taken(6)
    writer.close(4)
    assert [writer.opened(), writer.opened()] == [4, 7]


def test_signals_wait_until_the_program_runs() -> None:
    """A handler of this process would run on its stack."""
    gate, theirs = os.pipe()
    came: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: came.append(number))
    try:
        writer = Writer(MACHINE)
        writer.call("read", gate, writer.room(8, "word"), 8, accept=(1, 8))
        execute(writer, "/bin/true")
        with begun(writer) as script:
            os.kill(script.pid, signal.SIGUSR1)
            os.write(theirs, b"go")
            assert ended(script) == 0
        assert came == []
        os.kill(os.getpid(), signal.SIGUSR1)
        assert came == [signal.SIGUSR1], "this process's own signals are as they were"
    finally:
        signal.signal(signal.SIGUSR1, before)
        os.close(gate)
        os.close(theirs)


def test_a_machine_without_scripts() -> None:
    with pytest.raises(KeyError):
        Writer("pdp11")
