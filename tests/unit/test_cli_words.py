"""Completion, suggestions and the rules of `cp`: words in, words out."""

from __future__ import annotations

import pytest

from hooper.api.errors import InvalidArgument, NotFound
from hooper.cli.app import root
from hooper.cli.complete import candidates, split
from hooper.cli.copy_rules import Arrangement, Source, Target, arrange, followed, joined, split_entry
from hooper.cli.flags import normalise
from hooper.cli.suggest import near
from hooper.cli.usage_rates import rates


@pytest.fixture(autouse=True)
def _no_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOPER_HOST", "unix:///nosuch.sock")


@pytest.mark.parametrize(
    ("words", "wanted", "unwanted"),
    [
        ([""], {"run", "container", "ps"}, {"ls"}),
        (["ru"], {"run"}, {"rm"}),
        (["-D", "container", ""], {"ls", "prune", "exec"}, {"images"}),
        (["run", "--re"], {"--read-only", "--restart"}, {"--rm"}),
        (["run", "--restart", ""], {"always", "on-failure"}, {"--rm"}),
        (["run", "--restart=on"], {"--restart=on-failure"}, {"on-failure"}),
        (["run", "-itv", ""], {":files"}, set()),
        (["run", "busybox", "-"], set(), {"--rm"}),
        (["rm", "--", "-"], set(), {"--force"}),
        (["ps", "-f", ""], {"name=", "status="}, set()),
        (["ps", "-af", "status=ex"], {"status=exited"}, {"status=running"}),
        (["image", "ls", "--filter", "dang"], {"dangling="}, set()),
        (["network", "ls", "--filter", "scope="], {"scope=local"}, set()),
        (["build", ""], {":directories"}, {":files"}),
        (["build", "--progress", ""], {"plain", "rawjson"}, {":files"}),
        (["build", "-o", ""], {"type=oci,dest=", ":directories"}, set()),
        (["buildx", "build", "--cache-to", "type=l"], {"type=local,dest="}, {"type=inline"}),
        (["builder", "du", "--filter", "ty"], {"type="}, {"until="}),
        (["cp", ""], {":files"}, set()),
        (["kill", "-s", "T"], {"TERM"}, {"KILL"}),
        (["completion", ""], {"bash", "zsh", "fish"}, set()),
        (["nosuch", ""], set(), {"run"}),
        (["-c", ""], {"default"}, {"run"}),
    ],
)
def test_what_fits(
    words: list[str], wanted: set[str], unwanted: set[str], tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    *before, typed = words
    found = {candidate.value for candidate in candidates(root(), before, typed)}
    assert wanted <= found
    assert not unwanted & found


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("hooper ps ", ["hooper", "ps", ""]),
        ("hooper ps -", ["hooper", "ps", "-"]),
        ("hooper run -e 'a b' im", ["hooper", "run", "-e", "a b", "im"]),
        ("hooper run 'open quo", ["hooper", "run", "open quo"]),
        ("hooper run x:1", ["hooper", "run", "x:1"]),
        ("hooper exec c echo # no comment", ["hooper", "exec", "c", "echo", "#", "no", "comment"]),
    ],
)
def test_lines_of_a_shell(line: str, words: list[str]) -> None:
    assert split(line) == words


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("web-servr", ["web-server", "db"], ["web-server"]),
        ("WEB", ["web", "db"], ["web"]),
        ("web", ["my-web-1", "db"], ["my-web-1"]),
        ("contaner", ["container", "context"], ["container"]),
        ("zzz", ["web", "db"], []),
        ("x", ["my-x-1"], []),
    ],
)
def test_near_words(word: str, known: list[str], expected: list[str]) -> None:
    assert near(word, known) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["-dit", "image"], ["--detach", "--interactive", "--tty", "image"]),
        (["-dp80:80", "image"], ["--detach", "--publish=80:80", "image"]),
        (["-dp", "80:80", "image"], ["--detach", "--publish", "80:80", "image"]),
        (["-e=A=1", "image"], ["--env=A=1", "image"]),
        (["-d=false", "-it=true"], ["--interactive", "--tty"]),
        (["-dp"], ["-dp"]),
        (["-zd"], ["-zd"]),
    ],
)
def test_clusters_of_short_flags(given: list[str], expected: list[str]) -> None:
    command = root().get_command(None, "run")  # type: ignore[arg-type]
    assert command
    assert normalise(given, command.params, interspersed=False) == expected


DIRECTORY, FILE = Source("/s/dir", True), Source("/s/file", False)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (FILE, Target("/t/new"), Arrangement("/t", "file", "new")),
        (FILE, Target("/t", True, True), Arrangement("/t")),
        (FILE, Target("/t/old", True), Arrangement("/t", "file", "old")),
        (DIRECTORY, Target("/t/new"), Arrangement("/t", "dir", "new")),
        (DIRECTORY, Target("/t/new/"), Arrangement("/t", "dir", "new")),
        (Source("/s/dir/.", True), Target("/t/new"), Arrangement("/t", ".", "new")),
        (Source("/s/dir/.", True), Target("/t", True, True), Arrangement("/t")),
        (Source("/s/dir", True, "link"), Target("/t/new"), Arrangement("/t", "link", "new")),
    ],
)
def test_where_a_copy_goes(source: Source, target: Target, expected: Arrangement) -> None:
    assert arrange(source, target) == expected


def test_copies_that_cannot_be() -> None:
    with pytest.raises(InvalidArgument, match="is a file"):
        arrange(DIRECTORY, Target("/t/old", True))
    with pytest.raises(NotFound, match="Make it first"):
        arrange(FILE, Target("/t/new/"))


def test_names_in_the_archive() -> None:
    assert Arrangement("/t", "dir", "new").renamed("dir/sub/dir") == "new/sub/dir"
    assert Arrangement("/t", ".", "new").renamed("./sub") == "new/sub"
    assert Arrangement("/t", "/", "new").renamed("/sub") == "new/sub"
    assert Arrangement("/t").renamed("dir/sub") == "dir/sub"
    assert split_entry("/a/b/.") == ("/a/b", ".")
    assert split_entry("/a/b/") == ("/a", "b")
    assert followed("/a/link/", "/b/real") == ("/b/real/", "link")
    assert followed("/a/link/.", "/b/real") == ("/b/real/.", "")
    assert joined("/a/link", "../b") == "/b"
    assert joined("/a/link", "/b") == "/b"


def _figures(second: float, cpu: int, received: int) -> dict[str, object]:
    return {
        "read": f"2026-01-01T00:00:{second:012.9f}Z",
        "cpu_stats": {"cpu_usage": {"total_usage": cpu}},
        "networks": {"eth0": {"rx_bytes": received, "tx_bytes": 0}},
        "blkio_stats": {"io_service_bytes_recursive": [{"op": "read", "value": received}]},
    }


def test_rates_between_two_looks() -> None:
    assert rates(_figures(1, 0, 0), _figures(1.5, 10**9, 100)) == pytest.approx([2e9, 200, 0, 200, 0])
    assert rates(_figures(1, 5, 5), _figures(2, 0, 0)) == [0, 0, 0, 0, 0]
    assert rates(_figures(1, 0, 0), _figures(1, 1, 1)) == []
