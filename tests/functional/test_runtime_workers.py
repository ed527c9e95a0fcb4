"""Calls in processes of their own."""

from __future__ import annotations

import gzip
import lzma
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest
import zstandard

import support
from hooper.api.driver import HostInfo
from hooper.api.errors import Conflict, Internal
from hooper.runtime import wire
from hooper.runtime.client import Launcher
from hooper.runtime.protocol import Call
from hooper.runtime.workers import ForkedWorkers

pytestmark = pytest.mark.anyio


@pytest.fixture
async def launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Launcher]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    launcher = Launcher([], [], HostInfo(True, 2, (6, 1), "amd64", tmp_path, tmp_path), None)
    yield launcher
    await launcher.aclose()


@pytest.fixture
def workers(launcher: Launcher) -> ForkedWorkers:
    return ForkedWorkers(launcher)


def has_ended(pid: int) -> bool:
    """It has closed all that it had open: it is no more, or a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def gone(pid: int) -> None:
    with anyio.fail_after(10):
        while not has_ended(pid):
            await anyio.sleep(0.01)


@pytest.mark.parametrize("value", [{}, {"a": [1, None, 2.5, b"\xff", "ä"]}, {"large": b"x" * 3_000_000}])
async def test_arguments_and_result_are_the_same_values(workers: ForkedWorkers, value: dict[str, object]) -> None:
    assert await workers.run("runtime_calls:echo", value) == value


async def test_one_server_forks_every_call(workers: ForkedWorkers) -> None:
    first, server = await workers.run("runtime_calls:pids", {})
    second, again = await workers.run("runtime_calls:pids", {})
    assert server == again
    assert len({first, second, server, os.getpid()}) == 4


async def test_descriptors_come_in_order(workers: ForkedWorkers) -> None:
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    os.write(in_write, b"hello")
    assert await workers.run("runtime_calls:copy", {}, [in_read, out_write]) == 5
    assert os.read(out_read, 100) == b"HELLO"
    for fd in (in_read, in_write, out_read, out_write):
        os.close(fd)


async def test_errors_keep_their_kind(workers: ForkedWorkers) -> None:
    with pytest.raises(Conflict) as caught:
        await workers.run("runtime_calls:conflict", {})
    assert (caught.value.what, caught.value.why, caught.value.remedy) == ("what", "why", "remedy")
    with pytest.raises(Internal, match="ZeroDivisionError: zero"):
        await workers.run("runtime_calls:bug", {})
    with pytest.raises(Internal, match="missing"):
        await workers.run("runtime_calls_missing:nothing", {})


@pytest.mark.root
async def test_a_bug_is_told_where_no_module_can_be_found(workers: ForkedWorkers, tmp_path: Path) -> None:
    with pytest.raises(Internal, match="ZeroDivisionError: zero"):
        await workers.run("runtime_calls:bug", {"root": str(tmp_path)})


@pytest.mark.root
@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress, zstandard.compress])
async def test_layers_of_every_compression_are_unpacked(
    workers: ForkedWorkers, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    """In a worker that has moved its root, where nothing can be imported."""
    (tmp_path / "layer").write_bytes(compress(support.context_tar({"dir/file": "content"})))
    (tmp_path / "target").mkdir()
    with (tmp_path / "layer").open("rb") as layer:
        arguments = {"target": str(tmp_path / "target"), "whiteouts": "delete"}
        await workers.run("hooper.content.unpack:apply_layer", arguments, [layer.fileno()])
    assert (tmp_path / "target/dir/file").read_text() == "content"


@pytest.mark.parametrize("function", ["die", "leave"])
async def test_a_worker_that_dies(workers: ForkedWorkers, function: str) -> None:
    with anyio.fail_after(20):
        with pytest.raises(Internal, match="died without an answer"):
            await workers.run(f"runtime_calls:{function}", {})
        assert await workers.run("runtime_calls:echo", {"a": 1}) == {"a": 1}


async def test_cancelling_kills_the_worker(workers: ForkedWorkers) -> None:
    read, write = os.pipe()
    pids: list[int] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run, "runtime_calls:hang", {}, [write])
        pids.append(int(await anyio.to_thread.run_sync(os.read, read, 100)))
        tasks.cancel_scope.cancel()
    await gone(pids[0])
    assert has_ended(pids[0])
    os.close(read)
    os.close(write)


async def test_a_call_that_is_cancelled_before_its_worker_looks_is_not_run(launcher: Launcher) -> None:
    ours, theirs = wire.pair()
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    os.write(in_write, b"hello")
    ours.close()
    with theirs:
        call = Call(function="runtime_calls:copy", arguments=msgspec.msgpack.encode({}))
        await launcher.call(call, [theirs.fileno(), in_read, out_write])
    for fd in (in_read, in_write, out_write):
        os.close(fd)
    assert await anyio.to_thread.run_sync(os.read, out_read, 100) == b""
    os.close(out_read)


async def test_calls_run_side_by_side(workers: ForkedWorkers) -> None:
    results: list[object] = []

    async def call(number: int) -> None:
        results.append(await workers.run("runtime_calls:echo", {"n": number}))

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(call, number)
    assert sorted(result["n"] for result in results) == list(range(20))  # type: ignore[index]


async def test_a_server_that_died_is_started_again(workers: ForkedWorkers) -> None:
    _, server = await workers.run("runtime_calls:pids", {})
    os.kill(server, signal.SIGKILL)
    await gone(server)
    _, another = await workers.run("runtime_calls:pids", {})
    assert another != server


async def test_a_launcher_that_died_is_started_again(launcher: Launcher, workers: ForkedWorkers) -> None:
    _, server = await workers.run("runtime_calls:pids", {})
    before = launcher.pid
    os.kill(before, signal.SIGKILL)
    await anyio.to_thread.run_sync(os.waitid, os.P_PID, before, os.WEXITED | os.WNOWAIT)
    _, another = await workers.run("runtime_calls:pids", {})
    assert another != server and launcher.pid != before
    await gone(server)
