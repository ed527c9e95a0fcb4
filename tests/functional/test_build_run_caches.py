"""Directories of commands of builds that outlive them: --mount=type=cache."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from build_run_support import (
    Builds,
    cache,
)

from hooper.api.build_graph import BindMount, CacheMount, LocalSource
from hooper.api.errors import Conflict, InvalidArgument, NotFound

pytestmark = pytest.mark.root


def test_a_cache_outlives_its_command(builds):
    ran = builds.ok("test -z \"$(ls /c)\"; stat -c '%a %u' /c; echo kept > /c/f", cache("first"))
    assert ran.out == "755 0\n"
    assert ran.layer == {}
    assert builds.ok("cat /other/f", cache("first", target="/other")).out == "kept\n"
    assert builds.ok("ls /c", cache("second")).out == ""
    assert builds.run("echo x > /c/f", cache("first", read_only=True)).code != 0


def test_a_cache_has_owner_and_mode(builds):
    one = cache("owned", uid=1000, gid=2000, mode=0o2770)
    assert builds.ok("stat -c '%a %u %g' /c; echo x > /c/x", one, user="user:extra").out == "2770 1000 2000\n"
    assert builds.ok("cat /c/x", one).out == "x\n"
    # As in BuildKit, one that begins otherwise is another one.
    assert builds.ok("ls /c", cache("owned")).out == ""


def test_a_cache_begins_with_files(builds, tree):
    node, places, root = tree
    for number in range(2):
        ran = builds.ok(
            f"cat /c/b; ls /c; touch /c/{number}", cache("filled", source=node, path="d"), directories=places
        )
    assert ran.out == "B\n0\nb\n"
    assert os.listdir(root / "d") == ["b"]
    image = builds.bench.image()
    assert "passwd" in builds.ok("ls /c", cache("filled", source=image, path="etc")).out.split()
    with pytest.raises(InvalidArgument, match='cannot mount "a": it is no directory'):
        builds.run("true", cache("file", source=node, path="a"), directories=places)
    with pytest.raises(InvalidArgument, match='cannot mount "none": no such file'):
        builds.run("true", cache("file", source=node, path="none"), directories=places)
    other = {node: "another digest"}
    ran = builds.ok("ls /c", cache("filled", source=node, path="d"), directories=places, contents=other)
    assert ran.out == "b\n"


def test_caches_are_listed_and_removed(builds):
    builds.ok("dd if=/dev/zero of=/c/f bs=1k count=300 2>/dev/null", cache("listed"))
    entry = next(each for each in builds.caches().values() if each.name == "listed")
    assert entry.size >= 300 << 10
    assert time.time() - 60 < entry.created <= entry.last_used < time.time() + 1
    assert (entry.in_use, entry.sharing) == (False, "")
    builds.call(lambda: builds.bench.runner.caches.remove(entry.id))
    assert entry.id not in builds.caches()
    assert builds.ok("ls /c", cache("listed")).out == ""
    for wrong in (entry.id + "x", "../../x", ""):
        with pytest.raises(NotFound, match="there is none of that id"):
            builds.call(lambda wrong=wrong: builds.bench.runner.caches.remove(wrong))


SLOW = "echo began; until test -e /sync/{go}; do sleep 0.05; done; echo ended"


def together(builds: Builds, tmp_path: Path, sharing: str, second: str = "") -> tuple[list[str], set[str]]:
    """Two commands with one cache: the first goes on until the second has ended or waits. What was said, in order,
    and the directories of the cache."""
    node = LocalSource(context="")
    said: list[str] = []
    name = f"{sharing}-{second}"

    async def both() -> None:
        def hear(number: int) -> Any:
            async def heard(stream: int, data: bytes) -> None:
                said.extend(f"{number} {line}" for line in data.decode().splitlines())
                if number == 2:
                    (tmp_path / "go").touch()

            return heard

        sync = BindMount(target="/sync", source=node)
        places = {node: tmp_path}
        mount = cache(name, sharing=sharing)
        async with anyio.create_task_group() as tasks:
            run = builds.bench.run
            work = f"touch /c/one; {SLOW.format(go='go')}"
            tasks.start_soon(lambda: run(work, mount, sync, directories=places, output=hear(1)))
            with anyio.fail_after(20):
                while not said:
                    await anyio.sleep(0.01)
            entry = next(e for e in await builds.bench.runner.caches.entries() if e.name == name)
            assert (entry.in_use, entry.sharing) == (True, sharing)
            with pytest.raises(Conflict, match="a build uses it"):
                await builds.bench.runner.caches.remove(entry.id)
            await run("echo files: $(ls /c)", cache(name, sharing=second or sharing), output=hear(2))

    builds.call(both)
    return said, {entry.id for entry in builds.caches().values() if entry.name == name}


def test_a_shared_cache(builds, tmp_path):
    said, directories = together(builds, tmp_path, "shared")
    assert said == ["1 began", "2 files: one", "1 ended"]
    assert len(directories) == 1


def test_a_private_cache(builds, tmp_path):
    said, directories = together(builds, tmp_path, "private")
    assert said == ["1 began", "2 files:", "1 ended"]
    assert len(directories) == 2
    # The next one takes the oldest that is free.
    assert builds.ok("ls /c", cache("private-", sharing="private")).out == "one\n"


def test_a_locked_cache(builds, tmp_path):
    said, directories = together(builds, tmp_path, "locked")
    assert said[0] == "1 began"
    assert said[1].startswith('2 waiting for the cache "locked-"')
    assert said[2:] == ["1 ended", "2 files: one"]
    assert len(directories) == 1


def test_who_shares_does_not_use_what_another_has_for_itself(builds, tmp_path):
    said, directories = together(builds, tmp_path, "private", "shared")
    assert said == ["1 began", "2 files:", "1 ended"]
    assert len(directories) == 2


def test_two_commands_never_wait_for_each_other(builds):
    one, two = cache("x", sharing="locked", target="/x"), cache("y", sharing="locked", target="/y")

    async def many() -> list[int]:
        codes: list[int] = []

        async def one_command(*mounts: CacheMount) -> None:
            codes.append((await builds.bench.run("sleep 0.02", *mounts)).code)

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for mounts in ((one, two), (two, one)) * 3:
                    tasks.start_soon(one_command, *mounts)
        return codes

    assert builds.call(many) == [0] * 6


def test_one_command_has_a_locked_cache_twice(builds):
    ran = builds.ok("touch /x/f; ls /y", cache("t", sharing="locked", target="/x"),
                    cache("t", sharing="locked", target="/y"))  # fmt: skip
    assert ran.out == "f\n"
