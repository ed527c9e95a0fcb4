"""The volume driver local."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from hooper.api.errors import InvalidArgument, NotFound
from hooper.testing.snapshots import make_context
from hooper_volume_local.driver import LocalVolumes

pytestmark = pytest.mark.anyio


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


class Calls:
    """Stands in for the workers that mount."""

    def __init__(self) -> None:
        self.made: list[tuple[str, dict[str, str]]] = []

    async def run(self, function: str, arguments: Mapping[str, str], fds: Sequence[int] = ()) -> None:
        self.made.append((function.partition(":")[2], dict(arguments)))


@pytest.fixture
def calls(volumes: LocalVolumes) -> Calls:
    found = Calls()
    volumes.context = msgspec.structs.replace(volumes.context, workers=found)  # type: ignore[arg-type]
    return found


OPTIONS = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}


async def test_a_mount_is_made_for_the_first_user_and_undone_after_the_last(
    volumes: LocalVolumes, calls: Calls
) -> None:
    path = await volumes.create("mounted", OPTIONS)
    assert calls.made == []
    assert await volumes.mount("mounted", "one") == path
    assert calls.made == [("mount", {"name": "mounted", "target": str(path), **OPTIONS})]
    await volumes.mount("mounted", "two")
    calls.made.clear()
    await volumes.unmount("mounted", "one")
    await volumes.unmount("mounted", "one")
    assert calls.made == []
    await volumes.unmount("mounted", "two")
    assert calls.made == [("unmount", {"target": str(path)})]
    calls.made.clear()
    await volumes.unmount("mounted", "two")
    assert calls.made == []


async def test_what_an_earlier_daemon_mounted_is_kept_for_those_that_run(volumes: LocalVolumes, calls: Calls) -> None:
    await volumes.create("mounted", OPTIONS)
    for user in ("lives", "ended"):
        await volumes.mount("mounted", user)
    later = LocalVolumes(volumes.context)
    await later.mount("mounted", "new")
    calls.made.clear()
    await later.reconcile({"lives"})
    assert calls.made == []
    await later.unmount("mounted", "new")
    await later.unmount("mounted", "lives")
    assert [name for name, _ in calls.made] == ["unmount"]


async def test_a_volume_is_unmounted_before_it_is_deleted(volumes: LocalVolumes, calls: Calls) -> None:
    path = await volumes.create("mounted", OPTIONS)
    await volumes.remove("mounted")
    assert [name for name, _ in calls.made] == ["unmount"] and not path.exists()


async def test_a_directory_that_is_gone_is_not_found(volumes: LocalVolumes) -> None:
    (await volumes.create("plain", {})).rmdir()
    with pytest.raises(NotFound):
        await volumes.mount("plain", "c")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "~a", "a b", "x" * 256])
async def test_a_bad_name_is_refused(volumes: LocalVolumes, name: str) -> None:
    with pytest.raises(InvalidArgument):
        await volumes.create(name, {})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"what": "1g"}, 'invalid option: "what"'),
        ({"size": "1g"}, "quota size requested but no quota support"),
        ({"type": "nfs", "o": "addr=10.0.0.1"}, 'missing required option: "device"'),
        ({"device": "/x"}, 'missing required option: "type"'),
    ],
)
async def test_bad_options_are_refused(volumes: LocalVolumes, options: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        await volumes.create("v", options)
    assert text in str(error.value)
