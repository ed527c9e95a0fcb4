"""Fixtures that more than one test file uses."""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

import support
from hooper.linux import pinning

pytest_plugins = ["build_fixtures", "runtime_fixtures"]
_M_MMAP_THRESHOLD = -3
"""glibc's malloc.h."""
_MADV_COLLAPSE = 25
"""madvise(2)."""

# How long an example takes says more of the machine than of the code.
settings.register_profile("hooper", deadline=None)
settings.load_profile("hooper")


class _ByDaemon(LoadScopeScheduling):
    """Tests of one file stay with one worker, for they share daemons; and with one worker too stay all that need a
    real dockerd, for one that starts flushes the iptables chains of another. The name of such a test says so."""

    def _split_scope(self, nodeid: str) -> str:
        return "dockerd" if "dockerd" in nodeid else nodeid.partition("::")[0]


def pytest_configure() -> None:
    """Many tests fork this process, and a fork pays for each page: large blocks that are freed go back at once."""
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 17)


def pytest_collection_finish() -> None:
    """What has been collected stays until the end: a fork takes a third of the time when it lies in huge pages."""
    gc.collect()
    gc.freeze()
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    with open("/proc/self/maps") as maps:
        found = [mapping.place for mapping in pinning.mappings(maps) if not mapping.of_file]
    for place in found:
        # Kernels before 6.1 refuse it, as does one that has no such page left.
        madvise(place.start, place.end - place.start, _MADV_COLLAPSE)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return _ByDaemon(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that no worker is left with it at the end.

    Without root the tests that need it are skipped, by name.
    """
    items.sort(key=lambda item: ("dockerd" not in item.nodeid, "functional" not in item.nodeid))
    if os.geteuid() != 0:
        for item in items:
            if "root" in item.keywords or "dockerd" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def short_tmp() -> Iterator[Path]:
    """A directory whose path is short enough for unix sockets."""
    directory = Path(tempfile.mkdtemp(prefix="hpt-", dir="/tmp"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def engine(short_tmp: Path) -> Iterator[support.Hooper]:
    """A hooper daemon that the session's tests share, with the image busybox:latest."""
    with support.hooper(short_tmp / "engine") as daemon:
        import_busybox(daemon)
        yield daemon


@pytest.fixture
def clean(engine: support.Hooper) -> Iterator[support.Hooper]:
    """The shared daemon; the containers of the test are removed after it."""
    yield engine
    engine.clear()


def import_busybox(daemon: support.Engine, name: str = "busybox") -> None:
    status, text = daemon.request(
        "POST",
        f"/images/create?fromSrc=-&repo={name}&tag=latest&changes=CMD%20%5B%22sh%22%5D&changes=ENV%20PATH%3D%2Fbin",
        support.busybox_tar(),
        {"Content-Type": "application/x-tar"},
    )
    assert status == 200 and "error" not in str(text), text


@pytest.fixture(scope="session", params=["hooper", pytest.param("dockerd", marks=pytest.mark.dockerd)])
def _either(request: pytest.FixtureRequest) -> support.Engine:
    if request.param == "hooper":
        daemon: support.Engine = request.getfixturevalue("engine")
        return daemon
    peer: support.Engine = request.getfixturevalue("peer")
    return peer


@pytest.fixture
def either(_either: support.Engine) -> Iterator[support.Engine]:
    """Hooper, and in a second run of the test a real dockerd: what it asserts is what Docker does.

    Both have the image busybox:latest. The test's containers are removed after it.
    """
    yield _either
    _either.clear()


@pytest.fixture(scope="session")
def registry(short_tmp: Path) -> Iterator[str]:
    """HOST:PORT of a docker-registry."""
    with support.docker_registry(short_tmp / "reg") as host:
        yield host


@pytest.fixture(scope="session")
def debian_registry(registry: str, debian: Path) -> str:
    """The registry, with a Debian made by mmdebstrap as debian:12, pushed there by skopeo."""
    support.run(
        "skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false",
        f"docker-archive:{debian}", f"docker://{registry}/debian:12",
    )  # fmt: skip
    return registry


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of a Debian as debian:12; it takes a minute, so that all workers of a run share one."""
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    archive = place / "debian-image.tar"
    with (place / "debian.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not archive.exists():
            rootfs = place / "debian.tar"
            support.run("mmdebstrap", "--quiet", "--variant=minbase", "bookworm", str(rootfs))
            support.write_docker_archive(rootfs, place / "debian-image.new", "debian:12")
            rootfs.unlink()
            (place / "debian-image.new").rename(archive)
    return archive


@pytest.fixture(scope="session")
def peer(short_tmp: Path) -> Iterator[support.Engine]:
    """A real dockerd that the session's tests share, with the image busybox:latest."""
    with support.dockerd(short_tmp / "dockerd") as daemon:
        import_busybox(daemon)
        yield daemon
