"""The root directory of a snapshot, whose metadata overlayfs takes from the upper directory alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence


def copy_root(lowers: Sequence[str], target: str) -> None:
    """Gives the new directory `target` owner, mode, times and attributes of the topmost of `lowers`.

    Without any it becomes 0755.
    """
    if not lowers:
        os.chmod(target, 0o755)
        return
    status = os.stat(lowers[0])
    if status.st_uid or status.st_gid:
        os.chown(target, status.st_uid, status.st_gid)
    for name in os.listxattr(lowers[0]):
        if not name.startswith("trusted.overlay."):
            os.setxattr(target, name, os.getxattr(lowers[0], name))
    os.chmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
