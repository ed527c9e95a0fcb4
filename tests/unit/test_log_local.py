"""The log driver local."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import pytest

from hooper.api.errors import InvalidArgument
from hooper.api.logs import LogEntry, LogQuery, LogTarget, Running
from hooper_log_local import blocks
from hooper_log_local.driver import LocalDriver
from hooper_log_local.options import LocalConfig, Options, parse
from hooper_log_local.plugin import hooper_register_log_drivers

pytestmark = pytest.mark.anyio
DRIVER = LocalDriver("local", None)


class Ended(Running):
    def __call__(self) -> bool:
        return False

    async def changed(self, seconds: float) -> None:
        raise AssertionError("nothing to wait for")


def target(directory: Path, **options: str) -> LogTarget:
    return LogTarget(
        container_id="c", container_name="n", image="i", directory=directory,
        options={name.replace("_", "-"): value for name, value in options.items()},
    )  # fmt: skip


def current(directory: Path) -> Path:
    return directory / "local-logs" / "container.log"


async def read(log: LogTarget, **query: object) -> list[LogEntry]:
    batches = DRIVER.read(log, LogQuery(**query), Ended())  # type: ignore[arg-type]
    return [entry async for batch in batches for entry in batch]


def write(log: LogTarget, *chunks: bytes) -> None:
    writer = DRIVER.writer(log)
    for number, chunk in enumerate(chunks):
        writer.write("stdout", chunk, number)
    writer.close()


async def test_a_block_cut_by_a_crash_is_dropped_and_the_next_is_read(tmp_path: Path) -> None:
    log = target(tmp_path)
    write(log, b"one\n", b"two\n")
    with current(tmp_path).open("ab") as file:
        file.write(blocks.encode("stdout", b"cut\n", 3)[:-2])
    assert [entry.data for entry in await read(log)] == [b"one\n", b"two\n"]
    assert [entry.data for entry in await read(log, tail=1)] == [b"two\n"]
    write(log, b"three\n")
    assert [entry.data for entry in await read(log)] == [b"one\n", b"two\n", b"three\n"]


async def test_damage_costs_what_is_damaged(tmp_path: Path) -> None:
    log = target(tmp_path)
    write(log, b"one\n", b"two\n", b"three\n")
    path = current(tmp_path)
    content = bytearray(path.read_bytes())
    place = content.index(b"two") - 10
    content[place : place + 3] = b"\xff\xff\xff"
    path.write_bytes(content)
    assert b"three\n" in [entry.data for entry in await read(log)]
    assert (await read(log))[0].data == b"one\n"


async def test_a_container_cannot_forge_an_entry(tmp_path: Path) -> None:
    forged = blocks.encode("stderr", b"forged\n", 1)
    log = target(tmp_path)
    write(log, b"a" + forged + b"b\n")
    with current(tmp_path).open("ab") as file:
        file.write(blocks.encode("stdout", b"x" + forged + b"y" * 100 + b"\n", 3)[:-20])
    entries = await read(log)
    assert {entry.stream for entry in entries} == {"stdout"}
    assert b"".join(entry.data for entry in entries) == b"a" + forged + b"b\n"


async def test_rotated_files_are_compressed_and_read(tmp_path: Path) -> None:
    log = target(tmp_path, max_size="2k", max_file="3")
    lines = [b"line %d\n" % n for n in range(400)]
    write(log, *lines)
    directory = tmp_path / "local-logs"
    for _ in range(100):
        names = sorted(path.name for path in directory.iterdir())
        if names == ["container.log", "container.log.1.gz", "container.log.2.gz"]:
            break
        time.sleep(0.05)
    else:
        raise AssertionError(names)
    assert gzip.decompress((directory / "container.log.2.gz").read_bytes()).startswith(b"HL")
    entries = await read(log)
    assert [entry.data for entry in entries] == lines[-len(entries) :]
    assert len(entries) > 150
    assert await read(log, tail=120) == entries[-120:]
    assert await read(log, since_ns=390) == entries[-10:]


async def test_a_block_is_smaller_than_docker_s_line(tmp_path: Path) -> None:
    write(target(tmp_path), b"".join(b"line %d\n" % n for n in range(100)))
    assert current(tmp_path).stat().st_size == sum(len(b"line %d\n" % n) for n in range(100)) + blocks.OVERHEAD


def test_options() -> None:
    assert parse({}, LocalConfig()) == Options(20 << 20, 5, True)
    assert parse({"max-size": "1m", "max-file": "2", "compress": "false"}, LocalConfig()) == Options(1 << 20, 2, False)
    assert parse({"max-size": "-1"}, LocalConfig()) == Options(0, 5, False)
    assert parse({"max-file": "1"}, LocalConfig()) == Options(20 << 20, 1, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tag": "x"}, "unknown log opt 'tag' for log driver local"),
        ({"max-size": "x"}, "max-size"),
        ({"max-file": "0"}, "max-file"),
        ({"compress": "maybe"}, "compress"),
        ({"compress": "true", "max-file": "1"}, "compression"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        DRIVER.check(options)


def test_it_can_be_the_cache_of_others() -> None:
    (spec,) = hooper_register_log_drivers()
    assert "log-cache" in spec.capabilities
