"""`cp` by docker's command line and by hooper's, on the same trees: the results are the same."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_support import InProcess, Terminal

import support

pytestmark = pytest.mark.root
Copy = Callable[..., subprocess.CompletedProcess[str]]
_CONTAINERS = ("by-docker", "by-hooper")
_TREE = (
    "mkdir -p /src/dir/sub /full/dir /empty && echo one >/src/file && echo two >/src/dir/sub/deep && "
    "echo mine >/src/owned && chown 1000:2000 /src/owned && chmod 4755 /src/owned && ln -s file /src/link && "
    "ln -s /src/dir /src/dirlink && ln -s nowhere /src/broken && echo old >/full/file && echo old >/full/dir/kept && "
    "ln -s /empty /to-empty && mkfifo /src/dir/pipe && ln /src/dir/sub/deep /src/dir/hard"
)
_CASES = [
    *(((), "src/file", target) for target in ("new", "new/", "empty", "full/file", "full/file/", "no/such/place")),
    *(((), "src/dir", target) for target in ("new/", "empty/.", "full/file", "full/dir", "to-empty")),
    *(((), "src/dir/.", target) for target in ("new", "empty")),
    *(((), link, "empty") for link in ("src/link", "src/dirlink", "src/broken", "src/dirlink/", "src/dirlink/.")),
    *((("-L",), link, target) for link in ("src/link", "src/dirlink") for target in ("new", "empty")),
]


def _tree(root: str) -> str:
    """The script that makes the tree below `root`."""
    return _TREE.replace(" /", f" {root}/").replace(">/", f">{root}/")


@pytest.fixture
def both(either: support.Engine, capfd: pytest.CaptureFixture[str]) -> list[Copy]:
    """The command lines of docker and of hooper."""
    return [either.docker, InProcess(either.address, capfd)]


def _start(engine: support.Engine, script: str) -> support.Engine:
    for name in _CONTAINERS:
        engine.docker("run", "-d", "--name", name, "busybox", "sh", "-c", f"{script}; touch /ready; sleep 1000")
    for name in _CONTAINERS:
        engine.docker("exec", name, "sh", "-c", "while ! test -e /ready; do sleep 0.05; done")
    return engine


@pytest.fixture
def containers(either: support.Engine) -> support.Engine:
    """Two containers with the tree, one for each command line."""
    return _start(either, _tree(""))


@pytest.fixture
def forests(either: support.Engine) -> support.Engine:
    """The same with a tree a case as well, so that cases do not see each other."""
    copies = f"i=1; while test $i -lt {len(_CASES)}; do cp -a /0 /$i; i=$((i+1)); done"
    return _start(either, f"{_tree('')}; mkdir /0; {_tree('/0')}; {copies}")


def _listing(root: Path) -> dict[str, tuple[str, ...]]:
    """What is in a directory: kind, mode and owners, content or target."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        kind = f"{status.st_mode:o}", f"{status.st_uid}:{status.st_gid}"
        content = os.readlink(path) if path.is_symlink() else path.read_text() if path.is_file() else ""
        found[str(path.relative_to(root))] = (*kind, content.replace(str(root), ""))
    return found


def _inside(engine: support.Engine, name: str) -> list[str]:
    """The same of all the trees in a container."""
    script = (
        f"cd /; for i in $(seq 0 {len(_CASES) - 1}); do find $i -exec stat -c '%n %F %a %u:%g %N' {{}} +; "
        "for f in $(find $i -type f); do echo $f $(cat $f); done; done | sort"
    )
    return engine.docker("exec", name, "sh", "-c", script).stdout.splitlines()


def _differing(codes: list[list[int]]) -> list[object]:
    return [case for case, mine, dockers in zip(_CASES, *codes, strict=True) if mine != dockers]


def test_out_of_a_container(forests: support.Engine, both: list[Copy], tmp_path: Path) -> None:
    codes, results = [], []
    for copy, container in zip(both, _CONTAINERS, strict=True):
        root = tmp_path / container
        codes.append([])
        for number, (flags, source, target) in enumerate(_CASES):
            place = root / str(number)
            place.mkdir(parents=True)
            subprocess.run(["sh", "-c", _tree(str(place))], check=True)
            done = copy("cp", *flags, f"{container}:/{source}", f"{place}/{target}", check=False)
            codes[-1].append(done.returncode)
        results.append(_listing(root))
    assert _differing(codes) == []
    assert results[1] == results[0]


