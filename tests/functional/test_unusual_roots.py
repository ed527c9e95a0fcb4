"""Containers whose files are not what most have: each runs as Docker runs it, whichever way it has to be made."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from support import Engine

pytestmark = pytest.mark.root


def archive(files: dict[str, str], links: dict[str, str], modes: dict[str, int]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), modes.get(name, 0o644)
            tar.addfile(member, io.BytesIO(text.encode()))
        for name, to in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, to
            tar.addfile(member)
    return target.getvalue()


def started(
    engine: Engine,
    *words: str,
    flags: tuple[str, ...] = (),
    files: dict[str, str] | None = None,
    links: dict[str, str] | None = None,
    modes: dict[str, int] | None = None,
) -> tuple[int, str, str]:
    """Exit code, output and errors of a command in a container that has been given files and links before its start."""
    engine.docker("create", "--name", "c1", *flags, "busybox", *words)
    content = archive(files or {}, links or {}, modes or {})
    status, _ = engine.request("PUT", "/containers/c1/archive?path=/", content, {"Content-Type": "application/x-tar"})
    assert status == 200
    done = engine.docker("start", "-a", "c1", check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_long_list_of_users(either: Engine) -> None:
    users = "".join(f"user{number}:x:{number}:{number}::/home/{number}:/bin/sh\n" for number in range(2000, 5000))
    script = "echo $(id -u):$(id -g) $HOME"
    found = started(either, "sh", "-c", script, flags=("-u", "user4999"), files={"etc/passwd": users})
    assert found[:2] == (0, "4999:4999 /home/4999\n")


def test_a_user_of_many_groups(either: Engine) -> None:
    groups = "".join(f"group{number}:x:{number}:one\n" for number in range(5000, 5100))
    files = {"etc/passwd": "one:x:11:12::/:/bin/sh\n", "etc/group": groups}
    script = "grep Groups /proc/self/status | wc -w"
    assert started(either, "sh", "-c", script, flags=("-u", "one"), files=files)[:2] == (0, "102\n")


def test_no_list_of_users(either: Engine) -> None:
    found = started(either, "sh", "-c", "echo $HOME", flags=("-u", "5:6"), files={"etc/passwd": ""})
    assert found[:2] == (0, "/\n")


def test_links_where_files_are_mounted(either: Engine) -> None:
    """Also one to nothing, and one that would lead out of the container."""
    script = (
        "cat /etc/hostname; test -f /moved/hosts && echo hosts; grep -c . /etc/resolv.conf > /dev/null && echo resolv"
    )
    links = {"etc/hosts": "/moved/hosts", "etc/resolv.conf": "../../../../../../../tmp/outside"}
    found = started(either, "sh", "-c", script, flags=("-h", "there"), links=links, files={"moved/hosts": ""})
    assert found[:2] == (0, "there\nhosts\nresolv\n")
    assert not Path("/tmp/outside").exists()


def test_what_cannot_be_executed_is_passed_over_in_the_path(either: Engine) -> None:
    files = {"first/tool": "#!/bin/sh\necho first\n", "second/tool": "#!/bin/sh\necho second\n"}
    flags = ("-e", "PATH=/etc/passwd:/first:/nowhere:/second:/bin")
    assert started(either, "tool", flags=flags, files=files, modes={"second/tool": 0o755})[:2] == (0, "second\n")


@pytest.mark.parametrize(
    ("content", "why"),
    [("#!/no/such/interpreter\n", "no such file or directory"), ("\0\1\2 no program", "exec format error")],
)
def test_a_program_that_the_kernel_refuses(either: Engine, content: str, why: str) -> None:
    code, _, errors = started(either, "/tool", files={"tool": content}, modes={"tool": 0o755})
    assert code in (126, 127, 1) and why in errors
    assert either.inspect("c1")["State"]["Status"] in ("created", "exited")
    assert either.inspect("c1")["State"]["Pid"] == 0


def test_a_directory_of_mounts_that_is_a_file(either: Engine, tmp_path: Path) -> None:
    done = either.docker("run", "--name", "c1", "-v", f"{tmp_path}:/etc/passwd", "busybox", "true", check=False)
    assert done.returncode != 0 and "not a directory" in done.stderr


def test_little_memory(either: Engine) -> None:
    assert started(either, "echo", "runs", flags=("-m", "8m"))[:2] == (0, "runs\n")
