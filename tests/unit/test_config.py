"""Configuration: where values come from, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hooper.api.errors import InvalidArgument
from hooper.api.specs import Kind
from hooper.config import load


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_each_source_wins_over_the_one_before(tmp_path: Path) -> None:
    file = written(tmp_path, '[daemon]\ndata_root = "/file"\ngroup = "file"\nlog_level = "error"\n')
    config = load(file, {"daemon.log_level": "debug"}, {"HOOPER_DAEMON_GROUP": "variable"})
    sources = {key: (value, source) for key, value, source in config.explain()}
    assert sources["daemon.data_root"] == ('"/file"', str(file))
    assert sources["daemon.group"] == ('"variable"', "HOOPER_DAEMON_GROUP")
    assert sources["daemon.log_level"] == ('"debug"', "flag")
    assert sources["storage.driver"] == ('"auto"', "default")


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("False", False)])
def test_a_variable_says_yes_or_no(text: str, value: bool) -> None:
    assert load(environment={"HOOPER_DAEMON_EXPERIMENTAL": text})["daemon.experimental"] is value


def test_a_variable_that_says_neither_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"HOOPER_DAEMON_EXPERIMENTAL=perhaps"):
        load(environment={"HOOPER_DAEMON_EXPERIMENTAL": "perhaps"})


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[daemon]\ndata_rot = "/x"\n', ['"daemon.data_rot"', 'Did you mean "daemon.data_root"?']),
        ('[storag]\ndriver = "vfs"\n', ['"storag.driver"', '"storage.driver"']),
        ("[daemon]\nhosts = 3\n", ['"daemon.hosts"', "not a list"]),
        ("[daemon\n", ["is not TOML"]),
        ("loose = 1\n", ['"loose"']),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, text: str, named: list[str]) -> None:
    file = written(tmp_path, text)
    with pytest.raises(InvalidArgument) as error:
        load(file, environment={})
    for part in [str(file), *named]:
        assert part in str(error.value)


def test_a_file_that_is_asked_for_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"no such file"):
        load(tmp_path / "none.toml", environment={})


def test_a_drivers_own_table_is_kept_for_the_driver(tmp_path: Path) -> None:
    file = written(tmp_path, '[network.bridge]\nsubnet = "10.1.0.0/16"\n')
    assert load(file, environment={}).driver_table(Kind.NETWORK, "bridge") == {"subnet": "10.1.0.0/16"}
