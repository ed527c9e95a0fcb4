"""Lines out of chunks, and the file format of the log driver local."""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hooper.api.log_writing import LINE_MAX, LineSplitter
from hooper.api.logs import LogEntry, LogQuery, LogTarget, Running
from hooper_log_local import blocks
from hooper_log_local.driver import LocalDriver

pieces = st.sampled_from(
    [b"\n", b"\n\n", b"HL", b"x" * LINE_MAX, b"y" * (LINE_MAX - 1), "ä".encode() * 9000]
) | st.binary(max_size=60)
chunks = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), pieces), max_size=25)


class Ended(Running):
    def __call__(self) -> bool:
        return False

    async def changed(self, seconds: float) -> None:
        raise AssertionError("nothing to wait for")


@given(chunks)
def test_nothing_is_lost_and_no_run_breaks_the_rules(given_chunks: list[tuple[str, bytes]]) -> None:
    splitter, out = LineSplitter(), {"stdout": b"", "stderr": b""}
    for number, (stream, data) in enumerate(given_chunks):
        for run, time_ns in splitter.feed(stream, data, number):
            assert run and time_ns <= number
            assert run.endswith(b"\n") or (LINE_MAX - 3 <= len(run) <= LINE_MAX and b"\n" not in run)
            assert all(len(line) < LINE_MAX for line in run.split(b"\n")[:-1])
            out[stream] += run
    for stream, data, _ in splitter.rest():
        assert b"\n" not in data and data
        out[stream] += data
    for stream, data in out.items():
        assert data == b"".join(piece for name, piece in given_chunks if name == stream)


def test_parts_of_a_line_carry_the_time_of_its_first() -> None:
    splitter = LineSplitter()
    runs = splitter.feed("stdout", b"x" * (LINE_MAX + 10), 1)
    runs += splitter.feed("stdout", b"y" * LINE_MAX, 2)
    runs += splitter.feed("stdout", b"z\nnext\n", 3)
    assert [(len(run), time_ns) for run, time_ns in runs] == [(LINE_MAX, 1), (LINE_MAX, 1), (12, 1), (5, 3)]


@settings(max_examples=80, deadline=None)
@given(chunks, st.sampled_from(["-1", "300", "5k"]), st.integers(1, 4), st.integers(0, 30))
def test_local_gives_back_what_it_was_given(
    given_chunks: list[tuple[str, bytes]], size: str, files: int, tail: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        options = {"max-size": size, "max-file": str(files), "compress": "false"}
        log = LogTarget("c", "c", "i", Path(directory), options)
        writer = LocalDriver("local", None).writer(log)
        for number, (stream, data) in enumerate(given_chunks):
            writer.write(stream, data, number)
        writer.close()
        kept = read(log, LogQuery())
        assert len(list(Path(directory, "local-logs").iterdir())) <= files
        assert read(log, LogQuery(tail=tail)) == (kept[-tail:] if tail else [])
    for stream in ("stdout", "stderr"):
        everything = b"".join(data for name, data in given_chunks if name == stream)
        said = b"".join(entry.data for entry in kept if entry.stream == stream)
        assert everything.endswith(said) and (size != "-1" or said == everything)
        assert all(re.fullmatch(rb"[^\n]*\n?", entry.data) for entry in kept)


def read(log: LogTarget, query: LogQuery) -> list[LogEntry]:
    async def run() -> list[LogEntry]:
        batches = LocalDriver("local", None).read(log, query, Ended())
        return [entry async for batch in batches for entry in batch]

    return asyncio.run(run())


@given(st.lists(st.binary(max_size=80), max_size=8), st.binary(max_size=40), st.integers(0, 200))
def test_any_bytes_can_be_looked_at(payloads: list[bytes], noise: bytes, cut: int) -> None:
    good = b"".join(blocks.encode("stderr", payload, 7) for payload in payloads)
    assert blocks.whole(good) == len(good) and blocks.first(good) == 0
    assert blocks.whole(good[: max(0, len(good) - cut)]) <= len(good)
    for data in (noise + good, good + noise, good[cut:]):
        assert 0 <= blocks.whole(data) <= len(data) and 0 <= blocks.first(data) <= len(data)
