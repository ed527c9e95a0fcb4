"""The AppArmor profile of a container's program, on files in place of the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from hooper.api.errors import StartFailed
from hooper_isolation_namespaces.credentials import set_apparmor


def test_the_newer_file_is_preferred(tmp_path: Path) -> None:
    newer, older = tmp_path / "newer", tmp_path / "older"
    for file in (newer, older):
        file.touch()
    set_apparmor("docker-default", [str(newer), str(older)])
    assert (newer.read_text(), older.read_text()) == ("exec docker-default", "")


def test_the_older_file_serves_an_older_kernel(tmp_path: Path) -> None:
    older = tmp_path / "older"
    older.touch()
    set_apparmor("docker-default", [str(tmp_path / "newer"), str(older)])
    assert older.read_text() == "exec docker-default"


def test_a_profile_that_cannot_be_applied_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartFailed, match="unable to apply apparmor profile: strict") as caught:
        set_apparmor("strict", [str(tmp_path / "missing")])
    assert "apparmor_parser" in caught.value.remedy
