"""overlayfs with any number of lower directories.

mount(2) takes one page of options, which some forty layers fill. From Linux 6.7 each lower directory may be handed
over by itself; before that, shorter names relative to the directory that they share must do.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from hooper.api.errors import Unsupported
from hooper.linux import syscalls as sys
from hooper.linux.mount_options import attributes

ONE_MOUNT = 4000
"""Bytes of option text that are sure to fit, the kernel's terminator and "overlay" included."""


def mount_overlay(target: str, flags: int, options: Sequence[str]) -> None:
    """Mounts an overlay on the absolute path `target`. `options` are overlayfs' own words, "lowerdir=" among them.

    Unsupported if an old kernel cannot take that many layers.
    """
    text = ",".join(options)
    if len(os.fsencode(text)) <= ONE_MOUNT:
        sys.mount("overlay", target, "overlay", flags, text)
        return
    try:
        _mount_by_parts(target, flags, options)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        _mount_relative(target, flags, options)


def split_lower(value: str) -> list[str]:
    """The directories of a lowerdir option; a backslash keeps a colon or a comma from its meaning."""
    found, current, escaped = [], "", False
    for char in value:
        if escaped:
            current, escaped = current + char, False
        elif char == "\\":
            escaped = True
        elif char == ":":
            found.append(current)
            current = ""
        else:
            current += char
    return [*found, current]


def _mount_by_parts(target: str, flags: int, options: Sequence[str]) -> None:
    context = sys.fsopen("overlay")
    detached = -1
    try:
        sys.fsconfig(context, sys.FSCONFIG_SET_STRING, "source", "overlay")
        for option in options:
            key, given, value = option.partition("=")
            if key == "lowerdir":
                for lower in split_lower(value):
                    sys.fsconfig(context, sys.FSCONFIG_SET_STRING, "lowerdir+", lower)
            elif given:
                sys.fsconfig(context, sys.FSCONFIG_SET_STRING, key, value)
            else:
                sys.fsconfig(context, sys.FSCONFIG_SET_FLAG, key)
        sys.fsconfig(context, sys.FSCONFIG_CMD_CREATE)
        detached = sys.fsmount(context, attributes(flags)[0])
        place = os.open(target, os.O_PATH | os.O_CLOEXEC)
        try:
            sys.move_mount(detached, place)
        finally:
            os.close(place)
    finally:
        os.close(context)
        if detached >= 0:
            os.close(detached)


def _mount_relative(target: str, flags: int, options: Sequence[str]) -> None:
    lowers = next(split_lower(o.partition("=")[2]) for o in options if o.startswith("lowerdir="))
    base = os.path.commonpath(lowers)
    names = [os.path.relpath(lower, base).replace("\\", "\\\\").replace(":", "\\:") for lower in lowers]
    words = [f"lowerdir={':'.join(names)}" if o.startswith("lowerdir=") else o for o in options]
    text = ",".join(words)
    if len(os.fsencode(text)) > ONE_MOUNT:
        raise Unsupported(
            f"an overlay of {len(lowers)} layers",
            f"their names take {len(text)} bytes and this kernel reads one page",
            "Use Linux 6.7 or newer, an image with fewer layers, or the storage driver vfs.",
        )
    here = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        os.chdir(base)
        sys.mount("overlay", target, "overlay", flags, text)
    finally:
        os.fchdir(here)
        os.close(here)
