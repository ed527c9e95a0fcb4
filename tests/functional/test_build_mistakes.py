"""A recipe that is wrong: one clear error that names file and line, and nothing left behind."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from pathlib import Path

import pytest

import support
from support import Hooper, context_tar

pytestmark = pytest.mark.root

MISTAKES = {
    "unknown instruction": ("FROM busybox\nRNU true\n", "Dockerfile:2: ", "Did you mean RUN?"),
    "missing source": ("FROM busybox\nRUN true\nCOPY missing /x\n", "Dockerfile:3: ", "stat missing"),
    "missing source of a pattern": ("FROM busybox\nADD *.zip /x/\n", "Dockerfile:2: ", "*.zip"),
    "source outside": ("FROM busybox\nCOPY ../x /x\n", "Dockerfile:2: ", "forbidden path outside the build context"),
    "no FROM": ("RUN true\n", "Dockerfile:1: ", "Only ARG may stand before the first FROM."),
    "unknown flag": ("FROM busybox\nCOPY --chwon=1 a /a\n", "Dockerfile:2: ", "Did you mean --chown?"),
    "flag without value": ("FROM busybox\n\nCOPY --chown a /a\n", "Dockerfile:3: ", "--chown=VALUE"),
    "JSON of numbers": ('FROM busybox\nRUN ["echo", 1]\n', "Dockerfile:2: ", "strings only"),
    "JSON cut short": ('FROM busybox\nCOPY ["a", "/a"\n', "Dockerfile:2: ", "no JSON array"),
    "SHELL without JSON": ("FROM busybox\nSHELL sh -c\n", "Dockerfile:2: ", "JSON form"),
    "unknown stage by number": ("FROM busybox\nCOPY --from=3 /a /a\n", "Dockerfile:2: ", "index out of bounds"),
    "unknown stage by name": (
        "FROM busybox AS one\nFROM busybox\nCOPY --from=127.0.0.1:1/none /a /a\n", "Dockerfile:3: ", "there are: one",
    ),
    "unknown image": ("ARG X\nFROM 127.0.0.1:1/none\n", "Dockerfile:2: ", "127.0.0.1:1"),
    "no command": ("FROM busybox\nRUN\n", "Dockerfile:2: ", "RUN requires a command"),
    "unknown user": ("FROM busybox\nCOPY --chown=nobody-here a /a\n", "Dockerfile:2: ", "nobody-here"),
    "directory in the way": ("FROM busybox\nCOPY a /bin/sh/x\n", "Dockerfile:2: ", "/bin"),
    "empty": ("", "Dockerfile:1: ", "file with no instructions"),
    "only comments": ("# nothing\n\n", "Dockerfile:1: ", "file with no instructions"),
    "endless heredoc": ("FROM busybox\nRUN <<EOF\ntrue\n", "Dockerfile:2: ", "EOF"),
    "a link out of the context": ("FROM busybox\nCOPY out /x\n", "Dockerfile:2: ", "forbidden path outside"),
    "a link to a directory outside": ("FROM busybox\nCOPY way/passwd /x\n", "Dockerfile:2: ", "forbidden path outside"),
    "links that lead to each other": ("FROM busybox\nCOPY round/x /x\n", "Dockerfile:2: ", "round"),
    "a stage that needs itself": ("FROM busybox AS a\nCOPY --from=a /bin /b\n", "Dockerfile:2: ", "a"),
    "stages in a circle": (
        "FROM busybox AS one\nCOPY --from=two /a /a\nFROM busybox AS two\nCOPY --from=one /a /a\n",
        "Dockerfile:2: ", "two",
    ),
    "an ARG without a name": ("ARG =1\nFROM busybox\n", "Dockerfile:1: ", "ARG"),
    "a value that is required": ("FROM busybox\nENV A=${B?it is needed}\n", "Dockerfile:2: ", "it is needed"),
    "a substitution without an end": ("FROM busybox\nENV A=${B\n", "Dockerfile:2: ", "${B"),
    "a platform that is none": ("FROM --platform=what/is/this/now busybox\n", "Dockerfile:1: ", "platform"),
    "a platform of another kind": ("FROM --platform=plan9/amd64 busybox\n", "Dockerfile:1: ", "plan9"),
    "a secret that was not given": (
        "FROM busybox\nRUN --mount=type=secret,id=token,required cat /run/secrets/token\n", "Dockerfile:2: ", "token",
    ),
    "an agent that was not given": ("FROM busybox\nRUN --mount=type=ssh,required true\n", "Dockerfile:2: ", "SSH"),
    "a mount of a wrong kind": ("FROM busybox\nRUN --mount=type=bnid true\n", "Dockerfile:2: ", "bind"),
    "a mode that is none": ("FROM busybox\nCOPY --chmod=rw-r a /a\n", "Dockerfile:2: ", "rw-r"),
    "an entitlement that was not given": ("FROM busybox\nRUN --security=insecure true\n", "Dockerfile:2: ", "--allow"),
    "a network that is not there": ("FROM busybox\nRUN --network=nowhere true\n", "Dockerfile:2: ", "nowhere"),
    "a working directory that is a file": ("FROM busybox\nWORKDIR /etc/passwd\n", "Dockerfile:2: ", "/etc/passwd"),
}  # fmt: skip


def nothing_is_left(engine: Hooper) -> bool:
    """The directory of a context goes a moment after the answer."""
    support.until(lambda: leftovers(engine) == [], 5, f"nothing left of a build, but {leftovers(engine)}")
    return True


UNPACKED = 4
KEPT = ("contexts", "downloads", "git", "caches")
"""Directories of files that outlive a build, for the next one; what begins with "." in them does not."""


def leftovers(engine: Hooper) -> list[str]:
    """Directories and snapshots that only a build under way has."""
    builds = engine.data_root / "builds"
    places = [builds, engine.data_root / "containers", engine.exec_root / "containers"]
    found = [str(path) for place in places if place.is_dir() for path in place.iterdir() if path.name not in KEPT]
    found += [str(path) for name in KEPT for path in (builds / name).glob(".*")]
    # A few small contexts wait, unpacked, for the next build of the same.
    trees = [path for path in found if path.startswith(f"{builds}/.own-")]
    found = [path for path in found if path not in trees] + trees[UNPACKED:]
    with sqlite3.connect(f"file:{engine.data_root}/hooper.db?mode=ro", uri=True) as database:
        found += [row[0] for row in database.execute("SELECT key FROM driver_state WHERE key LIKE 'snapshot/build-%'")]
        found += [row[2] for row in database.execute("SELECT * FROM leases")]
    database.close()
    return found


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_names_its_line_and_leaves_nothing(clean: Hooper, tmp_path: Path, mistake: str) -> None:
    dockerfile, place, text = MISTAKES[mistake]
    (tmp_path / "Dockerfile").write_text(dockerfile)
    (tmp_path / "a").write_text("a")
    (tmp_path / "out").symlink_to("../../../../../../etc/passwd")
    (tmp_path / "way").symlink_to("/etc")
    (tmp_path / "round").symlink_to("round")
    images = clean.docker("images", "-aq").stdout
    for client in (clean.docker, clean.hooper):
        done = client("build", str(tmp_path), check=False)
        assert done.returncode == 1
        # What goes before it is the progress, in which a step that fails says why, too.
        message = done.stderr.rpartition("\nhooper: ")[2]
        assert message.count(place) == 1 and text in message, done.stderr
        assert "Traceback" not in done.stderr and len(message) < 3000
    assert clean.docker("images", "-aq").stdout == images
    assert nothing_is_left(clean)


def test_a_dockerfile_that_is_not_there(clean: Hooper, tmp_path: Path) -> None:
    for client in (clean.docker, clean.hooper):
        done = client("build", "-f", str(tmp_path / "nope"), str(tmp_path), check=False)
        assert done.returncode == 1 and "nope" in done.stderr
    status, content = clean.request("POST", "/build?dockerfile=nope", context_tar({"a": "a"}))
    assert (status, content["message"].splitlines()[0]) == (404, "Cannot locate specified Dockerfile: nope")
    assert nothing_is_left(clean)


@pytest.mark.parametrize("quiet", [[], ["-q"]])
def test_a_failing_command_gives_its_code(clean: Hooper, tmp_path: Path, quiet: list[str]) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo seen; exit 42\n")
    for client in (clean.docker, clean.hooper):
        done = client("build", *quiet, str(tmp_path), check=False)
        assert done.returncode == 42, done.stderr
        assert "The command '/bin/sh -c echo seen; exit 42' returned a non-zero code: 42" in done.stderr
        shown = done.stderr if quiet or client == clean.hooper else done.stdout
        assert re.search(r"^(#\d+ [0-9.]+ )?seen$", shown, re.MULTILINE), shown
    assert nothing_is_left(clean)


def test_names_that_are_not_utf8(clean: Hooper, tmp_path: Path) -> None:
    """Through a client's archive, a pattern, a directory, another stage, and out again."""
    os.mkdir(os.fsencode(tmp_path) + b"/d")
    for name in (b"caf\xe9.txt", b"d/\xff\xfe", b"d/\xc3\xa9"):
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
            file.write(name)
    os.symlink(b"\xff\xfe", os.fsencode(tmp_path) + b"/d/link\xe8")
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox AS one\nCOPY *.txt /t/\nCOPY d /d\nRUN cp /t/* /d/\n"
        "FROM busybox\nCOPY --from=one /d /d\nADD --chown=5 d/* /e/\n"
    )
    names = (b"caf\xe9.txt", b"link\xe8", b"\xc3\xa9", b"\xff\xfe")
    wanted = [b"/d/" + name for name in names] + [b"/e/" + name for name in names[1:]]
    for client in (clean.docker, clean.hooper):
        client("build", "-t", "names", "--no-cache", str(tmp_path))
        client("build", "-t", "names", str(tmp_path))
        shown = client("run", "--rm", "names", "sh", "-c", "printf '%s\\n' /d/* /e/* | od -An -v -tx1").stdout
        assert bytes.fromhex(shown.replace("\n", "")).splitlines() == wanted
        container = client("create", "--name", "n1", "names").stdout.strip()
        out = f"{tmp_path}-out"
        client("cp", "n1:/d", out)
        assert sorted(os.listdir(os.fsencode(out))) == list(names)
        client("cp", out, "n1:/back")
        changed = client("diff", container).stdout.splitlines()
        assert "A /back" in changed and "A /back/caf\ufffd.txt" in changed
        client("rm", "n1")
        shutil.rmtree(os.fsencode(out))
    clean.docker("rmi", "names")
