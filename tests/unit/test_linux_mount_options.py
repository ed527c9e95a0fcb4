"""fstab's option words."""

from __future__ import annotations

import pytest

from hooper.linux import syscalls as sys
from hooper.linux.mount_options import MountOptions, attributes, parse
from hooper.linux.overlay import split_lower


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], MountOptions(0, (), 0, ())),
        (
            ["ro", "nosuid", "size=64m", "mode=755"],
            MountOptions(sys.MS_RDONLY | sys.MS_NOSUID, (), 0, ("size=64m", "mode=755")),
        ),
        (["ro", "rw"], MountOptions(0, (), 0, ())),
        (["rbind", "rprivate"], MountOptions(sys.MS_BIND | sys.MS_REC, (sys.MS_PRIVATE | sys.MS_REC,), 0, ())),
        (["bind", "rro", "z", "slave"], MountOptions(sys.MS_BIND, (sys.MS_SLAVE,), sys.MS_RDONLY, ())),
    ],
)
def test_parse(words: list[str], expected: MountOptions) -> None:
    assert parse(words) == expected


def test_attributes_of_a_mount() -> None:
    assert attributes(sys.MS_RDONLY | sys.MS_NODEV) == (sys.MOUNT_ATTR_RDONLY | sys.MOUNT_ATTR_NODEV, 0)
    assert attributes(sys.MS_NOATIME) == (sys.MOUNT_ATTR_NOATIME, sys.MOUNT_ATTR_ATIME)


def test_lower_directories_with_colons() -> None:
    assert split_lower(r"/a:/b\:c:/d\\e") == ["/a", "/b:c", "/d\\e"]
