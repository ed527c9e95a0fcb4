"""Directories of the engine's own are removed, whatever is in them and whoever removes it meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hooper.engine import trees


def test_files_links_and_directories(tmp_path: Path) -> None:
    place, outside = tmp_path / "place", tmp_path / "outside"
    (place / "empty").mkdir(parents=True)
    (place / "full" / "deep").mkdir(parents=True)
    (place / "full" / "deep" / "file").touch()
    (place / "file").touch()
    outside.mkdir()
    (outside / "kept").touch()
    (place / "link").symlink_to(outside)
    trees.remove(place)
    assert not place.exists()
    assert (outside / "kept").exists()


def test_nothing_is_there(tmp_path: Path) -> None:
    trees.remove(tmp_path / "nothing")


def test_a_file_that_somebody_else_removes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "place"
    place.mkdir()
    for name in ("one", "two"):
        (place / name).touch()
    unlink = os.unlink

    def late(path: str, **more: int) -> None:
        monkeypatch.setattr(os, "unlink", unlink)
        unlink(path, **more)
        unlink(path, **more)  # as who comes too late finds it

    monkeypatch.setattr(os, "unlink", late)
    trees.remove(place)
    assert not place.exists()
