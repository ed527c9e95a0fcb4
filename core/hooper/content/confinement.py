"""What a process may still do that reads strangers' archives: a fault in a decompressor is to stay in there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from hooper.api.errors import Unsupported
from hooper.content import mounting
from hooper.linux import capabilities, seccomp, syscalls
from hooper.linux.host import architecture, kernel_version
from hooper.linux.seccomp_default import packed_profile

_RIGHTS = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP",
)  # fmt: skip
_FOR_TRUSTED_ATTRIBUTES = "CAP_SYS_ADMIN"
"""Kept only where the filter refuses all the rest that it allows."""


def enter_confined(arguments: Mapping[str, Any], *, devices: bool = False) -> None:
    """As `mounting.enter`, for this process to unpack files there and for nothing else.

    It keeps the capabilities that files of any owner, mode and attribute need, and is under the system call filter of
    an ordinary container. `devices`: whether those in the tree can be opened; a tree that has others mounted in it
    must allow that.
    """
    filter = _filter()
    last = capabilities.last_cap()
    mounting.enter(arguments, devices=devices)
    keep = capabilities.mask((*_RIGHTS, _FOR_TRUSTED_ATTRIBUTES) if filter else _RIGHTS)
    capabilities.drop_bounding(keep, last)
    syscalls.capset(keep, keep, 0)
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    if filter:
        filter.install()


def _filter() -> seccomp.Filter | None:
    """That of containers with the usual rights, which is compiled already; None without libseccomp."""
    profile = packed_profile(
        tuple(capabilities.DEFAULT_CAPABILITIES), architecture(), kernel_version(os.uname().release)
    )
    try:
        return seccomp.compile_filter(profile)
    except Unsupported:
        return None
