"""The kit for log drivers: `LogConformance`, for those that can be read and those that only send away."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from hooper.api.errors import InvalidArgument, Unsupported
from hooper.api.logs import LogDriver, LogEntry, LogQuery, LogTarget, Running

PATIENCE_S = 10.0
LINE_MAX = 16 * 1024


class Steps(Running):
    """A container that runs until its steps are over: each is done when the reader has waited."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        self._steps = list(steps)

    def __call__(self) -> bool:
        return bool(self._steps)

    async def changed(self, seconds: float) -> None:
        await anyio.sleep(min(seconds, 0.01))
        self.step()

    def step(self) -> None:
        if self._steps:
            self._steps.pop(0)()


class LogConformance:
    """Subclass it, implement `make_driver`, and pytest runs it. The tests need anyio's pytest plugin.

    A driver with `readable` False is asked for nothing but that it takes what it is given, and says so.
    """

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    def make_driver(self) -> LogDriver:
        """A driver whose `probe` was not called yet."""
        raise NotImplementedError

    def options(self) -> dict[str, str]:
        """The log options with which the tests write."""
        return {}

    @pytest.fixture
    def driver(self) -> LogDriver:
        driver = self.make_driver()
        driver.probe()
        return driver

    @pytest.fixture
    def readable(self, driver: LogDriver) -> LogDriver:
        if not driver.readable:
            pytest.skip("this driver cannot be read")
        return driver

    @pytest.fixture
    def target(self, tmp_path: Path) -> LogTarget:
        return self.target_of(tmp_path)

    def target_of(self, directory: Path, attributes: dict[str, str] | None = None) -> LogTarget:
        return LogTarget(
            container_id=os.urandom(32).hex(),
            container_name="conformance",
            image="busybox",
            directory=directory,
            options=self.options(),
            attributes=attributes or {},
        )

    async def read(
        self, driver: LogDriver, target: LogTarget, query: LogQuery | None = None, running: Running | None = None
    ) -> list[LogEntry]:
        with anyio.fail_after(PATIENCE_S):
            batches = driver.read(target, query or LogQuery(), running or Steps())
            return [entry async for batch in batches for entry in batch]

    def write(self, driver: LogDriver, target: LogTarget, *chunks: tuple[str, bytes]) -> list[int]:
        """The times of the chunks."""
        writer = driver.writer(target)
        times = []
        for stream, data in chunks:
            times.append(time.time_ns())
            writer.write(stream, data, times[-1])
            time.sleep(0.002)
        writer.close()
        return times

    # --- every driver ---

    def test_no_options_are_right(self, driver: LogDriver) -> None:
        driver.check(self.options())

    def test_unknown_options_are_refused_by_name(self, driver: LogDriver) -> None:
        with pytest.raises(InvalidArgument, match=r"unknown log opt 'no-such-option' for .*log driver"):
            driver.check({"no-such-option": "1"})

    async def test_output_of_any_kind_is_taken(self, driver: LogDriver, target: LogTarget) -> None:
        chunks = (b"line\n", b"\n", b"", b"\xff\x00\n", b"half", b" a line\n", b"x" * 40_000, b"\nlast")
        writer = driver.writer(target)
        for data in chunks:
            writer.write("stdout", data, time.time_ns())
            writer.write("stderr", data, time.time_ns())
        writer.close()
        whole = b"".join(chunks)
        for stream in ("stdout", "stderr") if driver.readable else ():
            found = b"".join(entry.data for entry in await self.read(driver, target) if entry.stream == stream)
            # What is no UTF-8 cannot be kept in JSON: as in Docker it is replaced.
            assert found in (whole, whole.replace(b"\xff", "\N{REPLACEMENT CHARACTER}".encode()))

    async def test_a_container_is_started_again(self, driver: LogDriver, target: LogTarget) -> None:
        for run in range(2):
            self.write(driver, target, ("stdout", b"line\n"))
            if driver.readable:
                assert len(await self.read(driver, target)) == run + 1

    def test_a_log_that_is_closed_leaves_nothing_open(self, driver: LogDriver, target: LogTarget) -> None:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            self.write(driver, target, ("stdout", b"line\n"), ("stderr", b"half a line"))
        end = time.monotonic() + PATIENCE_S
        while len(os.listdir("/proc/self/fd")) > before:  # the other ends may be this process's, too
            assert time.monotonic() < end
            time.sleep(0.01)

    def test_one_that_cannot_be_read_says_so(self, driver: LogDriver, target: LogTarget) -> None:
        if driver.readable:
            pytest.skip("this driver can be read")
        with pytest.raises(Unsupported, match="configured logging driver does not support reading"):
            driver.read(target, LogQuery(), Steps())

    # --- those that can be read ---

    async def test_lines_come_back_in_order(self, readable: LogDriver, target: LogTarget) -> None:
        times = self.write(readable, target, ("stdout", b"one\ntwo\n"), ("stderr", b"e\n"), ("stdout", b"three\n"))
        entries = await self.read(readable, target)
        assert [(entry.stream, entry.data) for entry in entries] == [
            ("stdout", b"one\n"), ("stdout", b"two\n"), ("stderr", b"e\n"), ("stdout", b"three\n"),
        ]  # fmt: skip
        assert [entry.time_ns for entry in entries] == [times[0], times[0], times[1], times[2]]

    async def test_nothing_was_written(self, readable: LogDriver, target: LogTarget) -> None:
        assert await self.read(readable, target) == []
        assert await self.read(readable, target, LogQuery(tail=3)) == []

    async def test_another_container_s_lines_are_not_there(self, readable: LogDriver, tmp_path: Path) -> None:
        targets = [self.target_of(tmp_path / name) for name in ("a", "b")]
        for target in targets:
            target.directory.mkdir()
            self.write(readable, target, ("stdout", target.container_id.encode() + b"\n"))
        for target in targets:
            assert [e.data for e in await self.read(readable, target)] == [target.container_id.encode() + b"\n"]

    async def test_chunks_become_lines(self, readable: LogDriver, target: LogTarget) -> None:
        self.write(readable, target, ("stdout", b"on"), ("stderr", b"oops\n"), ("stdout", b"e\ntw"), ("stdout", b"o"))
        entries = await self.read(readable, target)
        assert [entry.data for entry in entries] == [b"oops\n", b"one\n", b"two"]

    async def test_empty_lines_count(self, readable: LogDriver, target: LogTarget) -> None:
        self.write(readable, target, ("stdout", b"\n\na\n"))
        assert [entry.data for entry in await self.read(readable, target)] == [b"\n", b"\n", b"a\n"]

    async def test_a_long_line_is_kept_in_parts(self, readable: LogDriver, target: LogTarget) -> None:
        line = b"x" * 40_000 + b"\n"
        self.write(readable, target, ("stdout", line + b"short\n"))
        entries = await self.read(readable, target)
        assert b"".join(entry.data for entry in entries) == line + b"short\n"
        assert len(entries) == 4 and all(len(entry.data) <= LINE_MAX for entry in entries)
        assert len({entry.time_ns for entry in entries[:3]}) == 1

    async def test_since_until_and_streams(self, readable: LogDriver, target: LogTarget) -> None:
        chunks = [("stdout", b"%d\n" % n) for n in range(6)] + [("stderr", b"e\n")]
        times = self.write(readable, target, *chunks)

        async def texts(query: LogQuery) -> bytes:
            return b"".join(entry.data.strip() for entry in await self.read(readable, target, query))

        assert await texts(LogQuery(since_ns=times[4])) == b"45e"
        assert await texts(LogQuery(until_ns=times[1])) == b"01"
        assert await texts(LogQuery(since_ns=times[1], until_ns=times[3])) == b"123"
        assert await texts(LogQuery(stdout=False)) == b"e"
        assert await texts(LogQuery(stderr=False, tail=2)) == b"45"
        assert await texts(LogQuery(tail=2)) == b"5e"
        assert await texts(LogQuery(tail=2, until_ns=times[3])) == b"23"
        assert await texts(LogQuery(tail=0)) == b""
        assert await texts(LogQuery(tail=100)) == b"012345e"

    async def test_a_second_run_follows_the_first(self, readable: LogDriver, target: LogTarget) -> None:
        self.write(readable, target, ("stdout", b"one\n"))
        self.write(readable, target, ("stdout", b"two\n"))
        assert [entry.data for entry in await self.read(readable, target)] == [b"one\n", b"two\n"]

    @pytest.mark.parametrize(("tail", "before"), [(None, [b"one\n", b"two\n"]), (1, [b"two\n"])])
    async def test_following(
        self, readable: LogDriver, target: LogTarget, tail: int | None, before: list[bytes]
    ) -> None:
        writer = readable.writer(target)
        writer.write("stdout", b"one\ntwo\n", time.time_ns())
        later = [b"three\n", b"fo", b"ur\n", b"five\n"]
        steps = Steps(*(lambda data=data: writer.write("stdout", data, time.time_ns()) for data in later))
        entries: list[bytes] = []
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                while steps():
                    await anyio.sleep(0.3)
                    steps.step()
                writer.close()

            tasks.start_soon(run)
            found = await self.read(readable, target, LogQuery(follow=True, tail=tail), steps)
            entries = [entry.data for entry in found]
        assert entries == [*before, b"three\n", b"four\n", b"five\n"]

    @pytest.mark.parametrize("tail", [None, 5])
    async def test_a_log_that_is_removed_is_read_to_its_end(
        self, readable: LogDriver, target: LogTarget, tail: int | None
    ) -> None:
        self.write(readable, target, ("stdout", b"one\n"), ("stderr", b"two\n"))
        batches = readable.read(target, LogQuery(follow=True, tail=tail), Steps())
        with anyio.fail_after(PATIENCE_S):
            assert await anext(batches) == []
            shutil.rmtree(target.directory)
            entries = [entry.data async for batch in batches for entry in batch]
        assert entries == [b"one\n", b"two\n"]

    async def test_attributes_are_told_only_when_asked_for(self, readable: LogDriver, tmp_path: Path) -> None:
        target = self.target_of(tmp_path, {"label": "value"})
        self.write(readable, target, ("stdout", b"x\n"))
        assert [entry.attributes for entry in await self.read(readable, target)] == [None]
        (entry,) = await self.read(readable, target, LogQuery(details=True))
        assert entry.attributes is not None
        assert {name.lower(): value for name, value in entry.attributes.items()} in ({"label": "value"}, {})
