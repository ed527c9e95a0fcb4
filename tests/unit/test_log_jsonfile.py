"""The log drivers json-file and none."""

from __future__ import annotations

import gzip
import json
import re
import resource
import signal
import time
from pathlib import Path

import anyio
import pytest

from hooper.api.errors import InvalidArgument, Unsupported
from hooper.api.logs import LogEntry, LogQuery, LogTarget, Running
from hooper_log_jsonfile.driver import JsonFileDriver
from hooper_log_jsonfile.none import NoneDriver
from hooper_log_jsonfile.options import JsonFileConfig, Options, parse
from hooper_log_jsonfile.plugin import hooper_register_log_drivers

pytestmark = pytest.mark.anyio
DRIVER = JsonFileDriver("json-file", None)


class Switch(Running):
    """Runs a step of the test each time that the reader waits; ended after the last."""

    def __init__(self, *steps: object) -> None:
        self._steps = list(steps)

    def __call__(self) -> bool:
        return bool(self._steps)

    async def changed(self, seconds: float) -> None:
        self._steps.pop(0)()  # type: ignore[operator]


def target(directory: Path, attributes: dict[str, str] | None = None, filled_in: str = "", **options: str) -> LogTarget:
    return LogTarget(
        container_id="c", container_name="n", image="i", directory=directory, attributes=attributes or {},
        tag=filled_in,
        options={name.replace("_", "-"): value for name, value in options.items()},
    )  # fmt: skip


async def read(log: LogTarget, running: Running | None = None, **query: object) -> list[LogEntry]:
    batches = DRIVER.read(log, LogQuery(**query), running or Switch())  # type: ignore[arg-type]
    return [entry async for batch in batches for entry in batch]


def write(log: LogTarget, *lines: bytes, stream: str = "stdout", start: int = 0) -> None:
    writer = DRIVER.writer(log)
    for number, line in enumerate(lines):
        writer.write(stream, line, start + number)
    writer.close()


def test_the_format_is_docker_s(tmp_path: Path) -> None:
    write(target(tmp_path), b'a\t"\\<\x1b\r\n', "ü\n".encode(), b"\xff", start=1_700_000_000_120_000_000)
    assert (tmp_path / "c-json.log").read_text() == (
        r'{"log":"a\u0009\"\\\u003c\u001b\r\n","stream":"stdout","time":"2023-11-14T22:13:20.12Z"}'
        "\n"
        '{"log":"ü\\n","stream":"stdout","time":"2023-11-14T22:13:20.120000001Z"}\n'
        r'{"log":"\ufffd","stream":"stdout","time":"2023-11-14T22:13:20.120000002Z"}'
        "\n"
    ).replace(r"\ufffd", "\ufffd")


def test_whole_lines_are_there_at_once_and_parts_at_the_end(tmp_path: Path) -> None:
    writer = DRIVER.writer(target(tmp_path))
    path = tmp_path / "c-json.log"
    writer.write("stdout", b"one\ntw", 1)
    assert [json.loads(line)["log"] for line in path.read_text().splitlines()] == ["one\n"]
    writer.write("stderr", b"err\n", 2)
    writer.write("stdout", b"o\nthree", 3)
    writer.close()
    logs = [json.loads(line) for line in path.read_text().splitlines()]
    assert [entry["log"] for entry in logs] == ["one\n", "err\n", "two\n", "three"]
    assert [entry["stream"] for entry in logs] == ["stdout", "stderr", "stdout", "stdout"]


def test_long_lines_are_cut_at_16_kib(tmp_path: Path) -> None:
    write(target(tmp_path), b"a" * 20_000, b"b" * 20_000 + b"\nshort\n")
    logs = [json.loads(line)["log"] for line in (tmp_path / "c-json.log").read_text().splitlines()]
    assert [len(log) for log in logs] == [16384, 16384, 40_000 - 2 * 16384 + 1, 6]


