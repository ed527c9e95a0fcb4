"""The volume driver local."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hooper.api.errors import InvalidArgument, NotFound, Unsupported
from hooper.testing.snapshots import make_context
from hooper_volume_local.driver import LocalVolumes

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def volumes(tmp_path: Path) -> LocalVolumes:
    return LocalVolumes(make_context(tmp_path))


async def test_a_volume_is_a_directory(volumes: LocalVolumes) -> None:
    old = os.umask(0o077)
    try:
        path = await volumes.create("data.1", {})
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o755
    (path / "file").write_text("1")
    assert await volumes.create("data.1", {}) == path == await volumes.mount("data.1", "c")
    assert (path / "file").exists()
    await volumes.unmount("data.1", "c")
    await volumes.remove("data.1")
    await volumes.remove("data.1")
    assert not path.exists()


async def test_a_volume_may_be_a_directory_of_the_host(volumes: LocalVolumes, tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (host / "file").write_text("1")
    options = {"type": "none", "o": "bind", "device": str(host)}
    assert await volumes.create("bound", options) == host
    assert await volumes.mount("bound", "c") == host
    await volumes.remove("bound")
    assert (host / "file").exists()


async def test_a_directory_that_is_gone_is_not_found(volumes: LocalVolumes, tmp_path: Path) -> None:
    await volumes.create("bound", {"o": "bind", "device": str(tmp_path / "none")})
    with pytest.raises(NotFound):
        await volumes.mount("bound", "c")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "~a", "a b", "x" * 256])
async def test_a_bad_name_is_refused(volumes: LocalVolumes, name: str) -> None:
    with pytest.raises(InvalidArgument):
        await volumes.create(name, {})


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"size": "1g"}, InvalidArgument),
        ({"type": "nfs", "o": "addr=10.0.0.1", "device": ":/x"}, Unsupported),
        ({"type": "none", "o": "bind,ro", "device": "/x"}, Unsupported),
        ({"type": "none", "o": "bind", "device": "relative"}, InvalidArgument),
    ],
)
async def test_bad_options_are_refused(volumes: LocalVolumes, options: dict[str, str], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        await volumes.create("v", options)
