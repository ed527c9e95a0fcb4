"""What an empty volume begins with. Runs in a worker."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Any

import msgspec

from hooper.api.storage import Mount


def populate(arguments: dict[str, Any], fds: Sequence[int]) -> None:
    """Copies what a snapshot (`mounts`) has at `path` into the empty directory `target`, for each of `volumes`.

    The directory itself gets owner and mode of the one in the snapshot. Other containers may use the volume at the
    same time and put links in it, so that it is this process's root while it is written.
    """
    from hooper.content.mounting import mount_private, move_root, private_namespace

    private_namespace()
    root = mount_private(msgspec.convert(arguments["mounts"], list[Mount]))
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    volumes = [
        (source, os.open(each["target"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        for each in arguments["volumes"]
        if (source := _open(base, each["path"])) is not None
    ]
    for source, target in volumes:
        move_root(target)
        _fill(source)


def _open(base: int, path: str) -> int | None:
    """The directory at `path` in a root; None if there is nothing of the kind."""
    from hooper.linux.syscalls import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

    try:
        return openat2(
            base,
            path,
            os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC,
            resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
        )
    except OSError:
        return None


def _fill(source: int) -> None:
    from hooper.content.trees import TreeCopier

    if os.listdir("/"):
        return
    found = os.fstat(source)
    TreeCopier().copy_children(source, b"")
    os.chown("/", found.st_uid, found.st_gid)
    os.chmod("/", stat.S_IMODE(found.st_mode))
