"""What goes into json-file comes out again, however it is cut, and as Docker's own copier cuts it."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from hooper.api.log_writing import LINE_MAX
from hooper.api.logs import LogEntry, LogQuery, LogTarget, Running
from hooper_log_jsonfile.decoding import Clock
from hooper_log_jsonfile.driver import JsonFileDriver
from hooper_log_jsonfile.encoding import escaped, rfc3339nano

special = st.sampled_from(
    [
        *(b"\n", b"\n\n", b"\r\n", b'"', b"\\", b"\\n", b"<&>", b"\x00", b"\xff", b"\xe2\x82", "€".encode()),
        *("\u2028".encode(), b"\xed\xa0\x80", b"\xef\xbf\xbd", b"x" * LINE_MAX, b"y" * (LINE_MAX - 1)),
        *("ä".encode() * 9000, b"z" * 40_000, b"\x00" * 150, b'"' * 150, b"\\" * 150),
    ]
)
pieces = st.lists(st.one_of(special, st.binary(max_size=40)), max_size=25)
writes = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.binary(max_size=200) | special), max_size=25)


class Ended(Running):
    def __call__(self) -> bool:
        return False

    async def changed(self, seconds: float) -> None:
        raise AssertionError("nothing to wait for")


def go_text(data: bytes) -> str:
    """As Go ranges over a string: each byte that is part of no character is U+FFFD."""
    return re.sub("[\udc80-\udcff]", "\ufffd", data.decode(errors="surrogateescape"))


def docker_lines(data: bytes) -> list[bytes]:
    """Lines with their newline; the last may have none."""
    return re.findall(rb"[^\n]*\n|[^\n]+", data)


def target(directory: str, **options: str) -> LogTarget:
    return LogTarget(
        container_id="c", container_name="c", image="i", directory=Path(directory),
        options={name.replace("_", "-"): value for name, value in options.items()},
    )  # fmt: skip


def read(log: LogTarget, query: LogQuery) -> list[LogEntry]:
    async def run() -> list[LogEntry]:
        batches = JsonFileDriver("json-file", None).read(log, query, Ended())
        return [entry async for batch in batches for entry in batch]

    return asyncio.run(run())


def joined(entries: list[LogEntry], stream: str) -> list[str]:
    """The lines of a stream, parts put together; no part is longer than Docker's."""
    lines, whole = [], ""
    for entry in entries:
        if entry.stream != stream:
            continue
        whole += entry.data.decode()
        if whole.endswith("\n"):
            lines.append(whole)
            whole = ""
    return [*lines, whole] if whole else lines


@settings(max_examples=150, deadline=None)
@given(writes)
def test_what_is_written_is_read(chunks: list[tuple[str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        log = target(directory)
        writer = JsonFileDriver("json-file", None).writer(log)
        for number, (stream, data) in enumerate(chunks):
            writer.write(stream, data, number)
        writer.close()
        entries = read(log, LogQuery())
        for line in (Path(directory) / "c-json.log").read_bytes().splitlines():
            assert list(json.loads(line)) == ["log", "stream", "time"]
    for stream in ("stdout", "stderr"):
        everything = b"".join(data for name, data in chunks if name == stream)
        assert joined(entries, stream) == [go_text(line) for line in docker_lines(everything)]


@settings(max_examples=60, deadline=None)
@given(pieces, st.integers(1, 50_000))
def test_cutting_makes_no_difference(parts: list[bytes], size: int) -> None:
    data = b"".join(parts)
    files = []
    for step in (size, max(1, len(data))):
        with tempfile.TemporaryDirectory() as directory:
            writer = JsonFileDriver("json-file", None).writer(target(directory))
            for start in range(0, len(data), step):
                writer.write("stdout", data[start : start + step], 0)
            writer.close()
            files.append((Path(directory) / "c-json.log").read_bytes())
    assert files[0] == files[1]
    for line in files[0].splitlines():
        assert len(json.loads(line)["log"].encode(errors="replace")) <= 3 * LINE_MAX


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=60), st.integers(100, 600), st.integers(1, 4), st.integers(0, 40))
def test_rotation_and_tail(parts: list[bytes], size: int, files: int, tail: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        log = target(directory, max_size=str(size), max_file=str(files))
        writer = JsonFileDriver("json-file", None).writer(log)
        for number, data in enumerate(parts):
            writer.write("stdout", data, number)
        writer.close()
        kept = read(log, LogQuery())
        assert len(list(Path(directory).iterdir())) <= files
        assert read(log, LogQuery(tail=tail)) == (kept[-tail:] if tail else [])
    written = [go_text(line).encode() for line in docker_lines(b"".join(parts))]
    assert [entry.data for entry in kept] == written[len(written) - len(kept) :]


@given(st.binary() | pieces.map(b"".join))
def test_any_bytes_become_valid_json(data: bytes) -> None:
    text = escaped(data.replace(b"\n", b""))
    assert json.loads(b'"' + text + b'"') == go_text(data.replace(b"\n", b""))


@given(st.integers(0, 4_000_000_000 * 10**9))
def test_times(time_ns: int) -> None:
    text = rfc3339nano(time_ns)
    assert Clock().parse(text) == time_ns
    assert not re.search(r"[.0]0*Z", text.partition(".")[2])