def test_a_character_is_not_cut(tmp_path: Path) -> None:
    text = "a" + "ä" * 12_000
    write(target(tmp_path), text.encode()[:9001], text.encode()[9001:])
    logs = [json.loads(line)["log"] for line in (tmp_path / "c-json.log").read_text().splitlines()]
    assert len(logs) == 2 and "".join(logs) == text


async def test_attributes_and_the_tag_are_in_each_line(tmp_path: Path) -> None:
    log = target(tmp_path, {"com.x": "<2>", "b": '"'}, "web/1")
    write(log, b"x\ny\n")
    for line in (tmp_path / "c-json.log").read_text().splitlines():
        assert '"attrs":{"b":"\\"","com.x":"\\u003c2\\u003e","tag":"web/1"},"time"' in line
    expected = {"b": '"', "com.x": "<2>", "tag": "web/1"}
    assert [entry.attributes for entry in await read(log, details=True)] == [expected, expected]
    assert [entry.attributes for entry in await read(log)] == [None, None]


async def test_details_of_lines_without_attributes(tmp_path: Path) -> None:
    write(target(tmp_path), b"x\n")
    assert [entry.attributes for entry in await read(target(tmp_path), details=True)] == [{}]


def test_whole_lines_that_still_fit_stay_on_a_full_disk(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for the disk's end: both write a part, and fail then."""
    log = target(tmp_path)
    lines = [b"line %d\n" % number for number in range(50)]
    writer = DRIVER.writer(log)
    before, soft = resource.getrlimit(resource.RLIMIT_FSIZE), 1000
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            writer.write("stdout", b"".join(lines), 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, previous)
    writer.write("stdout", b"last\n", 2)
    writer.close()
    kept = [json.loads(line)["log"].encode() for line in next(tmp_path.glob("*.log")).read_bytes().splitlines()]
    assert kept == [*lines[: len(kept) - 1], b"last\n"] and 10 < len(kept) < 20


def test_a_cut_last_line_does_not_spoil_the_next(tmp_path: Path) -> None:
    log = target(tmp_path)
    write(log, b"one\n")
    with open(tmp_path / "c-json.log", "ab") as file:
        file.write(b'{"log":"cut')
    write(log, b"two\n")
    lines = (tmp_path / "c-json.log").read_text().splitlines()
    assert lines[1] == '{"log":"cut' and json.loads(lines[2])["log"] == "two\n"


async def test_reading_leaves_out_what_is_no_entry(tmp_path: Path) -> None:
    log = target(tmp_path)
    write(log, b"one\n")
    with open(tmp_path / "c-json.log", "ab") as file:
        file.write(b'nonsense\n{"log":"x","stream":"stdout","time":"never"}\n\xff\xff\n{"log":"cut')
    assert [entry.data for entry in await read(log)] == [b"one\n"]
    assert [entry.data for entry in await read(log, tail=5)] == [b"one\n"]
    write(log, b"two\n")
    assert [entry.data for entry in await read(log)] == [b"one\n", b"two\n"]


async def test_docker_s_own_lines_are_read(tmp_path: Path) -> None:
    (tmp_path / "c-json.log").write_text(
        '{"log":"a\\n","stream":"stderr","attrs":{"x":"y"},"time":"2023-11-14T22:13:20.5+01:00"}\n'
        '{"log":"b\\n","stream":"stdout","time":"2023-11-14T22:13:20Z"}\n'
    )
    assert await read(target(tmp_path)) == [
        LogEntry("stderr", b"a\n", 1_699_996_400_500_000_000),
        LogEntry("stdout", b"b\n", 1_700_000_000_000_000_000),
    ]


async def test_since_until_and_streams(tmp_path: Path) -> None:
    log = target(tmp_path)
    write(log, *[b"%d\n" % n for n in range(10)], start=100)
    write(log, b"e\n", stream="stderr", start=110)

    async def texts(**query: object) -> bytes:
        return b"".join(entry.data.strip() for entry in await read(log, **query))

    assert await texts(since_ns=107) == b"789e"
    assert await texts(until_ns=102) == b"012"
    assert await texts(since_ns=103, until_ns=105) == b"345"
    assert await texts(stdout=False) == b"e"
    assert await texts(stderr=False, tail=2) == b"89"
    assert await texts(tail=2) == b"9e"
    assert await texts(tail=2, until_ns=105) == b"45"
    assert await texts(tail=0) == b""
    assert await texts(tail=100) == b"0123456789e"


async def test_a_log_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert await read(target(tmp_path)) == []
    assert await read(target(tmp_path), tail=3) == []


async def test_rotation(tmp_path: Path) -> None:
    log = target(tmp_path, max_size="1k", max_file="3")
    write(log, *[b"line %d\n" % n for n in range(100)])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["c-json.log", "c-json.log.1", "c-json.log.2"]
    for path in tmp_path.iterdir():
        assert path.stat().st_size < 1000 + 100
    entries = await read(log)
    assert [entry.data for entry in entries] == [b"line %d\n" % n for n in range(100 - len(entries), 100)]
    assert len(entries) > 20
    assert await read(log, tail=20) == entries[-20:]


async def test_one_chunk_may_rotate_many_times(tmp_path: Path) -> None:
    log = target(tmp_path, max_size="500", max_file="2")
    write(log, b"".join(b"line %d\n" % n for n in range(50)))
    assert (await read(log))[-1].data == b"line 49\n"
    assert (tmp_path / "c-json.log.1").stat().st_size in range(500, 600)


async def test_following(tmp_path: Path) -> None:
    log = target(tmp_path)
    writer = DRIVER.writer(log)
    writer.write("stdout", b"one\n", 1)
    steps = [
        lambda: writer.write("stdout", b"two\nthr", 2),
        lambda: writer.write("stdout", b"ee\n", 3),
        lambda: None,
        lambda: writer.write("stdout", b"four\n", 4),
    ]
    entries = await read(log, Switch(*steps), follow=True)
    assert [entry.data for entry in entries] == [b"one\n", b"two\n", b"three\n", b"four\n"]


async def test_following_from_the_end(tmp_path: Path) -> None:
    log = target(tmp_path)
    writer = DRIVER.writer(log)
    writer.write("stdout", b"one\ntwo\n", 1)
    entries = await read(log, Switch(lambda: writer.write("stdout", b"three\n", 3)), follow=True, tail=1)
    assert [entry.data for entry in entries] == [b"two\n", b"three\n"]
    entries = await read(log, Switch(lambda: writer.write("stdout", b"four\n", 3)), follow=True, tail=0)
    assert [entry.data for entry in entries] == [b"four\n"]


async def test_following_a_log_that_begins_later(tmp_path: Path) -> None:
    log = target(tmp_path)
    steps = [lambda: None, lambda: write(log, b"late\n")]
    assert [entry.data for entry in await read(log, Switch(*steps), follow=True)] == [b"late\n"]


@pytest.mark.parametrize("files", ["2", "5"])
async def test_following_across_rotations(tmp_path: Path, files: str) -> None:
    log = target(tmp_path, max_size="300", max_file=files)
    writer = DRIVER.writer(log)
    numbers = iter(range(1000))
    steps = [lambda: writer.write("stdout", b"%d\n" % next(numbers), 0) for _ in range(40)]
    entries = await read(log, Switch(*steps), follow=True)
    assert [int(entry.data) for entry in entries] == list(range(40))


async def test_following_a_single_file_that_is_emptied(tmp_path: Path) -> None:
    log = target(tmp_path, max_size="300")
    writer = DRIVER.writer(log)
    numbers = iter(range(1000))
    steps = [lambda: writer.write("stdout", b"%d\n" % next(numbers), 0) for _ in range(40)]
    entries = await read(log, Switch(*steps), follow=True)
    assert [int(entry.data) for entry in entries] == list(range(40))


async def test_following_ends_at_until(tmp_path: Path) -> None:
    log = target(tmp_path)
    writer = DRIVER.writer(log)
    steps = [lambda n=n: writer.write("stdout", b"%d\n" % n, n) for n in range(1, 10)]  # type: ignore[misc]
    with anyio.fail_after(5):
        entries = await read(log, Switch(*steps), follow=True, until_ns=4)
    assert [int(entry.data) for entry in entries] == [1, 2, 3, 4]


def test_options() -> None:
    options = {"max-size": "10m", "max-file": "3", "labels": "a,b", "env": "X", "compress": "1", "tag": "{{.ID}}"}
    DRIVER.check(options)
    assert parse(options, JsonFileConfig()) == Options(10_000_000, 3, True)
    assert not parse({"max-size": "1m"}, JsonFileConfig(compress=True)).compress
    assert parse({"max-size": "1m"}, JsonFileConfig(compress=True, max_file=2)).compress
    assert parse({"max-size": "1.5kB"}, JsonFileConfig()).max_size == 1500
    assert parse({}, JsonFileConfig(max_size="2g", max_file=4)).max_size == 2_000_000_000
    assert parse({"max-size": "-1"}, JsonFileConfig(max_size="2g")).max_size == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max-sise": "1"}, "max-sise.*json-file(.|\n)*max-size"),
        ({"max-size": "many"}, "max-size"),
        ({"max-size": "0"}, "max-size"),
        ({"max-file": "0"}, "max-file"),
        ({"max-file": "two"}, "max-file"),
        ({"compress": "maybe"}, "compress"),
        ({"compress": "true"}, "compress"),
        ({"compress": "true", "max-size": "1m"}, "compress"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        DRIVER.check(options)


def test_none_keeps_nothing(tmp_path: Path) -> None:
    driver = NoneDriver("none", None)
    driver.check({"anything": "goes"})
    writer = driver.writer(target(tmp_path))
    writer.write("stdout", b"x\n", 0)
    writer.close()
    assert not driver.readable and not list(tmp_path.iterdir())
    with pytest.raises(Unsupported, match=r'does not support reading\n.*"none"'):
        driver.read(target(tmp_path), LogQuery(), Switch())


def test_the_plugin_names_both() -> None:
    assert {spec.name for spec in hooper_register_log_drivers()} == {"json-file", "none"}


@pytest.mark.parametrize("tail", [None, 0, 3])
async def test_following_while_files_are_compressed(tmp_path: Path, tail: int | None) -> None:
    log = target(tmp_path, max_size="300", max_file="4", compress="true")
    writer = DRIVER.writer(log)
    writer.write("stdout", b"0\n1\n2\n", 0)
    numbers = iter(range(3, 1000))

    def step() -> None:
        for _ in range(6):
            writer.write("stdout", b"%d\n" % next(numbers), 0)
        # Time for the process that compresses.
        deadline = time.monotonic() + 5
        while any(re.search(r"log\.\d$", path.name) for path in tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.005)

    entries = await read(log, Switch(*[step] * 12), follow=True, tail=tail)
    first = 3 - (3 if tail is None else tail)
    assert [int(entry.data) for entry in entries] == list(range(first, 75))
    assert list(tmp_path.glob("*.gz"))


async def test_a_file_that_docker_compressed_is_read(tmp_path: Path) -> None:
    log = target(tmp_path)
    write(log, b"new\n")
    old = b'{"log":"old\\n","stream":"stdout","time":"2023-11-14T22:13:20Z"}\n' * 30_000
    (tmp_path / "c-json.log.1.gz").write_bytes(gzip.compress(old))
    entries = await read(log)
    assert len(entries) == 30_001 and entries[-1].data == b"new\n"
    assert [entry.data for entry in await read(log, tail=3)] == [b"old\n", b"old\n", b"new\n"]
    (tmp_path / "c-json.log.1.gz").write_bytes(gzip.compress(old)[:-100])
    damaged = await read(log)
    assert len(damaged) > 1000 and damaged[-1].data == b"new\n"
