"""What a new volume begins with. Runs in a worker."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Any

import msgspec

from hooper.api.storage import Mount


def populate(arguments: dict[str, Any], fds: Sequence[int]) -> None:
    """Copies what a snapshot has at `path` into the empty directory `target`, with owner, mode and times."""
    from hooper.content.mounting import mount_private, private_namespace
    from hooper.linux.syscalls import RESOLVE_IN_ROOT, openat2

    private_namespace()
    root = mount_private(msgspec.convert(arguments["mounts"], list[Mount]))
    base = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    target = arguments["target"]
    try:
        source = openat2(base, arguments["path"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, resolve=RESOLVE_IN_ROOT)
    except OSError:
        return  # the image has nothing there
    if os.listdir(target):
        return
    found = os.fstat(source)
    os.fchdir(source)
    for name in os.listdir("."):
        _copy(name, os.path.join(target, name))
    os.chown(target, found.st_uid, found.st_gid)
    os.chmod(target, found.st_mode & 0o7777)


def _copy(source: str, target: str) -> None:
    found = os.lstat(source)
    if os.path.isdir(source) and not os.path.islink(source):
        os.mkdir(target)
        for name in os.listdir(source):
            _copy(os.path.join(source, name), os.path.join(target, name))
    elif os.path.islink(source):
        os.symlink(os.readlink(source), target)
    elif os.path.isfile(source):
        shutil.copyfile(source, target)
    else:
        os.mknod(target, found.st_mode, found.st_rdev)
    os.chown(target, found.st_uid, found.st_gid, follow_symlinks=False)
    if not os.path.islink(source):
        os.chmod(target, found.st_mode & 0o7777)
        shutil.copystat(source, target)
