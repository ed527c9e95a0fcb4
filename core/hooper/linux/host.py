"""What this host is."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hooper.api.driver import HostInfo

_ARCHITECTURES = {
    "x86_64": "amd64",
    "i686": "386",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
    "loongarch64": "loong64",
}


def host_info(data_root: Path, exec_root: Path) -> HostInfo:
    """Facts about this host, read anew at each call."""
    uname = os.uname()
    return HostInfo(
        root=_is_root(),
        cgroup_version=2 if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else 1,
        kernel=kernel_version(uname.release),
        architecture=architecture(),
        data_root=data_root,
        exec_root=exec_root,
    )


def architecture() -> str:
    """This machine's, as Go and the OCI call it."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, machine)


def kernel_version(release: str) -> tuple[int, int]:
    """(major, minor) of a release such as "6.1.0-18-amd64"."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _is_root() -> bool:
    if os.geteuid() != 0:
        return False
    with open("/proc/self/uid_map") as file:
        return file.read().split() == ["0", "0", "4294967295"]
