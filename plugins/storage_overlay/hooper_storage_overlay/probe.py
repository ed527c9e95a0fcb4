"""Finds out whether overlayfs works on a directory, by using it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from hooper.api.errors import SkipDriver
from hooper.linux import mounts, overlay, syscalls


def check(arguments: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Worker: SkipDriver, with the reason, if overlayfs cannot be mounted, written to or emptied in `directory`.

    Arguments: `directory`, which exists, and `features`, options that the kernel must know.
    """
    place = ""
    try:
        place = tempfile.mkdtemp(prefix=".probe-", dir=arguments["directory"])
        _try(place, arguments["features"])
    except OSError as error:
        raise SkipDriver(
            "overlay cannot be used",
            f"overlayfs on {arguments['directory']}: {error.strerror}",
            "Needed are root's rights, a kernel with overlayfs and a local file system with trusted.* attributes"
            " (ext4, xfs with ftype=1, btrfs, tmpfs); otherwise use the driver vfs.",
        ) from error
    finally:
        if place:
            shutil.rmtree(place, ignore_errors=True)


def _try(place: str, features: Sequence[str]) -> None:
    lower, upper, work, merged = (os.path.join(place, name) for name in ("lower", "upper", "work", "merged"))
    for directory in (lower, upper, work, merged, os.path.join(lower, "gone")):
        os.mkdir(directory)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    mounts.make_private("/")
    words = [f"lowerdir={lower}", f"upperdir={upper}", f"workdir={work}", *features]
    overlay.mount_overlay(merged, 0, words)
    try:
        # Deleting and making again needs whiteouts and the attribute of opaque directories.
        os.rmdir(os.path.join(merged, "gone"))
        os.mkdir(os.path.join(merged, "gone"))
        os.getxattr(os.path.join(upper, "gone"), "trusted.overlay.opaque")
    finally:
        syscalls.umount(merged)
