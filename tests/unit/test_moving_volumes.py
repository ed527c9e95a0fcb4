"""The content of a volume that arrives: put in its place, done again after a crash, and undone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hooper.api.errors import Conflict, DataLoss
from hooper.engine import moving_volumes
from hooper.engine.moving_volumes import check_state, put_in, take_out


def _tree(path: Path, **files: str) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_text(content)
    return path


def _content(path: Path) -> dict[str, str]:
    return {name: (path / name).read_text() for name in os.listdir(path)}


def _arguments(root: Path, *, replace: bool = False, home: Path | None = None) -> dict[str, object]:
    return {
        "staged": str(root / "staged"),
        "real": str(root / "real"),
        "home": str(home or root.resolve()),
        "replace": replace,
    }


def test_an_empty_place_is_filled_and_emptied_again(tmp_path: Path) -> None:
    _tree(tmp_path / "staged" / "new", a="mine")
    _tree(tmp_path / "real")
    put_in(_arguments(tmp_path), ())
    assert _content(tmp_path / "real") == {"a": "mine"}
    put_in(_arguments(tmp_path), ())
    assert _content(tmp_path / "real") == {"a": "mine"}
    take_out(_arguments(tmp_path), ())
    assert _content(tmp_path / "real") == {}


def test_what_is_replaced_comes_back(tmp_path: Path) -> None:
    _tree(tmp_path / "staged" / "new", a="mine")
    _tree(tmp_path / "real", b="theirs")
    (tmp_path / "real").chmod(0o711)
    put_in(_arguments(tmp_path, replace=True), ())
    assert _content(tmp_path / "real") == {"a": "mine"}
    take_out(_arguments(tmp_path, replace=True), ())
    assert _content(tmp_path / "real") == {"b": "theirs"}
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o711


def test_a_place_that_has_been_filled_meanwhile_is_left_alone(tmp_path: Path) -> None:
    _tree(tmp_path / "staged" / "new", a="mine")
    _tree(tmp_path / "real", b="theirs")
    with pytest.raises(Conflict, match="not empty"):
        put_in(_arguments(tmp_path), ())
    take_out(_arguments(tmp_path), ())
    assert _content(tmp_path / "real") == {"b": "theirs"}


def test_a_crash_between_the_two_renames_is_finished_or_undone(tmp_path: Path) -> None:
    for number, (function, expected) in enumerate([(put_in, {"a": "mine"}), (take_out, {"b": "theirs"})]):
        root = tmp_path / str(number)
        _tree(root / "staged" / "new", a="mine")
        _tree(root / "staged" / "old", b="theirs")
        function(_arguments(root, replace=True), ())
        assert _content(root / "real") == expected


def test_a_directory_of_the_host_is_copied_into(tmp_path: Path) -> None:
    home = _tree(tmp_path / "home")
    _tree(tmp_path / "staged" / "new", a="mine")
    real = _tree(tmp_path / "real")
    before = real.stat().st_ino
    put_in(_arguments(tmp_path, home=home), ())
    assert _content(real) == {"a": "mine"} and real.stat().st_ino == before
    take_out(_arguments(tmp_path, home=home), ())
    assert _content(real) == {}


def test_a_directory_of_the_host_that_is_not_empty_is_never_replaced(tmp_path: Path) -> None:
    home = _tree(tmp_path / "home")
    _tree(tmp_path / "staged" / "new", a="mine")
    real = _tree(tmp_path / "real", b="theirs")
    with pytest.raises(Conflict, match="no directory of this engine"):
        put_in(_arguments(tmp_path, replace=True, home=home), ())
    take_out(_arguments(tmp_path, replace=True, home=home), ())
    assert _content(real) == {"b": "theirs"}


def test_a_copy_that_broke_off_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = _tree(tmp_path / "home")
    _tree(tmp_path / "staged" / "new", a="mine", b="too")
    real = _tree(tmp_path / "real")

    def fail(path: bytes) -> None:
        raise OSError("the host goes down")

    with monkeypatch.context() as patched:
        patched.setattr(moving_volumes, "remove", fail)
        with pytest.raises(OSError, match="goes down"):
            put_in(_arguments(tmp_path, home=home), ())
    (real / "b").unlink()
    put_in(_arguments(tmp_path, home=home), ())
    assert _content(real) == {"a": "mine", "b": "too"}


def test_logs_are_plain_files_and_take_the_new_id(tmp_path: Path) -> None:
    state = _tree(tmp_path / "state", **{"old-json.log": "x", "hosts": "y"})
    check_state({"path": str(state), "old": "old", "new": "new"}, ())
    assert _content(state) == {"new-json.log": "x", "hosts": "y"}
    os.link(state / "hosts", state / "again")
    with pytest.raises(DataLoss, match="is no file"):
        check_state({"path": str(state), "old": "old", "new": "new"}, ())
    (state / "again").unlink()
    (state / "resolv.conf").symlink_to("/etc/passwd")
    with pytest.raises(DataLoss, match="is no file"):
        check_state({"path": str(state), "old": "old", "new": "new"}, ())
