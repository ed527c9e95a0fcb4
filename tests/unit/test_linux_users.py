"""Docker's rules for "user[:group]"."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hooper.api.errors import StartFailed
from hooper.linux.users import Identity, resolve


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nbroken line\nalice:x:1000:1001::/home/alice:/bin/sh\nbob:x:7:7\n"
    )
    (tmp_path / "etc" / "group").write_text("root:x:0:root\nwheel:x:10:root,alice\nusers:x:1001:\nnum:x:x:alice\n")
    fd = os.open(tmp_path, os.O_PATH)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", Identity(0, 0, (0, 10), "/root")),
        ("0", Identity(0, 0, (0, 10), "/root")),
        ("alice", Identity(1000, 1001, (1001, 10), "/home/alice")),
        ("1000", Identity(1000, 1001, (1001, 10), "/home/alice")),
        ("alice:users", Identity(1000, 1001, (1001,), "/home/alice")),
        ("alice:0", Identity(1000, 0, (0,), "/home/alice")),
        ("4242", Identity(4242, 0, (0,), "/")),
        ("4242:4343", Identity(4242, 4343, (4343,), "/")),
        (":wheel", Identity(0, 10, (10,), "/root")),
        ("bob", Identity(7, 7, (7,), "/")),
    ],
)
def test_resolved(root: int, user: str, expected: Identity) -> None:
    assert resolve(root, user) == expected


@pytest.mark.parametrize(
    ("user", "what", "why"),
    [
        ("carol", "unable to find user carol", "no matching entries in passwd file"),
        ("alice:staff", "unable to find group staff", "no matching entries in group file"),
        ("-5", "invalid user or group -5", "uids and gids must be in range 0-2147483647"),
        ("2147483648", "invalid user or group 2147483648", "uids and gids must be in range 0-2147483647"),
        ("0:99999999999", "invalid user or group 99999999999", "uids and gids must be in range 0-2147483647"),
    ],
)
def test_refused(root: int, user: str, what: str, why: str) -> None:
    with pytest.raises(StartFailed) as raised:
        resolve(root, user)
    assert (raised.value.what, raised.value.why) == (what, why)


def test_without_files_numbers_do(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH)
    assert resolve(fd, "") == Identity(0, 0, (0,), "/")
    with pytest.raises(StartFailed, match="no matching entries in passwd file"):
        resolve(fd, "root")
    os.close(fd)


def test_the_hosts_files_are_never_read(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").symlink_to("/../../../../etc/passwd")
    fd = os.open(tmp_path, os.O_PATH)
    with pytest.raises(StartFailed):
        resolve(fd, "daemon")
    os.close(fd)
