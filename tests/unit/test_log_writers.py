"""How a monitor opens a log: with a copy to read, and with a process that writes for it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from hooper.api.errors import HooperError, Internal, Unavailable
from hooper.api.logs import LogDriver, LogTarget, LogWriter
from hooper.runtime import log_writers
from hooper.runtime.log_writers import open_writer


class FileWriter(LogWriter):
    def __init__(self, path: Path, options: Mapping[str, str]) -> None:
        self._file = path.open("ab", buffering=0)
        self._options = options

    def write(self, stream: str, data: bytes, time_ns: int) -> None:
        while self._options.get("hangs") and os.path.exists(self._options["hangs"]):
            time.sleep(0.01)
        if self._options.get("fails"):
            raise OSError("it is full")
        self._file.write(b"%s %d %s" % (stream.encode(), time_ns, data))

    def close(self) -> None:
        self._file.write(b"closed")
        self._file.close()


class FileDriver(LogDriver):
    def check(self, options: Mapping[str, str]) -> None:
        return

    def writer(self, target: LogTarget) -> LogWriter:
        if target.options.get("cannot"):
            raise Unavailable("it is away", "for a while", "Wait.")
        return FileWriter(target.directory / self.name, target.options)


DRIVERS = {name: FileDriver(name, None) for name in ("main", "copy")}


def target(directory: Path, options: dict[str, str] | None = None, **more: object) -> LogTarget:
    return LogTarget("id", "name", "image", directory, options or {}, **more)  # type: ignore[arg-type]


def test_a_copy_is_kept_with_options_of_its_own(tmp_path: Path) -> None:
    log = target(tmp_path, {"fails": "1"}, cache="copy", cache_options={"max": "1"})
    writer = open_writer(DRIVERS, "main", log)
    with pytest.raises(OSError, match="full"):
        writer.write("stdout", b"x\n", 1)
    writer.close()
    assert (tmp_path / "copy").read_bytes() == b"stdout 1 x\nclosed"
    assert (tmp_path / "main").read_bytes() == b"closed"


@pytest.mark.parametrize("buffer", [0, 1 << 20])
def test_what_cannot_be_opened_fails_as_in_docker(tmp_path: Path, buffer: int) -> None:
    with pytest.raises(Internal) as raised:
        open_writer(DRIVERS, "main", target(tmp_path, {"cannot": "1"}, buffer=buffer))
    assert str(raised.value) == "failed to initialize logging driver: it is away: for a while\nWait."
    with pytest.raises(Internal, match="nobody"):
        open_writer(DRIVERS, "nobody", target(tmp_path, buffer=buffer))


def test_a_process_writes_and_has_written_all_at_the_end(tmp_path: Path) -> None:
    writer = open_writer(DRIVERS, "main", target(tmp_path, buffer=1 << 20))
    writer.write("stdout", b"a" * 100_000, 1)
    writer.write("stderr", b"b\n", 2)
    writer.close()
    content = (tmp_path / "main").read_bytes()
    assert content.count(b"a") == 100_000 and content.endswith(b"stderr 2 b\nclosed")


def test_a_driver_that_hangs_costs_no_time_and_loses_what_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writers, "CLOSE_S", 0.2)
    brake = tmp_path / "brake"
    brake.touch()
    writer = open_writer(DRIVERS, "main", target(tmp_path, {"hangs": str(brake)}, buffer=1 << 20))
    with pytest.raises(BlockingIOError):
        _fill(writer)
    with pytest.raises(TimeoutError):
        writer.close()
    brake.unlink()
    deadline = time.monotonic() + 10
    while not (content := (tmp_path / "main").read_bytes()).endswith(b"closed"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    taken = content.count(b"x")
    assert 500_000 < taken < 4_000_000 and taken % 10_000 == 0


def _fill(writer: LogWriter) -> None:
    for _ in range(1000):
        writer.write("stdout", b"x" * 10_000, 0)


def test_losses_of_the_process_are_told_at_the_end(tmp_path: Path) -> None:
    writer = open_writer(DRIVERS, "main", target(tmp_path, {"fails": "1"}, buffer=1 << 20))
    writer.write("stdout", b"four", 0)
    with pytest.raises(HooperError, match="4 bytes of output could not be logged: it is full"):
        writer.close()