def test_into_a_container(forests: support.Engine, both: list[Copy], tmp_path: Path) -> None:
    subprocess.run(["sh", "-c", _tree(str(tmp_path))], check=True)
    codes = [
        [
            copy("cp", *flags, f"{tmp_path}/{source}", f"{container}:/{number}/{target}", check=False).returncode
            for number, (flags, source, target) in enumerate(_CASES)
        ]
        for copy, container in zip(both, _CONTAINERS, strict=True)
    ]
    assert _differing(codes) == []
    assert _inside(forests, "by-hooper") == _inside(forests, "by-docker")


def test_owners_inside_are_as_with_docker(containers: support.Engine, both: list[Copy], tmp_path: Path) -> None:
    subprocess.run(["sh", "-c", _tree(str(tmp_path))], check=True)
    for flags, target in ((), "plain"), (("-a",), "kept"):
        for copy, container in zip(both, _CONTAINERS, strict=True):
            copy("cp", *flags, f"{tmp_path}/src/owned", f"{container}:/empty/{target}")
    command = ("stat", "-c", "%a %u:%g", "/empty/plain", "/empty/kept")
    found = [containers.docker("exec", name, *command).stdout for name in _CONTAINERS]
    assert found[1] == found[0]


def test_owners_are_the_users_unless_they_are_asked_for(containers: support.Engine, tmp_path: Path) -> None:
    """Docker's manual promises the second for both ways."""
    containers.hooper("cp", "by-hooper:/src/owned", str(tmp_path / "mine"))
    containers.hooper("cp", "-a", "by-hooper:/src/owned", str(tmp_path / "theirs"))
    assert (tmp_path / "mine").stat().st_uid == os.getuid()
    assert ((tmp_path / "theirs").stat().st_uid, (tmp_path / "theirs").stat().st_gid) == (1000, 2000)


def test_a_link_in_the_way_is_replaced_and_never_followed(containers: support.Engine, tmp_path: Path) -> None:
    outside, place = tmp_path / "outside", tmp_path / "place"
    outside.write_text("precious")
    (place / "sub").mkdir(parents=True)
    (place / "sub" / "deep").symlink_to(outside)
    containers.hooper("cp", "by-hooper:/src/dir/.", str(place))
    assert outside.read_text() == "precious"
    assert (place / "sub" / "deep").read_text() == "two\n"


def test_streams(containers: support.Engine) -> None:
    program = [sys.executable, "-m", "hooper", "-H", containers.address, "cp"]
    done = subprocess.run([*program, "by-hooper:/src/dir", "-"], capture_output=True, check=True, timeout=60)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        assert {"dir", "dir/sub", "dir/sub/deep", "dir/pipe"} <= set(archive.getnames())
    subprocess.run([*program, "-", "by-hooper:/empty"], input=done.stdout, check=True, timeout=60)
    assert containers.docker("exec", "by-hooper", "cat", "/empty/dir/sub/deep").stdout == "two\n"
    refused = subprocess.run([*program, "-", "by-hooper:/src/file"], input=done.stdout, check=False, timeout=60)
    assert refused.returncode == 1


def test_mistakes_have_dockers_code(containers: support.Engine, both: list[Copy]) -> None:
    for words in (
        ("/etc/hosts", "/tmp"),
        ("by-hooper:/x", "by-docker:/y"),
        ("by-hooper:", "/tmp"),
        ("nosuch:/x", "/tmp"),
        ("/nosuch", "by-hooper:/"),
        ("by-hooper:/nosuch", "/tmp"),
        ("/etc/hosts", "nosuch:/"),
        ("/etc/hosts",),
    ):
        expected, done = (copy("cp", *words, check=False) for copy in both)
        assert (words, done.returncode) == (words, expected.returncode)
        assert done.returncode != 0 and done.stderr.startswith("hooper: ")


def test_the_summary_is_for_terminals_and_quiet_ends_it(containers: support.Engine, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "hooper", "-H", containers.address, "cp"]
    terminal = Terminal([*program, "by-hooper:/src/file", str(tmp_path / "x")])
    terminal.expect(b"Successfully copied")
    assert terminal.wait() == 0
    terminal = Terminal([*program, "-q", "by-hooper:/src/file", str(tmp_path / "x")])
    assert terminal.wait() == 0
    assert terminal.seen == b""
