"""Whole builds and what becomes of them: the same image everywhere, outputs at the client, caches between engines."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import conftest
import support

pytestmark = pytest.mark.root
EPOCH = "1700000000"
RECIPE = """\
FROM busybox
ENV A=b
WORKDIR /work/deep
COPY . .
RUN echo 1 > /one; mkdir -p /d/e; ln /one /two; ln -s /one /d/l; rm /bin/ls; chmod 700 /work
RUN rm /one; echo 2 > /three; mkdir -p /etc; touch /etc/x
COPY file /added/
CMD ["x"]
"""


@pytest.fixture(scope="module")
def drivers(short_tmp: Path) -> Iterator[dict[str, support.Hooper]]:
    """A daemon on overlay and one on vfs, with the same busybox."""
    with (
        support.hooper(short_tmp / "over", '[storage]\ndriver = "overlay"\n') as overlay,
        support.hooper(short_tmp / "vfs", '[storage]\ndriver = "vfs"\n') as vfs,
    ):
        archive = short_tmp / "busybox.tar"
        conftest.import_busybox(overlay)
        overlay.hooper("save", "-o", str(archive), "busybox")
        vfs.hooper("load", "-i", str(archive))
        yield {"overlay": overlay, "vfs": vfs}


@pytest.fixture(scope="module")
def store(short_tmp: Path) -> Iterator[str]:
    """A docker-registry with nothing in it."""
    (short_tmp / "store").mkdir()
    with support.docker_registry(short_tmp / "store") as host:
        yield host


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    (directory / "sub").mkdir(parents=True)
    (directory / "file").write_text("content")
    (directory / "sub" / "other").write_text("more")
    (directory / "Dockerfile").write_text(RECIPE)
    return directory


def build(engine: support.Engine, context: Path, *words: str, check: bool = True, **env: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "hooper", "-H", engine.address, "build", "--progress", "plain", *words, str(context)],
        env={**os.environ, **env}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stderr
    return done


def inspect(engine: support.Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.hooper("image", "inspect", name).stdout)[0]
    return found


def test_the_same_input_makes_the_same_image_twice_on_every_driver(
    drivers: dict[str, support.Hooper], context: Path
) -> None:
    ids = set()
    for engine in drivers.values():
        for _ in range(2):
            build(engine, context, "--no-cache", "-t", "same", SOURCE_DATE_EPOCH=EPOCH)
            found = inspect(engine, "same")
            assert found["Created"].startswith("2023-11-14T22:13:20")
            ids.add(found["Id"])
        done = engine.hooper("run", "--rm", "same", "stat", "-c", "%Y %n", "/three", "/work", "/added/file", "/etc/x")
        assert all(int(line.split()[0]) <= int(EPOCH) for line in done.stdout.splitlines()) and done.stdout
    assert len(ids) == 1


def test_a_build_that_is_all_cached_makes_the_same_image(drivers: dict[str, support.Hooper], context: Path) -> None:
    for engine in drivers.values():
        build(engine, context, "-t", "first")
        build(engine, context, "-t", "second")
        first, second = inspect(engine, "first"), inspect(engine, "second")
        assert first["Id"] == second["Id"]
        history = engine.request("GET", "/images/first/history")[1]
        assert sum(bool(step["Size"]) for step in history) >= 4


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_outputs_come_to_the_client(
    drivers: dict[str, support.Hooper], context: Path, tmp_path: Path, driver: str
) -> None:
    engine = drivers[driver]
    build(engine, context, "-o", str(tmp_path / "out"), "-o", f"type=tar,dest={tmp_path}/out.tar",
          "-o", f"type=oci,dest={tmp_path}/oci.tar", "-t", "named:1")  # fmt: skip
    assert (tmp_path / "out/work/deep/sub/other").read_text() == "more"
    assert (tmp_path / "out/three").read_text() == "2\n" and not (tmp_path / "out/one").exists()
    assert not (tmp_path / "out/.dockerenv").exists() and not (tmp_path / "out/etc/mtab").is_symlink()
    with tarfile.open(tmp_path / "out.tar") as archive:
        names = {name.rstrip("/") for name in archive.getnames()}
    assert "three" in names and "bin/ls" not in names
    engine.hooper("load", "-i", str(tmp_path / "oci.tar"))
    assert inspect(engine, "named:1")["Config"]["Cmd"] == ["x"]


def test_squashed_is_one_layer(drivers: dict[str, support.Hooper], context: Path) -> None:
    for engine in drivers.values():
        build(engine, context, "--squash", "-t", "squashed", SOURCE_DATE_EPOCH=EPOCH)
    found = [inspect(engine, "squashed") for engine in drivers.values()]
    assert found[0]["Id"] == found[1]["Id"] and len(found[0]["RootFS"]["Layers"]) == 2
    engine = drivers["vfs"]
    done = engine.hooper("run", "--rm", "squashed", "sh", "-c", "cat /three /two; echo /bin/ls /one*")
    assert done.stdout.split() == ["2", "1", "/bin/ls", "/one*"]


STAGES = """\
FROM busybox AS tools
RUN echo tool > /tool && cat /proc/sys/kernel/random/uuid > /when
FROM busybox
COPY --from=tools /tool /tool
RUN cat /proc/sys/kernel/random/uuid > /when
"""


@pytest.mark.parametrize("kind", ["registry", "local", "inline"])
def test_a_cache_goes_from_one_engine_to_another(
    drivers: dict[str, support.Hooper], store: str, tmp_path: Path, context: Path, kind: str
) -> None:
    (context / "Dockerfile").write_text(STAGES.replace("echo tool", f"echo {kind}"))
    name = f"{store}/cached-{kind}"
    there, here = {
        "registry": (f"type=registry,ref={name}:cache,mode=max", f"type=registry,ref={name}:cache"),
        "local": (f"type=local,dest={tmp_path}/cache,mode=max", f"type=local,src={tmp_path}/cache"),
        "inline": ("type=inline", f"{name}:1"),
    }[kind]
    push = ["--push"] if kind == "inline" else []
    build(drivers["overlay"], context, "--cache-to", there, "-t", f"{name}:1", *push)
    done = build(drivers["vfs"], context, "--cache-from", here, "-t", f"{name}:1")
    ids = [inspect(engine, f"{name}:1")["RootFS"] for engine in drivers.values()]
    assert ids[0] == ids[1], done.stderr
    drivers["vfs"].hooper("builder", "prune", "-af")


def test_an_image_that_says_nothing_of_its_steps_serves_for_commands(
    drivers: dict[str, support.Hooper], tmp_path: Path, context: Path
) -> None:
    (context / "Dockerfile").write_text(
        "FROM busybox\nENV A=b\nRUN cat /proc/sys/kernel/random/uuid > /one\nCOPY file /\n"
        "RUN cat /proc/sys/kernel/random/uuid > /two\n"
    )
    overlay, vfs = drivers.values()
    build(overlay, context, "-t", "plain")
    overlay.hooper("save", "-o", str(tmp_path / "plain.tar"), "plain")
    vfs.hooper("load", "-i", str(tmp_path / "plain.tar"))
    build(vfs, context, "--cache-from", "plain", "-t", "again")
    assert inspect(vfs, "again")["RootFS"] == inspect(overlay, "plain")["RootFS"]
    (context / "file").write_text("other")
    build(vfs, context, "--cache-from", "plain", "-t", "other")
    first, second = inspect(vfs, "plain")["RootFS"]["Layers"], inspect(vfs, "other")["RootFS"]["Layers"]
    assert first[:2] == second[:2] and first[2] != second[2] and first[3] != second[3]


def test_a_cache_source_that_is_not_there_is_mentioned(drivers: dict[str, support.Hooper], context: Path) -> None:
    (context / "file").write_text("changed")
    done = build(drivers["overlay"], context, "--cache-from", "127.0.0.1:1/none")
    assert "127.0.0.1:1/none" in done.stderr and "not used" in done.stderr


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["-o", "type=oci,dest=/dev/full"], "o space left"),
        (["-o", "/proc/nowhere"], "nowhere"),
    ],
)
def test_an_output_that_cannot_be_kept_is_one_error(
    drivers: dict[str, support.Hooper], context: Path, words: list[str], named: str
) -> None:
    done = build(drivers["overlay"], context, *words, check=False)
    assert done.returncode == 1 and named in done.stderr, done.stderr
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_what_the_cache_has_is_shown_and_removed(drivers: dict[str, support.Hooper], context: Path) -> None:
    engine = drivers["overlay"]
    build(engine, context)
    engine.hooper("image", "prune", "-af")
    steps = engine.request("GET", "/system/df?type=build-cache")[1]["BuildCache"]
    assert any(step["Size"] > 0 and step["Type"] == "regular" and not step["InUse"] for step in steps)
    engine.hooper("builder", "prune", "-af")
    assert engine.request("GET", "/system/df?type=build-cache")[1]["BuildCache"] in (None, [])
